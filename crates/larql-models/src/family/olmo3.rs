//! OLMo 3: OLMo 2 with a window on three of four layers, where the rotation is never scaled. Its GGUF files are of the
//! `olmo2` architecture.

use serde_json::{Value, json};

use super::{Family, common, olmo2, place};
use crate::{Config, ModelError, ModelSpec};

pub(super) const FAMILY: Family = Family {
    name: "olmo3",
    model_types: &["olmo3"],
    gguf_architectures: &["olmo2"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 2048,
        "rope_theta": 500_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = olmo2::decoder(config)?;
    set_windows(&mut spec, config)?;
    Ok(spec)
}

/// Gives layers their windows, and those with one their rotation.
pub(super) fn set_windows(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    common::set_pattern_windows(spec, config)?;
    let rotary = common::local_rotary(config, spec.layers[0].attention.head_dim)?;
    let windowed = spec.layers.iter_mut().filter(|layer| layer.attention.window.is_some());
    windowed.for_each(|layer| layer.attention.rotary = Some(rotary.clone()));
    Ok(())
}
