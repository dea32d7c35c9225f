//! SELECT: edges, features and entities as tables.

use std::collections::{HashMap, HashSet};

use larql_compute::Activations;
use larql_compute::vector::norm;
use larql_core::Triple;
use larql_knowledge::entity_tokens;
use larql_lql::ast::{self, Comparison, Condition, Field, Filter, Nearest, Select, Test, Value};
use larql_lql::output::{Datum, EntityRow, LabelSource, Output, Record, Via};
use larql_vindex::FeatureStore;
use larql_vindex::search::TokenTexts;

use crate::View;
use crate::common::edges::{EdgeOptions, edges_of};
use crate::common::records::{
    FeatureRecord, FeatureRecords, carried_facts, labelled_features, pinned_entities,
};
use crate::common::table::{PipedRows, Query, Row, Table, boxed};
use crate::common::{next_step, stated, wire};
use crate::{ExecuteError, QueryError, Session};

/// Edges of an entity that conditions choose among: more than features fire for it.
const EDGES: usize = 1_000_000;
/// The columns of edges, whatever conditions ask of them.
const EDGE_FIELDS: [Field; 12] = [
    Field::Entity,
    Field::Relation,
    Field::Target,
    Field::Confidence,
    Field::Layer,
    Field::LayerMax,
    Field::Feature,
    Field::Count,
    Field::Source,
    Field::Via,
    Field::Gate,
    Field::Also,
];

/// Executes SELECT, with the rows of the statement before `|>`, if there is one.
pub(crate) fn run(
    session: &Session,
    statement: &Select,
    piped: Option<&[Record]>,
) -> Result<Output, ExecuteError> {
    let view = session.viewed("SELECT")?;
    let filter = statement.filter.as_ref();
    let mut entities: Option<Vec<&str>> = filter.and_then(pinned_entities);
    if let (ast::Table::Edges, None, Some(rows)) = (statement.from, &entities, piped) {
        entities = piped_entities(rows)?;
    }
    let knows_edges = !view.overlay().labels().is_empty() || !view.overlay().knn().is_empty();
    if entities.is_none()
        && !knows_edges
        && let Some(condition) =
            filter.into_iter().flat_map(Filter::conditions).find(|c| c.field.value == Field::Relation)
    {
        return Err(QueryError::NoLabels { at: condition.field.span }.into());
    }
    let table = match (statement.from, &statement.nearest) {
        (ast::Table::Entities, None) => entity_table(view)?,
        // Entities lie in many layers; only features of one can be compared with a query.
        (ast::Table::Entities | ast::Table::Evidence, Some(_)) => {
            return Err(ExecuteError::NotAvailable { statement: "NEAREST TO in this table" });
        }
        (ast::Table::Features, None) => feature_table(view, filter)?,
        (ast::Table::Evidence, None) => evidence_table(view)?,
        (from, Some(nearest)) => nearest_table(session, view, from, nearest)?,
        (ast::Table::Edges, None) => match &entities {
            Some(entities) => edge_table(session, view, entities)?,
            None if !knows_edges => return Err(QueryError::NoEdgesKnown.into()),
            None => known_edge_table(view)?,
        },
    };
    let piped = match piped {
        None => None,
        Some(rows) => {
            let shared = PipedRows::new(rows, table.fields);
            Some(shared.ok_or(QueryError::NothingShared { statement: "SELECT" })?)
        }
    };
    let query = Query { select: statement, piped, most_rows: session.most_rows() };
    let mut selected = table.select(query)?;
    if selected.rows.is_empty() {
        selected.next = next_step::of_filter(view, filter)?;
    }
    Ok(Output::Select(selected))
}

/// Entities that edges are asked for in one statement. Each is a question to the model.
const ENTITIES: usize = 100;

/// The different entities of piped rows, if each row has one.
fn piped_entities(rows: &[Record]) -> Result<Option<Vec<&str>>, QueryError> {
    let texts = rows.iter().map(|row| match row.get(Field::Entity) {
        Some(Datum::Text(entity)) => Some(&**entity),
        _ => None,
    });
    let Some(mut entities) = texts.collect::<Option<Vec<&str>>>() else { return Ok(None) };
    let mut seen = HashSet::new();
    entities.retain(|entity| seen.insert(*entity));
    if entities.len() > ENTITIES {
        return Err(QueryError::TooManyPiped { statement: "SELECT", rows: entities.len(), most: ENTITIES });
    }
    Ok(Some(entities))
}

/// Returns what DESCRIBE finds for entities, over all layers.
fn edge_table<'a>(session: &Session, view: &View, entities: &[&str]) -> Result<Table<'a>, ExecuteError> {
    let options = EdgeOptions { limit: EDGES, relations_only: false, in_words: true };
    let mut rows = Vec::new();
    for entity in entities {
        session.check_cancelled()?;
        let edges = edges_of(session, view, entity, 0..view.layers(), options)?;
        rows.extend(edges.iter().map(|edge| Record::of_edge(entity, edge)));
    }
    Ok(Table { from: ast::Table::Edges, fields: &EDGE_FIELDS, rows: boxed(rows.into_iter()) })
}

