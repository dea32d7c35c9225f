//! Pipes: the rows of one statement as the subjects of the next.

use larql_lql::ast::{Field, Pipe, Spanned, Statement, Subject};
use larql_lql::output::{Datum, FeatureRow, Output, Record, Several};

use crate::{ExecuteError, QueryError, Session, describe};

/// Rows of the statement before that a piped statement is carried out for.
const ROWS: usize = 100;

/// Carries out a pipe. Only its last statement's answer is handed on: in parts if the statement asks for that.
pub(crate) fn run(
    session: &mut Session,
    pipe: &Pipe,
    emit: &mut dyn FnMut(Output),
) -> Result<(), ExecuteError> {
    let Some((last, before)) = pipe.stages.split_last() else { return Err(QueryError::NothingPiped.into()) };
    let mut left = None;
    for stage in before {
        left = Some(run_stage(session, left.as_ref(), stage)?);
    }
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

/// One statement: once for each row of `left` if it has no subject of its own.
fn run_stage(
    session: &mut Session,
    left: Option<&Output>,
    stage: &Spanned<Statement>,
) -> Result<Output, ExecuteError> {
    let (Some(left), Some(Subject::Piped)) = (left, subject_of(&stage.value)) else {
        return session.execute(&stage.value);
    };
    let subjects = subjects(left);
    if subjects.is_empty() {
        return Err(QueryError::NothingPiped.into());
    }
    let mut outputs = Vec::new();
    for subject in subjects.into_iter().take(ROWS) {
        session.check_cancelled()?;
        let mut statement = stage.value.clone();
        if let Some(slot) = subject_of_mut(&mut statement) {
            *slot = Subject::Text(Spanned::new(subject, stage.span));
        }
        outputs.push(session.execute(&statement)?);
    }
    Ok(Output::Several(Several { outputs }))
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
