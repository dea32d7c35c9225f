//! What a session works on: USE, and the parts of it that statements ask for.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::Format;
use larql_hub::{Library, ModelResolver};
use larql_inference::InferenceError;
use larql_knowledge::{AskableRelations, Beginnings, LanguageModel, ResidualRates};
use larql_lql::ast::{LayerRange, Scope, Span, Spanned, Use};
use larql_lql::output::{self, OpenedAs, Output};
use larql_models::{Checkpoint, Tokenizer, WeightSource};
use larql_vindex::search::Words;
use larql_vindex::{FeatureStore, Labels, Overlay, PatchStack, Vindex};

use crate::measured::Measured;
use crate::patch::OpenPatch;
use crate::{ExecuteError, Session, extract};

/// A vindex or a checkpoint, with what has been made of it so far.
pub(crate) enum Opened {
    Vindex(Box<OpenVindex>),
    Checkpoint { path: PathBuf, language: Box<LanguageModel> },
}

/// An open vindex with the patches over it. The model in it is loaded when it is first run.
pub(crate) struct OpenVindex {
    /// What base and patches amount to.
    pub(crate) vindex: Overlay,
    pub(crate) patches: PatchStack,
    /// The patch that edits go into.
    pub(crate) open_patch: Option<OpenPatch>,
    /// The model without the patches.
    base_language: OnceCell<LanguageModel>,
    language: OnceCell<LanguageModel>,
    asking: OnceCell<Asking>,
    words: OnceCell<Words>,
    /// What writing edges takes.
    pub(crate) measured: Measured,
}

/// What it takes to ask a model about entities.
pub(crate) struct Asking {
    pub(crate) rates: ResidualRates,
    pub(crate) beginnings: Beginnings,
    /// The relations that it was probed for.
    pub(crate) relations: Option<AskableRelations>,
}

impl OpenVindex {
    fn open(path: &Path, library: &Library) -> Result<OpenVindex, ExecuteError> {
        let patches = PatchStack::new(Arc::new(Vindex::open(path)?))?;
        Ok(OpenVindex {
            measured: Measured::new(patches.overlay(), library),
            vindex: patches.overlay().clone(),
            patches,
            open_patch: None,
            base_language: OnceCell::new(),
            language: OnceCell::new(),
            asking: OnceCell::new(),
            words: OnceCell::new(),
        })
    }

    /// Shows what the patches amount to now, and forgets what was made of what they were before.
    pub(crate) fn patches_changed(&mut self) {
        self.vindex = self.patches.overlay().clone();
        self.language = OnceCell::new();
        self.asking = OnceCell::new();
    }

    pub(crate) fn tokenizer(&self) -> Result<Arc<Tokenizer>, ExecuteError> {
        let tokenizer = self.vindex.text().tokenizer()?;
        tokenizer.ok_or_else(|| ExecuteError::NoTokenizer { path: self.vindex.path().display().to_string() })
    }

    /// The words that features write.
    pub(crate) fn words(&self) -> Result<&Words, ExecuteError> {
        if let Some(words) = self.words.get() {
            return Ok(words);
        }
        let words = Words::new(self.tokenizer()?, self.vindex.base().spec().vocab_size);
        Ok(self.words.get_or_init(|| words))
    }

    /// The last layer's number is one less.
    pub(crate) fn layers(&self) -> usize {
        self.vindex.layers()
    }

    /// The bands with their layers.
    pub(crate) fn bands(&self) -> [(Scope, Range<usize>); 3] {
        let bands = self.vindex.manifest().bands();
        [
            (Scope::Syntax, bands.syntax.layers()),
            (Scope::Knowledge, bands.knowledge.layers()),
            (Scope::Output, bands.output.layers()),
        ]
    }

    /// The band that a layer belongs to.
    pub(crate) fn band(&self, layer: usize) -> Option<Scope> {
        self.bands().into_iter().find(|(_, layers)| layers.contains(&layer)).map(|(band, _)| band)
    }

    /// The format of gate rows in some layers, if their scores are only approximate in it: whole experts are scored by
    /// 4-bit floats, whose rounding is as large as the differences between weak features.
    pub(crate) fn approximate_gates(&self, mut layers: Range<usize>) -> Option<Format> {
        let format = |layer| self.vindex.gate_format(layer).filter(|format| *format == Format::MXFP4);
        layers.find_map(format)
    }

    /// A layer that was asked for.
    pub(crate) fn layer(&self, layer: Spanned<usize>) -> Result<usize, ExecuteError> {
        check_layer(layer.value, layer.span, self.layers())
    }

    /// A range of layers that was asked for, or `otherwise`.
    pub(crate) fn layer_range(
        &self,
        range: Option<Spanned<LayerRange>>,
        otherwise: Range<usize>,
    ) -> Result<Range<usize>, ExecuteError> {
        let Some(range) = range else { return Ok(otherwise) };
        let last = check_layer(range.value.last, range.span, self.layers())?;
        Ok(range.value.first..last + 1)
    }
}

pub(crate) fn check_layer(layer: usize, at: Span, layers: usize) -> Result<usize, ExecuteError> {
    if layer < layers {
        Ok(layer)
    } else {
        Err(ExecuteError::NoSuchLayer { layer, last: layers.saturating_sub(1), at })
    }
}

