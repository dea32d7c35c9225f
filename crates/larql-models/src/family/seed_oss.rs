//! Seed-OSS: Llama with biases on queries, keys and values; those of the other projections are settings of their own.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "seed_oss",
    model_types: &["seed_oss"],
    gguf_architectures: &["seed_oss"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 524_288,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": true,
        "attention_out_bias": false,
        "mlp_bias": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_biases(&mut spec, config)?;
    let output_bias = config.flag("attention_out_bias")?;
    for layer in &mut spec.layers {
        layer.attention.output_bias = output_bias;
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    place::with_late_gguf_norm(spec, role, layout, place::common)
}
