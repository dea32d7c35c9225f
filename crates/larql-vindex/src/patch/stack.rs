//! Patches laid over a vindex, one on the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use larql_models::{ModelSpec, WeightSource};

use super::{FeatureOperation, Operation, Patch};
use crate::knn_store::KnnStore;
use crate::{EditedFeature, FeatureEdit, FeatureEdits, FeatureStore, Overlay, Vindex, VindexError};

/// Patches over a vindex, in the order in which they were applied, with their combined edits.
///
/// What is laid on top is worked into what there is. Where one is taken off, or something below another changes, all of it
/// is computed from the base again, so that it is exactly what there would be had the rest never been there.
#[derive(Clone, Debug)]
pub struct PatchStack {
    base: Arc<Vindex>,
    patches: Vec<AppliedPatch>,
    overlay: Overlay,
}

/// A patch of a stack.
#[derive(Clone, Debug, PartialEq)]
pub struct AppliedPatch {
    /// Name, for instance of its file.
    pub name: String,
    /// Its operations.
    pub patch: Patch,
}

/// Rule for two patches that edit one feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// The patch that was applied later wins.
    #[default]
    LastWins,
    /// The more confident one, and of equals the later; one that states no confidence is certain.
    HighestConfidence,
    /// Neither: that there are two is an error.
    Fail,
}

impl PatchStack {
    /// A vindex with nothing over it but what it carries itself.
    ///
    /// # Errors
    /// If it carries KNN entries that are damaged.
    pub fn new(base: Arc<Vindex>) -> Result<PatchStack, VindexError> {
        let overlay = replay(&base, &[], Conflict::LastWins)?;
        Ok(PatchStack { base, patches: Vec::new(), overlay })
    }

    /// The unedited vindex.
    pub fn base(&self) -> &Arc<Vindex> {
        &self.base
    }

    /// The patches, first applied first.
    pub fn patches(&self) -> &[AppliedPatch] {
        &self.patches
    }

    /// The vindex under all patches.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// The vindex under all patches, with another rule for conflicts.
    ///
    /// # Errors
    /// [`VindexError::PatchConflict`] with [`Conflict::Fail`].
    pub fn resolved(&self, conflict: Conflict) -> Result<Overlay, VindexError> {
        replay(&self.base, &self.patches, conflict)
    }

    /// Lays a patch on top.
    ///
    /// # Errors
    /// [`VindexError::OtherBase`] if it was made for other weights, [`VindexError::BadOperation`] if one does not fit
    /// the model. The stack is as it was then.
    pub fn apply(&mut self, name: impl Into<String>, patch: Patch) -> Result<(), VindexError> {
        let name = name.into();
        patch.require_fit(&name, &self.base)?;
        self.overlay = laid_over(&self.overlay, &name, patch.operations().enumerate())?;
        self.patches.push(AppliedPatch { name, patch });
        Ok(())
    }

    /// Takes a patch off, whatever lies over it, by its place in [`PatchStack::patches`].
    ///
    /// # Errors
    /// If a patch above cannot do without it; the stack is as it was then.
    ///
    /// # Panics
    /// If there is none at this place.
    pub fn remove(&mut self, index: usize) -> Result<AppliedPatch, VindexError> {
        let mut patches = self.patches.clone();
        let removed = patches.remove(index);
        self.set(patches)?;
        Ok(removed)
    }

    /// Appends operations to a patch of the stack.
    ///
    /// # Errors
    /// As [`PatchStack::apply`].
    ///
    /// # Panics
    /// If there is no patch at this place.
    pub fn extend(&mut self, index: usize, operations: Vec<Operation>) -> Result<(), VindexError> {
        if index + 1 == self.patches.len() {
            let AppliedPatch { name, patch } = &mut self.patches[index];
            let numbered = (patch.operations().len()..).zip(&operations);
            self.overlay = laid_over(&self.overlay, name, numbered)?;
            patch.extend(operations);
            return Ok(());
        }
        let mut patches = self.patches.clone();
        patches[index].patch.extend(operations);
        self.set(patches)
    }

    /// Drops all but the first operations of a patch of the stack.
    ///
    /// # Errors
    /// If a patch above cannot do without what is dropped; the stack is as it was then.
    ///
    /// # Panics
    /// If there is no patch at this place.
    pub fn truncate(&mut self, index: usize, operations: usize) -> Result<(), VindexError> {
        let mut patches = self.patches.clone();
        patches[index].patch.truncate(operations);
        self.set(patches)
    }

    /// Renames a patch of the stack.
    ///
    /// # Panics
    /// If there is none at this place.
    pub fn rename(&mut self, index: usize, name: impl Into<String>) {
        self.patches[index].name = name.into();
    }

    fn set(&mut self, patches: Vec<AppliedPatch>) -> Result<(), VindexError> {
        self.overlay = replay(&self.base, &patches, Conflict::LastWins)?;
        self.patches = patches;
        Ok(())
    }
}

/// Combined edits of patches over a base.
fn replay(base: &Arc<Vindex>, patches: &[AppliedPatch], conflict: Conflict) -> Result<Overlay, VindexError> {
    let nothing = Overlay::new(Arc::clone(base), FeatureEdits::default())?;
    let mut state = State::of(&nothing);
    for (index, applied) in patches.iter().enumerate() {
        for (number, operation) in applied.patch.operations().enumerate() {
            state.check(&applied.name, number, operation)?;
            if state.counts(index, operation, patches, conflict)? {
                state.apply(operation);
            }
        }
    }
    nothing.with_layers(state.edits, state.knn, 0..base.layers())
}

