//! Measuring: is the forward pass exact, and how well does a model predict?

mod bits_per_byte;
pub mod conformance;
pub mod real;
pub mod speed;

pub use bits_per_byte::{TextScore, score_text};
