//! TRACE: the residual stream of a prompt, layer by layer.

use std::path::Path;
use std::time::Instant;

use larql_compute::vector::{cosine, norm};
use larql_inference::{Hook, KeyValueCache};
use larql_knowledge::{EdgeMemory, LanguageModel};
use larql_lql::ast::{self, SaveTrace, Spanned, TraceFormat};
use larql_lql::output::{
    AnswerFigures, Output, SavedTrace, TraceDifference, TraceDifferenceRow, TraceView, Traced, TracedAnswer,
    TracedRow, word,
};
use larql_trace::{
    AnswerTrajectory, AnswerWaypoint, BoundaryWriter, ChainWriter, ContextContents, ContextWriter,
    LensReading, ModelDigest, Positions, Tier, Trace,
};

use crate::infer::{encode, overridden, token_text};
use crate::{ExecuteError, QueryError, Session};

/// Tokens of a window of a boundary or context store.
const WINDOW: usize = 200;

/// Layers whose deltas a context store of tier 2 keeps, at most.
const CRITICAL: usize = 8;

pub(crate) fn run(session: &Session, statement: &ast::Trace) -> Result<Output, ExecuteError> {
    let language = &session.language()?.with_cancel(session.cancel_token());
    let prompt = statement.prompt.text().ok_or(QueryError::NoSubject)?;
    if let Some(other) = &statement.other {
        return difference(session, language, statement, [prompt, other]);
    }
    let tokens = encode(language, prompt)?;
    let layers = shown_layers(session, language, statement)?;
    let everywhere = statement.positions == Some(ast::Positions::All);
    let view = match (&statement.target, statement.decompose) {
        (Some(_), false) => TraceView::Answer,
        (_, true) => TraceView::Decomposition,
        (None, false) => TraceView::Summary,
    };
    let mut probe = language.edge_memory()?.map(EdgeMemory::probe);
    let hook = probe.as_mut().map(|probe| probe as &mut dyn Hook);
    let started = Instant::now();
    let mut traced = Traced {
        prompt: prompt.value.clone(),
        tokens: Vec::new(),
        token_ids: Vec::new(),
        n_layers: language.model().spec().layers.len(),
        hidden_size: language.model().spec().hidden_size,
        latency_ms: 0.0,
        view,
        answer: None,
        rows: Vec::new(),
        saved: None,
        overridden: None,
    };
    let trace = match view {
        TraceView::Summary => {
            let positions = match everywhere || statement.save.is_some() {
                true => Positions::All,
                false => Positions::Last,
            };
            let trace = Trace::record_with(language.model(), &tokens, &positions, hook)?;
            let shown = if everywhere { 0 } else { trace.positions().len() - 1 };
            let readings = match everywhere {
                true => trace.read(language.model())?,
                false => vec![trace.read_position(language.model(), shown)?],
            };
            for (index, readings) in (shown..).zip(&readings) {
                traced.rows.extend(rows(language, &trace, index, readings, None));
            }
            trace
        }
        TraceView::Answer | TraceView::Decomposition => {
            let answer = match &statement.target {
                Some(text) => answer_tokens(language, prompt, &tokens, text)?,
                None => vec![likeliest(language, &tokens)?],
            };
            // The edge memory is asked at the prompt's last token, which is not the last with an answer after it.
            if let Some(hook) = hook {
                let mut state = KeyValueCache::new(language.model().spec());
                language.model().pass().with_hook(hook).last_logits(&mut state, &tokens)?;
            }
            let trajectory = AnswerTrajectory::follow(language.model(), &tokens, &answer, everywhere)?;
            let own_text = language.tokenizer().decode(&answer, true).trim().to_owned();
            let followed = answer[trajectory.deciding];
            traced.answer = Some(TracedAnswer {
                text: statement.target.as_ref().map_or(own_text, |text| text.value.clone()),
                tokens: answer.iter().map(|token| token_text(language, *token)).collect(),
                token: token_text(language, followed),
                token_id: followed,
                index: trajectory.deciding,
            });
            let prompt_positions = if everywhere { 0..tokens.len() } else { 0..0 };
            let shown = prompt_positions.chain([trajectory.deciding_position]);
            let mut shown: Vec<usize> = shown.collect();
            shown.dedup();
            for index in shown {
                let waypoints = Some((&trajectory.waypoints[index][..], answer.len() > 1));
                let (trace, readings) = (&trajectory.trace, &trajectory.readings[index]);
                traced.rows.extend(rows(language, trace, index, readings, waypoints));
            }
            trajectory.trace
        }
    };
    traced.latency_ms = started.elapsed().as_secs_f64() * 1e3;
    traced.tokens = trace.tokens().iter().map(|token| token_text(language, *token)).collect();
    traced.token_ids = trace.tokens().to_vec();
    traced.rows.retain(|row| row.layer < 0 && statement.layers.is_none() || layers.contains(&row.layer));
    traced.overridden = probe.and_then(|probe| probe.answer(language.model().pool())).map(overridden);
    if let Some(save) = &statement.save {
        let trace = match view {
            TraceView::Summary => trace,
            // Of the prompt alone, without the answer.
            _ => Trace::record(language.model(), &tokens, &Positions::All)?,
        };
        let layers = statement.layers.map(|range| range.value.first..range.value.last + 1);
        traced.saved = Some(saved(session, &trace, save, layers)?);
    }
    Ok(Output::Trace(traced))
}

