//! Statement of a fact in tokens.

/// Fact that a model is to state: prompts, the target that is to follow them, and texts in which nothing is to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Prompts, each as tokens: at least one. The first few are used to optimise the down vectors.
    pub prompts: Vec<Vec<u32>>,
    /// Tokens that are to follow: at least one.
    pub target: Vec<u32>,
    /// Neighbourhood prompts, in which nothing is to change: other entities, other relations of the same entity.
    pub others: Vec<Vec<u32>>,
}
