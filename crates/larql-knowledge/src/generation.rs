//! Generating text: the tokens that continue a prompt, as text that comes piece by piece.

use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use larql_compute::Precision;
use larql_compute::attention::KeyValueFormat;
use larql_inference::{
    CpuExecutor, DecodeOptions, Decoder, DraftModel, Drafter, Executor, Generated, KeyValueCache,
    PromptLookUp, StopReason, generate,
};
use larql_models::Tokenizer;

use crate::stop_texts::StopTexts;
use crate::{KnowledgeError, LanguageModel, MemoryAnswer, MemoryInterceptor};

/// Options of generating text.
#[derive(Clone)]
pub struct GenerationOptions {
    /// Choice of the tokens, and the end of the text.
    pub decode: DecodeOptions,
    /// Precision of the products.
    pub precision: Precision,
    /// Texts that end the generated text; they are not part of it.
    pub stop_texts: Vec<String>,
    /// Number of tokens that prompt and text may have together; the model's context length if none is given.
    pub context: Option<usize>,
    /// Source of the tokens that a pass runs ahead; the text is the same with any.
    pub drafts: Drafts,
    /// Storage of keys and values.
    pub key_values: KeyValueFormat,
}

/// Source of the tokens that are run before they are certain (speculative decoding).
#[derive(Clone, Default)]
pub enum Drafts {
    /// No drafts.
    Off,
    /// Prompt look-up: the tokens that followed the last ones where they came before, while that pays.
    #[default]
    LookUp,
    /// A smaller model of the same vocabulary.
    Model(Box<CpuExecutor>),
}

impl GenerationOptions {
    /// Returns options without stop texts, and with the model's context length.
    pub fn new(decode: DecodeOptions, precision: Precision) -> GenerationOptions {
        let (stop_texts, drafts, key_values) = (Vec::new(), Drafts::default(), KeyValueFormat::default());
        GenerationOptions { decode, precision, stop_texts, context: None, drafts, key_values }
    }
}

/// Generated text.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The tokens, without a stop token.
    pub tokens: Vec<u32>,
    /// Number of tokens of the prompt.
    pub prompt: usize,
    /// Number of tokens of the prompt that an earlier pass had left in the cache.
    pub cached: usize,
    /// Edges of the memory that answered, in order.
    pub recalled: Vec<MemoryAnswer>,
    /// Reason for which there are no more tokens.
    pub reason: StopReason,
    /// Time of the prompt's pass.
    pub prefill: Duration,
    /// Time of all other passes.
    pub decode: Duration,
    /// Number of tokens that were drafted.
    pub drafted: usize,
    /// Number of these that were accepted.
    pub accepted: usize,
}

