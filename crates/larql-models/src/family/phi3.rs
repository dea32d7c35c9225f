//! Phi 3 and 4: Q, K and V stored as one tensor, gate and up as another; a window on every layer in the first
//! models, two lists of rotary divisors in those with long contexts.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, LayerRole, LayerSpec, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "phi3",
    model_types: &["phi3"],
    gguf_architectures: &["phi3"],
    defaults,
    spec,
    place,
    unused: &["rope_factors_long.weight", "rope_factors_short.weight"],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    let windowed = config.optional_size("sliding_window")?.is_some();
    common::set_windows(&mut spec, config, |_| windowed)?;
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    let Role::Layer(layer, part) = role else { return place::common(spec, role, layout) };
    let LayerSpec { attention, feed_forward, .. } = &spec.layers[layer];
    let (queries, keys, features) = (attention.query_size(), attention.key_size(), feed_forward.features());
    let (qkv, gate_up) = match layout {
        Layout::Gguf => (format!("blk.{layer}.attn_qkv.weight"), format!("blk.{layer}.ffn_up.weight")),
        Layout::Hub | Layout::Mlx => (
            format!("layers.{layer}.self_attn.qkv_proj.weight"),
            format!("layers.{layer}.mlp.gate_up_proj.weight"),
        ),
    };
    let all = queries + 2 * keys;
    match part {
        LayerRole::Query => Place::whole(qkv).part(0..queries, all),
        LayerRole::Key => Place::whole(qkv).part(queries..queries + keys, all),
        LayerRole::Value => Place::whole(qkv).part(queries + keys..all, all),
        LayerRole::Gate => Place::whole(gate_up).part(0..features, 2 * features),
        LayerRole::Up => Place::whole(gate_up).part(features..2 * features, 2 * features),
        _ => place::common(spec, role, layout),
    }
}
