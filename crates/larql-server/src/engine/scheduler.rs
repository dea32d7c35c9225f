//! The thread that owns the forward pass: it takes requests from a queue, and runs all generations pass by pass.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larql_compute::attention::KeyValueFormat;
use larql_compute::{Pool, rows_of_a_part};
use larql_core::progress::CancelToken;
use larql_inference::{CpuExecutor, DecodeError, DecodeStep, Executor, Logits, PassError, Sequence};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::PAGE;
use super::hooks::SequenceHooks;
use super::pace::Pace;
use super::prefixes::Prefixes;
use super::request::{EngineError, Event, GenerationRequest};
use super::sequence::{Input, Progress, RunningSequence};
use crate::metrics::Metrics;

/// Bounds of the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    /// Generations that run at the same time at most.
    pub(crate) concurrent: usize,
    /// Requests that wait at most.
    pub(crate) waiting: usize,
    /// Pages of keys and values at most.
    pub(crate) pages: usize,
    /// Storage of keys and values.
    pub(crate) key_values: KeyValueFormat,
    /// Keep pages of prompts for later requests.
    pub(crate) share_prefixes: bool,
}

/// Handle of the engine. Dropping the last one ends the thread.
pub(crate) struct Scheduler {
    sender: Mutex<Option<mpsc::Sender<Submission>>>,
    waiting: Arc<AtomicUsize>,
    options: EngineOptions,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A request on its way to the thread.
struct Submission {
    request: GenerationRequest,
    events: UnboundedSender<Event>,
    submitted: Instant,
}

impl Scheduler {
    /// Starts the thread. Tokens are chosen on the threads of `pool`.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub(crate) fn start(
        options: EngineOptions,
        pool: Arc<Pool>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Scheduler> {
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let engine = Engine {
            options,
            pool,
            metrics: Arc::clone(&metrics),
            receiver,
            waiting: Arc::clone(&waiting),
            queue: VecDeque::new(),
            running: Vec::new(),
            prefixes: Prefixes::new(options.pages),
            paces: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("larql-engine".into()).spawn(move || engine.run())?;
        let (sender, thread) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Scheduler { sender, waiting, options, metrics, thread })
    }

    /// Submits a request. The events of the answer arrive on the channel; dropping it cancels the request.
    ///
    /// # Errors
    /// If the queue is full, or the request can never be run.
    pub(crate) fn submit(&self, request: GenerationRequest) -> Result<UnboundedReceiver<Event>, EngineError> {
        let spec = request.language.model().spec();
        let context = spec.context_length;
        if request.prompt.is_empty() {
            return Err(EngineError::Invalid("the prompt has no tokens; give at least one".into()));
        }
        if request.prompt.len() > context {
            let tokens = request.prompt.len();
            return Err(EngineError::Invalid(format!(
                "the prompt is {tokens} tokens long, but the model's context holds {context}; shorten the prompt"
            )));
        }
        if let Some(token) = request.prompt.iter().find(|token| **token as usize >= spec.vocab_size) {
            let most = spec.vocab_size - 1;
            return Err(EngineError::Invalid(format!(
                "there is no token {token}; the model's tokens are 0 to {most}"
            )));
        }
        let tokens = longest(&request);
        let room = self.options.pages * PAGE;
        if tokens.div_ceil(PAGE) > self.options.pages {
            return Err(EngineError::TooLong { tokens, room });
        }
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        if waiting >= self.options.waiting {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.metrics.refused.inc();
            return Err(EngineError::Full { waiting, seconds: 1 });
        }
        let (events, receiver) = unbounded_channel();
        let submission = Submission { request, events, submitted: Instant::now() };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender.as_ref().is_some_and(|sender| sender.send(submission).is_ok());
        if sent { Ok(receiver) } else { Err(EngineError::Stopped) }
    }

