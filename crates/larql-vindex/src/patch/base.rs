//! The vindex that a patch was made for: which others it fits.
//!
//! A patch fits where the weights are those that it was made for, whatever their source's file was called and however
//! much of it was extracted. What it says of them are digests of the files that hold features and embeddings.

use std::collections::BTreeMap;

use super::Patch;
use crate::component::Component;
use crate::{Vindex, VindexError, digest};

impl Vindex {
    /// Digests of the files that hold gate, up and down projections and embeddings, by name, as far as the manifest has
    /// them. Files of blocks hold more or less by the level, so their names say which.
    pub(crate) fn weight_digests(&self) -> BTreeMap<String, String> {
        use Component::{Down, Edited, Embeddings, Experts, FeedForward, Gate, Up};
        let named = |(name, digest): (&String, &String)| {
            let key = match Component::of_file(name)? {
                Embeddings | Gate | Up | Down | Experts | Edited => name.clone(),
                FeedForward if !self.holdings().contains(Up) => format!("{name} (gate)"),
                FeedForward => name.clone(),
                _ => return None,
            };
            Some((key, digest.clone()))
        };
        self.manifest().checksums.iter().flatten().filter_map(named).collect()
    }

    /// Text that identifies the weights: the digests of the files that hold features and embeddings. `None` if the manifest
    /// has no digests.
    pub fn weights_identity(&self) -> Option<String> {
        let digests = self.weight_digests();
        let lines = digests.iter().map(|(name, digest)| format!("{name} {digest}\n"));
        (!digests.is_empty()).then(|| lines.collect())
    }

    /// The checksum that earlier versions gave a vindex of the same files: they kept the source's configuration at the
    /// highest level only.
    fn earlier_checksum(&self) -> Option<String> {
        let files = self.manifest().checksums.as_ref()?.iter();
        Some(digest::of_digests(
            files.filter(|(name, _)| Component::of_file(name) != Some(Component::Config)),
        ))
    }
}

impl Patch {
    /// Fails if this patch, called `name`, was made for other weights than those of a vindex.
    pub(crate) fn require_fit(&self, name: &str, vindex: &Vindex) -> Result<(), VindexError> {
        let digests = vindex.weight_digests();
        let other = |differing: String| VindexError::OtherBase {
            patch: name.into(),
            model: self.base_model.clone(),
            path: vindex.path().into(),
            differing,
        };
        if !self.base_weights.is_empty() && !digests.is_empty() {
            let both = || self.base_weights.iter().filter(|(name, _)| digests.contains_key(*name));
            let differing: Vec<&str> = both()
                .filter(|(name, digest)| digests[*name] != **digest)
                .map(|(name, _)| name.as_str())
                .collect();
            return match both().next() {
                _ if !differing.is_empty() => Err(other(differing.join(", "))),
                None => Err(other("none of their files is of the same kind".into())),
                Some(_) => Ok(()),
            };
        }
        let Some(expected) = &self.base_checksum else { return Ok(()) };
        let known = [vindex.base_checksum(), vindex.earlier_checksum()];
        if known.iter().flatten().any(|found| found == expected) || known[0].is_none() {
            return Ok(());
        }
        Err(other(format!("checksum {expected} is not this one's")))
    }
}
