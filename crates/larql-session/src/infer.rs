//! INFER and EXPLAIN INFER: the true forward pass, and what happens inside it.

use std::time::Instant;

use larql_compute::top_k_by_magnitude;
use larql_core::Triple;
use larql_inference::{
    FfnBackend, Hook, HookError, KeyValueCache, Pass, Point, PointSet, Prediction as TokenProbability, Rows,
    Stage, predictions as every_prediction,
};
use larql_knowledge::{EdgeMemory, LanguageModel, MemoryAnswer, MemoryProbe, phrase_end};
use larql_lql::ast::{ExplainInfer, Infer, Spanned};
use larql_lql::output::{
    Attended, ExplainedInference, ExplainedLayer, FeatureRow, Inferred, InterventionReceipt, Output,
    Overridden, Prediction, Run,
};
use larql_trace::{Declaration, Intervention, Receipt};
use larql_vindex::KnnEntry;

use crate::common::records::{ALL_TOKENS, TOKENS, feature_row};
use crate::{ExecuteError, QueryError, Session, attribution_graph};

const TOP: usize = 5;
/// Features a layer that EXPLAIN INFER shows.
const FEATURES: usize = 10;
/// Positions a head that EXPLAIN INFER shows.
const POSITIONS: usize = 3;

pub(crate) fn run(session: &Session, statement: &Infer) -> Result<Output, ExecuteError> {
    let language = &session.language()?.with_cancel(session.cancel_token());
    let prompt = statement.prompt.text().ok_or(QueryError::NoSubject)?;
    let tokens = encode(language, prompt)?;
    let top = statement.top.map_or(TOP, |top| top.value);
    let model = language.model();
    // With every feature, the walk is the dense step; `usize::MAX` says so to the back end.
    let walk = model.walk_ffn(session.walk_k().unwrap_or(usize::MAX));
    let mut probe = language.edge_memory()?.map(EdgeMemory::probe);
    let mut intervention =
        statement.intervention.as_ref().map(|file| intervention(language, file)).transpose()?;
    let mut hooks = Hooks { probe: probe.as_mut(), intervention: intervention.as_mut() };
    let pass = model.pass().with_feed_forward(&walk).with_hook(&mut hooks);
    let (mut run, mut state) = predict(session, language, pass, &tokens, ("walk", top))?;
    // Phrases go on from the model without interventions, so none is looked up with one.
    if intervention.is_none() {
        add_phrases(session, language, &walk, &mut run.predictions, &mut state)?;
    }
    let mut runs = vec![run];
    if statement.compare {
        let dense = model.dense_ffn();
        // The receipt is of the first run, so this one counts on a copy.
        let mut intervention = intervention.clone();
        intervention.iter_mut().for_each(Intervention::reset);
        let mut hooks = Hooks { probe: None, intervention: intervention.as_mut() };
        let pass = model.pass().with_feed_forward(&dense).with_hook(&mut hooks);
        let (mut run, mut state) = predict(session, language, pass, &tokens, ("dense", top))?;
        if intervention.is_none() {
            add_phrases(session, language, &dense, &mut run.predictions, &mut state)?;
        }
        runs.push(run);
    }
    let overridden = probe.and_then(|probe| probe.answer(model.pool())).map(overridden);
    let intervention = statement.intervention.as_ref().zip(intervention).map(|(file, done)| {
        let Receipt { digest, fired } = done.receipt();
        InterventionReceipt { file: file.value.clone(), digest, fired, captured: done.captured().to_vec() }
    });
    Ok(Output::Infer(Inferred { prompt: prompt.value.clone(), overridden, runs, intervention }))
}

/// Reads a declaration and resolves it for a model.
fn intervention(language: &LanguageModel, file: &Spanned<String>) -> Result<Intervention, ExecuteError> {
    let json = std::fs::read_to_string(&**file)
        .map_err(|error| error.to_string())
        .map_err(|reason| QueryError::Unreadable { path: file.value.clone(), reason, at: file.span })?;
    let encode = |prompt: &str| language.encode(prompt, true).map_err(|error| error.to_string());
    Ok(Declaration::from_json(&json)?.resolve(language.model(), &encode)?)
}

/// The hooks of INFER: the intervention first, so that the edge memory sees what it changed.
struct Hooks<'a> {
    probe: Option<&'a mut MemoryProbe>,
    intervention: Option<&'a mut Intervention>,
}

impl Hook for Hooks<'_> {
    fn points(&self) -> PointSet {
        let of_intervention = self.intervention.as_ref().map(|hook| hook.points());
        let of_probe = self.probe.as_ref().map(|hook| hook.points());
        of_intervention.unwrap_or_default().union(of_probe.unwrap_or_default())
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        if let Some(intervention) = &mut self.intervention {
            intervention.at(point, rows, values)?;
        }
        match &mut self.probe {
            Some(probe) if probe.points().contains(point) => probe.at(point, rows, values),
            _ => Ok(()),
        }
    }
}