/// The layers that a statement shows, from the first to the last.
fn shown_layers(
    session: &Session,
    language: &LanguageModel,
    statement: &ast::Trace,
) -> Result<std::ops::RangeInclusive<i64>, ExecuteError> {
    let count = language.model().spec().layers.len();
    let Some(range) = statement.layers else { return Ok(0..=count as i64 - 1) };
    session.check_cancelled()?;
    let last = crate::view::check_layer(range.value.last, range.span, count)?;
    Ok(range.value.first as i64..=last as i64)
}

/// The tokens of an answer after a prompt; at least one.
fn answer_tokens(
    language: &LanguageModel,
    prompt: &str,
    tokens: &[u32],
    answer: &Spanned<String>,
) -> Result<Vec<u32>, ExecuteError> {
    let found = language.encode_answer(prompt, tokens, answer)?;
    if found.is_empty() { Err(QueryError::EmptyAnswer { at: answer.span }.into()) } else { Ok(found) }
}

/// The model's own next token.
fn likeliest(language: &LanguageModel, tokens: &[u32]) -> Result<u32, ExecuteError> {
    let answers = larql_inference::greedy_continuations(language.model(), &[(tokens, 1)])?;
    Ok(answers.concat().first().copied().unwrap_or_default())
}

/// The rows of one traced position.
fn rows<'a>(
    language: &'a LanguageModel,
    trace: &'a Trace,
    index: usize,
    readings: &'a [LensReading],
    answer: Option<(&'a [AnswerWaypoint], bool)>,
) -> impl Iterator<Item = TracedRow> + 'a {
    let stream = trace.position(index);
    readings.iter().enumerate().map(move |(waypoint, reading)| {
        let top = reading.top.first();
        let figures = answer.map(|(waypoints, several)| {
            let waypoint = &waypoints[waypoint];
            AnswerFigures {
                rank: waypoint.rank,
                prob: waypoint.probability,
                whole_prob: several.then_some(waypoint.whole_probability),
                logit: waypoint.logit,
                attn_logit: waypoint.attention,
                ffn_logit: waypoint.feed_forward,
                norm_logit: waypoint.rescaling,
                who: word(&waypoint.pusher()),
            }
        });
        TracedRow {
            position: trace.positions()[index],
            layer: waypoint as i64 - 1,
            top1_token: top.map_or_else(String::new, |top| token_text(language, top.token)),
            top1_token_id: top.map_or(0, |top| top.token),
            top1_prob: top.map_or(0.0, |top| top.probability),
            residual_norm: norm(stream.residual(waypoint)),
            attn_delta_norm: norm(stream.attention_delta(waypoint)),
            ffn_delta_norm: norm(stream.feed_forward_delta(waypoint)),
            answer: figures,
        }
    })
}

