//! One generation that is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larql_compute::attention::KeyValueFormat;
use larql_compute::rows_of_a_part;
use larql_inference::{
    CpuExecutor, DecodeError, DecodeStep, DecodedToken, Decoder, DraftLength, Drafter, LogitsFor,
    PromptLookUp, SequenceState, StopReason, nats, predictions,
};
use larql_knowledge::StopTexts;
use larql_models::{DecodeStream, Tokenizer};
use tokio::sync::mpsc::UnboundedSender;

use super::PAGE;
use super::pages::{Page, PagedState};
use super::prefixes::{Place, Prefixes, Reservation};
use super::request::{EngineError, Event, Finish, GenerationRequest, PromptToken, Token};

/// One generation: its state, its decoder, and the text so far.
pub(super) struct RunningSequence {
    pub(super) weights: u64,
    pub(super) executor: Arc<CpuExecutor>,
    pub(super) state: PagedState,
    pub(super) decoder: Decoder,
    pub(super) reservation: Reservation,
    prompt: Vec<u32>,
    /// Tokens of the prompt whose keys and values are there.
    read: usize,
    /// Tokens among them whose pages other sequences computed.
    cached: usize,
    /// The token that the next pass runs, once the prompt is read.
    next: Option<u32>,
    drafts: Option<Drafts>,
    prompt_alternatives: Option<usize>,
    /// None once the text is complete.
    stream: Option<DecodeStream<Arc<Tokenizer>>>,
    stop_texts: StopTexts,
    events: UnboundedSender<Event>,
    started: Instant,
    first_token: Option<Instant>,
}

/// Drafts of one generation, by look-up in its prompt and its text.
#[derive(Default)]
struct Drafts {
    look_up: PromptLookUp,
    length: DraftLength,
}

/// New tokens of a sequence in a pass.
pub(super) struct Input {
    pub(super) tokens: Vec<u32>,
    /// Number of tokens of the prompt that follow them.
    pub(super) coming: usize,
    /// The logits that the pass has to compute.
    pub(super) logits: LogitsFor,
    /// True if the tokens after the first are a draft.
    pub(super) is_draft: bool,
}

/// Result of a pass for one sequence.
pub(super) enum Progress {
    /// It goes on.
    Continues,
    /// It is done, and has told the client.
    Done,
}

impl RunningSequence {
    /// Begins a generation. `pages` hold the first tokens of the prompt.
    pub(super) fn new(
        request: GenerationRequest,
        events: UnboundedSender<Event>,
        (reservation, pages): (Reservation, Vec<Page>),
        executor: Arc<CpuExecutor>,
        key_values: KeyValueFormat,
    ) -> Result<RunningSequence, (EngineError, Reservation)> {
        let language = &request.language;
        let context = language.model().spec().context_length;
        let decoder = match language.decoder(&request.prompt, &request.decode) {
            Ok((decoder, _)) => decoder,
            Err(error) => return Err((EngineError::Invalid(error.to_string()), reservation)),
        };
        // The last token that is chosen takes no position, as no pass runs it.
        let mut decoder = decoder.with_room((context + 1).saturating_sub(request.prompt.len()));
        if let Some(constraint) = request.constraint {
            decoder = decoder.with_constraint(constraint);
        }
        let drafts = decoder.takes_drafts().then(|| {
            let mut drafts = Drafts::default();
            drafts.look_up.observe(&request.prompt);
            drafts
        });
        let mut state = PagedState::new(language.model().spec(), key_values);
        state.append_pages(&pages);
        let cached = pages.len() * PAGE;
        Ok(RunningSequence {
            weights: request.weights,
            executor,
            state,
            decoder,
            reservation,
            read: cached,
            cached,
            prompt: request.prompt,
            next: None,
            drafts,
            prompt_alternatives: request.prompt_alternatives,
            stream: Some(DecodeStream::new(Arc::clone(language.tokenizer()), true)),
            stop_texts: StopTexts::new(&request.stop_texts),
            events,
            started: Instant::now(),
            first_token: None,
        })
    }

