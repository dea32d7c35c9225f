//! Figures of a running server, in the format that Prometheus reads.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Figures that the parts of the server count.
pub(crate) struct Metrics {
    registry: Registry,
    /// Generations that are under way.
    pub(crate) running: Gauge,
    /// Requests that wait for a place.
    pub(crate) waiting: Gauge,
    /// Requests that found the queue full.
    pub(crate) refused: Counter,
    /// Pages of keys and values that are kept for prompts that begin alike.
    pub(crate) kept_pages: Gauge,
    /// Tokens of prompts.
    pub(crate) prompt_tokens: Counter,
    /// Tokens of prompts whose keys and values were there already.
    pub(crate) cached_tokens: Counter,
    /// Tokens of texts.
    pub(crate) generated_tokens: Counter,
    /// Tokens that were drafted.
    pub(crate) drafted_tokens: Counter,
    /// Drafted tokens that were accepted.
    pub(crate) accepted_tokens: Counter,
    /// Time that requests waited.
    pub(crate) queue_seconds: Histogram,
    /// Time from the arrival of a request to its first token.
    pub(crate) first_token_seconds: Histogram,
    /// Time of a pass.
    pub(crate) pass_seconds: Histogram,
    /// Sequences of a pass.
    pub(crate) batch_sequences: Histogram,
    /// Rows of a pass.
    pub(crate) batch_rows: Histogram,
    /// Answered requests.
    pub(crate) requests: Family<RequestLabels, Counter>,
    /// Time to the first byte of answers.
    pub(crate) request_seconds: Histogram,
    /// Resident memory of the process, measured when asked for.
    resident_bytes: Gauge,
}

/// Labels of answered requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// The route as it is mounted, without values of its parameters.
    pub(crate) route: String,
    /// Status code.
    pub(crate) status: u16,
}

impl Metrics {
    /// Returns figures that are all zero.
    pub(crate) fn new() -> Metrics {
        let times = || Histogram::new(exponential_buckets(0.0005, 2.0, 18));
        let counts = || Histogram::new(exponential_buckets(1.0, 2.0, 10));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("larql"),
            running: Gauge::default(),
            waiting: Gauge::default(),
            refused: Counter::default(),
            kept_pages: Gauge::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            drafted_tokens: Counter::default(),
            accepted_tokens: Counter::default(),
            queue_seconds: times(),
            first_token_seconds: times(),
            pass_seconds: times(),
            batch_sequences: counts(),
            batch_rows: counts(),
            requests: Family::default(),
            request_seconds: times(),
            resident_bytes: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("running", "Generations that are under way", self.running.clone());
        registry.register("waiting", "Requests that wait for a place", self.waiting.clone());
        registry.register("refused", "Requests that found the queue full", self.refused.clone());
        registry.register(
            "kept_pages",
            "Pages of keys and values kept for later prompts",
            self.kept_pages.clone(),
        );
        registry.register("prompt_tokens", "Tokens of prompts", self.prompt_tokens.clone());
        registry.register(
            "cached_tokens",
            "Tokens of prompts that were computed before",
            self.cached_tokens.clone(),
        );
        registry.register("generated_tokens", "Tokens of generated texts", self.generated_tokens.clone());
        registry.register("drafted_tokens", "Tokens that were drafted", self.drafted_tokens.clone());
        registry.register(
            "accepted_tokens",
            "Drafted tokens that were accepted",
            self.accepted_tokens.clone(),
        );
        registry.register("batch_sequences", "Sequences of a pass", self.batch_sequences.clone());
        registry.register("batch_rows", "Tokens of a pass", self.batch_rows.clone());
        registry.register("requests", "Answered requests", self.requests.clone());
        let times = [
            ("queue", "Time that requests waited", &self.queue_seconds),
            ("first_token", "Time from a request's arrival to its first token", &self.first_token_seconds),
            ("pass", "Time of a pass", &self.pass_seconds),
            ("request", "Time from a request's arrival to the begin of its answer", &self.request_seconds),
        ];
        for (name, help, histogram) in times {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        let resident = self.resident_bytes.clone();
        registry.register_with_unit(
            "resident_memory",
            "Resident memory of the process",
            Unit::Bytes,
            resident,
        );
    }

    /// Returns all figures as OpenMetrics text.
    ///
    /// # Errors
    /// Never; writing to a string does not fail.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        if let Some(bytes) = crate::memory::resident_bytes() {
            self.resident_bytes.set(bytes as i64);
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
