//! Many prompts in one pass, and the answers of the model.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use larql_compute::Precision;
use larql_inference::{
    Hook, HookError, KeyValueCache, LogitsFor, Model, PassError, Point, PointSet, Rows, Sequence, Stage,
    predictions,
};
use larql_models::Tokenizer;

use super::phrase::is_whole;

/// Asking in words is generation, and goes as fast as generation does.
const PRECISION: Precision = Precision::Fast;

/// Text as tokens, with the length of the prefix that it shares with other texts.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// All tokens.
    pub(crate) tokens: Vec<u32>,
    /// Number of tokens of the shared prefix; fewer than all.
    pub(crate) shared: usize,
}

/// Caches of prefixes that many texts share, so that each prefix is run once.
#[derive(Debug, Default)]
pub struct PrefixCache {
    caches: Mutex<HashMap<Vec<u32>, KeyValueCache>>,
}

impl PrefixCache {
    /// For each prompt what the model remembers of its beginning. Those that are new are run, all in one pass.
    fn caches(&self, model: &Model, prompts: &[Prompt]) -> Result<Vec<KeyValueCache>, PassError> {
        let mut known = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let prefixes = prompts.iter().map(|prompt| &prompt.tokens[..prompt.shared]);
        let new: BTreeSet<&[u32]> =
            prefixes.clone().filter(|tokens| !tokens.is_empty() && !known.contains_key(*tokens)).collect();
        if !new.is_empty() {
            let mut caches: Vec<_> = new.iter().map(|_| KeyValueCache::new(model.spec())).collect();
            let mut sequences: Vec<Sequence<'_>> =
                new.iter().zip(&mut caches).map(|(tokens, cache)| Sequence::new(cache, tokens)).collect();
            model.pass().with_precision(PRECISION).residual(&mut sequences)?;
            known.extend(new.into_iter().map(<[u32]>::to_vec).zip(caches));
        }
        Ok(prefixes
            .map(|tokens| known.get(tokens).cloned().unwrap_or_else(|| KeyValueCache::new(model.spec())))
            .collect())
    }
}

/// Activations at the last tokens of texts.
pub(crate) struct LastTokens {
    /// One for each text, with all its tokens.
    pub(crate) caches: Vec<KeyValueCache>,
    /// For each layer the feed-forward inputs, `[texts, hidden]`.
    pub(crate) inputs: Vec<Vec<f32>>,
    /// The last layer's output, `[texts, hidden]`.
    pub(crate) outputs: Vec<f32>,
}

impl LastTokens {
    /// A text's feed-forward input in a layer, `[hidden]`.
    pub(crate) fn input(&self, layer: usize, text: usize) -> &[f32] {
        let hidden = self.inputs[layer].len() / self.caches.len();
        &self.inputs[layer][text * hidden..][..hidden]
    }

    /// Runs texts, each at least a token long, together, exactly.
    pub(crate) fn run(model: &Model, texts: &[Vec<u32>]) -> Result<LastTokens, PassError> {
        let caches = texts.iter().map(|_| KeyValueCache::new(model.spec())).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        Ok(LastTokens::go_on(model, caches, &texts, Precision::Exact, LogitsFor::None)?.0)
    }

    /// Runs texts, each at least a token long, after what `caches` remember. Returns the logits that are asked for too.
    fn go_on(
        model: &Model,
        mut caches: Vec<KeyValueCache>,
        texts: &[&[u32]],
        precision: Precision,
        logits: LogitsFor,
    ) -> Result<(LastTokens, Vec<f32>), PassError> {
        let spec = model.spec();
        let mut sequences: Vec<Sequence<'_>> = texts
            .iter()
            .zip(&mut caches)
            .map(|(tokens, cache)| Sequence { logits, ..Sequence::new(cache, tokens) })
            .collect();
        let mut record =
            LastRows { layers: spec.layers.len(), width: spec.hidden_size, ..LastRows::default() };
        let logits = model.pass().with_precision(precision).with_hook(&mut record).run(&mut sequences)?;
        let LastRows { inputs, outputs, .. } = record;
        Ok((LastTokens { inputs, outputs, caches }, logits.into_values()))
    }
}

