//! Qwen 3 with mixtures of experts: as Qwen 3, with experts in most or all layers.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec, NormKind};

pub(super) const FAMILY: Family = Family {
    name: "qwen3_moe",
    model_types: &["qwen3_moe"],
    gguf_architectures: &["qwen3moe"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "use_sliding_window": false,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_attention_biases(&mut spec, config)?;
    let norm = common::head_norm(config, NormKind::Rms)?;
    let mut mixture = common::mixture(config, config.size("moe_intermediate_size")?)?;
    // GGUF files know only models that do, as all published ones.
    mixture.router.normalise = match config.gives("norm_topk_prob") {
        true => config.flag("norm_topk_prob")?,
        false => config.is_gguf(),
    };
    common::set_sparse_steps(&mut spec, config, &mixture)?;
    for layer in &mut spec.layers {
        layer.attention.query_key_norm = Some(norm);
    }
    common::set_upper_windows(&mut spec, config)?;
    Ok(spec)
}