    /// Tokens of a prompt whose pages may be shared: the last token has to run to give the logits of the next one, and
    /// probabilities of the prompt take all of it. Where keys depend on the length of the prompt, none are shared.
    pub(super) fn shareable(request: &GenerationRequest) -> usize {
        let length = request.prompt.len();
        let mut rotations =
            request.language.model().spec().layers.iter().filter_map(|layer| layer.attention.rotary.as_ref());
        let depends_on_length =
            rotations.any(|rotary| rotary.fixed_length().is_some_and(|fixed| length > fixed));
        match depends_on_length || request.prompt_alternatives.is_some() {
            true => 0,
            false => length.saturating_sub(1),
        }
    }

    /// Returns true if the prompt is not read whole.
    pub(super) fn is_reading(&self) -> bool {
        self.read < self.prompt.len()
    }

    /// Takes the next pages of the prompt that other sequences have computed since the last pass. Returns the number of tokens
    /// in them.
    pub(super) fn take_shared_pages(&mut self, prefixes: &mut Prefixes) -> usize {
        let before = self.read;
        while self.is_reading() && self.reservation.may_share(self.read) {
            let tokens = &self.prompt[self.read..self.read + PAGE];
            let Some(page) = prefixes.take(&mut self.reservation, tokens) else { break };
            self.state.append_pages([&page]);
            self.read += PAGE;
        }
        self.cached += self.read - before;
        self.read - before
    }

    /// The place of the page that the prompt is being read in, if it is a full one, and true if the sequence could take it from
    /// another one.
    pub(super) fn page_in_progress(&self) -> Option<(Place, bool)> {
        let start = self.read / PAGE * PAGE;
        let shares = self.is_reading() && self.reservation.shares();
        let tokens = self.prompt.get(start..start + PAGE).filter(|_| shares)?;
        Some((self.reservation.place(tokens), self.reservation.may_share(self.read)))
    }

    /// Returns true if the client has gone away.
    pub(super) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Returns the tokens of the next pass: of a prompt at most `prompt_tokens`, but at least a part. Parts begin at multiples of
    /// their length, so that they are the same whatever else runs. `is_alone`: nothing else runs, so that the pass has time for a
    /// draft.
    pub(super) fn input(&mut self, is_alone: bool, prompt_tokens: usize) -> Input {
        let Some(next) = self.next else {
            let part = rows_of_a_part();
            let end = ((self.read + prompt_tokens.max(part)) / part * part).min(self.prompt.len());
            let coming = self.prompt.len() - end;
            let logits = match self.prompt_alternatives {
                Some(_) => LogitsFor::AllTokens,
                None if coming == 0 => LogitsFor::LastToken,
                None => LogitsFor::None,
            };
            let tokens = self.prompt[self.read..end].to_vec();
            return Input { tokens, coming, logits, is_draft: false };
        };
        let mut tokens = vec![next];
        // The last token that is chosen is not run.
        let most = self.decoder.remaining().saturating_sub(1);
        if let Some(Drafts { look_up, length }) = self.drafts.as_mut().filter(|_| is_alone) {
            tokens.extend(look_up.look_up(length.next_length().min(most)));
        }
        let is_draft = tokens.len() > 1;
        let logits = if is_draft { LogitsFor::AllTokens } else { LogitsFor::LastToken };
        Input { tokens, coming: 0, logits, is_draft }
    }

    /// Takes note of a pass that ran `tokens` for this sequence alone, after which `steps` tokens were chosen: what follows
    /// those that came is forgotten.
    pub(super) fn has_run(&mut self, tokens: usize, steps: usize, time: Duration) {
        let wrong = tokens - steps.min(tokens);
        if wrong > 0 {
            // Pages can be cut anywhere.
            let _ = self.state.truncate(self.state.len() - wrong);
        }
        match &mut self.drafts {
            Some(Drafts { length, .. }) if tokens == 1 => length.note_plain(time),
            Some(Drafts { length, .. }) => length.note_draft(tokens - 1, steps.saturating_sub(1), time),
            None => {}
        }
    }

