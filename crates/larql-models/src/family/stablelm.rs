//! StableLM 2: layer norms, a part of each head rotated; in some a layer norm for each head of queries and keys, in
//! others one norm that feeds attention and feed-forward in parallel.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec, NormKind, NormSpec, QueryKeyNorm};

pub(super) const FAMILY: Family = Family {
    name: "stablelm",
    model_types: &["stablelm"],
    gguf_architectures: &["stablelm"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.25,
        "layer_norm_epsilon": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "use_qkv_bias": false,
        "qk_layernorm": false,
        "use_parallel_residual": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let norm = common::norm(config, NormKind::Layer, "layer_norm_epsilon")?;
    let mut spec = common::skeleton(config, norm, common::gated(config)?)?;
    common::set_rotary(&mut spec, config)?;
    let query_key_norm = config.flag("qk_layernorm")?.then_some(QueryKeyNorm {
        norm: NormSpec { kind: NormKind::LayerUnbiased, ..norm },
        per_head: true,
        own_weights: true,
        after_rotation: false,
    });
    let (bias, parallel) = (config.flag("use_qkv_bias")?, config.flag("use_parallel_residual")?);
    for layer in &mut spec.layers {
        layer.attention.qkv_bias = bias;
        layer.attention.query_key_norm = query_key_norm;
        layer.parallel = parallel;
        layer.feed_forward_norm = layer.feed_forward_norm.filter(|_| !parallel);
    }
    Ok(spec)
}
