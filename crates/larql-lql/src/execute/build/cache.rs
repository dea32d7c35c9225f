//! Layers that were built before, by the digest of all that they depend on.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::PathBuf;

use larql_vindex::{Component, HistoryLayer, Patch, Summary, Vindex};
use larql_vindex_spec::Manifest;
use sha2::{Digest as _, Sha256};

use super::error::LayerError;

/// A folder with two files for each layer: what it did, and the patch that does it. Without a folder nothing is kept.
pub(super) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    pub(super) fn new(folder: Option<PathBuf>) -> Cache {
        Cache { folder }
    }

    /// A layer, if it is there and whole.
    pub(super) fn get(&self, digest: &str) -> Option<(HistoryLayer, Patch)> {
        let folder = self.folder.as_ref()?;
        let layer: HistoryLayer =
            serde_json::from_slice(&std::fs::read(folder.join(format!("{digest}.json"))).ok()?).ok()?;
        let patch = Patch::read(&folder.join(format!("{digest}.vlp"))).ok()?;
        (layer.digest == digest).then_some((layer, patch))
    }

    /// Keeps a layer. What it did comes last, so that a layer without it is not there.
    pub(super) fn put(&self, layer: &HistoryLayer, patch: &Patch) -> Result<(), LayerError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(LayerError::unwritable(folder))?;
        patch.save(&folder.join(format!("{}.vlp", layer.digest))).map_err(super::ExecuteError::from)?;
        let record = folder.join(format!("{}.json", layer.digest));
        let mut growing = tempfile::NamedTempFile::new_in(folder).map_err(LayerError::unwritable(folder))?;
        serde_json::to_writer(&mut growing, layer).map_err(|e| LayerError::unwritable(&record)(e.into()))?;
        growing.persist(&record).map_err(|error| LayerError::unwritable(&record)(error.error))?;
        Ok(())
    }
}

/// A digest of layers, each over the one below.
#[derive(Default)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Adds something that the layers from here on depend on; also on which version of this program works it in.
    pub(super) fn add(&mut self, content: &[u8]) {
        let mut digest = Sha256::new();
        digest.update(self.0);
        digest.update(env!("CARGO_PKG_VERSION"));
        digest.update([0]);
        digest.update(content);
        self.0 = digest.finalize().into();
    }

    /// Adds the content of a vindex: its manifest, but for when it was extracted, and digests of its files, which are in the
    /// manifest for most.
    pub(super) fn add_vindex(&mut self, vindex: &Vindex, summary: &Summary) -> io::Result<()> {
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
