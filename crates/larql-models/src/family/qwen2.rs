//! Qwen 2 and 2.5: biases on Q, K and V; a window, if switched on, from layer `max_window_layers` upwards.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec};

pub(super) const FAMILY: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    gguf_architectures: &["qwen2"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 32_768,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "use_sliding_window": false,
        "sliding_window": 4096,
        "max_window_layers": 28,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    for layer in &mut spec.layers {
        layer.attention.qkv_bias = true;
    }
    common::set_upper_windows(&mut spec, config)?;
    Ok(spec)
}
