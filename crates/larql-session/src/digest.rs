//! Names of cached things: a digest of all that they depend on.

use std::fmt::{self, Display, Formatter};
use std::io;

use larql_vindex::{Component, Summary, Vindex};
use larql_vindex_spec::Manifest;
use sha2::{Digest as _, Sha256};

/// A digest of contents in their order.
#[derive(Default)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Adds something that what is kept depends on; it depends on the version of this program too.
    pub(crate) fn add(&mut self, content: &[u8]) {
        let mut digest = Sha256::new();
        digest.update(self.0);
        digest.update(env!("CARGO_PKG_VERSION"));
        digest.update([0]);
        digest.update(content);
        self.0 = digest.finalize().into();
    }

    /// Adds the content of a vindex: its manifest, but for when it was extracted, and digests of its files, which are in the
    /// manifest for most.
    pub(crate) fn add_vindex(&mut self, vindex: &Vindex, summary: &Summary) -> io::Result<()> {
        let mut manifest = Manifest { self_digest: None, ..vindex.manifest().clone() };
        if let Some(source) = &mut manifest.source {
            source.extracted_at = None;
        }
        self.add(manifest.to_json().as_bytes());
        let stated = |name: &String| manifest.checksums.as_ref().is_some_and(|all| all.contains_key(name));
        for file in &summary.files {
            if file.component != Some(Component::Manifest) && !stated(&file.name) {
                self.add(file.name.as_bytes());
                self.add(&larql_compute::map_file(&vindex.path().join(&file.name))?);
            }
        }
        Ok(())
    }
}

/// Lower-case hexadecimal digits.
impl Display for Digest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
