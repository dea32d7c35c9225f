//! Measurements of a model that writing edges into it takes. They take longer than an edge does, so they are cached in a
//! folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use larql_core::SharedLazy;
use larql_core::facts::Facts;
use larql_core::progress::Progress;
use larql_edit::{LayerStatistics, editing_layer};
use larql_knowledge::probe::{ProbeOptions, ProbePlan, estimated_time};
use larql_knowledge::{AskableRelations, LanguageModel, calibration_texts};
use larql_models::WeightSource;
use larql_vindex::Vindex;

use crate::ExecuteError;
use crate::digest::Digest;
use crate::unprobed;

/// Measurements of the model of a vindex, without edits.
pub(crate) struct Measured {
    /// The folder of cached measurements and the vindex's checksum; none if nothing is cached.
    kept: Option<(PathBuf, String)>,
    layer: SharedLazy<usize>,
    unprobed: SharedLazy<AskableRelations>,
    probe_time: SharedLazy<Duration>,
    /// One for each layer.
    statistics: Vec<OnceLock<LayerStatistics>>,
    /// Held by the thread that measures layers.
    measuring: Mutex<()>,
}

impl Measured {
    /// Returns measurements of which none is taken yet; some may be cached in `folder`.
    pub(crate) fn new(vindex: &Vindex, folder: Option<PathBuf>) -> Measured {
        Measured {
            kept: folder.zip(vindex.base_checksum()),
            layer: SharedLazy::new(),
            unprobed: SharedLazy::new(),
            probe_time: SharedLazy::new(),
            statistics: vec![OnceLock::new(); vindex.spec().layers.len()],
            measuring: Mutex::default(),
        }
    }

    /// Returns the layer that edges are written to if nobody says otherwise.
    pub(crate) fn editing_layer(
        &self,
        language: &LanguageModel,
        progress: &dyn Progress,
    ) -> Result<usize, ExecuteError> {
        let layer = self.layer.get_or_try_init(|| {
            let kept = self.path("layer", &Facts::shipped().digest().to_le_bytes());
            let layers = 0..self.statistics.len();
            let read = |path: &PathBuf| std::fs::read_to_string(path).ok()?.trim().parse().ok();
            match kept.as_ref().and_then(read).filter(|layer| layers.contains(layer)) {
                Some(layer) => Ok(layer),
                None => {
                    let layer = editing_layer(language.unedited(), language.tokenizer(), progress)?;
                    keep(kept.as_deref(), layer.to_string().as_bytes());
                    Ok(layer)
                }
            }
        });
        layer.copied()
    }

    /// Returns the relations that a model which was never probed can be asked about.
    pub(crate) fn unprobed_relations(
        &self,
        language: &LanguageModel,
        progress: &dyn Progress,
    ) -> Result<&AskableRelations, ExecuteError> {
        self.unprobed.get_or_try_init(|| {
            let kept = self.path("unprobed.json", &unprobed::digest());
            unprobed::relations(kept.as_deref(), language, progress)
        })
    }

    /// Returns about how long a probe of the shipped facts takes.
    pub(crate) fn probe_time(&self, language: &LanguageModel) -> Result<Duration, ExecuteError> {
        let plan = || ProbePlan::new(Facts::shipped(), ProbeOptions::default());
        let time = self.probe_time.get_or_try_init(|| estimated_time(language.unedited(), &plan()));
        Ok(*time?)
    }

    /// Returns the statistics of some layers on background text.
    pub(crate) fn statistics(
        &self,
        language: &LanguageModel,
        layers: &[usize],
        progress: &dyn Progress,
    ) -> Result<Vec<&LayerStatistics>, ExecuteError> {
        let is_missing = |layer: &usize| self.statistics[*layer].get().is_none();
        if layers.iter().any(is_missing) {
            // Layers are measured together, so one lock stands for all of them.
            let _measuring = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
            let texts = calibration_texts(language.tokenizer())?;
            let content: Vec<u8> = texts.iter().flatten().flat_map(|token| token.to_le_bytes()).collect();
            let path = |layer: usize| self.path(&format!("{layer}.safetensors"), &content);
            let mut missing = Vec::new();
            for layer in layers.iter().copied().filter(is_missing) {
                let bytes = path(layer).and_then(|path| std::fs::read(path).ok());
                match bytes.map(|bytes| LayerStatistics::from_bytes(language.unedited(), layer, &bytes)) {
                    Some(Ok(kept)) => {
                        self.statistics[layer].get_or_init(|| kept);
                    }
                    Some(Err(_)) | None => missing.push(layer),
                }
            }
            for measured in LayerStatistics::measure_all(language.unedited(), &missing, &texts, progress)? {
                let layer = measured.layer;
                keep(path(layer).as_deref(), &measured.to_bytes()?);
                self.statistics[layer].get_or_init(|| measured);
            }
        }
        Ok(layers.iter().filter_map(|layer| self.statistics[*layer].get()).collect())
    }

    /// Returns the cache file of a measurement that depends on the vindex and on `content`.
    fn path(&self, name: &str, content: &[u8]) -> Option<PathBuf> {
        let (folder, checksum) = self.kept.as_ref()?;
        let mut digest = Digest::default();
        digest.add(checksum.as_bytes());
        digest.add(content);
        Some(kept_file(folder, &digest, name))
    }
}

/// Returns the cache file of a measurement that depends on what `digest` is of.
pub(crate) fn kept_file(folder: &Path, digest: &Digest, name: &str) -> PathBuf {
    folder.join(format!("{digest}.{name}"))
}

/// Writes a cache file; failures are ignored because the value can be measured again.
pub(crate) fn keep(path: Option<&Path>, bytes: &[u8]) {
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