/// `TRACE a DIFF b`: both streams at their last tokens.
fn difference(
    session: &Session,
    language: &LanguageModel,
    statement: &ast::Trace,
    prompts: [&Spanned<String>; 2],
) -> Result<Output, ExecuteError> {
    let layers = shown_layers(session, language, statement)?;
    let mut traces = Vec::with_capacity(2);
    for prompt in prompts {
        let trace = Trace::record(language.model(), &encode(language, prompt)?, &Positions::Last)?;
        let readings = trace.read(language.model())?;
        traces.push((trace, readings));
    }
    let [(first, first_readings), (second, second_readings)] = &traces[..] else {
        return Err(QueryError::NoSubject.into());
    };
    let row = |waypoint: usize| {
        let [a, b] = [first, second].map(|trace| trace.position(0).residual(waypoint));
        let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let top = |readings: &[Vec<LensReading>]| {
            let top = readings[0][waypoint].top.first();
            top.map_or((String::new(), 0.0), |top| (token_text(language, top.token), top.probability))
        };
        let ((top1_token, top1_prob), (other_top1_token, other_top1_prob)) =
            (top(first_readings), top(second_readings));
        TraceDifferenceRow {
            layer: waypoint as i64 - 1,
            cosine: cosine(a, b),
            delta_norm: norm(&difference),
            top1_token,
            top1_prob,
            other_top1_token,
            other_top1_prob,
        }
    };
    let rows = (0..=first.layers()).map(row);
    let rows = rows.filter(|row| row.layer < 0 && statement.layers.is_none() || layers.contains(&row.layer));
    let [prompt, other] = prompts.map(|prompt| prompt.value.clone());
    Ok(Output::TraceDifference(TraceDifference { prompt, other, rows: rows.collect() }))
}

/// Writes all positions to a file, after those that it has.
fn saved(
    session: &Session,
    trace: &Trace,
    save: &SaveTrace,
    layers: Option<std::ops::Range<usize>>,
) -> Result<SavedTrace, ExecuteError> {
    let model = session.viewed("TRACE").ok().and_then(|view| view.base().weights_identity());
    let model = model.map_or_else(ModelDigest::default, |identity| ModelDigest::of(&identity));
    let (hidden, count, path) = (trace.hidden_size(), trace.layers(), Path::new(&*save.path));
    let window = save.window.map_or(WINDOW, |window| window.value).max(1);
    let format = save.format.unwrap_or(TraceFormat::Chain);
    let tokens = trace.tokens();
    // The last token of each window, the last of which may be short.
    let ends = (0..tokens.len()).step_by(window).map(|start| (start, (start + window).min(tokens.len())));
    let (added, entries, worst_error) = match format {
        TraceFormat::Chain => {
            let mut writer = ChainWriter::open(path, hidden, count, &model)?;
            writer.append_trace(trace)?;
            (tokens.len(), writer.tokens(), None)
        }
        TraceFormat::Boundary => {
            let mut writer =
                BoundaryWriter::open(path, hidden, window, BoundaryWriter::MAX_BOUNDARIES, &model)?;
            let before = (writer.boundaries(), writer.total_tokens());
            for (start, end) in ends {
                let residual = trace.position(end - 1).residual(count);
                writer.append(before.1 + start, end - start, residual, Some(tokens[end - 1]))?;
            }
            (writer.boundaries() - before.0, writer.boundaries(), None)
        }
        TraceFormat::Context => {
            let tier = match save.tier.map_or(1, |tier| tier.value) {
                1 => Tier::Residual,
                2 => {
                    let layers = layers.unwrap_or(count.saturating_sub(CRITICAL)..count);
                    let byte = |layer| {
                        u8::try_from(layer).map_err(|_| {
                            let at = save.tier.map_or(save.path.span, |tier| tier.span);
                            let what = "a layer of tier 2";
                            QueryError::OutOfRange { what, found: layer, least: 0, greatest: 255, at }
                        })
                    };
                    Tier::Critical(layers.map(byte).collect::<Result<_, _>>()?)
                }
                3 => Tier::Full,
                4 => Tier::FullInt8,
                found => {
                    let at = save.tier.map_or(save.path.span, |tier| tier.span);
                    return Err(
                        QueryError::OutOfRange { what: "tier", found, least: 1, greatest: 4, at }.into()
                    );
                }
            };
            let (shape, slots) = ((hidden, count), ContextWriter::MAX_BOUNDARIES);
            let mut writer = ContextWriter::open(path, shape, window, tier.clone(), slots, &model)?;
            let before = (writer.boundaries(), writer.total_tokens());
            for (start, end) in ends {
                let contents = ContextContents::of_position(&trace.position(end - 1), count, &tier);
                writer.append(before.1 + start, end - start, &contents, Some(tokens[end - 1]))?;
            }
            let worst_error = (tier == Tier::FullInt8).then(|| writer.worst_error());
            (writer.boundaries() - before.0, writer.boundaries(), worst_error)
        }
    };
    Ok(SavedTrace { path: save.path.value.clone(), format, added, entries, worst_error })
}