pub(crate) fn overridden(recalled: MemoryAnswer) -> Overridden {
    let MemoryAnswer { entry, cosine, threshold, .. } = recalled;
    let KnnEntry { triple: Triple { entity, relation, target }, layer, .. } = entry;
    Overridden { entity, relation, target, layer, cosine, threshold }
}

pub(crate) fn encode(language: &LanguageModel, prompt: &str) -> Result<Vec<u32>, ExecuteError> {
    let tokens = language.encode(prompt, true)?;
    let context = language.model().spec().context_length;
    match tokens.len() > context {
        true => Err(QueryError::PastContext { tokens: tokens.len(), context }.into()),
        false => Ok(tokens),
    }
}

/// Runs the pass that has a name, and keeps the likeliest `top` next tokens.
fn predict(
    session: &Session,
    language: &LanguageModel,
    pass: Pass<'_>,
    tokens: &[u32],
    (name, top): (&str, usize),
) -> Result<(Run, KeyValueCache), ExecuteError> {
    let started = Instant::now();
    let mut state = KeyValueCache::new(language.model().spec());
    let logits = pass.with_cancel(session.cancel_token()).last_logits(&mut state, tokens)?;
    let latency_ms = started.elapsed().as_secs_f64() * 1e3;
    Ok((Run { ffn: name.into(), latency_ms, predictions: predicted(language, &logits, top) }, state))
}

/// Predictions whose word or phrase is looked up: likelier than [`LEAST_PROBABILITY`].
const PHRASES: usize = 5;
const LEAST_PROBABILITY: f64 = 0.01;
/// Tokens of a phrase at most.
const PHRASE_TOKENS: usize = 8;

/// Adds to each of the likeliest predictions the word or phrase with which the model goes on from it, where that is more than
/// the token. `state` has read the prompt.
fn add_phrases(
    session: &Session,
    language: &LanguageModel,
    feed_forward: &dyn FfnBackend,
    predictions: &mut [Prediction],
    state: &mut KeyValueCache,
) -> Result<(), ExecuteError> {
    let prompt = state.len();
    for prediction in predictions.iter_mut().take(PHRASES) {
        let begins_a_word = prediction.token.trim_start_matches(' ').starts_with(char::is_alphabetic);
        if !begins_a_word || prediction.probability < LEAST_PROBABILITY {
            continue;
        }
        let mut tokens = vec![prediction.token_id];
        let phrase = loop {
            let text = language.tokenizer().decode(&tokens, true);
            match phrase_end(&text) {
                Some(end) => break text[..end].trim().to_owned(),
                None if tokens.len() > PHRASE_TOKENS => break String::new(),
                None => {}
            }
            let pass = language.model().pass().with_feed_forward(feed_forward);
            let last = &tokens[tokens.len() - 1..];
            let logits = pass.with_cancel(session.cancel_token()).last_logits(state, last)?;
            tokens.extend(every_prediction(&logits, 1).first().map(|next| next.token));
        };
        state.truncate(prompt);
        let is_more = phrase.len() > prediction.token.trim().len();
        prediction.phrase = is_more.then_some(phrase);
    }
    Ok(())
}

fn predicted(language: &LanguageModel, logits: &[f32], top: usize) -> Vec<Prediction> {
    let tokens = every_prediction(logits, top).into_iter();
    tokens.map(|p| prediction(language, p.token, p.probability.into())).collect()
}

pub(crate) fn prediction(language: &LanguageModel, token: u32, probability: f64) -> Prediction {
    Prediction { token: token_text(language, token), token_id: token, probability, phrase: None }
}

pub(crate) fn token_text(language: &LanguageModel, token: u32) -> String {
    language.tokenizer().token_text(token).unwrap_or_default()
}

