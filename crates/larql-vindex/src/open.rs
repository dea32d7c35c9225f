//! An open vindex.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use larql_compute::{Format, Matrix};
use larql_models::{ModelError, ModelSpec, Role, SafetensorsFile, StoredTensor, TextFiles, WeightSource};
use larql_vindex_spec::{ExtractLevel, Manifest, ManifestError};

use crate::catalogue::Catalogue;
use crate::component::{Component, DOWN_META_FILE, DOWN_META_LINES_FILE, MANIFEST_FILE, UNUSED_FILE};
use crate::files::Files;
use crate::gate_rows::GateRows;
use crate::holdings::{Holdings, MissingComponents};
use crate::labels::Labels;
use crate::search::FiringRates;
use crate::sequential_q6k::in_ggml_order;
use crate::slice::{self, SliceParts};
use crate::{Damage, DownMeta, VindexError, digest, legacy};

/// A vindex, open for reading. Files are mapped, not read, so opening takes milliseconds whatever their size.
///
/// It is a [`WeightSource`], so that a model runs from it, and a [`FeatureStore`](crate::FeatureStore), so
/// that its features can be searched.
#[derive(Debug)]
pub struct Vindex {
    path: PathBuf,
    manifest: Manifest,
    spec: ModelSpec,
    weights: HashMap<Role, Stored>,
    holdings: Holdings,
    gates: Vec<GateRows>,
    down_meta: Option<DownMeta>,
    labels: Labels,
    text: TextFiles,
    /// For each layer, measured at first use.
    pub(crate) embedding_rates: Vec<OnceLock<FiringRates>>,
}

/// A matrix in the file's order of bytes.
#[derive(Debug)]
struct Stored {
    matrix: Matrix,
    /// The same in ggml's order, made at the first use, where the file may have another.
    reordered: Option<OnceLock<Matrix>>,
}

impl Stored {
    fn matrix(&self) -> &Matrix {
        match &self.reordered {
            Some(reordered) => reordered.get_or_init(|| in_ggml_order(&self.matrix)),
            None => &self.matrix,
        }
    }
}

impl Vindex {
    /// True if there is a vindex at `path`, rather than a checkpoint.
    pub fn is_at(path: &Path) -> bool {
        path.join(MANIFEST_FILE).is_file()
    }

