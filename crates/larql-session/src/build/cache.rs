//! Layers that were built before, by the digest of all that they depend on.

use std::path::PathBuf;

use larql_vindex::{HistoryLayer, Patch};

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
        patch.save(&folder.join(format!("{}.vlp", layer.digest))).map_err(crate::ExecuteError::from)?;
        let record = folder.join(format!("{}.json", layer.digest));
        let mut growing = tempfile::NamedTempFile::new_in(folder).map_err(LayerError::unwritable(folder))?;
        serde_json::to_writer(&mut growing, layer).map_err(|e| LayerError::unwritable(&record)(e.into()))?;
        growing.persist(&record).map_err(|error| LayerError::unwritable(&record)(error.error))?;
        Ok(())
    }
}
