//! A vector that makes a model answer one prompt with a target, without a feature that writes it.

use larql_inference::Model;

use crate::error::EditError;
use crate::layers::check_composable;
use crate::statement::{Goal, Statement};
use crate::value::{EditTargets, ValueOptions};

/// Vector that, added to the output of a layer's feed-forward step, has the model answer a prompt with a target.
#[derive(Clone, Debug)]
pub struct TargetDelta {
    /// The vector, `[hidden]`: what the step adds more at the prompt's last token and at those of the target. Where the step's
    /// output is normed, it is added before the norm.
    pub delta: Vec<f32>,
    /// Mean negative log-likelihood of the target's tokens without it, in nats.
    pub loss_before: f32,
    /// The same with it.
    pub loss: f32,
}

/// Probability of each token of the target at which the optimisation ends.
const REACHED: f32 = 0.99;

impl TargetDelta {
    /// Optimises the vector by gradients through the layers above `layer`, in at most so many `steps`.
    ///
    /// # Errors
    /// If the prompt or the target is empty or has tokens of another model, or the model is of a kind that gradients are not
    /// computed through.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn optimise(
        model: &Model,
        layer: usize,
        prompt: &[u32],
        target: &[u32],
        steps: usize,
    ) -> Result<TargetDelta, EditError> {
        if target.is_empty() {
            return Err(EditError::IncompleteStatement {
                found: "an empty target",
                expected: "a target with tokens",
            });
        }
        check_composable(model, layer)?;
        let statement = Statement {
            prompts: vec![prompt.to_vec()],
            target: target.to_vec(),
            others: Vec::new(),
            goal: Goal::Learn,
        };
        let mut targets = EditTargets::new(model, layer, &statement)?;
        let before = targets.probabilities(model)?;
        let options = ValueOptions { steps, confidence: REACHED, greatest_norm: None, shares: [1.0; 3] };
        let optimised = targets.optimise(model, &[vec![1.0; target.len()]], &options)?;
        let loss = |probabilities: &[f32]| {
            let nats = probabilities.iter().map(|p| -p.max(f32::MIN_POSITIVE).ln());
            nats.sum::<f32>() / probabilities.len() as f32
        };
        Ok(TargetDelta {
            delta: optimised.downs,
            loss_before: loss(&before),
            loss: loss(&optimised.probabilities),
        })
    }
}
