//! SHOW: relations, layers, features, entities and models.

use std::collections::{BTreeMap, BTreeSet};

use larql_compute::vector::norm;
use larql_hub::LibraryEntry;
use larql_lql::ast::{Detail, Filter, ShowEntities, ShowFeatures, ShowLayers, ShowRelations, Spanned};
use larql_lql::output::{
    Entities, Features, LayerRow, Layers, ModelRow, Models, Output, RelationRow, Relations,
};
use larql_vindex::search::TokenTexts;
use larql_vindex::{FeatureStore, LabelSource, Summary};

use crate::View;
use crate::common::condition::{check_types, passes_filter};
use crate::common::records::{ALL_TOKENS, CarriedFacts, carried_facts, feature_row};
use crate::common::{next_step, wire};
use crate::select;
use crate::{ExecuteError, Session};

/// Facts or words that exemplify a relation.
const EXAMPLES: usize = 5;

pub(crate) fn relations(session: &Session, statement: &ShowRelations) -> Result<Output, ExecuteError> {
    let view = session.viewed("SHOW RELATIONS")?;
    let layer = statement.layer.map(|layer| view.layer(layer)).transpose()?;
    let features = view.overlay().labels().iter();
    let carriers = features.map(|(at, feature, label)| {
        let carrier = Carrier { layer: at, source: label.source, says: Says::WordsOf(feature) };
        (&*label.relation, carrier)
    });
    let remembered = view.overlay().knn().iter().map(|entry| {
        let says = Says::Edge(&entry.triple.entity, &entry.triple.target);
        (&*entry.triple.relation, Carrier { layer: entry.layer, source: LabelSource::Inserted, says })
    });
    let mut found: BTreeMap<&str, Vec<Carrier<'_>>> = BTreeMap::new();
    for (relation, carrier) in carriers.chain(remembered) {
        if layer.is_none_or(|layer| layer == carrier.layer) {
            found.entry(relation).or_default().push(carrier);
        }
    }
    let facts = if statement.with_examples { carried_facts(view)? } else { CarriedFacts::new() };
    let mut rows = Vec::new();
    for (relation, carriers) in found {
        let layers = carriers.iter().map(|carrier| carrier.layer);
        let (Some(first), Some(last)) = (layers.clone().min(), layers.max()) else { continue };
        let Some(source) = carriers.iter().map(|carrier| carrier.source).max() else { continue };
        let examples = if statement.with_examples { examples(view, &carriers, &facts)? } else { Vec::new() };
        rows.push(RelationRow {
            relation: relation.into(),
            count: carriers.len(),
            layer: first,
            layer_max: last,
            source: wire::source(source),
            examples,
        });
    }
    rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.relation.cmp(&b.relation)));
    let next = if rows.is_empty() { next_step::to_find_relations(view) } else { None };
    let detail = statement.detail.unwrap_or(Detail::Verbose);
    Ok(Output::Relations(Relations { detail, rows, next }))
}

/// Returns the names of the relations of labels and of edges in external memory, each once.
pub(crate) fn relation_names(view: &View) -> Vec<String> {
    let labelled = view.overlay().labels().iter().map(|(_, _, label)| &*label.relation);
    let remembered = view.overlay().knn().iter().map(|entry| &*entry.triple.relation);
    let names: BTreeSet<&str> = labelled.chain(remembered).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Carrier of a relation: a feature, or an edge of the edge memory.
struct Carrier<'a> {
    layer: usize,
    source: LabelSource,
    says: Says<'a>,
}

/// Example that a carrier gives.
enum Says<'a> {
    /// The facts that a probe saw the feature carry, or the words that it writes.
    WordsOf(usize),
    /// A target of an entity.
    Edge(&'a str, &'a str),
}

