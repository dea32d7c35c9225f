//! Checkpoints that are part of the program.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A checkpoint directory that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct BundledModel {
    /// Name of the model.
    pub name: &'static str,
    /// A few hexadecimal digits that differ from those of any other weights under this name.
    pub digest: &'static str,
    /// The files with their names.
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! files {
    ($folder:literal: $($name:literal),+) => {
        &[$(($name, include_bytes!(concat!("../data/", $folder, "/", $name)))),+]
    };
}

/// Every bundled model. As a constant, each crate that uses it would get a copy of the files.
pub static MODELS: &[BundledModel] = &[BundledModel {
    name: "atlas",
    digest: env!("LARQL_ATLAS_DIGEST"),
    files: files!("atlas": "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "relation_templates.json", "feature_labels.json", "feature_evidence.jsonl"),
}];

/// The bundled model of this name.
pub fn model(name: &str) -> Option<&'static BundledModel> {
    MODELS.iter().find(|model| model.name == name)
}

impl BundledModel {
    /// Size of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Writes the checkpoint to `folder`, which is made if it is not there. Its files are on disk afterwards, not
    /// just on their way.
    ///
    /// # Errors
    /// If the folder cannot be made or a file cannot be written.
    pub fn write_to(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (name, bytes) in self.files {
            let mut file = File::create(folder.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_model_is_the_folder_of_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        for model in MODELS {
            let written = folder.path().join("made").join(model.name);
            model.write_to(&written).unwrap();
            let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(model.name);
            let mut bytes = 0;
            for entry in fs::read_dir(&written).unwrap().map(Result::unwrap) {
                let content = fs::read(entry.path()).unwrap();
                assert_eq!(content, fs::read(original.join(entry.file_name())).unwrap());
                bytes += content.len() as u64;
            }
            assert_eq!(bytes, model.bytes());
            assert!(
                original.join("model.safetensors").exists() && written.join("model.safetensors").exists()
            );
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(MODELS[0].write_to(&file.path().join("below a file")).is_err());
    }
}
