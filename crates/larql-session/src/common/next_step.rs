//! Next steps after an answer with nothing in it.

use std::collections::BTreeSet;

use larql_core::progress::rounded_time;
use larql_lql::assist::{nearest, quoted};
use larql_lql::ast::{Comparison, Condition, Field, Filter, Test, Value};

use crate::common::records::carried_facts;
use crate::common::stated;
use crate::{ExecuteError, View};

/// Returns the advice to find relations, if the vindex knows none.
pub(crate) fn to_find_relations(view: &View) -> Option<String> {
    let knows_none = view.overlay().labels().is_empty() && view.overlay().knn().is_empty();
    let path = view.base().path().display();
    knows_none.then(|| format!("`larql probe {path}` finds relations"))
}

/// Returns the advice to probe a vindex that answered without, with the time that it takes.
pub(crate) fn to_probe(view: &View) -> Result<String, ExecuteError> {
    let path = view.base().path().display();
    let time = view.measured().probe_time(view.database().language()?)?;
    let time = rounded_time(time);
    Ok(format!("not probed: `larql probe {path}` (about {time}) finds more relations, and surer ones"))
}

/// Returns a likelier spelling of a name that a filter asks for and the vindex does not know, or how to find relations
/// where it asks for one and there is none.
pub(crate) fn of_filter(view: &View, filter: Option<&Filter>) -> Result<Option<String>, ExecuteError> {
    for condition in filter.into_iter().flat_map(Filter::conditions) {
        let known = match condition.field.value {
            Field::Relation | Field::Label => relations(view)?,
            Field::Entity => entities(view)?,
            _ => continue,
        };
        let name = condition.field.value.name();
        if let Some(unknown) = texts(condition).find(|text| !contains(&known, text)) {
            if let Some(meant) = nearest(unknown, known.iter().map(|known| &**known)) {
                return Ok(Some(format!("no {name} {}; did you mean {}?", quoted(unknown), quoted(meant))));
            }
            if condition.field.value != Field::Entity && !known.is_empty() {
                return Ok(Some(format!("no {name} {}; SHOW RELATIONS; lists them", quoted(unknown))));
            }
        }
    }
    let mut conditions = filter.into_iter().flat_map(Filter::conditions);
    let asks_relation = conditions.any(|c| matches!(c.field.value, Field::Relation | Field::Label));
    Ok(if asks_relation { to_find_relations(view) } else { None })
}

/// Returns a likelier spelling of an entity that nothing is known of.
pub(crate) fn of_entity(view: &View, entity: &str) -> Result<Option<String>, ExecuteError> {
    let known = entities(view)?;
    let meant = nearest(entity, known.iter().map(|known| &**known)).filter(|_| !contains(&known, entity));
    Ok(meant.map(|meant| format!("did you mean {}?", quoted(meant))))
}

fn contains(known: &BTreeSet<String>, name: &str) -> bool {
    known.iter().any(|known| known.eq_ignore_ascii_case(name.trim()))
}

/// The texts that a condition takes for equal.
fn texts(condition: &Condition) -> impl Iterator<Item = &str> {
    let values = match &condition.test {
        Test::Compare(Comparison::Equal, value) => std::slice::from_ref(value),
        Test::In(values) => values,
        Test::Compare(..) => &[],
    };
    values.iter().filter_map(|value| match &value.value {
        Value::Text(text) => Some(&**text),
        Value::Integer(_) | Value::Number(_) => None,
    })
}

fn relations(view: &View) -> Result<BTreeSet<String>, ExecuteError> {
    let labels = view.overlay().labels().iter().map(|(_, _, label)| label.relation.clone());
    let entries = view.overlay().knn().iter().map(|entry| entry.triple.relation.clone());
    Ok(labels.chain(entries).collect())
}

fn entities(view: &View) -> Result<BTreeSet<String>, ExecuteError> {
    let facts = carried_facts(view)?.into_values().flatten().map(|(entity, _)| entity);
    Ok(facts.chain(stated::all(view).into_iter().map(|(entity, _)| entity)).collect())
}
