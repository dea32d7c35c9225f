//! EXAONE 4: norms on the outputs of both branches instead of their inputs, norms of queries and keys; where some
//! layers have a window, the others have no positions.

use serde_json::{Value, json};

use super::{Family, common, olmo2, place};
use crate::{Config, ModelError, ModelSpec, NormKind};

pub(super) const FAMILY: Family = Family {
    name: "exaone4",
    model_types: &["exaone4"],
    gguf_architectures: &["exaone4"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 32,
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    olmo2::move_norms(&mut spec);
    let norm = common::head_norm(config, NormKind::Rms)?;
    for layer in &mut spec.layers {
        layer.attention.query_key_norm = Some(norm);
    }
    if common::given_window(config)?.is_none() {
        return Ok(spec);
    }
    common::set_pattern_windows(&mut spec, config)?;
    for layer in &mut spec.layers {
        layer.attention.rotary = layer.attention.rotary.take().filter(|_| layer.attention.window.is_some());
    }
    Ok(spec)
}