/// Returns examples of a relation: `France → Paris` where the entity is known, `Paris` where it is not.
fn examples(
    view: &View,
    carriers: &[Carrier<'_>],
    facts: &CarriedFacts,
) -> Result<Vec<String>, ExecuteError> {
    let tokenizer = view.tokenizer()?;
    let edge = |entity: &str, target: &str| format!("{entity} → {target}");
    let mut examples: Vec<String> = Vec::new();
    for Carrier { layer, says, .. } in carriers {
        let example = match says {
            Says::WordsOf(feature) => match facts.get(&(*layer, *feature)) {
                Some(facts) => facts
                    .iter()
                    .map(|(entity, target)| edge(entity, target))
                    .find(|example| !examples.contains(example)),
                None => {
                    let mut top = view.overlay().top_tokens(*layer, *feature);
                    let word = top.find_map(|score| tokenizer.word(score.token));
                    word.map(|word| word.trim().to_owned())
                }
            },
            Says::Edge(entity, target) => Some(edge(entity, target)),
        };
        if let Some(example) = example.filter(|example| !examples.contains(example)) {
            examples.push(example);
        }
        if examples.len() == EXAMPLES {
            break;
        }
    }
    Ok(examples)
}

pub(crate) fn layers(session: &Session, statement: &ShowLayers) -> Result<Output, ExecuteError> {
    let view = session.viewed("SHOW LAYERS")?;
    let vindex = view.overlay();
    let rows = view.layer_range(statement.layers, 0..view.layers())?.map(|layer| {
        let features = vindex.features(layer);
        let labelled = (0..features).filter(|feature| vindex.label(layer, *feature).is_some()).count();
        LayerRow {
            layer,
            band: view.band(layer),
            features,
            gate_norm: (features > 0).then(|| mean_gate_norm(vindex, layer)),
            labelled: labelled as f64 / features.max(1) as f64,
        }
    });
    Ok(Output::Layers(Layers { rows: rows.collect() }))
}

/// Mean Euclidean norm of a layer's gate rows.
fn mean_gate_norm(vindex: &dyn FeatureStore, layer: usize) -> f32 {
    let mut row = vec![0.0; vindex.hidden_size()];
    let features = vindex.features(layer);
    let lengths = (0..features).map(|feature| {
        vindex.gate_row(layer, feature, &mut row);
        norm(&row)
    });
    lengths.sum::<f32>() / features as f32
}

pub(crate) fn features(session: &Session, statement: &ShowFeatures) -> Result<Output, ExecuteError> {
    let view = session.viewed("SHOW FEATURES")?;
    let layer = view.layer(statement.layer)?;
    let tokenizer = view.tokenizer()?;
    let filter = statement.filter.as_ref();
    for condition in filter.into_iter().flat_map(Filter::conditions) {
        check_types(condition)?;
    }
    let (limit, most) = limits(session, statement.limit);
    let (mut rows, mut count) = (Vec::new(), 0);
    for feature in 0..view.overlay().features(layer) {
        if count == limit {
            break;
        }
        let row = feature_row(view.overlay(), tokenizer, layer, feature, ALL_TOKENS);
        if passes_filter(&row, filter)? {
            count += 1;
            rows.extend((count <= most).then_some(row));
        }
    }
    let left_out = count - rows.len();
    Ok(Output::Features(Features { layer, rows, left_out }))
}

pub(crate) fn entities(session: &Session, statement: &ShowEntities) -> Result<Output, ExecuteError> {
    let view = session.viewed("SHOW ENTITIES")?;
    let layers = match statement.layer {
        Some(layer) => {
            let layer = view.layer(layer)?;
            layer..layer + 1
        }
        None => 0..view.layers(),
    };
    let mut rows = select::entities(view, layers)?;
    let (limit, most) = limits(session, statement.limit);
    let count = rows.len().min(limit);
    rows.truncate(most);
    let left_out = count - rows.len();
    Ok(Output::Entities(Entities { rows, left_out }))
}

/// The number of rows after which nothing counts, and the number that is shown.
fn limits(session: &Session, limit: Option<Spanned<usize>>) -> (usize, usize) {
    match limit {
        Some(limit) => (limit.value, limit.value),
        None => (usize::MAX, session.most_rows().unwrap_or(usize::MAX)),
    }
}

pub(crate) fn models(session: &Session) -> Result<Output, ExecuteError> {
    let entries = session.catalog().models().list()?;
    Ok(Output::Models(Models { rows: entries.into_iter().map(model_row).collect() }))
}

fn model_row(entry: LibraryEntry) -> ModelRow {
    let summary = entry.summary.as_ref();
    ModelRow {
        model: summary.map_or(&entry.name, |summary| &summary.model).clone(),
        bundled: entry.bundled,
        level: summary.map(|summary| summary.level),
        layers: summary.map(|summary| summary.layers),
        features: summary.map(|summary| summary.features),
        bytes: summary.map(Summary::bytes),
        path: summary.map(|summary| summary.path.display().to_string()),
        name: entry.name,
    }
}
