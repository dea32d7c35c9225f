//! Statement of a fact in tokens.

/// Fact that a model is to state or to forget: prompts, the target that follows them, and texts in which nothing is to
/// change.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Prompts, each as tokens: at least one. The first few are used to optimise the down vectors.
    pub prompts: Vec<Vec<u32>>,
    /// Tokens that are to follow, or to follow no more: at least one.
    pub target: Vec<u32>,
    /// Neighbourhood prompts, in which nothing is to change: other entities, other relations of the same entity.
    pub others: Vec<Vec<u32>>,
    /// Learning or unlearning.
    pub goal: Goal,
}

/// Goal of an edit.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// The model is to answer the prompts with the target.
    Learn,
    /// The model is to answer the prompts as it answers questions about an entity that it does not know.
    Unlearn {
        /// For each of the first prompts, usually [`Goal::PROMPTS`], the same prompt about entities that do not exist. The
        /// mean of the predictions after them, without the target, is what the model is to predict. These prompts are used
        /// to optimise the down vectors.
        stand_ins: Vec<Vec<Vec<u32>>>,
    },
}

impl Goal {
    /// Number of prompts used to optimise the down vectors. Gate and up rows are fitted to all prompts.
    pub const PROMPTS: usize = 6;
}

impl Statement {
    /// Number of tokens of the target that features are written for: all of those to learn, the first of those to unlearn.
    pub(crate) fn written_tokens(&self) -> &[u32] {
        match self.goal {
            Goal::Learn => &self.target,
            Goal::Unlearn { .. } => &self.target[..self.target.len().min(1)],
        }
    }
}
