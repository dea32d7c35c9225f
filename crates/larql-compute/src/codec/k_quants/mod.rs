//! The "K" formats: 256 values a block, in sub-blocks whose small scales share one half-precision scale.

mod q2_k;
mod q3_k;
mod q4_k_and_q5_k;
mod q6_k;
mod q8_k;
mod search;

pub(crate) use q2_k::Q2_K;
pub(crate) use q3_k::Q3_K;
pub(crate) use q4_k_and_q5_k::{Q4_K, Q5_K};
pub(crate) use q6_k::Q6_K;
pub(crate) use q8_k::Q8_K;

/// Scale and minimum of a sub-block, whose values are `scale * code - minimum`.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    minimum: f32,
}

impl Line {
    fn at(self, code: u8) -> f32 {
        self.scale * f32::from(code) - self.minimum
    }
}
