//! Writing facts into a model's weights.

mod backward;
