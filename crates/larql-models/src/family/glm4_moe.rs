//! GLM-4.5 to 4.7: mixtures as DeepSeek V3's after the first layers, in a decoder whose heads are rotated by half; biases
//! on queries, keys and values, and in the largest a norm of queries and keys.
//!
//! Files may hold layers that predict several tokens ahead, after the last one; they are not part of the model.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, deepseek, place};
use crate::{Config, FeedForwardSpec, ModelError, ModelSpec, NormKind, Role};

pub(super) const FAMILY: Family = Family {
    name: "glm4_moe",
    model_types: &["glm4_moe"],
    gguf_architectures: &["glm4moe"],
    defaults,
    spec,
    place,
    unused: &["*layers.#.*", "blk.#.*"],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "use_qk_norm": false,
        "moe_intermediate_size": 1408,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.0,
        "norm_topk_prob": true,
        "n_group": 1,
        "topk_group": 1,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    let bias = config.flag("attention_bias")?;
    let norm = common::head_norm(config, NormKind::Rms)?;
    let normed = config.flag("use_qk_norm")?;
    for layer in &mut spec.layers {
        layer.attention.qkv_bias = bias;
        layer.attention.query_key_norm = normed.then_some(norm);
    }
    let mixture = deepseek::corrected_mixture(config)?;
    for layer in spec.layers.iter_mut().skip(config.count("first_k_dense_replace")?) {
        layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    place::with_late_gguf_norm(spec, role, layout, place::with_shared_experts)
}