    /// Opens a directory and validates everything except the values of the weights.
    ///
    /// # Errors
    /// [`VindexError::NotAVindex`] if it has no manifest; otherwise the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Vindex, VindexError> {
        let mut files = Files::new(path);
        let manifest = read_manifest(&mut files, path)?;
        let spec = read_spec(&files, &manifest)?;
        let catalogue = Catalogue::read(&mut files, &manifest, &spec)?;
        let down_meta = read_down_meta(&mut files, &manifest)?;
        let labels = Labels::read(&mut files)?;
        let ours = manifest.spec.is_some();
        let stored = |matrix| Stored { matrix, reordered: (!ours).then(OnceLock::new) };
        let holdings = Holdings::of(&spec, path, |role| catalogue.weights.contains_key(&role));
        let embedding_rates = (0..manifest.num_layers).map(|_| OnceLock::new()).collect();
        Ok(Vindex {
            path: path.into(),
            manifest,
            spec,
            weights: catalogue.weights.into_iter().map(|(role, matrix)| (role, stored(matrix))).collect(),
            holdings,
            gates: catalogue.gates,
            down_meta,
            labels,
            text: TextFiles::in_directory(path),
            embedding_rates,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// One digest for all of its files, from the digests in its manifest; patches record it as their base. None
    /// in old vindexes whose manifest has no digests.
    pub fn base_checksum(&self) -> Option<String> {
        self.manifest.checksums.as_ref().map(digest::of_digests)
    }

    /// Returns the level that its manifest names: the preset that it was extracted by. What it can do depends on its
    /// [`holdings`](Vindex::holdings) alone.
    pub fn level(&self) -> ExtractLevel {
        self.manifest.level()
    }

    /// Returns the parts that it was made of, if it is a slice.
    pub fn slice(&self) -> Option<SliceParts> {
        slice::recorded(&self.manifest)
    }

    /// Returns the components that it holds.
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// The labels of its features.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The tokenizer and the chat template.
    pub fn text(&self) -> &TextFiles {
        &self.text
    }

    /// The tensors of its source that the text model does not use, if they were kept.
    ///
    /// # Errors
    /// If their file is damaged.
    pub fn unused_tensors(&self) -> Result<Vec<StoredTensor>, VindexError> {
        let path = self.path.join(UNUSED_FILE);
        if !path.is_file() {
            return Ok(Vec::new());
        }
        Ok(SafetensorsFile::open(&path)?.tensors().to_vec())
    }

    /// The tokens that features write, if they are held.
    pub fn down_meta(&self) -> Option<&DownMeta> {
        self.down_meta.as_ref()
    }

    /// The gate rows of a layer to search, without any if they are not held; nothing if there is no such layer.
    pub(crate) fn gate_rows(&self, layer: usize) -> Option<&GateRows> {
        self.gates.get(layer)
    }

    /// Returns the gate rows of a layer, `[features, hidden]`, in one piece or, in a mixture, one for each expert and one for
    /// the step that every token passes; nothing if they are not held or there is no such layer.
    pub fn gate_matrices(&self, layer: usize) -> &[Matrix] {
        self.gate_rows(layer).map_or(&[], GateRows::pieces)
    }

    /// Format of the gate rows of a layer, if they are held. Scores of rows in blocks of 4 bits are approximate
    /// where the model was not trained with those.
    pub fn gate_format(&self, layer: usize) -> Option<Format> {
        self.gate_rows(layer)?.format()
    }

    /// True if a tensor is held.
    pub fn holds(&self, role: Role) -> bool {
        self.weights.contains_key(&role)
    }

    /// Refuses work that needs more than is held; `what` is the subject of the message.
    ///
    /// # Errors
    /// [`VindexError::NotHeld`] if one of the components `needed` is not held.
    pub fn require(&self, needed: &[Component], what: &str) -> Result<(), VindexError> {
        match self.holdings.missing(needed) {
            missing if missing.is_empty() => Ok(()),
            missing => Err(self.not_held(what, missing)),
        }
    }

    /// Refuses work that needs all that the preset of a level includes; `what` is the subject of the message.
    ///
    /// # Errors
    /// [`VindexError::NotHeld`] if a component of the preset's weights is not held, or the source's other files are not.
    pub fn require_preset(&self, preset: ExtractLevel, what: &str) -> Result<(), VindexError> {
        let mut needed: Vec<Component> = Holdings::PREDICTING.into();
        needed.retain(|component| component.is_in_preset(preset));
        let mut missing = self.holdings.missing(&needed);
        // Which of the source's other files there are depends on the source.
        if preset == ExtractLevel::All && self.level() < preset {
            missing.push(Component::SourceTensors);
        }
        if missing.is_empty() { Ok(()) } else { Err(self.not_held(what, missing)) }
    }

    pub(crate) fn not_held(&self, what: impl ToString, missing: Vec<Component>) -> VindexError {
        let (what, path) = (what.to_string(), self.path.clone());
        VindexError::NotHeld { what, path, level: self.level_to_blame(), missing }
    }

    /// Returns the level whose limits explain what is missing: none of a slice's, which was made without it.
    fn level_to_blame(&self) -> ExtractLevel {
        if self.slice().is_some() { ExtractLevel::All } else { self.level() }
    }

    fn stored(&self, role: Role) -> Result<&Matrix, ModelError> {
        self.weights.get(&role).map(Stored::matrix).ok_or_else(|| {
            let (name, path) = (self.spec.tensor_name(role), self.path.clone());
            let component = Component::of_role(role);
            let is_in_part = self.weights.keys().any(|role| Component::of_role(*role) == component);
            if is_in_part && component.is_in_preset(self.level()) {
                return ModelError::MissingTensor { role, name, path };
            }
            let lack = MissingComponents { level: self.level_to_blame(), missing: &[component] };
            ModelError::LeftOut { role, path, advice: format!("it {lack}") }
        })
    }
}

impl WeightSource for Vindex {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        self.stored(role).cloned()
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        self.stored(role).map(|matrix| matrix.view().to_f32())
    }
}

fn read_manifest(files: &mut Files, path: &Path) -> Result<Manifest, VindexError> {
    let Some(json) = files.optional(MANIFEST_FILE)? else {
        let problem = match path.is_dir() {
            true if path.extension().is_some_and(|ending| ending == "partial") => {
                "it is an extraction that has not finished; resume or delete it".to_owned()
            }
            true => format!("it has no {MANIFEST_FILE}"),
            false => "there is no such directory".to_owned(),
        };
        return Err(VindexError::NotAVindex { path: path.into(), problem });
    };
    Manifest::parse(&json).map_err(VindexError::manifest(files.path(MANIFEST_FILE)))
}

fn read_spec(files: &Files, manifest: &Manifest) -> Result<ModelSpec, VindexError> {
    let path = files.path(MANIFEST_FILE);
    let spec = match &manifest.spec {
        Some(spec) => serde_json::from_value(spec.clone())
            .map_err(|e| VindexError::manifest(&path)(ManifestError::Json(format!("`spec`: {e}"))))?,
        None => legacy::spec(files, manifest)?,
    };
    spec.validate(&path)?;
    let sizes = [
        ("num_layers", manifest.num_layers, spec.layers.len()),
        ("hidden_size", manifest.hidden_size, spec.hidden_size),
        ("vocab_size", manifest.vocab_size, spec.vocab_size),
    ];
    let damaged = VindexError::damaged(&path);
    if let Some((field, manifest, spec)) = sizes.into_iter().find(|(_, manifest, spec)| manifest != spec) {
        return Err(damaged(Damage::new(field, format_args!("{spec}, as `spec` says"), manifest)));
    }
    for slot in &manifest.layers {
        let features = spec.layers[slot.layer].feed_forward.features();
        if features != slot.num_features {
            let part = format!("features of layer {}", slot.layer);
            return Err(damaged(Damage::new(
                part,
                format_args!("{features}, as `spec` says"),
                slot.num_features,
            )));
        }
    }
    Ok(spec)
}

fn read_down_meta(files: &mut Files, manifest: &Manifest) -> Result<Option<DownMeta>, VindexError> {
    let (name, meta) = if let Some(bytes) = files.optional(DOWN_META_FILE)? {
        (DOWN_META_FILE, DownMeta::parse(bytes))
    } else if let Some(bytes) = files.optional(DOWN_META_LINES_FILE)? {
        (DOWN_META_LINES_FILE, DownMeta::parse_lines(&bytes, manifest.num_layers))
    } else {
        return Ok(None);
    };
    let damaged = VindexError::damaged(files.path(name));
    let meta = meta.map_err(&damaged)?;
    for slot in &manifest.layers {
        let (expected, found) = (slot.num_features, meta.features(slot.layer));
        // Lines end with the last feature that writes anything.
        if found > expected || (found < expected && name == DOWN_META_FILE) {
            return Err(damaged(Damage::new(format!("features of layer {}", slot.layer), expected, found)));
        }
    }
    Ok(Some(meta))
}
