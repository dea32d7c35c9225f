//! Gemma 2: embeddings scaled by the root of the hidden size, norms before and after both branches, soft caps
//! on scores and logits, a window on every other layer, starting with the first.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec};

pub(super) const FAMILY: Family = Family {
    name: "gemma2",
    model_types: &["gemma2"],
    gguf_architectures: &["gemma2"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "vocab_size": 256_000,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 4096,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::gemma_decoder(config, 46)?;
    spec.logit_soft_cap = common::soft_cap(config, "final_logit_softcapping")?;
    let score_soft_cap = common::soft_cap(config, "attn_logit_softcapping")?;
    for layer in &mut spec.layers {
        layer.attention.score_soft_cap = score_soft_cap;
    }
    common::set_windows(&mut spec, config, |layer| layer % 2 == 0)?;
    Ok(spec)
}
