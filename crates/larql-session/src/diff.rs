//! DIFF: features and edges of the edge memory that differ between two vindexes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use larql_compute::vector::{cosine, norm};
use larql_lql::ast::{Diff, Source, Spanned};
use larql_lql::output::{Difference, Differences, Output};
use larql_models::{Tokenizer, WeightSource};
use larql_vindex::search::TokenTexts;
use larql_vindex::{
    EditedFeature, FeatureOperation, FeatureStore, KnnEntry, KnnStore, Label, Operation, Overlay, Patch,
    StatedEdge,
};

use crate::common::entries::{EntryKey, entry_key};
use crate::view::check_layer;
use crate::weight_difference::other_weights;
use crate::{ChangeError, ExecuteError, PatchError, Session, View};

/// Differences that are shown.
const LIMIT: usize = 20;

/// Norm of a difference that counts as none, as a share of the vector's: the rounding of f16, in which COMPILE writes layers
/// whose blocks cannot take an edit.
pub(crate) const ROUNDING: f32 = 5e-4;

pub(crate) fn run(session: &Session, statement: &Diff) -> Result<Output, ExecuteError> {
    let base_view = opened(session, &statement.base)?;
    let (other_view, name) = match &statement.other {
        Source::Current => {
            let view = session.viewed("DIFF")?;
            (Arc::clone(view), "CURRENT".to_owned())
        }
        Source::Path(path) => (opened(session, path)?, path.value.clone()),
    };
    let (base, other) = (base_view.overlay(), other_view.overlay());
    let layers = match statement.layer {
        Some(layer) => {
            let layer = check_layer(layer.value, layer.span, base.layers())?;
            layer..layer + 1
        }
        None => 0..base.layers(),
    };
    let comparison = Comparison::of(base, other, &statement.base)?;
    let wanted = statement.relation.as_ref().map(|relation| &*relation.value);
    let mut changes = Vec::new();
    for layer in layers.clone() {
        session.check_cancelled()?;
        let found = comparison.layer(layer)?;
        changes.extend(found.into_iter().filter(|change| change.is_of(wanted)));
    }
    let mut entries = entry_changes(base.knn(), other.knn());
    entries.retain(|change| layers.contains(&change.layer()) && change.is_of(wanted));
    let tokenizer = base.base().text().tokenizer()?;
    let limit = statement.limit.map_or(LIMIT, |limit| limit.value);
    let rows = changes.iter().map(|change| change.row(base, other, tokenizer.as_deref()));
    let rows: Vec<Difference> = rows.chain(entries.iter().map(EntryChange::row)).take(limit).collect();
    let patch = statement.into_patch.as_ref().map(|path| path.value.clone());
    if let Some(path) = &statement.into_patch {
        if Path::new(&**path).exists() {
            return Err(PatchError::FileExists { path: path.value.clone(), at: path.span }.into());
        }
        let mut patch = Patch::new(base.base());
        patch.extend(changes.iter().map(|change| change.operation(tokenizer.as_deref())));
        patch.extend(entry_operations(&entries, other.knn()));
        patch.save(Path::new(&**path))?;
    }
    let other_weights = match wanted {
        None => other_weights(session, base, other, &layers)?,
        // A relation has no weights besides its features.
        Some(_) => Vec::new(),
    };
    let (count, base) = (changes.len() + entries.len(), statement.base.value.clone());
    Ok(Output::Diff(Differences { base, other: name, count, rows, other_weights, patch }))
}

/// Returns what a vindex shows that a statement names.
fn opened(session: &Session, name: &Spanned<String>) -> Result<Arc<View>, ExecuteError> {
    session.database(name)?.view()
}

/// Two vindexes of one shape.
pub(crate) struct Comparison<'a> {
    base: &'a Overlay,
    other: &'a Overlay,
}

/// A feature that differs, with the parts of the other that do.
pub(crate) struct FeatureChange {
    layer: usize,
    feature: usize,
    parts: Vec<&'static str>,
    edited: EditedFeature,
    label: Option<Label>,
    deleted: bool,
    gate_cosine: f32,
}

