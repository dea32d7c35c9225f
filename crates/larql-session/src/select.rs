//! SELECT: edges, features and entities as tables.

use std::collections::HashMap;

use larql_compute::Activations;
use larql_compute::vector::norm;
use larql_knowledge::entity_tokens;
use larql_lql::ast::{self, Comparison, Condition, Field, Nearest, Select, Test, Value};
use larql_lql::output::{Datum, EntityRow, Output, Record};
use larql_vindex::FeatureStore;
use larql_vindex::search::TokenTexts;

use crate::View;
use crate::common::edges::{EdgeOptions, edges_of};
use crate::common::records::{
    FeatureRecord, FeatureRecords, carried_facts, entity_condition, labelled_features, record_of_entry,
};
use crate::common::table::{Query, Row, Table, boxed};
use crate::{ExecuteError, QueryError, Session};

const LIMIT: usize = 20;
/// Edges of an entity that conditions choose among.
const EDGES: usize = 1000;

pub(crate) fn run(session: &Session, statement: &Select) -> Result<Output, ExecuteError> {
    let view = session.viewed("SELECT")?;
    let conditions = &statement.conditions;
    if let Some(condition) = conditions.iter().find(|c| c.field.value == Field::Relation)
        && view.overlay().labels().is_empty()
        && view.overlay().knn().is_empty()
    {
        return Err(QueryError::NoLabels { at: condition.field.span }.into());
    }
    let table = match (statement.from, &statement.nearest) {
        (ast::Table::Entities, None) => entity_table(view)?,
        // Entities lie in many layers; only features of one can be compared with a query.
        (ast::Table::Entities, Some(_)) => {
            return Err(ExecuteError::NotAvailable { statement: "SELECT FROM ENTITIES NEAREST TO" });
        }
        (ast::Table::Features, None) => feature_table(view, conditions)?,
        (from, Some(nearest)) => nearest_table(session, view, from, nearest)?,
        (ast::Table::Edges, None) => match entity_condition(conditions) {
            Some(entities) => edge_table(session, view, &entities)?,
            None if view.overlay().labels().is_empty() && view.overlay().knn().is_empty() => {
                return Err(QueryError::NoEdgesKnown.into());
            }
            None => labelled_table(view)?,
        },
    };
    let query = Query {
        fields: &statement.fields,
        conditions,
        order_by: statement.order_by,
        limit: statement.limit.map_or(LIMIT, |limit| limit.value),
    };
    Ok(Output::Select(table.select(&query)?))
}

/// Returns what DESCRIBE finds for entities, over all layers.
fn edge_table<'a>(session: &Session, view: &View, entities: &[&str]) -> Result<Table<'a>, ExecuteError> {
    let options = EdgeOptions { limit: EDGES, relations_only: false, in_words: true };
    let mut rows = Vec::new();
    for entity in entities {
        let edges = edges_of(session, view, entity, 0..view.layers(), options)?;
        rows.extend(edges.iter().map(|edge| Record::of_edge(entity, edge)));
    }
    Ok(Table {
        from: ast::Table::Edges,
        fields: &[
            Field::Entity,
            Field::Relation,
            Field::Target,
            Field::Gate,
            Field::Layer,
            Field::LayerMax,
            Field::Feature,
            Field::Count,
            Field::Source,
            Field::Via,
            Field::Confidence,
            Field::Also,
        ],
        rows: boxed(rows.into_iter()),
    })
}

/// Returns every feature, but for layers that a condition rules out.
fn feature_table<'a>(view: &'a View, conditions: &'a [Condition]) -> Result<Table<'a>, ExecuteError> {
    let records = FeatureRecords::of(view)?;
    let layers = (0..view.layers()).filter(|layer| !excludes_layer(conditions, *layer));
    let features = layers.flat_map(|layer| (0..view.overlay().features(layer)).map(move |f| (layer, f)));
    Ok(Table {
        from: ast::Table::Features,
        fields: &[
            Field::Layer,
            Field::Feature,
            Field::Target,
            Field::Confidence,
            Field::Label,
            Field::Source,
            Field::Tokens,
        ],
        rows: boxed(features.map(move |(layer, feature)| records.row(layer, feature))),
    })
}

/// Returns true if `layer = n` rules a layer out, so that its rows need not be made.
fn excludes_layer(conditions: &[Condition], layer: usize) -> bool {
    conditions.iter().any(|condition| match (&condition.test, condition.field.value) {
        (Test::Compare(Comparison::Equal, value), Field::Layer) => match value.value {
            Value::Integer(wanted) => wanted != layer as i64,
            Value::Number(_) | Value::Text(_) => false,
        },
        _ => false,
    })
}

