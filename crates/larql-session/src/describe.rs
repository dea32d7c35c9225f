//! DESCRIBE: what an entity evokes, band by band.

use std::ops::Range;

use larql_lql::ast::{Describe, Detail, Scope};
use larql_lql::output::{Band, BandEdges, Described, Edge, LabelSource, Output, Via};

use crate::View;
use crate::common::edges::{EdgeOptions, Fired, edges_of};
use crate::common::{next_step, wire};
use crate::session::Opened;
use crate::unprobed::{self, Unprobed};
use crate::{ExecuteError, QueryError, Session};

/// More edges than an entity has.
const EVERY: usize = 1_000_000;

pub(crate) fn run(session: &Session, statement: &Describe) -> Result<Output, ExecuteError> {
    if let Some(Opened::Checkpoint { path, language, unprobed }) = session.opened() {
        let unprobed = unprobed.get_or_try_init(|| Unprobed::of_checkpoint(session, path, language))?;
        return unprobed::describe(session, statement, path, language, unprobed);
    }
    let question = Question::of(session, statement)?;
    let mut bands = Vec::new();
    for (band, layers) in question.bands.iter().cloned() {
        // What a model says when it is asked is knowledge, whatever layers carry it.
        let in_words = matches!(band, Band::Knowledge | Band::All) && statement.detail != Some(Detail::Raw);
        let options = EdgeOptions { in_words, ..question.options };
        let edges = edges_of(session, question.view, question.entity, layers.clone(), options)?;
        bands.push(question.band(band, layers, edges));
    }
    answer(&question, bands)
}

/// Hands on the edges of each layer that has some as an answer of their own, in the order of the layers; one answer
/// without edges if no layer has any.
pub(crate) fn stream(
    session: &Session,
    statement: &Describe,
    emit: &mut dyn FnMut(Output),
) -> Result<(), ExecuteError> {
    let question = Question::of(session, statement)?;
    let mut found = false;
    for (band, layers) in question.bands.iter().cloned() {
        let Some(fired) = Fired::of(session, question.view, question.entity, layers)? else { continue };
        for firing in &fired.firings {
            session.check_cancelled()?;
            let edges =
                fired.edges(session.pool(), question.view, std::slice::from_ref(firing), question.options);
            let edges: Vec<Edge> = edges.into_iter().map(|(edge, _)| wire::edge(edge)).collect();
            let layer = question.band(band, firing.layer..firing.layer + 1, edges);
            if !layer.edges.is_empty() {
                found = true;
                emit(answer(&question, vec![layer])?);
            }
        }
    }
    if !found {
        emit(answer(&question, Vec::new())?);
    }
    Ok(())
}

fn answer(question: &Question<'_>, bands: Vec<BandEdges>) -> Result<Output, ExecuteError> {
    let asks_gates = |band: &&BandEdges| band.edges.first().is_some_and(|edge| edge.via == Via::Embedding);
    let gates = |band: &BandEdges| question.view.approximate_gates(band.layer..band.layer_max + 1);
    let edges = || bands.iter().flat_map(|band| &band.edges);
    let next = if edges().any(|edge| edge.source == Some(LabelSource::ShippedWordings)) {
        Some(next_step::to_probe(question.view)?)
    } else if edges().any(|edge| edge.relation.is_some()) {
        None
    } else {
        match next_step::to_find_relations(question.view) {
            None => next_step::of_entity(question.view, question.entity)?,
            advice => advice,
        }
    };
    Ok(Output::Describe(Described {
        entity: question.entity.to_owned(),
        detail: question.detail,
        approximate_in: bands.iter().filter(asks_gates).find_map(gates),
        bands,
        next,
    }))
}

/// A question of DESCRIBE.
struct Question<'a> {
    view: &'a View,
    entity: &'a str,
    /// None of them empty.
    bands: Vec<(Band, Range<usize>)>,
    options: EdgeOptions,
    detail: Detail,
    /// Edges that each band shows.
    limit: usize,
}

impl<'a> Question<'a> {
    fn of(session: &'a Session, statement: &'a Describe) -> Result<Question<'a>, ExecuteError> {
        let view = session.viewed("DESCRIBE")?;
        let entity = statement.entity.text().ok_or(QueryError::NoSubject)?;
        let mut bands = bands_of(view, statement)?;
        bands.retain(|(_, layers)| !layers.is_empty());
        let limit = statement.limit.map(|limit| limit.value).or(session.most_rows()).unwrap_or(EVERY);
        let options = EdgeOptions {
            limit: EVERY.max(limit),
            relations_only: statement.relations_only,
            in_words: false,
        };
        let detail = statement.detail.unwrap_or(Detail::Brief);
        Ok(Question { view, entity: &entity.value, bands, options, detail, limit })
    }

    /// Keeps the edges of a band that are shown: those with a relation first, the surest before the others, and what
    /// merely fires only where everything is asked for.
    fn band(&self, band: Band, layers: Range<usize>, edges: Vec<Edge>) -> BandEdges {
        let (mut edges, mut unnamed): (Vec<Edge>, Vec<Edge>) =
            edges.into_iter().partition(|edge| edge.relation.is_some());
        let order = |a: &Edge, b: &Edge| {
            let sure = |edge: &Edge| match edge.via {
                Via::Patch => f32::INFINITY,
                _ => edge.confidence.unwrap_or(f32::NEG_INFINITY),
            };
            sure(b).total_cmp(&sure(a)).then(b.gate.total_cmp(&a.gate))
        };
        edges.sort_by(order);
        unnamed.sort_by(order);
        let left_out = edges.len().saturating_sub(self.limit);
        edges.truncate(self.limit);
        if self.detail != Detail::Brief {
            let room = self.limit.saturating_sub(edges.len()).min(unnamed.len());
            edges.extend(unnamed.drain(..room));
        }
        let unlabelled = unnamed.iter().map(|edge| edge.count).sum();
        BandEdges { band, layer: layers.start, layer_max: layers.end - 1, edges, left_out, unlabelled }
    }
}

/// The bands to show, in order.
fn bands_of(view: &View, statement: &Describe) -> Result<Vec<(Band, Range<usize>)>, ExecuteError> {
    if let Some(layer) = statement.layer {
        let layer = view.layer(layer)?;
        return Ok(vec![(view.band(layer).unwrap_or(Band::All), layer..layer + 1)]);
    }
    let [syntax, knowledge, output] = view.bands();
    Ok(match statement.scope {
        None => vec![knowledge, output],
        Some(Scope::Syntax) => vec![syntax],
        Some(Scope::Knowledge) => vec![knowledge],
        Some(Scope::Output) => vec![output],
        Some(Scope::All) => vec![syntax, knowledge, output],
    })
}
