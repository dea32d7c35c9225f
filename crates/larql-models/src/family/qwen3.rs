//! Qwen 3: each head of Q and K is normed before the rotation. Published configurations carry a window that
//! is switched off.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec, NormKind};

pub(super) const FAMILY: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    gguf_architectures: &["qwen3"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "head_dim": 128,
        "max_position_embeddings": 32_768,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "use_sliding_window": false,
        "sliding_window": 4096,
        "max_window_layers": 28,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_attention_biases(&mut spec, config)?;
    let norm = common::head_norm(config, NormKind::Rms)?;
    for layer in &mut spec.layers {
        layer.attention.query_key_norm = Some(norm);
    }
    common::set_upper_windows(&mut spec, config)?;
    Ok(spec)
}
