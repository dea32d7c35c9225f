//! What a model knows of an entity, and ways to ask.

mod asking;
mod batch;
mod belief;
mod kinds;
mod phrase;
mod relations;
mod residual;

pub use belief::{Belief, Evidence};
pub use kinds::SubjectKinds;
pub use relations::{AskableRelation, AskableRelations, Tally, TrackRecord};
pub use residual::{ResidualFirings, entity_tokens};
