//! Reading checkpoints: the reference ones, small ones made here, and damaged ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod adapters;
mod conformance;
mod gguf;
mod gguf_families;
mod gguf_round_trip;
mod gguf_writer;
mod hostile;
mod messages;
mod mlx;
mod quantised;
mod redundant;
mod safetensors;
mod split_files;
mod text;
mod tiny;
