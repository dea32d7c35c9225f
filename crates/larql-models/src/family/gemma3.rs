//! Gemma 3, the text model alone and inside the multimodal one: as Gemma 2 without soft caps; Q and K are
//! normed; every sixth layer sees everything, the others have a window and a rotary base of their own.
//!
//! GGUF files give neither the pattern nor the base of the windowed layers: they are the defaults.

use larql_compute::rotary::Scaling;
use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec};

pub(super) const FAMILY: Family = Family {
    name: "gemma3",
    model_types: &["gemma3_text", "gemma3"],
    gguf_architectures: &["gemma3"],
    defaults,
    spec,
    place: place::common,
    unused: &["*vision_tower.*", "*multi_modal_projector.*"],
};

fn defaults() -> Value {
    json!({
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    if config.gives("use_bidirectional_attention") && config.flag("use_bidirectional_attention")? {
        let advice = "embedding models are not read, only generating ones";
        return Err(ModelError::unsupported(config.path(), "attention to later tokens", advice));
    }
    let mut spec = common::gemma_decoder(config, 62)?;
    spec.logit_soft_cap = common::soft_cap(config, "final_logit_softcapping")?;

    let pattern = config.size("sliding_window_pattern")?;
    common::set_windows(&mut spec, config, |layer| (layer + 1) % pattern != 0)?;

    let norm = common::head_norm(config, common::gemma_norm_kind(config))?;
    let local_base = match common::rope_parameters(config, "sliding_attention")? {
        Some(parameters) => parameters.number("rope_theta")?,
        None => config.number("rope_local_base_freq")?,
    };
    for layer in &mut spec.layers {
        let attention = &mut layer.attention;
        attention.query_key_norm = Some(norm);
        if let Some(rotary) = &mut attention.rotary
            && attention.window.is_some()
        {
            rotary.base = local_base;
            rotary.scaling = Scaling::None;
        }
    }
    Ok(spec)
}
