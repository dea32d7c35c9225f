//! Reading: the knowledge of a model about an entity, by prompted questions and by feature activations.

mod asking;
mod batch;
mod belief;
mod contextual;
mod kinds;
mod phrase;
mod reader;
mod relations;
mod residual;
mod sense;

pub use asking::continuations;
pub(crate) use asking::{Answer, Question, ask};
pub(crate) use batch::Batch;
pub use batch::{PrefixCache, Prompt};
pub(crate) use belief::JudgedAnswer;
pub use belief::{Belief, Evidence};
pub(crate) use contextual::{AnswerCarriers, EntityAnswer, RELATIONS, RelationQuestion};
pub use kinds::SubjectKinds;
pub(crate) use kinds::{CrossScores, FOLDS};
pub use phrase::{phrase, phrase_end, phrase_matches};
pub use reader::{KnowledgeReader, RetrievalMethod};
pub use relations::{AnswerCounts, AskableRelation, AskableRelations, TrackRecord};
pub(crate) use residual::entity_inputs;
pub use residual::{EntityResidual, ResidualRates, entity_tokens};
pub use sense::QuestionSense;
pub(crate) use sense::SenseCase;
