//! Phi 1 to 2: one layer norm feeds attention and a plain feed-forward in parallel; a part of each head is rotated;
//! biases everywhere, on the head too.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, FeedForwardSpec, ModelError, ModelSpec, NormKind, Role};

pub(super) const FAMILY: Family = Family {
    name: "phi",
    model_types: &["phi"],
    gguf_architectures: &["phi2"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.5,
        "layer_norm_epsilon": 1e-5,
        "hidden_activation": "gelu_new",
        "tie_word_embeddings": false,
        "qk_layernorm": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    if config.flag("qk_layernorm")? {
        let advice = "no published model has them";
        return Err(ModelError::unsupported(config.path(), "layer norms on queries and keys", advice));
    }
    let norm = common::norm(config, NormKind::Layer, "layer_norm_epsilon")?;
    let feed_forward = FeedForwardSpec::Plain {
        features: config.size("intermediate_size")?,
        activation: common::activation(config)?,
        bias: true,
    };
    let mut spec = common::skeleton(config, norm, feed_forward)?;
    common::set_rotary(&mut spec, config)?;
    spec.head_bias = true;
    for layer in &mut spec.layers {
        layer.parallel = true;
        layer.feed_forward_norm = None;
        layer.attention.qkv_bias = true;
        layer.attention.output_bias = true;
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    let words = [
        ("self_attn.o_proj", "self_attn.dense"),
        ("mlp.gate_proj", "mlp.fc1"),
        ("mlp.down_proj", "mlp.fc2"),
        ("norm", "final_layernorm"),
    ];
    place::renamed(spec, role, layout, &words)
}
