//! DESCRIBE: what an entity evokes, band by band.

use std::ops::Range;

use larql_inference::entity_tokens;
use larql_vindex::search::{DescribeOptions, Edge, Via, describe};
use larql_vindex_spec::ExtractLevel;

use super::target::OpenVindex;
use super::{ExecuteError, Session};
use crate::ast::{Describe, Detail, Scope, Subject};
use crate::output::{BandEdges, Described, Output};

const LIMIT: usize = 20;

pub(super) fn run(session: &Session, statement: &Describe) -> Result<Output, ExecuteError> {
    let open = session.vindex("DESCRIBE")?;
    let Subject::Text(entity) = &statement.entity else { return Err(ExecuteError::NothingPiped) };
    let options = EdgeOptions {
        limit: statement.limit.map_or(LIMIT, |limit| limit.value),
        relations_only: statement.relations_only,
    };
    let mut bands = Vec::new();
    for (band, layers) in bands_of(open, statement)? {
        if layers.is_empty() {
            continue;
        }
        let edges = edges_of(session, open, entity, layers.clone(), options)?;
        bands.push(BandEdges { band, layer: layers.start, layer_max: layers.end - 1, edges });
    }
    let detail = statement.detail.unwrap_or(Detail::Verbose);
    Ok(Output::Describe(Described { entity: entity.value.clone(), detail, bands }))
}

/// The bands to show, in order.
fn bands_of(open: &OpenVindex, statement: &Describe) -> Result<Vec<(Scope, Range<usize>)>, ExecuteError> {
    if let Some(layer) = statement.layer {
        let layer = open.layer(layer)?;
        return Ok(vec![(open.band(layer).unwrap_or(Scope::All), layer..layer + 1)]);
    }
    let [syntax, knowledge, output] = open.bands();
    Ok(match statement.scope {
        None => vec![knowledge, output],
        Some(Scope::Syntax) => vec![syntax],
        Some(Scope::Knowledge) => vec![knowledge],
        Some(Scope::Output) => vec![output],
        Some(Scope::All) => vec![syntax, knowledge, output],
    })
}

/// Which edges are wanted.
#[derive(Clone, Copy)]
pub(super) struct EdgeOptions {
    pub(super) limit: usize,
    pub(super) relations_only: bool,
}

/// The edges of an entity in some layers, asked in the truest way that the vindex allows: by running the model where
/// its weights are held, else by the entity's embedding.
pub(super) fn edges_of(
    session: &Session,
    open: &OpenVindex,
    entity: &str,
    layers: Range<usize>,
    options: EdgeOptions,
) -> Result<Vec<Edge>, ExecuteError> {
    let tokenizer = open.tokenizer()?;
    let tokens = entity_tokens(&tokenizer, entity)?;
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let (via, firings) = if open.vindex.level() >= ExtractLevel::Inference {
        let model = session.language_of(open)?.model();
        let residual = session.residual_of(open, model, &tokenizer)?;
        (Via::Residual, residual.of(model, &open.vindex, &tokens, layers)?)
    } else {
        (Via::Embedding, open.vindex.embedding_firings(&session.pool, &tokens, layers)?)
    };
    let EdgeOptions { limit, relations_only } = options;
    let mut edges = describe(
        &open.vindex,
        &*tokenizer,
        &firings,
        DescribeOptions { limit: limit + 1, relations_only, via },
    );
    // That an entity evokes itself says nothing about it.
    edges.retain(|edge| !edge.target.eq_ignore_ascii_case(entity.trim()));
    edges.truncate(limit);
    Ok(edges)
}
