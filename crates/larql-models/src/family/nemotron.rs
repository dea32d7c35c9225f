//! Nemotron 3 and 4: layer norms that multiply by one more than their weight, a part of each head rotated, and a plain
//! feed-forward whose activation is the square of positive values.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, ModelError, ModelSpec, NormKind, Role};

pub(super) const FAMILY: Family = Family {
    name: "nemotron",
    model_types: &["nemotron"],
    gguf_architectures: &["nemotron"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.5,
        "layer_norm_epsilon": 1e-5,
        "hidden_activation": "relu2",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    // GGUF files hold the sum.
    let kind = if config.is_gguf() { NormKind::Layer } else { NormKind::LayerOnePlus };
    let norm = common::norm(config, kind, "layer_norm_epsilon")?;
    let mut spec = common::skeleton(config, norm, common::gated(config)?)?;
    common::set_rotary(&mut spec, config)?;
    common::set_plain(&mut spec, config)?;
    common::set_biases(&mut spec, config)?;
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    place::renamed(spec, role, layout, &[("mlp.gate_proj", "mlp.up_proj")])
}
