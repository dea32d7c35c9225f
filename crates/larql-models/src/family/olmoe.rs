//! OLMoE (arXiv 2409.02060): a mixture of experts in every layer; Q and K normed over their whole width.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, FeedForwardSpec, ModelError, ModelSpec, QueryKeyNorm};

pub(super) const FAMILY: Family = Family {
    name: "olmoe",
    model_types: &["olmoe"],
    gguf_architectures: &["olmoe"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "num_local_experts": 64,
        "num_experts_per_tok": 8,
        "norm_topk_prob": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    if config.gives("clip_qkv") {
        let advice = "no published model of this family has it";
        return Err(ModelError::unsupported(config.path(), "a bound on queries, keys and values", advice));
    }
    let mut spec = common::decoder(config)?;
    let mut mixture = common::mixture(config, common::expert_features(config)?)?;
    mixture.router.normalise = config.flag("norm_topk_prob")?;
    common::set_attention_biases(&mut spec, config)?;
    for layer in &mut spec.layers {
        layer.attention.query_key_norm = Some(QueryKeyNorm::of_projection(spec.final_norm));
        layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
    }
    Ok(spec)
}