impl LanguageModel {
    /// Continues `prompt`. `on_text` receives the new text in whole characters as it comes, and may end it.
    ///
    /// # Errors
    /// If the prompt cannot be encoded or run or does not fit into the context, or an option is outside its range.
    pub fn complete(
        &self,
        prompt: &str,
        options: &GenerationOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, KnowledgeError> {
        self.complete_by(&self.executor(options), prompt, options, on_text)
    }

    /// Returns drafts by a smaller model.
    ///
    /// # Errors
    /// [`KnowledgeError::OtherVocabulary`] if its tokens stand for other texts.
    pub fn drafts_by(&self, smaller: &LanguageModel, precision: Precision) -> Result<Drafts, KnowledgeError> {
        let (own, other) = (self.tokenizer(), smaller.tokenizer());
        let most = own.vocab_size().max(other.vocab_size()) as u32;
        match (0..most).find(|token| own.token_text(*token) != other.token_text(*token)) {
            None => {
                let executor = CpuExecutor::new(smaller.model().clone()).with_precision(precision);
                Ok(Drafts::Model(Box::new(executor)))
            }
            Some(token) => {
                let text = |tokenizer: &Tokenizer| {
                    tokenizer.token_text(token).map_or("missing".to_owned(), |text| format!("`{text}`"))
                };
                Err(KnowledgeError::OtherVocabulary { token, own: text(own), other: text(other) })
            }
        }
    }

    /// Returns what runs the passes of a text under `options`.
    pub fn executor(&self, options: &GenerationOptions) -> CpuExecutor {
        CpuExecutor::new(self.model().clone())
            .with_precision(options.precision)
            .with_key_values(options.key_values)
    }

    /// As [`LanguageModel::complete`], with passes that `executor` runs, in its own precision.
    ///
    /// # Errors
    /// As [`LanguageModel::complete`], and those of the executor.
    pub fn complete_by(
        &self,
        executor: &dyn Executor,
        prompt: &str,
        options: &GenerationOptions,
        on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, KnowledgeError> {
        let tokens = self.encode(prompt, true)?;
        let mut cache = KeyValueCache::new(self.model().spec()).with_format(options.key_values);
        self.stream(executor, &mut cache, &tokens, options, on_text)
    }

    /// Number of tokens that prompt and text may have together under `options`.
    pub fn context(&self, options: &GenerationOptions) -> usize {
        let spec = self.model().spec();
        match options.context {
            Some(context) if spec.learned_positions => context.min(spec.context_length),
            Some(context) => context,
            None => spec.context_length,
        }
    }

    /// Returns a decoder of a text that follows `prompt`, and the channel on which edges of the memory that answer arrive.
    /// Passes of the text have to be run with [`Decoder::hook`].
    ///
    /// # Errors
    /// If an option is outside its range, or the edge memory cannot be indexed.
    pub fn decoder(
        &self,
        prompt: &[u32],
        options: &DecodeOptions,
    ) -> Result<(Decoder, mpsc::Receiver<MemoryAnswer>), KnowledgeError> {
        let (sender, answers) = mpsc::channel();
        let mut decoder = Decoder::new(options.clone())?.with_prompt(prompt);
        if let Some(memory) = self.edge_memory()? {
            let pool = Arc::clone(self.model().pool());
            decoder = decoder.with_interceptor(Box::new(MemoryInterceptor::new(memory, pool, sender)));
        }
        Ok((decoder, answers))
    }

    /// Continues the prompt `tokens`, whose first tokens are those of `cache`.
    pub(crate) fn stream(
        &self,
        executor: &dyn Executor,
        cache: &mut KeyValueCache,
        tokens: &[u32],
        options: &GenerationOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, KnowledgeError> {
        let (prompt, cached, context) = (tokens.len(), cache.len(), self.context(options));
        if prompt > context {
            let extensible = !self.model().spec().learned_positions;
            return Err(KnowledgeError::ContextExceeded { tokens: prompt, context, extensible });
        }
        let (decoder, answers) = self.decoder(tokens, &options.decode)?;
        // The last token that is chosen takes no position, as no pass runs it.
        let mut decoder = decoder.with_room(context - prompt + 1);
        let mut stream = self.tokenizer().decode_stream(true);
        let mut stop_texts = StopTexts::new(&options.stop_texts);
        let cancel = self.model().cancel_token();
        let (mut look_up, mut draft_model);
        let mut drafter: Option<&mut dyn Drafter> = match &options.drafts {
            Drafts::Off => None,
            Drafts::LookUp => {
                look_up = PromptLookUp::default();
                Some(&mut look_up)
            }
            Drafts::Model(executor) => {
                draft_model = DraftModel::new(&**executor, self.model().spec().vocab_size);
                Some(&mut draft_model)
            }
        };
        if let Some(drafter) = &mut drafter {
            drafter.observe(&tokens[..cached]);
        }
        let new = &tokens[cached..];
        let generated = generate(executor, cache, new, &mut decoder, drafter, cancel, |token| {
            let Some(piece) = stream.push(token.id) else { return ControlFlow::Continue(()) };
            let text = stop_texts.push(&piece);
            let flow = if text.is_empty() { ControlFlow::Continue(()) } else { on_text(&text) };
            if stop_texts.found() { ControlFlow::Break(()) } else { flow }
        });
        let Generated { tokens, mut reason, prefill, decode, drafted, accepted } = generated?;
        let mut rest = stop_texts.push(&stream.finish().unwrap_or_default());
        rest += &stop_texts.finish();
        if !rest.is_empty() {
            // Nothing is left to end.
            let _ = on_text(&rest);
        }
        if stop_texts.found() {
            reason = StopReason::StopText;
        }
        let recalled = answers.try_iter().collect();
        Ok(Generation { tokens, prompt, cached, recalled, reason, prefill, decode, drafted, accepted })
    }
}
