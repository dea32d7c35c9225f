//! GPT-2: layer norms with biases, learned positions, a plain feed-forward, biases everywhere.
//!
//! Hub files store projections as `[inputs, outputs]` and Q, K and V as one; MLX and GGUF files have them
//! fused too, but as `[outputs, inputs]`. The original files carry causal masks as tensors.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, FeedForwardSpec, LayerRole, ModelError, ModelSpec, NormKind, Role};

pub(super) const FAMILY: Family = Family {
    name: "gpt2",
    model_types: &["gpt2"],
    gguf_architectures: &["gpt2"],
    defaults,
    spec,
    place,
    unused: &["*h.*.attn.bias", "*h.*.attn.masked_bias"],
};

fn defaults() -> Value {
    json!({
        "layer_norm_epsilon": 1e-5,
        "hidden_activation": "gelu_new",
        "tie_word_embeddings": true,
        "scale_attn_weights": true,
        "scale_attn_by_inverse_layer_idx": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let hidden_size = config.size("hidden_size")?;
    let norm = common::norm(config, NormKind::Layer, "layer_norm_epsilon")?;
    let feed_forward = FeedForwardSpec::Plain {
        features: config.optional_size("intermediate_size")?.unwrap_or(4 * hidden_size),
        activation: common::activation(config)?,
        bias: true,
    };
    let mut spec = common::skeleton(config, norm, feed_forward)?;
    spec.learned_positions = true;

    let scaled = config.flag("scale_attn_weights")?;
    let by_layer = config.flag("scale_attn_by_inverse_layer_idx")?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        let attention = &mut layer.attention;
        attention.qkv_bias = true;
        attention.output_bias = true;
        if !scaled {
            attention.score_scale = 1.0;
        }
        if by_layer {
            attention.score_scale /= (index + 1) as f32;
        }
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    use LayerRole::*;
    let (layer, role) = match role {
        Role::Layer(layer, role) => (layer, role),
        _ if layout == Layout::Gguf => return place::common(spec, role, layout),
        Role::Embedding => return Place::whole("wte.weight"),
        Role::PositionEmbedding => return Place::whole("wpe.weight"),
        Role::FinalNorm => return Place::whole("ln_f.weight"),
        Role::FinalNormBias => return Place::whole("ln_f.bias"),
        _ => return place::common(spec, role, layout),
    };
    let third = match role {
        Query | QueryBias => Some(0),
        Key | KeyBias => Some(1),
        Value | ValueBias => Some(2),
        _ => None,
    };
    let hub_name = match role {
        Query | Key | Value => "attn.c_attn.weight",
        QueryBias | KeyBias | ValueBias => "attn.c_attn.bias",
        AttentionOutput => "attn.c_proj.weight",
        AttentionOutputBias => "attn.c_proj.bias",
        AttentionNorm => "ln_1.weight",
        AttentionNormBias => "ln_1.bias",
        FeedForwardNorm => "ln_2.weight",
        FeedForwardNormBias => "ln_2.bias",
        Gate => "mlp.c_fc.weight",
        GateBias => "mlp.c_fc.bias",
        Down => "mlp.c_proj.weight",
        DownBias => "mlp.c_proj.bias",
        _ => return place::common(spec, Role::Layer(layer, role), layout),
    };
    let place = match (layout, role) {
        (Layout::Gguf, Query | Key | Value) => Place::whole(format!("blk.{layer}.attn_qkv.weight")),
        (Layout::Gguf, QueryBias | KeyBias | ValueBias) => Place::whole(format!("blk.{layer}.attn_qkv.bias")),
        (Layout::Gguf, _) => return place::common(spec, Role::Layer(layer, role), layout),
        (Layout::Hub, Query | Key | Value | AttentionOutput | Gate | Down) => {
            Place::whole(format!("h.{layer}.{hub_name}")).transposed()
        }
        (Layout::Hub | Layout::Mlx, _) => Place::whole(format!("h.{layer}.{hub_name}")),
    };
    let hidden = spec.hidden_size;
    match third {
        Some(third) => place.part(third * hidden..(third + 1) * hidden, 3 * hidden),
        None => place,
    }
}
