//! How much each feature of a layer speaks for a token: its share of the token's logit.
//!
//! The residual that the head reads is a sum over layers, so to first order, with the scale of the final norm held at
//! its value, the logit of token `t` is a sum as well. Feature `f` with activation `a` and down vector `d` adds
//! `a * (d . g)`, where `g` is the head's row of `t` pulled back through the final norm and, where the layer norms
//! its feed-forward output, through that norm too.

use larql_models::NormKind;

use crate::Model;
use crate::feed_forward::Dense;
use crate::model::Norm;

impl Model {
    /// The direction in the last layer's output, `[hidden]`, along which the logit of `token` grows, at the value
    /// `residual`, `[hidden]`, of that output.
    pub fn logit_direction(&self, token: u32, residual: &[f32]) -> Vec<f32> {
        let mut direction = vec![0.0; self.spec.hidden_size];
        self.head.view().decode_row(token as usize, &mut direction);
        self.final_norm.pull_back(&mut direction, residual);
        direction.iter_mut().for_each(|d| *d *= self.spec.logit_scale);
        direction
    }

    /// What each feature of a layer, with its activation `[features]`, adds along `direction` of the last layer's
    /// output, `[hidden]`: `[features]`.
    pub fn feature_contributions(&self, layer: usize, activations: &[f32], direction: &[f32]) -> Vec<f32> {
        let layer = &self.layers[layer];
        let mut direction = direction.to_vec();
        if let Some(norm) = &layer.post_feed_forward_norm {
            let mut output = vec![0.0; direction.len()];
            let mut rest = activations;
            for part in layer.feed_forward.parts() {
                let (own, others) = rest.split_at(part.feature_count());
                rest = others;
                part.add_down(own, &mut output);
            }
            norm.pull_back(&mut direction, &output);
        }
        direction.iter_mut().for_each(|along| *along *= layer.residual_multiplier);
        let mut contributions = Vec::with_capacity(activations.len());
        for part in layer.feed_forward.parts() {
            contributions.extend(part.along_down(&direction));
        }
        contributions.iter_mut().zip(activations).for_each(|(along, activation)| *along *= activation);
        contributions
    }
}

impl Dense {
    /// Adds what features with these activations write to `output`, `[hidden]`.
    fn add_down(&self, activations: &[f32], output: &mut [f32]) {
        let mut activations = activations.to_vec();
        if let Some(edits) = &self.edits {
            edits.step.add_down(&edits.take(&mut activations, self.feature_count()), output);
        }
        let down = self.down.weight.view();
        let mut row = vec![0.0; down.cols()];
        for (r, output) in output.iter_mut().enumerate() {
            down.decode_row(r, &mut row);
            *output += row.iter().zip(&activations).map(|(w, a)| w * a).sum::<f32>();
        }
    }

    /// What each feature's down vector adds along `direction`, `[hidden]`: `[features]`.
    fn along_down(&self, direction: &[f32]) -> Vec<f32> {
        let down = self.down.weight.view();
        let mut row = vec![0.0; down.cols()];
        let mut sums = vec![0.0; down.cols()];
        for (r, along) in direction.iter().enumerate() {
            down.decode_row(r, &mut row);
            sums.iter_mut().zip(&row).for_each(|(sum, w)| *sum += along * w);
        }
        if let Some(edits) = &self.edits {
            edits.put(&mut sums, &edits.step.along_down(direction));
        }
        sums
    }
}

impl Norm {
    /// Turns a direction of the norm's output into one of its input, `[hidden]`, with the norm's scale as it is at
    /// `input`.
    fn pull_back(&self, direction: &mut [f32], input: &[f32]) {
        let count = input.len() as f32;
        direction.iter_mut().zip(self.factors()).for_each(|(d, factor)| *d *= factor);
        let mut spread = input.iter().map(|x| x * x).sum::<f32>() / count;
        if self.spec.kind == NormKind::Layer {
            let mean = input.iter().sum::<f32>() / count;
            spread -= mean * mean;
            let mean_direction = direction.iter().sum::<f32>() / count;
            direction.iter_mut().for_each(|d| *d -= mean_direction);
        }
        let scale = (spread + self.spec.epsilon).sqrt().recip();
        direction.iter_mut().for_each(|d| *d *= scale);
    }
}