/// Applies operations of a patch, with their numbers in it from 0, to earlier edits.
fn laid_over<'a>(
    overlay: &Overlay,
    patch: &str,
    operations: impl Iterator<Item = (usize, &'a Operation)>,
) -> Result<Overlay, VindexError> {
    let mut state = State::of(overlay);
    let mut layers = BTreeSet::new();
    for (number, operation) in operations {
        state.check(patch, number, operation)?;
        state.apply(operation);
        layers.extend(operation.feature().map(|(layer, _)| layer));
    }
    overlay.with_layers(state.edits, state.knn, layers)
}

/// Base and patches so far.
struct State<'a> {
    base: &'a Vindex,
    edits: FeatureEdits,
    knn: Arc<KnnStore>,
    /// For each edited feature the patch that did it last, and how sure it was.
    touched: HashMap<(usize, usize), (usize, f64)>,
}

impl<'a> State<'a> {
    fn of(overlay: &'a Overlay) -> State<'a> {
        let (edits, knn) = (overlay.edits().clone(), overlay.shared_knn());
        State { base: overlay.base(), edits, knn, touched: HashMap::new() }
    }

    /// Validates the operation of a patch at a place in it, from 0.
    fn check(&self, patch: &str, number: usize, operation: &Operation) -> Result<(), VindexError> {
        let spec = self.base.spec();
        let checked = match operation {
            Operation::Insert(of) | Operation::Update(of) => {
                FeatureEdit::Changed(of.edited.clone()).check(spec, of.layer, of.feature)
            }
            Operation::Delete { layer, feature, .. } => FeatureEdit::Deleted.check(spec, *layer, *feature),
            Operation::InsertKnn(entry) => entry.check(spec),
            Operation::DeleteKnn { .. } => Ok(()),
        };
        let bad = |problem| {
            let (patch, operation) = (patch.to_owned(), number + 1);
            VindexError::BadOperation { patch, operation, problem }
        };
        checked.map_err(bad)
    }

    /// True if an operation wins over an earlier patch's edit of the same feature.
    fn counts(
        &mut self,
        patch: usize,
        operation: &Operation,
        patches: &[AppliedPatch],
        conflict: Conflict,
    ) -> Result<bool, VindexError> {
        let Some((layer, feature)) = operation.feature() else { return Ok(true) };
        let confidence = operation.confidence().unwrap_or(1.0);
        if let Some((earlier, before)) = self.touched.get(&(layer, feature))
            && *earlier != patch
        {
            match conflict {
                Conflict::LastWins => {}
                Conflict::HighestConfidence if confidence < *before => return Ok(false),
                Conflict::HighestConfidence => {}
                Conflict::Fail => {
                    return Err(VindexError::PatchConflict {
                        layer,
                        feature,
                        patches: [*earlier, patch].map(|index| patches[index].name.clone()),
                    });
                }
            }
        }
        self.touched.insert((layer, feature), (patch, confidence));
        Ok(true)
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::InsertKnn(entry) => Arc::make_mut(&mut self.knn).insert(entry.clone()),
            Operation::DeleteKnn { entity } => Arc::make_mut(&mut self.knn).remove(entity),
            of_feature => self.edits.apply(self.base.spec(), of_feature),
        }
    }
}

impl FeatureEdits {
    /// Changes what an operation on a feature of a model with this `spec` changes; nothing, if it is one on KNN entries.
    ///
    /// # Panics
    /// If it updates a deleted feature of a layer that the model does not have.
    pub fn apply(&mut self, spec: &ModelSpec, operation: &Operation) {
        match operation {
            Operation::Insert(FeatureOperation { layer, feature, edited, .. }) => {
                // A feature of which every part is the base's is not edited.
                match *edited == EditedFeature::default() {
                    true => drop(self.remove(*layer, *feature)),
                    false => self.set(*layer, *feature, FeatureEdit::Changed(edited.clone())),
                }
            }
            Operation::Update(FeatureOperation { layer, feature, edited, .. }) => {
                let before = match self.remove(*layer, *feature) {
                    Some(FeatureEdit::Changed(before)) => before,
                    Some(FeatureEdit::Deleted) => nothing(spec, *layer),
                    None => EditedFeature::default(),
                };
                self.set(*layer, *feature, FeatureEdit::Changed(before.updated(edited)));
            }
            Operation::Delete { layer, feature, .. } => self.set(*layer, *feature, FeatureEdit::Deleted),
            Operation::InsertKnn(_) | Operation::DeleteKnn { .. } => {}
        }
    }
}

/// A deleted feature of a layer as one that can be updated.
fn nothing(spec: &ModelSpec, layer: usize) -> EditedFeature {
    let zeros: Arc<[f32]> = vec![0.0; spec.hidden_size].into();
    let gated = spec.layers[layer].feed_forward.is_gated();
    EditedFeature {
        gate: Some(Arc::clone(&zeros)),
        up: gated.then(|| Arc::clone(&zeros)),
        down: Some(zeros),
        tokens: Some(Vec::new()),
        ..EditedFeature::default()
    }
}

impl EditedFeature {
    /// This with those parts that `change` states.
    fn updated(self, change: &EditedFeature) -> EditedFeature {
        let change = change.clone();
        EditedFeature {
            gate: change.gate.or(self.gate),
            up: change.up.or(self.up),
            down: change.down.or(self.down),
            tokens: change.tokens.or(self.tokens),
            edge: crate::StatedEdge {
                entity: change.edge.entity.or(self.edge.entity),
                relation: change.edge.relation.or(self.edge.relation),
                target: change.edge.target.or(self.edge.target),
                confidence: change.edge.confidence.or(self.edge.confidence),
            },
        }
    }
}
