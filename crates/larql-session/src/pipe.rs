//! Pipes: the rows of one statement as the subjects of the next.

use larql_lql::ast::{Field, Pipe, Spanned, Statement, Subject};
use larql_lql::output::{Datum, FeatureRow, Output, Record, Several};

use crate::{ExecuteError, QueryError, Session, describe, select};

/// Rows of the statement before that a piped statement is carried out for.
const ROWS: usize = 100;

/// Carries out a pipe. Only its last statement's answer is handed on: in parts if the statement asks for that.
pub(crate) fn run(
    session: &mut Session,
    pipe: &Pipe,
    emit: &mut dyn FnMut(Output),
) -> Result<(), ExecuteError> {
    let Some((last, before)) = pipe.stages.split_last() else { return Err(QueryError::NothingPiped.into()) };
    // Before anything is carried out: a statement on the left may change the session.
    pipe.stages[1..].iter().try_for_each(takes_rows)?;
    // Nothing that is handed on is left out because a page would be full.
    let shown = session.most_rows();
    session.set_most_rows(None);
    let left = before.iter().try_fold(None, |left, stage| run_stage(session, left.as_ref(), stage).map(Some));
    session.set_most_rows(shown);
    let left = left?;
    match &last.value {
        Statement::Describe(statement) if statement.stream && statement.entity != Subject::Piped => {
            describe::stream(session, statement, emit)
        }
        _ => {
            emit(run_stage(session, left.as_ref(), last)?);
            Ok(())
        }
    }
}

/// Refuses a statement after `|>` that would pass over the rows.
fn takes_rows(stage: &Spanned<Statement>) -> Result<(), QueryError> {
    let subject = subject_of(&stage.value);
    match (&stage.value, subject) {
        (Statement::Select(_), _) | (_, Some(Subject::Piped)) => Ok(()),
        (statement, subject) => Err(QueryError::TakesNoRows {
            statement: statement.name(),
            has_subject: subject.is_some(),
            at: stage.span,
        }),
    }
}

/// One statement: with the rows of `left`, or once for each of them if it has no subject of its own.
fn run_stage(
    session: &mut Session,
    left: Option<&Output>,
    stage: &Spanned<Statement>,
) -> Result<Output, ExecuteError> {
    let Some(left) = left else { return session.execute(&stage.value) };
    if let Statement::Select(statement) = &stage.value {
        let rows = records(left);
        if rows.is_empty() {
            return Err(QueryError::NothingPiped.into());
        }
        return select::run(session, statement, Some(&rows));
    }
    let subjects = subjects(left);
    if subjects.is_empty() {
        return Err(QueryError::NothingPiped.into());
    }
    if subjects.len() > ROWS {
        let (statement, rows) = (stage.value.name(), subjects.len());
        return Err(QueryError::TooManyPiped { statement, rows, most: ROWS }.into());
    }
    let mut outputs = Vec::new();
    for subject in subjects {
        session.check_cancelled()?;
        let mut statement = stage.value.clone();
        if let Some(slot) = subject_of_mut(&mut statement) {
            *slot = Subject::Text(Spanned::new(subject, stage.span));
        }
        outputs.push(session.execute(&statement)?);
    }
    Ok(Output::Several(Several { outputs }))
}

