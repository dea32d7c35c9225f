//! A vindex under some patches, as statements see it.

use std::ops::Range;
use std::sync::Arc;

use larql_compute::Format;
use larql_core::SharedLazy;
use larql_core::progress::{CancelToken, Progress};
use larql_knowledge::{AskableRelations, LanguageModel, PrefixCache, ResidualRates};
use larql_lql::ast::{LayerRange, Span, Spanned};
use larql_lql::output::Band;
use larql_models::Tokenizer;
use larql_vindex::search::Words;
use larql_vindex::{FeatureStore, Holdings, Overlay, PatchStack, Vindex};

use crate::measured::Measured;
use crate::{Database, ExecuteError, QueryError};

/// Immutable snapshot of a database under a stack of patches. A write makes another view; a reader that has this one goes on
/// reading what it shows.
pub struct View {
    database: Arc<Database>,
    patches: PatchStack,
    /// The same for views that differ only in what their patches are called.
    computed: Arc<Computed>,
}

/// Values computed from the patched model at the first use.
#[derive(Default)]
struct Computed {
    /// The patched model; not used by a view without patches, whose model is the database's.
    language: Option<SharedLazy<LanguageModel>>,
    reading: SharedLazy<Reading>,
}

/// State for reading facts from a model.
pub(crate) struct Reading {
    pub(crate) rates: ResidualRates,
    pub(crate) prefixes: PrefixCache,
}

impl View {
    /// Returns the view without patches.
    pub(crate) fn unpatched(database: Arc<Database>, patches: PatchStack) -> View {
        View { database, patches, computed: Arc::default() }
    }

    /// Returns the view of the same database under other patches.
    pub(crate) fn with_patches(&self, patches: PatchStack) -> View {
        let computed = Computed { language: Some(SharedLazy::new()), reading: SharedLazy::new() };
        View { database: Arc::clone(&self.database), patches, computed: Arc::new(computed) }
    }

    /// Returns the view under patches with the same edits as these, which differ in names or empty patches.
    pub(crate) fn with_same_edits(&self, patches: PatchStack) -> View {
        View { database: Arc::clone(&self.database), patches, computed: Arc::clone(&self.computed) }
    }

    /// Returns the database.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Returns the patches, first applied first.
    pub fn patches(&self) -> &PatchStack {
        &self.patches
    }

    /// Returns the vindex with the edits of the patches.
    pub fn overlay(&self) -> &Overlay {
        self.patches.overlay()
    }

    /// Returns the vindex without edits.
    pub fn base(&self) -> &Vindex {
        self.database.base()
    }

    /// Returns the model with the edits.
    ///
    /// # Errors
    /// If the vindex does not hold all of it.
    pub fn language(&self) -> Result<&LanguageModel, ExecuteError> {
        let base = self.database.language()?;
        let Some(language) = &self.computed.language else { return Ok(base) };
        let overlay = self.overlay();
        language.get_or_try_init(|| Ok(base.edited(overlay.edits())?.with_entries(overlay.knn().clone())))
    }

    /// Returns the state for reading facts from the model, which `cancel` may keep from being measured.
    pub(crate) fn reading(&self, cancel: &CancelToken) -> Result<&Reading, ExecuteError> {
        let language = self.language()?.with_cancel(cancel);
        self.computed.reading.get_or_try_init(|| {
            let rates = ResidualRates::measure(language.model(), self.overlay(), language.tokenizer())?;
            Ok(Reading { rates, prefixes: PrefixCache::default() })
        })
    }

    /// Returns true if the vindex holds what a forward pass takes.
    pub(crate) fn can_predict(&self) -> bool {
        self.base().holdings().contains_all(&Holdings::PREDICTING)
    }

    /// Returns the tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<&Arc<Tokenizer>, ExecuteError> {
        self.database.tokenizer()
    }

    /// Returns the words that features write.
    pub(crate) fn words(&self) -> Result<&Words, ExecuteError> {
        self.database.words()
    }

    /// Returns the relations that the model can be asked about: those that it was probed for, else those that LARQL ships
    /// wordings of. It is asked about reference subjects before the first use of the latter, which `progress` follows.
    pub(crate) fn askable(&self, progress: &dyn Progress) -> Result<&AskableRelations, ExecuteError> {
        match self.database.relations()? {
            Some(probed) => Ok(probed),
            None => self.measured().unprobed_relations(self.database.language()?, progress),
        }
    }

    /// Returns what writing edges takes.
    pub(crate) fn measured(&self) -> &Measured {
        self.database.measured()
    }

    /// Returns the number of layers; the last one's number is one less.
    pub(crate) fn layers(&self) -> usize {
        self.overlay().layers()
    }

    /// Returns the bands with their layers.
    pub(crate) fn bands(&self) -> [(Band, Range<usize>); 3] {
        let bands = self.base().manifest().bands();
        [
            (Band::Syntax, bands.syntax.layers()),
            (Band::Knowledge, bands.knowledge.layers()),
            (Band::Output, bands.output.layers()),
        ]
    }

    /// Returns the band that a layer belongs to.
    pub(crate) fn band(&self, layer: usize) -> Option<Band> {
        self.bands().into_iter().find(|(_, layers)| layers.contains(&layer)).map(|(band, _)| band)
    }

    /// Returns the name of the format of gate rows in some layers, if their scores are only approximate in it: whole
    /// experts are scored by 4-bit floats, whose rounding is as large as the differences between weak features.
    pub(crate) fn approximate_gates(&self, mut layers: Range<usize>) -> Option<String> {
        let format = |layer| self.base().gate_format(layer).filter(|format| *format == Format::MXFP4);
        layers.find_map(format).map(|format| format.to_string())
    }

    /// Returns a layer that a statement names, if there is one.
    pub(crate) fn layer(&self, layer: Spanned<usize>) -> Result<usize, QueryError> {
        check_layer(layer.value, layer.span, self.layers())
    }

    /// Returns a range of layers that a statement names, or `otherwise`.
    pub(crate) fn layer_range(
        &self,
        range: Option<Spanned<LayerRange>>,
        otherwise: Range<usize>,
    ) -> Result<Range<usize>, QueryError> {
        let Some(range) = range else { return Ok(otherwise) };
        let last = check_layer(range.value.last, range.span, self.layers())?;
        Ok(range.value.first..last + 1)
    }
}

/// Returns a layer that a statement names `at` a place, if a model of so many layers has it.
pub(crate) fn check_layer(layer: usize, at: Span, layers: usize) -> Result<usize, QueryError> {
    if layer < layers {
        Ok(layer)
    } else {
        Err(QueryError::NoSuchLayer { layer, last: layers.saturating_sub(1), at })
    }
}
