//! Evaluation of the edge memory: retrieval, paraphrase and specificity of many entries.

use std::collections::BTreeSet;
use std::time::Instant;

use larql_compute::limits::ReadProbe;
use larql_core::Triple;
use larql_core::facts::Facts;
use larql_core::progress::{Meter, NoProgress, Progress, Stage};
use larql_edit::{Assertion, Wording, build_entries, default_layer};
use larql_inference::last_inputs;
use larql_knowledge::{EdgeMemory, LanguageModel, MemoryAnswer, held_out_text};
use larql_vindex::KnnStore;
use serde::Serialize;

use crate::error::EvalError;

/// Scores of an edge memory. Shares are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EdgeMemoryScores {
    /// Edges that were remembered.
    pub entries: usize,
    /// Entries that answer their own question.
    pub retrieved: f64,
    /// Other wordings of their questions that are answered by the right edge.
    pub paraphrase: f64,
    /// The same questions about entities of which nothing was remembered, that no edge answers.
    pub specificity: f64,
    /// Prompts that have nothing to do with the edges.
    pub unrelated: usize,
    /// Unrelated prompts that an edge answers.
    pub overridden: usize,
    /// Seconds for each edge.
    pub seconds: f64,
    /// Bytes of each key, in halves of floats.
    pub bytes: f64,
    /// Milliseconds of a lookup among all edges; the best of several.
    pub lookup_ms: f64,
    /// Milliseconds that reading all keys once takes on this machine, in halves of floats.
    pub reading_ms: f64,
}

/// One in so many subjects of the tables is only asked about.
const ASKED_ABOUT: usize = 4;

/// Questions of each kind that are asked beside the edges' own.
const QUESTIONS: usize = 1000;

/// Words of a passage.
const PASSAGE: usize = 12;

/// Questions that are looked up at once.
const BATCH: usize = 256;

/// Lookups of which the best is told.
const LOOKUPS: usize = 20;