/// Returns the rows of an answer as far as they name entities, relations and features.
fn records(output: &Output) -> Vec<Record> {
    let feature =
        |row: &FeatureRow| Record::default().with(Field::Layer, row.layer).with(Field::Feature, row.feature);
    match output {
        Output::Select(selected) => selected.rows.clone(),
        Output::Describe(described) => {
            let edges = described.bands.iter().flat_map(|band| &band.edges);
            edges.map(|edge| Record::of_edge(&described.entity, edge)).collect()
        }
        Output::Walk(walked) => walked.rankings.iter().flat_map(|ranked| &ranked.rows).map(feature).collect(),
        Output::ExplainWalk(walked) => {
            walked.layers.iter().flat_map(|layer| &layer.rows).map(feature).collect()
        }
        Output::ExplainInfer(explained) => {
            explained.layers.iter().flat_map(|layer| &layer.rows).map(feature).collect()
        }
        Output::Features(features) => features.rows.iter().map(feature).collect(),
        Output::Entities(entities) => {
            entities.rows.iter().map(|row| Record::default().with(Field::Entity, &*row.entity)).collect()
        }
        Output::Relations(relations) => relations
            .rows
            .iter()
            .map(|row| {
                let relation = &*row.relation;
                Record::default().with(Field::Relation, relation).with(Field::Label, relation)
            })
            .collect(),
        Output::Several(several) => several.outputs.iter().flat_map(records).collect(),
        _ => Vec::new(),
    }
}

fn subject_of(statement: &Statement) -> Option<&Subject> {
    match statement {
        Statement::Walk(walk) => Some(&walk.prompt),
        Statement::ExplainWalk(walk) => Some(&walk.prompt),
        Statement::Describe(describe) => Some(&describe.entity),
        Statement::Infer(infer) => Some(&infer.prompt),
        Statement::ExplainInfer(infer) => Some(&infer.prompt),
        Statement::Trace(trace) => Some(&trace.prompt),
        _ => None,
    }
}

fn subject_of_mut(statement: &mut Statement) -> Option<&mut Subject> {
    match statement {
        Statement::Walk(walk) => Some(&mut walk.prompt),
        Statement::ExplainWalk(walk) => Some(&mut walk.prompt),
        Statement::Describe(describe) => Some(&mut describe.entity),
        Statement::Infer(infer) => Some(&mut infer.prompt),
        Statement::ExplainInfer(infer) => Some(&mut infer.prompt),
        Statement::Trace(trace) => Some(&mut trace.prompt),
        _ => None,
    }
}

/// Returns the subjects of an answer, row by row: targets of edges, predicted tokens, words that features write, names.
fn subjects(output: &Output) -> Vec<String> {
    let words: Vec<&str> = match output {
        Output::Describe(described) => {
            described.bands.iter().flat_map(|band| &band.edges).map(|edge| &*edge.target).collect()
        }
        Output::Walk(walked) => first_tokens(walked.rankings.iter().flat_map(|ranked| &ranked.rows)),
        Output::ExplainWalk(walked) => first_tokens(walked.layers.iter().flat_map(|layer| &layer.rows)),
        Output::Features(features) => first_tokens(features.rows.iter()),
        Output::Infer(inferred) => inferred
            .runs
            .iter()
            .take(1)
            .flat_map(|run| &run.predictions)
            .map(|prediction| &*prediction.token)
            .collect(),
        Output::ExplainInfer(explained) => {
            explained.predictions.iter().take(1).map(|prediction| &*prediction.token).collect()
        }
        Output::Select(selected) => selected.rows.iter().filter_map(subject_of_record).collect(),
        Output::Entities(entities) => entities.rows.iter().map(|row| &*row.entity).collect(),
        Output::Several(several) => return several.outputs.iter().flat_map(subjects).collect(),
        _ => Vec::new(),
    };
    let mut seen = std::collections::HashSet::new();
    let words = words.into_iter().map(str::trim);
    words.filter(|word| !word.is_empty() && seen.insert(*word)).map(str::to_owned).collect()
}

fn first_tokens<'a>(rows: impl Iterator<Item = &'a FeatureRow>) -> Vec<&'a str> {
    rows.filter_map(|row| row.tokens.first()).map(|token| &**token).collect()
}

/// The target of a row, or else its entity.
fn subject_of_record(record: &Record) -> Option<&str> {
    [Field::Target, Field::Entity].into_iter().find_map(|field| match record.get(field) {
        Some(Datum::Text(text)) => Some(&**text),
        _ => None,
    })
}