pub(crate) fn explain(session: &Session, statement: &ExplainInfer) -> Result<Output, ExecuteError> {
    if let Some(graph) = &statement.graph {
        return attribution_graph::run(session, statement, graph);
    }
    let view = session.viewed("EXPLAIN INFER")?;
    let language = &view.language()?.with_cancel(session.cancel_token());
    let prompt = statement.prompt.text().ok_or(QueryError::NoSubject)?;
    let layers = view.layer_range(statement.layers, 0..view.layers())?;
    let top = statement.top.map_or(FEATURES, |top| top.value);
    let shown = if statement.verbose { ALL_TOKENS } else { TOKENS };

    let model = language.model();
    let tokens = encode(language, prompt)?;
    let mut watch = LastToken { hidden: model.spec().hidden_size, layers: Vec::new() };
    let mut state = KeyValueCache::new(model.spec());
    let mut pass = model.pass().with_hook(&mut watch).with_cancel(session.cancel_token());
    let logits = pass.last_logits(&mut state, &tokens)?;
    let predictions = predicted(language, &logits, TOP);
    let all = every_prediction(&logits, logits.len());
    let answer = match &statement.answer {
        None => predictions.first().map_or(0, |prediction| prediction.token_id),
        Some(text) => first_token(language, text, &all)?,
    };
    let probability = |all: &[TokenProbability], token| {
        all.iter().find(|p| p.token == token).map_or(0.0, |p| f64::from(p.probability))
    };
    let explained = prediction(language, answer, probability(&all, answer));
    let last = watch.layers.last().map_or(&[][..], |seen| &seen.output);
    let direction = model.logit_direction(answer, last)?;

    let explain = |layer: usize| -> Result<ExplainedLayer, ExecuteError> {
        session.check_cancelled()?;
        let seen = &watch.layers[layer];
        let gates = model.gate_scores(layer, &seen.feed_forward_input);
        let activations = model.feature_activations(layer, &seen.feed_forward_input);
        let contributions = model.feature_contributions(layer, &activations, &direction);
        let rows =
            top_k_by_magnitude(&contributions, top).into_iter().map(|(feature, contribution)| FeatureRow {
                gate: Some(gates[feature]),
                activation: Some(activations[feature]),
                contribution: Some(contribution),
                ..feature_row(view.overlay(), language.tokenizer(), layer, feature, shown)
            });
        let lens = model.logit_lens(&seen.output)?;
        let all = every_prediction(&lens, lens.len());
        let attention = if statement.with_attention {
            attended(language, &tokens, &model.attention_weights(layer, &seen.input, &state)?)
        } else {
            Vec::new()
        };
        Ok(ExplainedLayer {
            layer,
            lens_token: all.first().map_or_else(String::new, |first| token_text(language, first.token)),
            lens_probability: all.first().map_or(0.0, |first| first.probability.into()),
            answer_probability: probability(&all, answer),
            rows: rows.collect(),
            attention,
        })
    };
    let layers = layers.map(explain).collect::<Result<_, _>>()?;
    let prompt = prompt.value.clone();
    Ok(Output::ExplainInfer(ExplainedInference { prompt, predictions, answer: explained, layers }))
}

/// The first token of an answer, with or without a blank before it: the likelier of the two.
pub(crate) fn first_token(
    language: &LanguageModel,
    answer: &Spanned<String>,
    likeliest_first: &[TokenProbability],
) -> Result<u32, ExecuteError> {
    let spellings = [format!(" {}", answer.trim_start()), answer.value.clone()];
    let mut tokens = Vec::new();
    for spelling in &spellings {
        tokens.extend(language.tokenizer().encode(spelling, false)?.first().copied());
    }
    let found = likeliest_first.iter().map(|p| p.token).find(|token| tokens.contains(token));
    found
        .filter(|_| !answer.trim().is_empty())
        .ok_or_else(|| QueryError::EmptyAnswer { at: answer.span }.into())
}

/// The positions that each head looks at most, for weights `[heads, positions]`.
fn attended(language: &LanguageModel, tokens: &[u32], weights: &[f32]) -> Vec<Attended> {
    let heads = weights.chunks_exact(tokens.len()).enumerate();
    let places = heads.flat_map(|(head, weights)| {
        let strongest = top_k_by_magnitude(weights, POSITIONS).into_iter();
        strongest.map(move |(position, weight)| (head, position, weight))
    });
    let attended = |(head, position, weight)| Attended {
        head,
        position,
        token: token_text(language, tokens[position]),
        weight,
    };
    places.map(attended).collect()
}

/// Hook that records the last token of one sequence in each layer.
struct LastToken {
    hidden: usize,
    layers: Vec<Seen>,
}

/// Inputs and output of one layer at the last token; each `[hidden]`.
#[derive(Default)]
struct Seen {
    input: Vec<f32>,
    feed_forward_input: Vec<f32>,
    output: Vec<f32>,
}

impl Hook for LastToken {
    fn points(&self) -> PointSet {
        PointSet::stages([Stage::LayerInput, Stage::FeedForwardInput, Stage::LayerOutput])
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let Point::Layer { layer, stage } = point else { return Ok(()) };
        if layer == self.layers.len() {
            self.layers.push(Seen::default());
        }
        let seen = &mut self.layers[layer];
        let last = &values[rows.last(0) * self.hidden..][..self.hidden];
        match stage {
            Stage::LayerInput => seen.input = last.to_vec(),
            Stage::FeedForwardInput => seen.feed_forward_input = last.to_vec(),
            _ => seen.output = last.to_vec(),
        }
        Ok(())
    }
}
