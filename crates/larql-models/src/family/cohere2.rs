//! Command R7B and later (Cohere 2): one layer norm without bias feeds attention and feed-forward in parallel; every
//! fourth layer sees everything without positions, the others have a window; logits are scaled.

use larql_compute::rotary::Pairing;
use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec, NormKind};

pub(super) const FAMILY: Family = Family {
    name: "cohere2",
    model_types: &["cohere2"],
    gguf_architectures: &["cohere2"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 8192,
        "rope_theta": 10_000.0,
        "layer_norm_epsilon": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "logit_scale": 0.0625,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let norm = common::norm(config, NormKind::LayerUnbiased, "layer_norm_epsilon")?;
    let mut spec = common::skeleton(config, norm, common::gated(config)?)?;
    common::set_rotary(&mut spec, config)?;
    common::set_pattern_windows(&mut spec, config)?;
    // GGUF files call it as they call the divisor of Granite's.
    spec.logit_scale = config.number(if config.is_gguf() { "logits_scaling" } else { "logit_scale" })? as f32;
    common::set_attention_biases(&mut spec, config)?;
    for layer in &mut spec.layers {
        layer.parallel = true;
        layer.feed_forward_norm = None;
        let attention = &mut layer.attention;
        attention.rotary = attention.rotary.take().filter(|_| attention.window.is_some());
    }
    common::set_pairing(&mut spec, Pairing::Interleaved);
    Ok(spec)
}