    /// Number of requests that wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Bounds of the engine.
    pub(crate) fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Takes no more requests, and waits until the thread has ended those it has.
    pub(crate) fn stop(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Tokens that prompt and text can have together at most.
fn longest(request: &GenerationRequest) -> usize {
    let context = request.language.model().spec().context_length;
    request.prompt.len().saturating_add(request.decode.max_tokens).min(context)
}

/// State of the thread.
struct Engine {
    options: EngineOptions,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    receiver: mpsc::Receiver<Submission>,
    waiting: Arc<AtomicUsize>,
    /// Requests that have no place yet, first come first.
    queue: VecDeque<Submission>,
    running: Vec<RunningSequence>,
    prefixes: Prefixes,
    /// By weights; of those that are under way.
    paces: BTreeMap<u64, Pace>,
}

impl Engine {
    /// Runs passes until no handle is left and all requests are done.
    fn run(mut self) {
        while self.take_requests() {
            self.drop_abandoned();
            self.admit();
            self.step();
            self.metrics.running.set(self.running.len() as i64);
            self.metrics.waiting.set(self.waiting.load(Ordering::Relaxed) as i64);
            self.metrics.kept_pages.set(self.prefixes.len() as i64);
        }
    }

    /// Takes what has arrived, and waits if there is nothing else to do. Returns false at the end.
    fn take_requests(&mut self) -> bool {
        if self.running.is_empty() && self.queue.is_empty() {
            match self.receiver.recv() {
                Ok(submission) => self.queue.push_back(submission),
                Err(_) => return false,
            }
        }
        self.queue.extend(self.receiver.try_iter());
        true
    }

    /// Frees the places of clients that have gone away.
    fn drop_abandoned(&mut self) {
        let before = self.queue.len();
        self.queue.retain(|submission| !submission.events.is_closed());
        self.waiting.fetch_sub(before - self.queue.len(), Ordering::AcqRel);
        let (gone, running) = self.running.drain(..).partition(RunningSequence::is_abandoned);
        self.running = running;
        let gone: Vec<RunningSequence> = gone;
        gone.into_iter().for_each(|sequence| self.release(sequence));
    }

    fn release(&mut self, sequence: RunningSequence) {
        self.prefixes.release(sequence.reservation);
    }

    /// Begins generations while there are places and memory.
    fn admit(&mut self) {
        while self.running.len() < self.options.concurrent {
            let Some(Submission { request, .. }) = self.queue.front() else { return };
            let shareable = if self.options.share_prefixes { RunningSequence::shareable(request) } else { 0 };
            let tokens = longest(request);
            let Some(room) = self.prefixes.reserve(request.weights, &request.prompt, shareable, tokens)
            else {
                return;
            };
            let Some(Submission { request, events, submitted }) = self.queue.pop_front() else { return };
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.metrics.queue_seconds.observe(submitted.elapsed().as_secs_f64());
            self.metrics.prompt_tokens.inc_by(request.prompt.len() as u64);
            self.metrics.cached_tokens.inc_by((room.1.len() * PAGE) as u64);
            let executor = self.executor(&request);
            match RunningSequence::new(request, events.clone(), room, executor, self.options.key_values) {
                Ok(sequence) => self.running.push(sequence),
                Err((error, reservation)) => {
                    self.prefixes.release(reservation);
                    // The client may have gone away.
                    let _ = events.send(Event::Failed(error));
                }
            }
        }
    }

    /// The executor of a request's weights, which sequences of the same weights share.
    fn executor(&self, request: &GenerationRequest) -> Arc<CpuExecutor> {
        let same = self.running.iter().find(|sequence| sequence.weights == request.weights);
        match same {
            Some(sequence) => Arc::clone(&sequence.executor),
            None => Arc::new(CpuExecutor::new(request.language.model().clone())),
        }
    }

    /// Runs one pass for each set of weights: a token of every text, and parts of some prompts.
    fn step(&mut self) {
        let mut groups: BTreeMap<u64, Vec<RunningSequence>> = BTreeMap::new();
        for sequence in self.running.drain(..) {
            groups.entry(sequence.weights).or_default().push(sequence);
        }
        self.paces.retain(|weights, _| groups.contains_key(weights));
        for (weights, mut group) in groups {
            let pages = &mut self.prefixes;
            let taken: usize = group.iter_mut().map(|sequence| sequence.take_shared_pages(pages)).sum();
            self.metrics.cached_tokens.inc_by(taken as u64);
            let pace = self.paces.entry(weights).or_default();
            let prompts = group.iter().filter(|sequence| sequence.is_reading()).count();
            let tokens = pace.prompt_tokens(group.len() - prompts, prompts);
            let awaits_page = awaits_page(&group);
            let reading =
                group.iter().zip(&awaits_page).filter(|(sequence, waits)| sequence.is_reading() && !**waits);
            // As many prompts as there are parts, first come first, which share the tokens alike.
            let readers = (tokens / rows_of_a_part()).clamp(1, reading.count().max(1));
            let mut reads = 0;
            let takes_part = group.iter().zip(awaits_page).map(|(sequence, waits)| {
                let reading = sequence.is_reading() && !waits;
                reads += usize::from(reading);
                !waits && (!reading || reads <= readers)
            });
            let takes_part: Vec<bool> = takes_part.collect();
            let (mut active, mut waiting) = (Vec::new(), Vec::new());
            for (sequence, takes_part) in group.into_iter().zip(&takes_part) {
                if *takes_part { &mut active } else { &mut waiting }.push(sequence);
            }
            let done = self.pass(weights, &mut active, tokens / readers);
            // In the order in which they came, as before.
            let (mut active, mut waiting) = (active.into_iter().zip(done), waiting.into_iter());
            for takes_part in takes_part {
                let next = match takes_part {
                    true => active.next(),
                    false => waiting.next().map(|sequence| (sequence, false)),
                };
                match next {
                    Some((sequence, true)) => self.release(sequence),
                    Some((sequence, false)) => self.running.push(sequence),
                    None => {}
                }
            }
        }
    }

    /// Runs one pass over sequences of the same weights, with at most `prompt_tokens` tokens of each prompt, but at least a part.
    /// Returns for each sequence whether it is done.
    fn pass(&mut self, weights: u64, sequences: &mut [RunningSequence], prompt_tokens: usize) -> Vec<bool> {
        let started = Instant::now();
        let is_alone = sequences.len() == 1 && self.running.is_empty();
        let inputs = sequences.iter_mut().map(|sequence| sequence.input(is_alone, prompt_tokens));
        let inputs: Vec<_> = inputs.collect();
        let result = catch_unwind(AssertUnwindSafe(|| forward(sequences, &inputs)));
        let time = started.elapsed();
        let rows: usize = inputs.iter().map(|input| input.tokens.len()).sum();
        self.metrics.pass_seconds.observe(time.as_secs_f64());
        self.metrics.batch_sequences.observe(sequences.len() as f64);
        self.metrics.batch_rows.observe(rows as f64);
        if inputs.iter().all(|input| !input.is_draft) {
            let texts = sequences.iter().filter(|sequence| !sequence.is_reading()).count();
            self.paces.entry(weights).or_default().note(texts, rows - texts, time);
        }
        let logits = match result {
            Ok(Ok(logits)) => logits,
            Ok(Err(error)) => return fail_all(sequences, &error.to_string()),
            Err(_) => return fail_all(sequences, "an assertion failed; please report it"),
        };
        self.take_over(sequences, &inputs, logits, is_alone.then_some(time))
    }

    /// Hands each sequence its logits. `time` is that of the pass, if one sequence ran alone.
    fn take_over(
        &mut self,
        sequences: &mut [RunningSequence],
        inputs: &[Input],
        logits: Logits,
        time: Option<Duration>,
    ) -> Vec<bool> {
        let vocab_size = logits.vocab_size();
        let mut work: Vec<Choice<'_>> = Vec::new();
        for (index, (sequence, input)) in sequences.iter_mut().zip(inputs).enumerate() {
            let (reading, tokens) = (sequence.is_reading(), input.tokens.len());
            let is_read =
                !reading || sequence.has_read(tokens, logits.of(index), vocab_size, &mut self.prefixes);
            let wanted = match (is_read, input.is_draft) {
                (false, _) => &[],
                (true, false) => logits.last(index).unwrap_or_default(),
                (true, true) => logits.of(index),
            };
            let draft = if input.is_draft { &input.tokens[1..] } else { &[] };
            let logits = wanted.to_vec();
            work.push(Choice { sequence, logits, vocab_size, draft, steps: Vec::new(), reading });
        }
        self.pool.for_each_piece(&mut work, 1, |_, choices| choices.iter_mut().for_each(Choice::choose));
        let metrics = &self.metrics;
        let done = work.into_iter().map(|Choice { sequence, steps, draft, reading, .. }| {
            if let Some(time) = time.filter(|_| !reading) {
                sequence.has_run(1 + draft.len(), steps.len(), time);
                metrics.drafted_tokens.inc_by(draft.len() as u64);
                metrics.accepted_tokens.inc_by(steps.len().saturating_sub(1) as u64);
            }
            let count = steps.len();
            steps.into_iter().enumerate().any(|(index, step)| {
                metrics.generated_tokens.inc_by(u64::from(matches!(step, Ok(DecodeStep::Token(_)))));
                matches!(sequence.decoded(step, index + 1 == count), Progress::Done)
            })
        });
        done.collect()
    }
}

/// The choice of a sequence's next tokens.
struct Choice<'a> {
    sequence: &'a mut RunningSequence,
    /// `[1 + drafted tokens, vocab]`; empty while the prompt is being read.
    logits: Vec<f32>,
    vocab_size: usize,
    draft: &'a [u32],
    /// One step, and one more for each drafted token that came.
    steps: Vec<Result<DecodeStep, DecodeError>>,
    /// True if the pass read a part of the prompt.
    reading: bool,
}

impl Choice<'_> {
    fn choose(&mut self) {
        for (row, logits) in self.logits.chunks_exact_mut(self.vocab_size).enumerate() {
            let step = self.sequence.decoder.next(logits);
            let came =
                matches!(&step, Ok(DecodeStep::Token(token)) if self.draft.get(row) == Some(&token.id));
            self.steps.push(step);
            if !came {
                break;
            }
        }
    }
}

/// For each sequence whether it waits for a page of its prompt that one before it reads.
fn awaits_page(sequences: &[RunningSequence]) -> Vec<bool> {
    let mut in_progress = HashSet::new();
    let awaits_page = sequences.iter().map(|sequence| {
        let Some((place, may_share)) = sequence.page_in_progress() else { return false };
        !in_progress.insert(place) && may_share
    });
    awaits_page.collect()
}

fn forward(sequences: &mut [RunningSequence], inputs: &[Input]) -> Result<Logits, PassError> {
    let Some(executor) = sequences.first().map(|sequence| Arc::clone(&sequence.executor)) else {
        return Err(PassError::NoTokens);
    };
    let (mut batch, mut hooks) = (Vec::new(), Vec::new());
    for (sequence, input) in sequences.iter_mut().zip(inputs) {
        let &Input { ref tokens, coming, logits, is_draft } = input;
        hooks.push(sequence.decoder.hook());
        let state = &mut sequence.state;
        batch.push(Sequence { state, tokens, coming, logits, is_draft, part: Some(rows_of_a_part()) });
    }
    let mut hooks = SequenceHooks::new(hooks);
    let hook = hooks.as_mut().map(|hooks| hooks as &mut dyn larql_inference::Hook);
    executor.forward(&mut batch, hook, &CancelToken::never())
}

fn fail_all(sequences: &mut [RunningSequence], reason: &str) -> Vec<bool> {
    for sequence in sequences.iter_mut() {
        sequence.fail(EngineError::Pass(reason.to_owned()));
    }
    vec![true; sequences.len()]
}
