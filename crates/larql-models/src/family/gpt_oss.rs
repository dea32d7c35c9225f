//! GPT-OSS (arXiv 2508.10925): a mixture with biases and a clamped activation in every layer, sinks in attention, a
//! window on every other layer, starting with the first.
//!
//! Hub files hold all experts' matrices in one tensor, as `[inputs, outputs]`, and gate and up in turns; published
//! ones pack them in MXFP4. GGUF files know no other clamp than the published models', nor that the borders of YaRN's
//! band are not rounded.

use serde_json::{Value, json};

use larql_compute::rotary::{RotarySpec, Scaling};
use larql_compute::router::RouterScores;

use super::{Family, Layout, Place, common, place};
use crate::{Activation, Config, FeedForwardSpec, LayerRole, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "gpt_oss",
    model_types: &["gpt_oss"],
    gguf_architectures: &["gpt-oss"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131_072,
        "rope_theta": 150_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": true,
        "sliding_window": 128,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "swiglu_limit": 7.0,
        "swiglu_alpha": 1.702,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    let mut mixture = common::mixture(config, common::expert_features(config)?)?;
    mixture.bias = true;
    mixture.router_bias = true;
    mixture.router.scores = RouterScores::SoftmaxOfChosen;
    mixture.router.normalise = false;
    mixture.activation = Activation::ClampedSwiglu {
        limit: config.number("swiglu_limit")? as f32,
        slope: config.number("swiglu_alpha")? as f32,
    };
    common::set_attention_biases(&mut spec, config)?;
    for layer in &mut spec.layers {
        layer.attention.sinks = true;
        if let Some(RotarySpec { scaling: Scaling::Yarn { truncate, .. }, .. }) = &mut layer.attention.rotary
        {
            *truncate &= !config.is_gguf();
        }
        layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
    }
    common::set_windows(&mut spec, config, |layer| layer % 2 == 0)?;
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    use LayerRole::*;
    let Role::Layer(layer, part) = role else { return place::common(spec, role, layout) };
    if layout == Layout::Gguf {
        return place::with_late_gguf_norm(spec, role, layout, place::common);
    }
    let experts = spec.layers[layer].feed_forward.mixture().map_or(0, |mixture| mixture.experts);
    let stacked = |expert: usize, name: &str| {
        Place::whole(format!("layers.{layer}.mlp.experts.{name}")).stacked(expert, experts)
    };
    match part {
        ExpertGate(expert) => stacked(expert, "gate_up_proj").interleaved(0, 2).transposed(),
        ExpertUp(expert) => stacked(expert, "gate_up_proj").interleaved(1, 2).transposed(),
        ExpertDown(expert) => stacked(expert, "down_proj").transposed(),
        ExpertGateBias(expert) => stacked(expert, "gate_up_proj_bias").interleaved(0, 2),
        ExpertUpBias(expert) => stacked(expert, "gate_up_proj_bias").interleaved(1, 2),
        ExpertDownBias(expert) => stacked(expert, "down_proj_bias"),
        _ => place::renamed(spec, role, layout, &[("mlp.gate", "mlp.router")]),
    }
}
