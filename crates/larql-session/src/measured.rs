//! What has to be known of a model before edges can be written into it. Measuring it takes longer than an edge does, so it
//! is kept in the library.

use std::cell::OnceCell;
use std::io::Write;
use std::path::{Path, PathBuf};

use larql_core::facts::Facts;
use larql_edit::{LayerStatistics, editing_layer};
use larql_hub::{Library, ModelResolver};
use larql_inference::InferenceError;
use larql_knowledge::LanguageModel;
use larql_knowledge::calibration_texts;
use larql_models::WeightSource;
use larql_vindex::Vindex;

use crate::digest::Digest;

/// What is known of the model of a vindex, without edits.
pub(crate) struct Measured {
    /// The folder where it is kept and the vindex's checksum; none if nothing is kept.
    kept: Option<(PathBuf, String)>,
    layer: OnceCell<usize>,
    /// Of each layer.
    statistics: Vec<OnceCell<LayerStatistics>>,
}

impl Measured {
    /// Nothing so far, but for what `library` holds.
    pub(crate) fn new(vindex: &Vindex, library: &Library) -> Measured {
        Measured {
            kept: library.measurements().zip(vindex.base_checksum()),
            layer: OnceCell::new(),
            statistics: vec![OnceCell::new(); vindex.spec().layers.len()],
        }
    }

    /// The layer that edges are written to if nobody says otherwise.
    pub(crate) fn editing_layer(&self, language: &LanguageModel) -> Result<usize, InferenceError> {
        if let Some(layer) = self.layer.get() {
            return Ok(*layer);
        }
        let kept = self.path("layer", &Facts::shipped().digest().to_le_bytes());
        let layers = 0..self.statistics.len();
        let read = |path: &PathBuf| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        let layer = match kept.as_ref().and_then(read).filter(|layer| layers.contains(layer)) {
            Some(layer) => layer,
            None => {
                let layer = editing_layer(language.unedited(), language.tokenizer())?;
                keep(kept.as_deref(), layer.to_string().as_bytes());
                layer
            }
        };
        Ok(*self.layer.get_or_init(|| layer))
    }

    /// What some layers of the model see and do on ordinary text.
    pub(crate) fn statistics(
        &self,
        language: &LanguageModel,
        layers: &[usize],
    ) -> Result<Vec<&LayerStatistics>, InferenceError> {
        if layers.iter().any(|layer| self.statistics[*layer].get().is_none()) {
            let texts = calibration_texts(language.tokenizer())?;
            let content: Vec<u8> = texts.iter().flatten().flat_map(|token| token.to_le_bytes()).collect();
            let path = |layer: usize| self.path(&format!("{layer}.safetensors"), &content);
            let mut missing = Vec::new();
            for layer in layers.iter().copied().filter(|layer| self.statistics[*layer].get().is_none()) {
                let bytes = path(layer).and_then(|path| std::fs::read(path).ok());
                match bytes.map(|bytes| LayerStatistics::from_bytes(language.unedited(), layer, &bytes)) {
                    Some(Ok(kept)) => {
                        self.statistics[layer].get_or_init(|| kept);
                    }
                    Some(Err(_)) | None => missing.push(layer),
                }
            }
            for measured in LayerStatistics::measure_all(language.unedited(), &missing, &texts)? {
                let layer = measured.layer;
                keep(path(layer).as_deref(), &measured.to_bytes()?);
                self.statistics[layer].get_or_init(|| measured);
            }
        }
        Ok(layers.iter().filter_map(|layer| self.statistics[*layer].get()).collect())
    }

    /// Where something is kept that depends on the vindex and on `content`.
    fn path(&self, name: &str, content: &[u8]) -> Option<PathBuf> {
        let (folder, checksum) = self.kept.as_ref()?;
        let mut digest = Digest::default();
        digest.add(checksum.as_bytes());
        digest.add(content);
        Some(folder.join(format!("{digest}.{name}")))
    }
}

/// Keeps something for the next time. What cannot be kept is measured again then.
fn keep(path: Option<&Path>, bytes: &[u8]) {
    let Some((path, folder)) = path.and_then(|path| Some((path, path.parent()?))) else { return };
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut growing = tempfile::NamedTempFile::new_in(folder)?;
        growing.write_all(bytes)?;
        growing.persist(path)?;
        Ok(())
    };
    // There is nothing else to do about it, and nothing is lost.
    let _ = write();
}
