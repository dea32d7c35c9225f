//! Build history of a vindex: the instructions that it was built by, in a file of its own.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::component::HISTORY_FILE;
use crate::files::Files;
use crate::{Damage, VindexError};

/// The layers of a build, first built first. It holds no times and no paths of its own, so the same instructions and
/// inputs make the same history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Instructions in order, including those of the vindex that the build started from.
    pub layers: Vec<HistoryLayer>,
}

/// Effect of one instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLayer {
    /// The instruction in its canonical form.
    pub instruction: String,
    /// SHA-256 of all that the layer depends on: the layers before it, the instruction, and the files that it reads.
    pub digest: String,
    /// Features that it wrote, deleted or named.
    pub features: usize,
    /// Edges that it inserted or deleted.
    pub edges: usize,
    /// Bytes that it added: a vindex, or vectors in 32 bits.
    pub bytes: u64,
}

impl History {
    /// The history of the vindex at `path`, without any layer if it was not built.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn read(path: &Path) -> Result<History, VindexError> {
        let mut files = Files::new(path);
        let Some(json) = files.optional(HISTORY_FILE)? else { return Ok(History::default()) };
        serde_json::from_slice(&json).map_err(|error| {
            let damage = Damage::new("content", "the layers of a build as JSON", error);
            VindexError::damaged(files.path(HISTORY_FILE))(damage)
        })
    }

    /// The text of its file.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("texts and whole numbers are JSON");
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_as_it_was_written_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(History::read(folder.path()).unwrap(), History::default());
        let layer = HistoryLayer {
            instruction: "FROM atlas".into(),
            digest: "ab".repeat(32),
            features: 0,
            edges: 0,
            bytes: 12,
        };
        let history = History { layers: vec![layer] };
        std::fs::write(folder.path().join(HISTORY_FILE), history.to_json()).unwrap();
        assert_eq!(History::read(folder.path()).unwrap(), history);
        std::fs::write(folder.path().join(HISTORY_FILE), "{").unwrap();
        let error = History::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("content: expected the layers of a build as JSON"), "{error}");
    }
}
