//! Checks that the sizes of a model are consistent.

use std::path::Path;

use larql_compute::rotary::Rotary;

use super::{AttentionSpec, FeedForwardSpec, KeysAndValues, LayerSpec, MixtureSpec, ModelSpec};
use crate::ModelError;

/// No size in a model comes near this; below it, products of two sizes fit a machine word.
pub(crate) const LARGEST_SIZE: usize = 1 << 31;
/// More experts than the layers of any model have together; each has tensors of its own, which are listed.
const MOST_EXPERTS: usize = 1 << 17;

impl ModelSpec {
    /// Checks that the sizes are consistent, so that code that runs the model need not. Every reader of a
    /// spec calls this; `path` is the file that it was read from.
    ///
    /// # Errors
    /// [`ModelError::Contradiction`] with the values that contradict each other.
    pub fn validate(&self, path: &Path) -> Result<(), ModelError> {
        let wrong = |problem: String| Err(ModelError::Contradiction { path: path.into(), problem });
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("vocab_size", self.vocab_size),
            ("context_length", self.context_length),
            ("the number of layers", self.layers.len()),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=LARGEST_SIZE).contains(size)) {
            return wrong(format!("{name} is {size}"));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if let Err(problem) = layer.validate().and_then(|()| self.validate_loan(index)) {
                return wrong(format!("layer {index}: {problem}"));
            }
        }
        let mixtures = self.layers.iter().filter_map(|layer| layer.feed_forward.mixture());
        let experts: usize = mixtures.map(|mixture| mixture.experts).sum();
        if experts > MOST_EXPERTS {
            return wrong(format!(
                "the mixtures of all layers have {experts} experts; at most {MOST_EXPERTS} are read"
            ));
        }
        let Some(inputs) = &self.per_layer_inputs else { return Ok(()) };
        let good = 1..=LARGEST_SIZE;
        if !good.contains(&inputs.width) || !good.contains(&inputs.vocab_size) {
            return wrong(format!(
                "per-layer inputs of width {} for {} tokens",
                inputs.width, inputs.vocab_size
            ));
        }
        match inputs.width.checked_mul(self.layers.len()) {
            Some(width) if width <= LARGEST_SIZE => Ok(()),
            _ => {
                wrong(format!("per-layer inputs of width {} for {} layers", inputs.width, self.layers.len()))
            }
        }
    }

    /// Checks that a layer without its own keys and values refers to an earlier layer with keys and values of its shape.
    fn validate_loan(&self, index: usize) -> Result<(), String> {
        let borrower = &self.layers[index].attention;
        let Some(layer) = borrower.lender() else { return Ok(()) };
        let Some(lender) = self.layers[..index].get(layer).map(|layer| &layer.attention) else {
            return Err(format!("it borrows the keys of layer {layer}, which is not before it"));
        };
        let shape = |attention: &AttentionSpec| (attention.kv_heads, attention.head_dim, attention.value_dim);
        if lender.lender().is_some() || shape(lender) != shape(borrower) {
            return Err(format!("it borrows the keys of layer {layer}, which has none of its shape"));
        }
        Ok(())
    }
}

impl LayerSpec {
    fn validate(&self) -> Result<(), String> {
        self.attention.validate()?;
        self.feed_forward.validate()
    }
}

impl AttentionSpec {
    fn validate(&self) -> Result<(), String> {
        let AttentionSpec { heads, kv_heads, head_dim, value_dim, .. } = *self;
        let mut sizes = vec![
            ("heads", heads),
            ("kv_heads", kv_heads),
            ("head_dim", head_dim),
            ("value_dim", value_dim),
            ("query_rank", self.query_rank.map_or(1, |low| low.rank)),
        ];
        if let KeysAndValues::Latent { latent, shared_dims } = self.keys_and_values {
            sizes.extend([("the rank of keys and values", latent.rank), ("shared_dims", shared_dims)]);
            if kv_heads != heads || shared_dims > head_dim {
                return Err(format!(
                    "latent keys take as many key heads as query heads and share part of a head, but there are \
                     {kv_heads} for {heads}, and {shared_dims} of {head_dim} dimensions are shared"
                ));
            }
        }
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=LARGEST_SIZE).contains(size)) {
            return Err(format!("{name} is {size}"));
        }
        if heads % kv_heads != 0 {
            return Err(format!("{heads} query heads cannot share {kv_heads} key/value heads evenly"));
        }
        if self.keys_and_values == KeysAndValues::SharedProjection && value_dim != head_dim {
            return Err(format!("values of width {value_dim} cannot be keys of width {head_dim}"));
        }
        if self.window == Some(0) {
            return Err("the attention window is 0 tokens".into());
        }
        if let Some(growth) = self.query_growth
            && (growth.context == 0 || !growth.slope.is_finite())
        {
            return Err(format!("queries grow by {} for every {} tokens", growth.slope, growth.context));
        }
        if let Some(norm) = self.query_key_norm {
            if norm.norm.kind.has_bias() {
                return Err("norms of queries and keys have no bias".into());
            }
            if norm.own_weights && !norm.per_head {
                return Err("heads have norms of their own, but are normed at once".into());
            }
        }
        let Some(rotary) = &self.rotary else { return Ok(()) };
        let width = head_dim - self.rotary_start();
        if rotary.dims > width {
            return Err(format!(
                "{} dimensions of a head that has {width} to rotate cannot be rotated",
                rotary.dims
            ));
        }
        Rotary::new(rotary).map(|_| ()).map_err(|error| error.to_string())
    }
}

impl FeedForwardSpec {
    fn validate(&self) -> Result<(), String> {
        if let Some(problem) = self.activation().problem() {
            return Err(problem);
        }
        let good = 1..=LARGEST_SIZE;
        let features = match self {
            FeedForwardSpec::Gated { features, .. } | FeedForwardSpec::Plain { features, .. } => *features,
            FeedForwardSpec::Mixture(mixture) => {
                let MixtureSpec { experts, features, shared_features, .. } = mixture;
                let shared = shared_features.unwrap_or(1);
                let together = experts.checked_mul(*features);
                if ![*experts, *features, shared, together.unwrap_or(0)]
                    .iter()
                    .all(|size| good.contains(size))
                {
                    return Err(format!("a mixture of {experts} experts with {features} features each"));
                }
                if mixture.shared_gate && shared_features.is_none() {
                    return Err("a step that every token passes is gated, but there is none".into());
                }
                if mixture.branch.is_some() && shared_features.is_none() {
                    return Err(
                        "a mixture stands beside a step that every token passes, but there is none".into()
                    );
                }
                if let Some(problem) = mixture.router.problem(*experts) {
                    return Err(problem);
                }
                *features
            }
        };
        if good.contains(&features) { Ok(()) } else { Err(format!("features is {features}")) }
    }
}