impl Session {
    /// USE.
    pub(crate) fn open(&mut self, statement: &Use) -> Result<Output, ExecuteError> {
        match statement {
            Use::Vindex(name) => {
                let path = self.find(name)?;
                if !Vindex::is_at(&path) && Checkpoint::open(&path).is_ok() {
                    let path = path.display().to_string();
                    return Err(ExecuteError::NeedsVindex { statement: "USE", path });
                }
                self.open_vindex(&path)
            }
            Use::Model { model: name, auto_extract } => {
                let path = self.find_checkpoint(name)?;
                if *auto_extract {
                    let vindex = extract::automatic(self, &path)?;
                    return self.open_vindex(&vindex);
                }
                self.open_checkpoint(&path)
            }
            Use::Remote(_) => Err(ExecuteError::NotAvailable { statement: "USE REMOTE".into() }),
        }
    }

    /// Opens a vindex or a checkpoint, whichever lies at `path`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_path(&mut self, path: &Path) -> Result<Output, ExecuteError> {
        if Vindex::is_at(path) { self.open_vindex(path) } else { self.open_checkpoint(path) }
    }

    fn open_checkpoint(&mut self, path: &Path) -> Result<Output, ExecuteError> {
        let language = LanguageModel::open(path, Arc::clone(&self.pool))?;
        let spec = language.model().spec();
        let opened = output::Opened {
            path: path.display().to_string(),
            opened_as: OpenedAs::Model,
            model: model_name(path),
            level: None,
            layers: spec.layers.len(),
            features: spec.layers.iter().map(|layer| layer.feed_forward.features()).sum(),
            relations: 0,
        };
        self.opened = Some(Opened::Checkpoint { path: path.into(), language: Box::new(language) });
        Ok(Output::Use(opened))
    }

    fn open_vindex(&mut self, path: &Path) -> Result<Output, ExecuteError> {
        let open = OpenVindex::open(path, &self.library)?;
        let vindex = &open.vindex;
        let opened = output::Opened {
            path: path.display().to_string(),
            opened_as: OpenedAs::Vindex,
            model: vindex.manifest().model.clone(),
            level: Some(vindex.level()),
            layers: vindex.layers(),
            features: (0..vindex.layers()).map(|layer| vindex.features(layer)).sum(),
            relations: relations(vindex.labels()),
        };
        self.opened = Some(Opened::Vindex(Box::new(open)));
        Ok(Output::Use(opened))
    }

    /// Where the model lies that a statement names.
    pub(crate) fn find(&self, name: &Spanned<String>) -> Result<PathBuf, ExecuteError> {
        self.library.find(name.value.as_ref()).map_err(ExecuteError::not_found(name.span))
    }

    /// Where the checkpoint lies that a statement names.
    pub(crate) fn find_checkpoint(&self, name: &Spanned<String>) -> Result<PathBuf, ExecuteError> {
        self.library.find_checkpoint(name.value.as_ref()).map_err(ExecuteError::not_found(name.span))
    }

    /// The open vindex; `statement` is what needs it.
    pub(crate) fn vindex(&self, statement: &'static str) -> Result<&OpenVindex, ExecuteError> {
        match &self.opened {
            None => Err(ExecuteError::NothingOpen),
            Some(Opened::Vindex(open)) => Ok(open),
            Some(Opened::Checkpoint { path, .. }) => {
                Err(ExecuteError::NeedsVindex { statement, path: path.display().to_string() })
            }
        }
    }

    /// The open vindex, to be edited; `statement` is what needs it.
    pub(crate) fn vindex_mut(&mut self, statement: &'static str) -> Result<&mut OpenVindex, ExecuteError> {
        self.vindex(statement)?;
        match &mut self.opened {
            Some(Opened::Vindex(open)) => Ok(open),
            _ => Err(ExecuteError::NothingOpen),
        }
    }

    /// The model in whatever is open.
    pub(crate) fn language(&self) -> Result<&LanguageModel, ExecuteError> {
        match &self.opened {
            None => Err(ExecuteError::NothingOpen),
            Some(Opened::Checkpoint { language, .. }) => Ok(language),
            Some(Opened::Vindex(open)) => self.language_of(open),
        }
    }

    /// The model in an open vindex.
    pub(crate) fn language_of<'a>(&self, open: &'a OpenVindex) -> Result<&'a LanguageModel, ExecuteError> {
        if let Some(language) = open.language.get() {
            return Ok(language);
        }
        open.vindex.require(larql_vindex_spec::ExtractLevel::Inference, "predicting")?;
        let base = match open.base_language.get() {
            Some(base) => base,
            None => {
                let base = LanguageModel::of_vindex(&open.vindex, Arc::clone(&self.pool))?;
                open.base_language.get_or_init(|| base)
            }
        };
        let language = base.edited(open.vindex.edits())?.with_entries(open.vindex.knn().clone());
        Ok(open.language.get_or_init(|| language))
    }

    /// What it takes to ask the model in an open vindex about entities.
    pub(crate) fn asking_of<'a>(
        &self,
        open: &'a OpenVindex,
        language: &LanguageModel,
    ) -> Result<&'a Asking, ExecuteError> {
        if let Some(asking) = open.asking.get() {
            return Ok(asking);
        }
        let model = language.model();
        let relations =
            AskableRelations::read(open.vindex.path(), model.spec()).map_err(InferenceError::from)?;
        let rates = ResidualRates::measure(model, &open.vindex, language.tokenizer())?;
        Ok(open.asking.get_or_init(|| Asking { rates, beginnings: Beginnings::default(), relations }))
    }
}

/// How many different relations there are among labels.
fn relations(labels: &Labels) -> usize {
    labels.iter().map(|(_, _, label)| &*label.relation).collect::<std::collections::HashSet<_>>().len()
}

/// What a checkpoint is called: its directory, or its file without the ending.
pub(crate) fn model_name(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