    /// Takes over what a pass over a part of the prompt computed: `logits` are those that were asked for, `[.., vocab]`.
    /// Returns true if the prompt is read whole.
    pub(super) fn has_read(
        &mut self,
        tokens: usize,
        logits: &[f32],
        vocab_size: usize,
        prefixes: &mut Prefixes,
    ) -> bool {
        if let Some(alternatives) = self.prompt_alternatives {
            self.tell_prompt(tokens, logits, vocab_size, alternatives);
        }
        let pages = self.read / PAGE..(self.read + tokens) / PAGE;
        self.read += tokens;
        let shares = self.reservation.shares();
        for number in pages.filter(|_| shares) {
            if let Some(page) = self.state.page(number) {
                let tokens = &self.prompt[number * PAGE..(number + 1) * PAGE];
                prefixes.insert(&mut self.reservation, tokens, page);
            }
        }
        !self.is_reading()
    }

    /// Sends the probabilities of tokens of the prompt. Logits of a token are for the one after it.
    fn tell_prompt(&self, tokens: usize, logits: &[f32], vocab_size: usize, alternatives: usize) {
        let mut told = Vec::new();
        if self.read == 0 {
            told.push(PromptToken { logprob: None, alternatives: Vec::new() });
        }
        for (row, logits) in logits.chunks_exact(vocab_size).enumerate().take(tokens) {
            let Some(&token) = self.prompt.get(self.read + row + 1) else { break };
            let logprob = Some(-nats(logits, token) as f32);
            told.push(PromptToken { logprob, alternatives: predictions(logits, alternatives) });
        }
        // Whether the client is there is asked before each pass.
        let _ = self.events.send(Event::Prompt(told));
    }

    /// Takes over a step that the decoder made; `is_last`, of the steps of a pass.
    pub(super) fn decoded(&mut self, step: Result<DecodeStep, DecodeError>, is_last: bool) -> Progress {
        let token = match step {
            Ok(DecodeStep::Token(token)) => token,
            Ok(DecodeStep::Stop(reason)) => return self.finish(reason),
            Err(error) => return self.fail(EngineError::Invalid(error.to_string())),
        };
        self.first_token.get_or_insert_with(Instant::now);
        self.next = Some(token.id);
        if let Some(drafts) = &mut self.drafts {
            drafts.look_up.observe(&[token.id]);
        }
        self.tell(token);
        if self.stop_texts.found() {
            return self.finish(StopReason::StopText);
        }
        // Before the last step the decoder went on.
        match self.decoder.finished().filter(|_| is_last) {
            Some(reason) => self.finish(reason),
            None => Progress::Continues,
        }
    }

    fn tell(&mut self, token: DecodedToken) {
        let piece = self.stream.as_mut().and_then(|stream| stream.push(token.id));
        let text = piece.map_or_else(String::new, |piece| self.stop_texts.push(&piece));
        let _ = self.events.send(Event::Token(Token { token, text }));
    }

    fn finish(&mut self, mut reason: StopReason) -> Progress {
        let rest = self.stream.take().and_then(DecodeStream::finish);
        let mut text = self.stop_texts.push(&rest.unwrap_or_default());
        text += &self.stop_texts.finish();
        if self.stop_texts.found() {
            reason = StopReason::StopText;
        }
        let first = self.first_token.unwrap_or_else(Instant::now);
        let _ = self.events.send(Event::Finished(Finish {
            text,
            reason,
            prompt: self.prompt.len(),
            cached: self.cached,
            tokens: self.decoder.tokens(),
            prefill: first - self.started,
            decode: first.elapsed(),
        }));
        Progress::Done
    }

    /// Ends the generation with an error.
    pub(super) fn fail(&mut self, error: EngineError) -> Progress {
        let _ = self.events.send(Event::Failed(error));
        Progress::Done
    }
}
