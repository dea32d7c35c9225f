//! Reading checkpoints: the reference ones, small ones made here, and damaged ones.

mod conformance;
mod gguf;
mod gguf_writer;
mod hostile;
mod messages;
mod safetensors;
mod tiny;
