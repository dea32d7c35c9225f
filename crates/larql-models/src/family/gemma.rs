//! Gemma 1: embeddings scaled by the root of the hidden size, norms of `1 + w`, a tied head.
//!
//! Published configurations name the exact GELU, but the models were trained, and are run everywhere, with its tanh
//! approximation.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Activation, Config, FeedForwardSpec, ModelError, ModelSpec, NormSpec};

pub(super) const FAMILY: Family = Family {
    name: "gemma",
    model_types: &["gemma"],
    gguf_architectures: &["gemma"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "vocab_size": 256_000,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_biases(&mut spec, config)?;
    let norm = NormSpec { kind: common::gemma_norm_kind(config), ..spec.final_norm };
    spec.embedding_scale = (spec.hidden_size as f64).sqrt() as f32;
    spec.final_norm = norm;
    for layer in &mut spec.layers {
        layer.attention_norm = Some(norm);
        layer.feed_forward_norm = Some(norm);
        if let FeedForwardSpec::Gated { activation, .. } = &mut layer.feed_forward
            && *activation == Activation::Gelu
        {
            *activation = Activation::GeluTanh;
        }
    }
    Ok(spec)
}
