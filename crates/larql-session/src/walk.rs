//! WALK and EXPLAIN WALK: which features a text's last token fires, by embedding alone.

use std::sync::Arc;

use larql_compute::vector::norm;
use larql_lql::ast::{ExplainWalk, Subject, Walk, WalkLayers, WalkMode};
use larql_lql::output::{ExplainedWalk, FeatureRow, Output, Ranked, Walked, WalkedLayer};
use larql_models::Tokenizer;
use larql_vindex::search::{FeatureHit, Ranking, walk};
use larql_vindex::{FeatureStore, Overlay};

use crate::View;
use crate::common::records::{ALL_TOKENS, TOKENS, feature_row};
use crate::{ExecuteError, QueryError, Session};

const TOP: usize = 10;
pub(crate) fn run(session: &Session, statement: &Walk) -> Result<Output, ExecuteError> {
    let view = session.viewed("WALK")?;
    let range = match statement.layers {
        Some(WalkLayers::Range(range)) => Some(range),
        Some(WalkLayers::All) | None => None,
    };
    let modes = match (statement.compare, statement.mode) {
        (true, _) => vec![WalkMode::Pure, WalkMode::Dense],
        (false, mode) => vec![mode.unwrap_or(WalkMode::Hybrid)],
    };
    let layers = view.layer_range(range, 0..view.layers())?;
    let top = statement.top.map_or(TOP, |top| top.value);
    let walker = Walker::new(session, view, &statement.prompt)?;
    let ranking = |mode| -> Result<Ranked, ExecuteError> {
        let rows = layers.clone().map(|layer| walker.layer(layer, mode, top, TOKENS));
        let rows: Vec<Vec<FeatureRow>> = rows.collect::<Result<_, _>>()?;
        Ok(Ranked { mode, rows: rows.concat() })
    };
    let rankings = modes.into_iter().map(ranking).collect::<Result<_, _>>()?;
    let approximate_in = view.approximate_gates(layers);
    Ok(Output::Walk(Walked { prompt: walker.prompt, token: walker.token, approximate_in, rankings }))
}

pub(crate) fn explain(session: &Session, statement: &ExplainWalk) -> Result<Output, ExecuteError> {
    let view = session.viewed("EXPLAIN WALK")?;
    let layers = view.layer_range(statement.layers, 0..view.layers())?;
    let top = statement.top.map_or(TOP, |top| top.value);
    let tokens = if statement.verbose { ALL_TOKENS } else { TOKENS };
    let walker = Walker::new(session, view, &statement.prompt)?;
    let explain = |layer| -> Result<WalkedLayer, ExecuteError> {
        Ok(WalkedLayer {
            layer,
            band: view.band(layer),
            query_norm: norm(&view.base().layer_query(layer, &walker.query)),
            features: view.overlay().features(layer),
            rows: walker.layer(layer, WalkMode::Hybrid, top, tokens)?,
        })
    };
    let approximate_in = view.approximate_gates(layers.clone());
    let layers = layers.map(explain).collect::<Result<_, _>>()?;
    Ok(Output::ExplainWalk(ExplainedWalk {
        prompt: walker.prompt,
        token: walker.token,
        approximate_in,
        layers,
    }))
}

/// A prompt on its way through the layers.
struct Walker<'a> {
    session: &'a Session,
    vindex: &'a Overlay,
    tokenizer: Arc<Tokenizer>,
    prompt: String,
    /// Its last token.
    token: String,
    /// The embedding of that token, `[hidden]`.
    query: Vec<f32>,
}

impl<'a> Walker<'a> {
    fn new(session: &'a Session, view: &'a View, prompt: &Subject) -> Result<Self, ExecuteError> {
        let prompt = prompt.text().ok_or(QueryError::NoSubject)?;
        let tokenizer = view.tokenizer()?;
        let tokens = tokenizer.encode(prompt, false)?;
        let last = tokens.last().copied();
        Ok(Walker {
            session,
            vindex: view.overlay(),
            prompt: prompt.value.clone(),
            token: last.and_then(|token| tokenizer.token_text(token)).unwrap_or_default(),
            query: view.base().embedding_query(last.as_slice())?,
            tokenizer: Arc::clone(tokenizer),
        })
    }

    /// The features of a layer that fire most.
    fn layer(
        &self,
        layer: usize,
        mode: WalkMode,
        top: usize,
        tokens: usize,
    ) -> Result<Vec<FeatureRow>, ExecuteError> {
        self.session.check_cancelled()?;
        let ranking = match mode {
            WalkMode::Hybrid => Ranking::ActivationOrGate,
            WalkMode::Pure => Ranking::Gate,
            WalkMode::Dense => Ranking::Activation,
        };
        let query = self.vindex.base().layer_query(layer, &self.query);
        let hits = walk(self.vindex, self.session.pool(), layer, &query, ranking, top)?;
        let row = |hit: FeatureHit| FeatureRow {
            gate: Some(hit.gate),
            activation: hit.activation,
            ..feature_row(self.vindex, &self.tokenizer, hit.layer, hit.feature, tokens)
        };
        Ok(hits.into_iter().map(row).collect())
    }
}