/// Prompts, and what a model would say next.
pub(crate) struct Batch {
    /// Activations at their last tokens.
    pub(crate) last: LastTokens,
    /// Logits after each prompt, `[prompts, vocab]`.
    logits: Vec<f32>,
}

impl Batch {
    /// Runs prompts together, after their prefixes.
    pub(crate) fn run(model: &Model, prefixes: &PrefixCache, prompts: &[Prompt]) -> Result<Batch, PassError> {
        let rests: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt.tokens[prompt.shared..]).collect();
        let caches = prefixes.caches(model, prompts)?;
        let (last, logits) = LastTokens::go_on(model, caches, &rests, PRECISION, LogitsFor::LastToken)?;
        Ok(Batch { last, logits })
    }

    /// Logits after one of the prompts, `[vocab]`.
    pub(crate) fn logits_of(&self, prompt: usize) -> &[f32] {
        let vocab = self.logits.len() / self.last.caches.len();
        &self.logits[prompt * vocab..][..vocab]
    }
}

/// Tokens of an answer at most, and of what shows that it has ended.
const ANSWER_TOKENS: usize = 8;

/// Greedy continuation of a prompt.
pub(crate) struct Completion {
    /// Its words, and the beginning of the next.
    pub(crate) text: String,
    /// Natural logarithm of the probability of its tokens after the first, but for the one that shows that it is whole.
    pub(crate) log_probability: f32,
}

/// Goes on greedily after prompts, each with its first token chosen, until the first phrase is whole.
pub(crate) fn complete(
    model: &Model,
    tokenizer: &Tokenizer,
    mut caches: Vec<KeyValueCache>,
    firsts: &[u32],
) -> Result<Vec<Completion>, PassError> {
    let mut tokens: Vec<Vec<u32>> = firsts.iter().map(|first| vec![*first]).collect();
    let mut log_probabilities: Vec<Vec<f32>> = firsts.iter().map(|_| Vec::new()).collect();
    let is_open = |tokens: &Vec<u32>| {
        let ended = tokens.last().is_some_and(|last| tokenizer.eos().contains(last));
        !ended && !is_whole(&tokenizer.decode(tokens, true))
    };
    for _ in 1..ANSWER_TOKENS {
        let open: Vec<bool> = tokens.iter().map(is_open).collect();
        if !open.contains(&true) {
            break;
        }
        let all = caches.iter_mut().zip(&tokens).zip(&open);
        let mut sequences: Vec<Sequence<'_>> = all
            .filter(|(_, open)| **open)
            .map(|((cache, tokens), _)| Sequence::new(cache, &tokens[tokens.len() - 1..]))
            .collect();
        let logits = model.pass().with_precision(PRECISION).run(&mut sequences)?.into_values();
        let indices = (0..tokens.len()).filter(|index| open[*index]);
        for (index, logits) in indices.zip(logits.chunks_exact(model.spec().vocab_size)) {
            for next in predictions(logits, 1) {
                tokens[index].push(next.token);
                log_probabilities[index].push(next.probability.max(f32::MIN_POSITIVE).ln());
            }
        }
    }
    let completion = |(tokens, log_probabilities): (Vec<u32>, Vec<f32>)| Completion {
        text: tokenizer.decode(&tokens, true),
        log_probability: log_probabilities.iter().rev().skip(1).sum(),
    };
    Ok(tokens.into_iter().zip(log_probabilities).map(completion).collect())
}

/// Hook that keeps the last row of each sequence: the feed-forward inputs of every layer, and the last layer's output.
#[derive(Default)]
struct LastRows {
    layers: usize,
    width: usize,
    inputs: Vec<Vec<f32>>,
    outputs: Vec<f32>,
}

impl Hook for LastRows {
    fn points(&self) -> PointSet {
        let output = Point::Layer { layer: self.layers - 1, stage: Stage::LayerOutput };
        PointSet::stages([Stage::FeedForwardInput]).with(output)
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let row = |sequence: usize| &values[rows.last(sequence) * self.width..][..self.width];
        let last = (0..rows.sequences()).flat_map(row).copied().collect();
        match point.stage() {
            Some(Stage::FeedForwardInput) => self.inputs.push(last),
            _ => self.outputs = last,
        }
        Ok(())
    }
}