/// Remembers `count` edges, whether or not they make sense: the relations of the tables, of three in four of their
/// subjects. Then asks.
///
/// # Errors
/// If the tokenizer cannot encode a question, or the evaluation is cancelled.
pub fn evaluate_edge_memory(
    language: &LanguageModel,
    tables: &Facts,
    count: usize,
    progress: &dyn Progress,
) -> Result<EdgeMemoryScores, EvalError> {
    let language = language.with_cancel(progress.cancel_token());
    let (model, tokenizer) = (language.model(), language.tokenizer());
    let layer = default_layer(model);
    let space = language.key_space(layer)?;
    let subjects: BTreeSet<&str> = tables.iter().map(|fact| &*fact.entity).collect();
    let (asked, told): (Vec<_>, Vec<_>) =
        subjects.into_iter().enumerate().partition(|(index, _)| index % ASKED_ABOUT == 0);
    let [asked, told] =
        [asked, told].map(|of| of.into_iter().map(|(_, subject)| subject).collect::<Vec<_>>());
    let relations: Vec<&str> = tables.relations().iter().map(|relation| &*relation.name).collect();

    // Every subject with its first relation, then every one with its second.
    let pairs = (0..relations.len()).flat_map(|turn| {
        told.iter().enumerate().map({
            let relations = &relations;
            move |(index, subject)| (*subject, relations[(index + turn) % relations.len()])
        })
    });
    let edges: Vec<Assertion> = pairs
        .take(count)
        .enumerate()
        .map(|(index, (entity, relation))| Assertion {
            triple: Triple::new(entity, relation, format!("answer {index}")),
            confidence: 1.0,
        })
        .collect();
    let started = Instant::now();
    let mut store = KnnStore::default();
    let entries = build_entries(model, tokenizer, space, &edges, progress)?;
    entries.into_iter().for_each(|entry| store.insert(entry));
    let seconds = started.elapsed().as_secs_f64();
    let language = language.with_entries(store);
    let Some(memory) = language.edge_memory()? else { return Ok(EdgeMemoryScores::default()) };

    let (mut own, mut others) = (Vec::new(), Vec::new());
    for edge in &edges {
        let wording = Wording::of_unknown(&edge.triple.relation);
        let mut questions =
            wording.templates.iter().map(|template| wording.fill(template, &edge.triple.entity));
        own.extend(questions.next());
        others.push(questions.collect::<Vec<_>>());
    }

    let right = |found: &Option<MemoryAnswer>, edge: &Assertion| {
        found.as_ref().is_some_and(|found| {
            found.entry.triple.entity == edge.triple.entity
                && found.entry.triple.relation == edge.triple.relation
        })
    };

    let every = |all: usize, some: usize| (all / some.max(1)).max(1);
    let sample = edges.iter().zip(&others).step_by(every(edges.len(), QUESTIONS / 5));
    let (sample, paraphrases): (Vec<&Assertion>, Vec<String>) = sample
        .flat_map(|(edge, questions)| questions.iter().map(move |question| (edge, question.clone())))
        .unzip();

    let neighbours: Vec<String> = asked
        .iter()
        .zip(relations.iter().cycle())
        .map(|(subject, relation)| {
            let wording = Wording::of_unknown(relation);
            wording.fill(&wording.templates[0], subject)
        })
        .take(QUESTIONS)
        .collect();

    let words: Vec<&str> = held_out_text().split_whitespace().collect();
    let passages = words.windows(PASSAGE).map(|words| words.join(" "));
    let about_others = tables.iter().filter(|fact| asked.contains(&&*fact.entity)).filter_map(|fact| {
        let wordings = &tables.relation(&fact.relation)?.forward;
        Some(tables.names().fill(wordings.taught.last()?, &fact.entity))
    });
    let unrelated: Vec<String> = passages.chain(about_others).take(QUESTIONS).collect();

    let kinds = [&own, &paraphrases, &neighbours, &unrelated];
    let all: usize = kinds.iter().map(|questions| questions.len()).sum();
    let mut meter = Meter::new(progress, Stage::Asking, all as u64);
    let mut ask = |questions: &[String]| answers(&language, memory, layer, questions, &mut meter);
    let found = ask(&own)?;
    let retrieved = edges.iter().zip(&found).filter(|(edge, found)| right(found, edge)).count();
    let found = ask(&paraphrases)?;
    let paraphrased = found.iter().zip(sample).filter(|(found, edge)| right(found, edge)).count();
    let left_alone = ask(&neighbours)?.iter().filter(|found| found.is_none()).count();
    let overridden = ask(&unrelated)?.iter().flatten().count();

    let question = [tokenizer.encode(&own[0], true)?];
    let residual = last_inputs(model, layer, &question, &mut Meter::new(&NoProgress, Stage::Asking, 1))?;
    let lookups = (0..LOOKUPS).map(|_| {
        let started = Instant::now();
        memory.answers(model.pool(), layer, &residual);
        started.elapsed().as_secs_f64() * 1e3
    });
    let share = |some: usize, all: usize| some as f64 / all.max(1) as f64;
    Ok(EdgeMemoryScores {
        entries: edges.len(),
        retrieved: share(retrieved, edges.len()),
        paraphrase: share(paraphrased, paraphrases.len()),
        specificity: share(left_alone, neighbours.len()),
        unrelated: unrelated.len(),
        overridden,
        seconds: seconds / edges.len().max(1) as f64,
        bytes: share(memory.bytes(), edges.len()),
        lookup_ms: lookups.fold(f64::INFINITY, f64::min),
        reading_ms: memory.bytes() as f64 / ReadProbe::new(memory.bytes()).bytes_per_second(model.pool())
            * 1e3,
    })
}

/// Edges that answer some questions. `meter` counts the questions.
fn answers(
    language: &LanguageModel,
    memory: &EdgeMemory,
    layer: usize,
    questions: &[String],
    meter: &mut Meter<'_>,
) -> Result<Vec<Option<MemoryAnswer>>, EvalError> {
    let model = language.model();
    let mut found = Vec::with_capacity(questions.len());
    for batch in questions.chunks(BATCH) {
        let encode = |question: &String| Ok(language.tokenizer().encode(question, true)?);
        let tokens = batch.iter().map(encode).collect::<Result<Vec<_>, EvalError>>()?;
        let residuals = last_inputs(model, layer, &tokens, meter)?;
        found.extend(memory.answers(model.pool(), layer, &residuals));
    }
    Ok(found)
}