/// Returns every feature, but for layers that a condition rules out.
fn feature_table<'a>(view: &'a View, filter: Option<&'a Filter>) -> Result<Table<'a>, ExecuteError> {
    let records = FeatureRecords::of(view)?;
    let necessary = filter.map_or_else(Vec::new, Filter::necessary);
    let layers = (0..view.layers()).filter(move |layer| !excludes_layer(&necessary, *layer));
    let features = layers.flat_map(|layer| (0..view.overlay().features(layer)).map(move |f| (layer, f)));
    Ok(Table {
        from: ast::Table::Features,
        fields: &[
            Field::Layer,
            Field::Feature,
            Field::Target,
            Field::Score,
            Field::Label,
            Field::Source,
            Field::Tokens,
        ],
        rows: boxed(features.map(move |(layer, feature)| records.row(layer, feature))),
    })
}

/// Returns true if `layer = n` rules a layer out, so that its rows need not be made.
fn excludes_layer(conditions: &[&Condition], layer: usize) -> bool {
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

/// Returns the edges that are known without asking the model: those that patches state, the facts that a probe saw
/// features carry, each once, and for features with another label their relation and word.
fn known_edge_table(view: &View) -> Result<Table<'_>, ExecuteError> {
    let records = FeatureRecords::of(view)?;
    let mut carried = carried_facts(view)?;
    let mut rows = Vec::new();
    let mut stated_by = HashSet::new();
    for (entity, (edge, features)) in stated::all(view) {
        stated_by.extend(features);
        rows.push(Record::of_edge(&entity, &wire::edge(edge)));
    }
    let mut numbers: HashMap<Triple, usize> = HashMap::new();
    let mut known: Vec<KnownEdge> = Vec::new();
    let mut unnamed = Vec::new();
    for (layer, feature) in labelled_features(view).filter(|place| !stated_by.contains(place)) {
        let record = records.row(layer, feature);
        let (Some(facts), Some(label)) =
            (carried.remove(&(layer, feature)), view.overlay().label(layer, feature))
        else {
            unnamed.push(record);
            continue;
        };
        for (entity, target) in facts {
            let triple = Triple::new(&entity, &label.relation, &target);
            let number = *numbers.entry(triple.clone()).or_insert_with(|| {
                known.push(KnownEdge { triple, layers: (layer, layer), feature, count: 0 });
                known.len() - 1
            });
            let edge = &mut known[number];
            edge.layers = (edge.layers.0.min(layer), edge.layers.1.max(layer));
            edge.count += 1;
        }
    }
    rows.extend(known.iter().map(KnownEdge::record));
    Ok(Table {
        from: ast::Table::Edges,
        fields: &EDGE_FIELDS,
        rows: Box::new(boxed(rows.into_iter()).chain(boxed(unnamed.into_iter().map(LabelledFeatureRow)))),
    })
}

/// A fact that a probe saw features carry.
struct KnownEdge {
    triple: Triple,
    /// The first and the last layer with such a feature.
    layers: (usize, usize),
    /// The first such feature.
    feature: usize,
    /// Number of them.
    count: usize,
}

impl KnownEdge {
    fn record(&self) -> Record {
        Record::default()
            .with(Field::Entity, &*self.triple.entity)
            .with(Field::Relation, &*self.triple.relation)
            .with(Field::Target, &*self.triple.target)
            .with(Field::Layer, self.layers.0)
            .with(Field::LayerMax, self.layers.1)
            .with(Field::Feature, self.feature)
            .with(Field::Count, self.count)
            .with(Field::Source, LabelSource::Probe.name())
            .with(Field::Via, Via::Probe.name())
    }
}

/// A labelled feature as an edge of which only relation and word are known.
struct LabelledFeatureRow<'a>(FeatureRecord<'a>);

impl Row for LabelledFeatureRow<'_> {
    fn cell(&self, field: Field) -> Option<Datum> {
        match field {
            Field::LayerMax => self.0.cell(Field::Layer),
            Field::Count => Some(1_usize.into()),
            of_the_feature => self.0.cell(of_the_feature),
        }
    }
}

/// Returns the facts that a probe saw features carry, a row for each feature and fact.
fn evidence_table(view: &View) -> Result<Table<'_>, ExecuteError> {
    let records = FeatureRecords::of(view)?;
    let mut carried = carried_facts(view)?;
    let rows = labelled_features(view).flat_map(move |(layer, feature)| {
        let record = records.row(layer, feature);
        let facts = carried.remove(&(layer, feature)).unwrap_or_default();
        facts.into_iter().map(move |fact| EvidenceRow { record, fact })
    });
    Ok(Table {
        from: ast::Table::Evidence,
        fields: &[
            Field::Entity,
            Field::Relation,
            Field::Target,
            Field::Layer,
            Field::Feature,
            Field::Source,
            Field::Tokens,
        ],
        rows: boxed(rows),
    })
}

/// A feature with a fact that it carries, entity and target.
struct EvidenceRow<'a> {
    record: FeatureRecord<'a>,
    fact: (String, String),
}

impl Row for EvidenceRow<'_> {
    fn cell(&self, field: Field) -> Option<Datum> {
        match field {
            Field::Entity => Some((&*self.fact.0).into()),
            Field::Target => Some((&*self.fact.1).into()),
            of_the_feature => self.record.cell(of_the_feature),
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
