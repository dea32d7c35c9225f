//! GLM-4 (0414): norms before and after both branches, half of each head rotated in neighbouring pairs, biases on
//! queries, keys and values; gate and up are stored as one tensor.

use larql_compute::rotary::Pairing;
use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, LayerRole, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "glm4",
    model_types: &["glm4"],
    gguf_architectures: &["glm4"],
    defaults,
    spec,
    place,
    unused: &["*layers.#.*", "blk.#.*"],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 131_072,
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1.5625e-7,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": true,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    let bias = config.flag("attention_bias")?;
    for layer in &mut spec.layers {
        layer.attention.qkv_bias = bias;
        layer.post_attention_norm = layer.attention_norm;
        layer.post_feed_forward_norm = layer.feed_forward_norm;
    }
    common::set_pairing(&mut spec, Pairing::Interleaved);
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    let Role::Layer(layer, part) = role else { return place::common(spec, role, layout) };
    let features = spec.layers[layer].feed_forward.features();
    let gate_up = || {
        Place::whole(match layout {
            Layout::Gguf => format!("blk.{layer}.ffn_up.weight"),
            Layout::Hub | Layout::Mlx => format!("layers.{layer}.mlp.gate_up_proj.weight"),
        })
    };
    let words = [
        ("post_attention_layernorm", "post_self_attn_layernorm"),
        ("pre_feedforward_layernorm", "post_attention_layernorm"),
        ("post_feedforward_layernorm", "post_mlp_layernorm"),
    ];
    match part {
        LayerRole::Gate => gate_up().part(0..features, 2 * features),
        LayerRole::Up => gate_up().part(features..2 * features, 2 * features),
        _ => place::renamed(spec, role, layout, &words),
    }
}
