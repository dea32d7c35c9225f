//! Errors of interventions.

use larql_inference::{PassError, Stage};

/// Failure to read or resolve a declaration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterventionError {
    /// The text is no declaration.
    #[error("the declaration cannot be read: {0}")]
    Json(serde_json::Error),
    /// The declaration was made for a model of another shape.
    #[error("the declaration is for {what} {expected}; this model has {found}")]
    OtherModel {
        /// The property that differs.
        what: &'static str,
        /// The declaration's value.
        expected: usize,
        /// The model's value.
        found: usize,
    },
    /// Part of a declaration names something that the model does not have.
    #[error("part {part}: {what} {number} does not exist; there are {count}, numbered from 0")]
    NoSuch {
        /// The part, counted from 1.
        part: usize,
        /// The kind of thing that does not exist.
        what: &'static str,
        /// Its number.
        number: usize,
        /// The number of such things.
        count: usize,
    },
    /// Part of a declaration does not fit its stage.
    #[error("part {part}: {problem} at {stage:?}; {advice}")]
    Unfit {
        /// The part, counted from 1.
        part: usize,
        /// The problem.
        problem: String,
        /// The stage.
        stage: Stage,
        /// The next step.
        advice: &'static str,
    },
    /// A vector has the wrong length.
    #[error("part {part}: the vector has {found} values; the place has {expected}")]
    Length {
        /// The part, counted from 1.
        part: usize,
        /// Values of the place.
        expected: usize,
        /// Values of the vector.
        found: usize,
    },
    /// A vector has values that are no finite numbers.
    #[error("part {part}: value {index} of the vector is not a finite number")]
    NotFinite {
        /// The part, counted from 1.
        part: usize,
        /// The first such value, counted from 0.
        index: usize,
    },
    /// A prompt cannot be encoded.
    #[error("part {part}: the prompt {prompt:?} cannot be used: {reason}")]
    Prompt {
        /// The part, counted from 1.
        part: usize,
        /// The prompt.
        prompt: String,
        /// The reason.
        reason: String,
    },
    /// A pass over a prompt that a declaration names failed.
    #[error(transparent)]
    Pass(#[from] PassError),
}