/// Returns the features of a layer, nearest gate first.
fn nearest_table<'a>(
    session: &Session,
    view: &'a View,
    from: ast::Table,
    nearest: &Nearest,
) -> Result<Table<'a>, ExecuteError> {
    let layer = view.layer(nearest.layer)?;
    let records = FeatureRecords::of(view)?;
    let vindex = view.overlay();
    let tokens = entity_tokens(records.tokenizer, &nearest.to)?;
    let query = vindex.base().layer_query(layer, &vindex.base().embedding_query(&tokens)?);
    let mut gates = vec![0.0; vindex.features(layer)];
    vindex.gate_scores(session.pool(), layer, &Activations::new(&query, vindex.hidden_size()), &mut gates);
    let mut order: Vec<usize> = (0..gates.len()).collect();
    order.sort_by(|a, b| gates[*b].total_cmp(&gates[*a]).then(a.cmp(b)));
    let query_length = norm(&query);
    let row = move |feature| NearestRow {
        record: records.row(layer, feature),
        gate: gates[feature],
        distance: {
            let mut gate_row = vec![0.0; vindex.hidden_size()];
            vindex.gate_row(layer, feature, &mut gate_row);
            1.0 - gates[feature] / (query_length * norm(&gate_row)).max(f32::MIN_POSITIVE)
        },
    };
    Ok(Table {
        from,
        fields: &[
            Field::Layer,
            Field::Feature,
            Field::Relation,
            Field::Target,
            Field::Gate,
            Field::Distance,
            Field::Tokens,
        ],
        rows: boxed(order.into_iter().map(row)),
    })
}

/// A feature beside a query.
struct NearestRow<'a> {
    record: FeatureRecord<'a>,
    gate: f32,
    distance: f32,
}

impl Row for NearestRow<'_> {
    fn cell(&self, field: Field) -> Option<Datum> {
        match field {
            Field::Gate => Some(self.gate.into()),
            Field::Distance => Some(self.distance.into()),
            of_the_feature => self.record.cell(of_the_feature),
        }
    }
}

/// Returns the features that have a label: a row for each fact that a probe saw a feature carry; for others one without an
/// entity. Then what is remembered beside the weights.
fn labelled_table(view: &View) -> Result<Table<'_>, ExecuteError> {
    let records = FeatureRecords::of(view)?;
    let mut carried = carried_facts(view)?;
    let rows = labelled_features(view).flat_map(move |(layer, feature)| {
        let record = records.row(layer, feature);
        let facts = carried.remove(&(layer, feature));
        let facts = facts.map_or_else(|| vec![None], |facts| facts.into_iter().map(Some).collect());
        facts.into_iter().map(move |fact| LabelledRow { record, fact })
    });
    Ok(Table {
        from: ast::Table::Edges,
        fields: &[
            Field::Entity,
            Field::Relation,
            Field::Target,
            Field::Layer,
            Field::Feature,
            Field::Source,
            Field::Confidence,
        ],
        rows: Box::new(boxed(rows).chain(boxed(view.overlay().knn().iter().map(record_of_entry)))),
    })
}

/// A feature with a fact that it carries, entity and target, if one is known.
struct LabelledRow<'a> {
    record: FeatureRecord<'a>,
    fact: Option<(String, String)>,
}

impl Row for LabelledRow<'_> {
    fn cell(&self, field: Field) -> Option<Datum> {
        match (field, &self.fact) {
            (Field::Entity, Some((entity, _))) => Some((&**entity).into()),
            (Field::Target, Some((_, target))) => Some((&**target).into()),
            (of_the_feature, _) => self.record.cell(of_the_feature),
        }
    }
}

fn entity_table(view: &View) -> Result<Table<'_>, ExecuteError> {
    let row = |row: EntityRow| {
        Record::default()
            .with(Field::Entity, row.entity)
            .with(Field::Count, row.count)
            .with(Field::Layer, row.layer)
            .with(Field::LayerMax, row.layer_max)
    };
    Ok(Table {
        from: ast::Table::Entities,
        fields: &[Field::Entity, Field::Count, Field::Layer, Field::LayerMax],
        rows: boxed(entities(view, 0..view.layers())?.into_iter().map(row)),
    })
}

/// The distinct names among the tokens that features write most, those of most features first.
pub(crate) fn entities(view: &View, layers: std::ops::Range<usize>) -> Result<Vec<EntityRow>, ExecuteError> {
    let tokenizer = view.tokenizer()?;
    let mut found: HashMap<String, EntityRow> = HashMap::new();
    for layer in layers {
        for feature in 0..view.overlay().features(layer) {
            let Some(top) = view.overlay().top_tokens(layer, feature).next() else { continue };
            let Some(entity) = tokenizer.word(top.token).and_then(|word| name_in(&word)) else { continue };
            let row = found.entry(entity.clone()).or_insert(EntityRow {
                entity,
                count: 0,
                layer,
                layer_max: layer,
            });
            row.count += 1;
            row.layer_max = layer;
        }
    }
    let mut names: Vec<EntityRow> = found.into_values().collect();
    names.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.entity.cmp(&b.entity)));
    Ok(names)
}

/// A whole word that begins like a name: after a space, with a capital, and more than an initial.
fn name_in(word: &str) -> Option<String> {
    let name = word.strip_prefix(' ')?.trim();
    let mut letters = name.chars();
    let capital = letters.next().is_some_and(char::is_uppercase);
    (capital && letters.clone().count() >= 2 && letters.all(char::is_alphabetic)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn names_are_whole_capitalised_words() {
        assert_eq!(name_in(" Paris").as_deref(), Some("Paris"));
        for word in ["Paris", " paris", " P", " Mc-", "ARIS"] {
            assert_eq!(name_in(word), None, "{word:?}");
        }
    }
}
