//! Generation: the loop that decodes one sequence.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use larql_core::progress::CancelToken;

use crate::{
    DecodeError, DecodeStep, DecodedToken, Decoder, DraftError, DraftLength, Drafter, Executor, PassError,
    Sequence, SequenceState, StateError, StopReason,
};

/// Tokens that continue a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The tokens, without a stop token.
    pub tokens: Vec<u32>,
    /// Reason for which there are no more.
    pub reason: StopReason,
    /// Time of the prompt's pass.
    pub prefill: Duration,
    /// Time of all other passes.
    pub decode: Duration,
    /// Number of tokens that a [`Drafter`] drafted.
    pub drafted: usize,
    /// Number of these that were accepted.
    pub accepted: usize,
}

/// Failure to generate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// No token could be chosen.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A draft could not be made.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The state cannot forget the tokens of a draft.
    #[error("the tokens of a draft cannot be taken back: {0}")]
    State(#[source] StateError),
}

/// Continues `prompt`, which follows the tokens of `state`, until `decoder` ends the sequence. `on_token` receives each
/// token at once, and may end it too; `cancel` ends it between layers. Afterwards the state holds everything but the last
/// token, which no pass has run.
///
/// With a `drafter`, which has observed the tokens of `state`, several tokens run in one pass where the executor and the
/// decoder allow it. The tokens that are generated are the same.
///
/// # Errors
/// If the prompt is empty or a token is outside the model, a pass is cancelled or fails, or the decoder or the drafter fails.
pub fn generate(
    executor: &dyn Executor,
    state: &mut dyn SequenceState,
    prompt: &[u32],
    decoder: &mut Decoder,
    drafter: Option<&mut dyn Drafter>,
    cancel: &CancelToken,
    mut on_token: impl FnMut(&DecodedToken) -> ControlFlow<()>,
) -> Result<Generated, GenerateError> {
    let started = Instant::now();
    let logits = executor.forward(&mut [Sequence::new(state, prompt)], decoder.hook(), cancel)?;
    let prefill = started.elapsed();

    let started = Instant::now();
    let drafter = drafter.filter(|_| executor.runs_drafts() && decoder.takes_drafts());
    let mut run = Run { executor, decoder, cancel, tokens: Vec::new(), drafts: None };
    run.drafts = drafter.map(|drafter| {
        drafter.observe(prompt);
        Drafts { drafter, length: DraftLength::default(), drafted: 0, accepted: 0 }
    });
    let mut next = run.choose(&mut logits.into_values(), &mut on_token)?;
    let reason = loop {
        match next {
            ControlFlow::Continue(token) => next = run.pass(state, token, &mut on_token)?,
            ControlFlow::Break(reason) => break reason,
        }
    };
    let (drafted, accepted) = run.drafts.map_or((0, 0), |drafts| (drafts.drafted, drafts.accepted));
    Ok(Generated { tokens: run.tokens, reason, prefill, decode: started.elapsed(), drafted, accepted })
}

/// A sequence that is being generated.
struct Run<'a> {
    executor: &'a dyn Executor,
    decoder: &'a mut Decoder,
    cancel: &'a CancelToken,
    tokens: Vec<u32>,
    drafts: Option<Drafts<'a>>,
}

struct Drafts<'a> {
    drafter: &'a mut dyn Drafter,
    length: DraftLength,
    drafted: usize,
    accepted: usize,
}

impl Run<'_> {
    /// Chooses the next token, hands it out, and returns it if the sequence goes on.
    fn choose(
        &mut self,
        logits: &mut [f32],
        on_token: &mut impl FnMut(&DecodedToken) -> ControlFlow<()>,
    ) -> Result<ControlFlow<StopReason, u32>, GenerateError> {
        let token = match self.decoder.next(logits)? {
            DecodeStep::Token(token) => token,
            DecodeStep::Stop(reason) => return Ok(ControlFlow::Break(reason)),
        };
        self.tokens.push(token.id);
        if let Some(drafts) = &mut self.drafts {
            drafts.drafter.observe(&[token.id]);
        }
        if on_token(&token).is_break() {
            return Ok(ControlFlow::Break(StopReason::Interrupted));
        }
        Ok(match self.decoder.finished() {
            Some(reason) => ControlFlow::Break(reason),
            None => ControlFlow::Continue(token.id),
        })
    }

    /// Runs a chosen token with a draft of those that follow, and chooses the tokens after it up to the first that is not
    /// drafted, which is returned.
    fn pass(
        &mut self,
        state: &mut dyn SequenceState,
        token: u32,
        on_token: &mut impl FnMut(&DecodedToken) -> ControlFlow<()>,
    ) -> Result<ControlFlow<StopReason, u32>, GenerateError> {
        let (started, before) = (Instant::now(), state.len());
        // The last token that is chosen is not run.
        let most = self.decoder.remaining().saturating_sub(1);
        let draft = match &mut self.drafts {
            Some(drafts) => match drafts.length.next_length().min(most) {
                0 => Vec::new(),
                most => drafts.drafter.draft(most, self.cancel)?,
            },
            None => Vec::new(),
        };
        let tokens = [&[token], &draft[..]].concat();
        let sequence = match draft.is_empty() {
            true => Sequence::new(state, &tokens),
            false => Sequence::draft(state, &tokens),
        };
        let logits = self.executor.forward(&mut [sequence], self.decoder.hook(), self.cancel)?;
        let (time, vocab_size) = (started.elapsed(), logits.vocab_size());
        let mut logits = logits.into_values();
        let mut rows = logits.chunks_exact_mut(vocab_size);
        let mut accepted = 0;
        let next = loop {
            let row = rows.next().ok_or(PassError::NoTokens)?;
            match self.choose(row, on_token)? {
                ControlFlow::Continue(token) if draft.get(accepted) == Some(&token) => accepted += 1,
                next => break next,
            }
        };
        if accepted < draft.len() {
            state.truncate(before + 1 + accepted).map_err(GenerateError::State)?;
        }
        if let Some(drafts) = &mut self.drafts {
            if draft.is_empty() {
                drafts.length.note_plain(time);
            } else {
                drafts.length.note_draft(draft.len(), accepted, time);
                drafts.drafted += draft.len();
                drafts.accepted += accepted;
            }
        }
        Ok(next)
    }
}
