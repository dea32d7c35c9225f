//! What a model knows of an entity, and ways to ask.

mod asking;
mod batch;
mod belief;
mod contextual;
mod kinds;
mod phrase;
mod reader;
mod relations;
mod residual;

pub(crate) use asking::{Question, ask, prompt};
pub use batch::Beginnings;
pub(crate) use batch::{Batch, Prompt, complete};
pub(crate) use belief::Case;
pub use belief::{Belief, Evidence};
pub(crate) use contextual::{Asked, Carried, RELATIONS};
pub(crate) use kinds::CrossScores;
pub use kinds::SubjectKinds;
pub(crate) use phrase::phrase_matches;
pub use reader::{Reader, Way};
pub(crate) use relations::evidence_of;
pub use relations::{AskableRelation, AskableRelations, Tally, TrackRecord};
pub(crate) use residual::entity_inputs;
pub use residual::{EntityResidual, ResidualRates, entity_tokens};
