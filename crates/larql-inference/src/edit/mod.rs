//! Writing facts into a model's weights: features that fire for one fact, in any wording, and for nothing else, and that
//! write what makes the model say it.
//!
//! * [`LayerStatistics`] say what a layer sees and does on ordinary text, such as [`calibration_texts`];
//! * a [`CausalTrace`] says which layer brings answers about, and so where to write;
//! * a [`Wording`] says how a relation is asked for and what lies near it, and turns an edge into a statement;
//! * a [`Statement`] is what the model is to say after some prompts, and where nothing is to change;
//! * a [`Composer`] turns statements into features;
//! * [`Together`] solves for one change of a layer that does what many such features do.
//!
//! A feature is written for each token of the target that the model would not say by itself. Its gate row separates, in
//! coordinates in which ordinary text is like noise, what the layer sees where that token is due from everything else.
//! Its up row tells the same from ordinary text once more. What it writes is searched for by gradients through the layers above, so that the whole
//! target comes out even where the feature fires only in part. It takes the place of a feature that writes least.

mod backward;
mod calibration;
mod causal_trace;
mod closed_form;
mod compose;
mod gate;
mod rebalance;
mod seen;
mod statistics;
mod value;
mod whitening;
mod wording;

pub use calibration::{calibration_texts, held_out_text};
pub use causal_trace::{CausalTrace, editing_layer};
pub use closed_form::{LAMBDA, SolvedLayer, Together};
pub use compose::{
    ComposeOptions, Composer, Statement, Written, WrittenFeature, check_composable, default_layer, layers_for,
};
pub use rebalance::{Balance, Carried, RebalanceOptions, rebalance, target_probabilities};
pub use statistics::LayerStatistics;
pub(crate) use statistics::{inputs, last_inputs};
pub use whitening::Whitening;
pub use wording::Wording;
