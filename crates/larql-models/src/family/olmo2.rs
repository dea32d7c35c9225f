//! OLMo 2: norms on the outputs of both branches instead of their inputs; Q and K normed over their whole width.
//!
//! GGUF files of this architecture that give a window are OLMo 3's.

use serde_json::{Value, json};

use super::{Family, common, olmo3, place};
use crate::{Config, ModelError, ModelSpec, QueryKeyNorm};

pub(super) const FAMILY: Family = Family {
    name: "olmo2",
    model_types: &["olmo2"],
    gguf_architectures: &["olmo2"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
        "sliding_window_pattern": 4,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = decoder(config)?;
    if config.is_gguf() && config.gives("sliding_window") {
        olmo3::set_windows(&mut spec, config)?;
    }
    Ok(spec)
}

/// The model without windows.
pub(super) fn decoder(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_biases(&mut spec, config)?;
    move_norms(&mut spec);
    for layer in &mut spec.layers {
        layer.attention.query_key_norm = Some(QueryKeyNorm::of_projection(spec.final_norm));
    }
    Ok(spec)
}

/// Moves the norms before both branches behind them.
pub(super) fn move_norms(spec: &mut ModelSpec) {
    for layer in &mut spec.layers {
        layer.post_attention_norm = layer.attention_norm.take();
        layer.post_feed_forward_norm = layer.feed_forward_norm.take();
    }
}
