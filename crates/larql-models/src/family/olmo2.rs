//! OLMo 2: norms on the outputs of both branches instead of their inputs; Q and K normed over their whole width.

use serde_json::{Value, json};

use super::{Family, common, place};
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
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_biases(&mut spec, config)?;
    for layer in &mut spec.layers {
        layer.post_attention_norm = layer.attention_norm.take();
        layer.post_feed_forward_norm = layer.feed_forward_norm.take();
        layer.attention.query_key_norm = Some(QueryKeyNorm { norm: spec.final_norm, per_head: false });
    }
    Ok(spec)
}
