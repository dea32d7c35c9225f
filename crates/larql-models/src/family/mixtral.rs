//! Mixtral: Mistral with a mixture of experts in every layer. Its GGUF files are of the `llama` architecture.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, FeedForwardSpec, LayerRole, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "mixtral",
    model_types: &["mixtral"],
    gguf_architectures: &["llama"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    let windowed = config.optional_size("sliding_window")?.is_some();
    common::set_windows(&mut spec, config, |_| windowed)?;
    set_mixtures(&mut spec, config)?;
    Ok(spec)
}

/// Puts a mixture with experts of `intermediate_size` features into every layer.
pub(super) fn set_mixtures(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let mixture = common::mixture(config, config.size("intermediate_size")?)?;
    for layer in &mut spec.layers {
        layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
    }
    Ok(())
}

/// Location of a tensor; also of Phi-3.5-MoE's.
pub(super) fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    use LayerRole::*;
    let (layer, (expert, matrix)) = match role {
        _ if layout == Layout::Gguf => return place::common(spec, role, layout),
        Role::Layer(layer, ExpertGate(expert)) => (layer, (expert, "w1")),
        Role::Layer(layer, ExpertDown(expert)) => (layer, (expert, "w2")),
        Role::Layer(layer, ExpertUp(expert)) => (layer, (expert, "w3")),
        _ => return place::renamed(spec, role, layout, &[("mlp.gate", "block_sparse_moe.gate")]),
    };
    Place::whole(format!("layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight"))
}
