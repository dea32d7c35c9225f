//! Measuring: is the forward pass exact, and how well does a model predict?

mod bits_per_byte;
pub mod conformance;
mod edits;
pub mod knowledge;
pub mod real;
mod recall;
pub mod speed;

pub(crate) use bits_per_byte::nats;
pub use bits_per_byte::{TextScore, score_text};
pub use edits::{
    Edge, EditEvaluation, EditMethod, EditProgress, EditQuestion, EditRelation, EditScores, EditSet,
    EditedGroup, evaluate_edits,
};
pub use recall::{RecallProgress, RecallScores, evaluate_recall};
