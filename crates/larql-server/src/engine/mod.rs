//! The engine: one thread that owns the forward pass and generates many texts at once.
//!
//! Requests join and leave between two passes (continuous batching). Every generation that is under way adds one token to a
//! pass; prompts are read in chunks beside them, as many tokens at a time as delay the texts little. Keys and values lie in pages
//! of [`PAGE`] positions. Pages of prompts that begin alike are computed once and shared.
//!
//! The answer to a request does not depend on what runs beside it: kernels are chosen for each token of a text by itself, and for
//! parts of a prompt that begin at multiples of their length, however many of them a pass reads. Only whole pages are shared.
//!
//! In reading order: `request` (what is asked and what comes back), `scheduler` (the thread), `sequence` (one generation),
//! `pace` (how much of a prompt a pass reads), `pages` and `prefixes` (keys and values), `hooks` (the edge memories of several
//! sequences).

mod hooks;
mod pace;
mod pages;
mod prefixes;
mod request;
mod scheduler;
mod sequence;
#[cfg(test)]
mod tests;

use larql_compute::attention::KeyValueFormat;

pub(crate) use request::{EngineError, Event, Finish, GenerationRequest, PromptToken, Token};
pub(crate) use scheduler::{EngineOptions, Scheduler};

/// Returns the bytes of keys and values of one page of a model.
pub(crate) fn page_bytes(spec: &larql_models::ModelSpec, format: KeyValueFormat) -> usize {
    pages::PagedState::page_bytes(spec, format)
}

/// Positions of a page, a whole number of [parts](larql_compute::rows_of_a_part).
pub(crate) const PAGE: usize = 16;
