//! The engine: one thread that owns the forward pass and generates many texts at once.
//!
//! Requests join and leave between two passes (continuous batching). Every generation that is under way adds one token to a
//! pass; prompts are read in chunks between, so that a long one delays nobody by more than a chunk. Keys and values lie in
//! pages of [`PAGE`] positions. Pages of prompts that begin alike are computed once and shared.
//!
//! What a request gets does not depend on what runs beside it: chunks begin at multiples of [`CHUNK`] whatever else is to be
//! done, only whole pages are shared, and kernels are chosen for each sequence by its own rows.
//!
//! In reading order: `request` (what is asked and what comes back), `scheduler` (the thread), `sequence` (one generation),
//! `pages` and `prefixes` (keys and values), `hooks` (the edge memories of several sequences).

mod hooks;
mod pages;
mod prefixes;
mod request;
mod scheduler;
mod sequence;
#[cfg(test)]
mod tests;

pub(crate) use request::{EngineError, Event, Finish, GenerationRequest, PromptToken, Token};
pub(crate) use scheduler::{EngineOptions, Scheduler};

/// Returns the bytes of keys and values of one page of a model.
pub(crate) fn page_bytes(spec: &larql_models::ModelSpec) -> usize {
    pages::PagedState::page_bytes(spec)
}

/// Positions of a page.
pub(crate) const PAGE: usize = 64;

/// Tokens of a prompt that one pass reads. Pages are whole numbers of chunks.
pub(crate) const CHUNK: usize = 32;