impl<'a> Comparison<'a> {
    /// # Errors
    /// If the two are not of one shape; `name` is the base as the statement says it.
    pub(crate) fn of(
        base: &'a Overlay,
        other: &'a Overlay,
        name: &Spanned<String>,
    ) -> Result<Comparison<'a>, ChangeError> {
        let shape = |overlay: &Overlay| -> Vec<usize> {
            let layers = overlay.spec().layers.iter().map(|layer| layer.feed_forward.features());
            std::iter::once(overlay.spec().hidden_size).chain(layers).collect()
        };
        if shape(base) == shape(other) && base.spec().vocab_size == other.spec().vocab_size {
            return Ok(Comparison { base, other });
        }
        Err(ChangeError::OtherShape {
            base: base.base().path().display().to_string(),
            other: other.base().path().display().to_string(),
            at: name.span,
        })
    }

    /// The features of a layer that differ, in order.
    pub(crate) fn layer(&self, layer: usize) -> Result<Vec<FeatureChange>, ExecuteError> {
        let mut changes = Vec::new();
        let features = self.base.features(layer).min(self.other.features(layer));
        let [base_rows, other_rows] = [self.base, self.other].map(|store| store.feature_vectors(layer));
        let (base_rows, other_rows) = (base_rows?, other_rows?);
        for feature in 0..features {
            let gates = [base_rows.gate(feature), other_rows.gate(feature)];
            let downs = [base_rows.down(feature), other_rows.down(feature)];
            let silent = downs[1].iter().flatten().all(|value| *value == 0.0);
            let mut change = FeatureChange {
                layer,
                feature,
                parts: Vec::new(),
                edited: EditedFeature::default(),
                label: self.other.label(layer, feature),
                deleted: silent && gates[1].iter().all(|value| *value == 0.0),
                gate_cosine: cosine(&gates[0], &gates[1]),
            };
            change.edited.gate = change.part("gate", gates.map(Some));
            change.edited.up = change.part("up", [base_rows.up(feature), other_rows.up(feature)]);
            change.edited.down = change.part("down", downs);
            let tokens = self.other.top_tokens(layer, feature);
            if self.base.top_tokens(layer, feature).ne(tokens.clone()) {
                change.parts.push("tokens");
                change.edited.tokens = Some(tokens.collect());
            }
            let relation = |store: &Overlay| store.label(layer, feature).map(|label| label.relation);
            if relation(self.base) != relation(self.other) {
                change.parts.push("label");
                change.edited.edge = StatedEdge { relation: relation(self.other), ..StatedEdge::default() };
            }
            change.edited.edge = match self.other.edits().get(layer, feature) {
                Some(larql_vindex::FeatureEdit::Changed(edited)) => edited.edge.clone(),
                _ => change.edited.edge,
            };
            if !change.parts.is_empty() {
                changes.push(change);
            }
        }
        Ok(changes)
    }
}

impl FeatureChange {
    /// The second of two vectors, if it differs from the first by more than [`ROUNDING`]; where one is not held they cannot be
    /// compared.
    fn part(&mut self, name: &'static str, vectors: [Option<Vec<f32>>; 2]) -> Option<Arc<[f32]>> {
        let [Some(before), Some(after)] = vectors else { return None };
        let difference: f32 = before.iter().zip(&after).map(|(a, b)| (a - b) * (a - b)).sum();
        if difference.sqrt() <= ROUNDING * norm(&before) {
            return None;
        }
        self.parts.push(name);
        Some(after.into())
    }

    fn is_of(&self, relation: Option<&str>) -> bool {
        relation.is_none_or(|wanted| {
            self.label.as_ref().is_some_and(|label| label.relation.eq_ignore_ascii_case(wanted))
        })
    }

    fn row(&self, base: &Overlay, other: &Overlay, tokenizer: Option<&Tokenizer>) -> Difference {
        let (layer, feature) = (self.layer, self.feature);
        let word = |store: &Overlay| {
            let word = store.top_tokens(layer, feature).find_map(|score| tokenizer?.word(score.token));
            word.map(|word| word.trim().to_owned())
        };
        let label = self.label.clone().or_else(|| base.label(layer, feature));
        Difference {
            layer,
            feature: Some(feature),
            entity: None,
            parts: self.parts.iter().map(|part| (*part).to_owned()).collect(),
            relation: label.map(|label| label.relation),
            before: word(base),
            after: word(other),
            gate_cosine: Some(self.gate_cosine),
        }
    }

    /// Returns the operation that makes the other's feature out of the base's.
    pub(crate) fn operation(&self, tokenizer: Option<&Tokenizer>) -> Operation {
        let (layer, feature) = (self.layer, self.feature);
        if self.deleted {
            return Operation::Delete { layer, feature, reason: None };
        }
        let first = self.edited.tokens.iter().flatten().next();
        let token_text = first.and_then(|score| tokenizer?.token_text(score.token));
        Operation::Update(FeatureOperation { layer, feature, edited: self.edited.clone(), token_text })
    }
}

/// An edge of the edge memory that differs between two vindexes, or that one lacks.
pub(crate) struct EntryChange<'a> {
    before: Option<&'a KnnEntry>,
    after: Option<&'a KnnEntry>,
}

/// Returns the entries in which `other` differs from `base`.
pub(crate) fn entry_changes<'a>(base: &'a KnnStore, other: &'a KnnStore) -> Vec<EntryChange<'a>> {
    let by_key = |store: &'a KnnStore| -> BTreeMap<EntryKey, &'a KnnEntry> {
        store.iter().map(|entry| (entry_key(entry), entry)).collect()
    };
    let (base, other) = (by_key(base), by_key(other));
    let keys: BTreeSet<&EntryKey> = base.keys().chain(other.keys()).collect();
    let change = |key| EntryChange { before: base.get(key).copied(), after: other.get(key).copied() };
    keys.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

/// Returns the operations that make the entries of `other` out of those of the base. An entity's entries go together, so
/// where one goes the others are put back.
pub(crate) fn entry_operations(changes: &[EntryChange<'_>], other: &KnnStore) -> Vec<Operation> {
    let gone = changes.iter().filter(|change| change.after.is_none()).filter_map(|change| change.before);
    let gone: BTreeSet<&str> = gone.map(|entry| &*entry.triple.entity).collect();
    let mut operations: Vec<Operation> =
        gone.iter().map(|entity| Operation::DeleteKnn { entity: (*entity).to_owned() }).collect();
    let put_back = other.iter().filter(|entry| gone.contains(&*entry.triple.entity));
    let changed = changes.iter().filter_map(|change| change.after);
    let changed = changed.filter(|entry| !gone.contains(&*entry.triple.entity));
    operations.extend(put_back.chain(changed).cloned().map(Operation::InsertKnn));
    operations
}

impl EntryChange<'_> {
    /// The entry as one of the two has it.
    fn entry(&self) -> Option<&KnnEntry> {
        self.after.or(self.before)
    }

    fn layer(&self) -> usize {
        self.entry().map_or(0, |entry| entry.layer)
    }

    fn is_of(&self, relation: Option<&str>) -> bool {
        let own = self.entry().map(|entry| &*entry.triple.relation);
        relation.is_none_or(|wanted| own.is_some_and(|own| own.eq_ignore_ascii_case(wanted)))
    }

    fn row(&self) -> Difference {
        let target = |entry: Option<&KnnEntry>| entry.map(|entry| entry.triple.target.clone());
        let key = |entry: Option<&KnnEntry>| entry.map(|entry| Arc::clone(&entry.key));
        let mut parts = Vec::new();
        if key(self.before) != key(self.after) {
            parts.push("key".to_owned());
        }
        if target(self.before) != target(self.after) {
            parts.push("target".to_owned());
        }
        Difference {
            layer: self.layer(),
            feature: None,
            parts,
            entity: self.entry().map(|entry| entry.triple.entity.clone()),
            relation: self.entry().map(|entry| entry.triple.relation.clone()),
            before: target(self.before),
            after: target(self.after),
            gate_cosine: None,
        }
    }
}
