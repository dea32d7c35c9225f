//! Qwen 1.5 and 2 with mixtures of experts: as Qwen 2, with experts in most or all layers beside a shared step, whose
//! output has a factor of its own for each token.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "qwen2_moe",
    model_types: &["qwen2_moe"],
    gguf_architectures: &["qwen2moe"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 16,
        "max_position_embeddings": 32_768,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "qkv_bias": true,
        "use_sliding_window": false,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "num_local_experts": 60,
        "num_experts_per_tok": 4,
        "norm_topk_prob": false,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    let mut mixture = common::mixture(config, config.size("moe_intermediate_size")?)?;
    mixture.router.normalise = config.flag("norm_topk_prob")?;
    mixture.shared_features = Some(config.size("shared_expert_intermediate_size")?);
    mixture.shared_gate = true;
    common::set_sparse_steps(&mut spec, config, &mixture)?;
    let bias = config.flag("qkv_bias")?;
    for layer in &mut spec.layers {
        layer.attention.qkv_bias = bias;
    }
    if config.flag("use_sliding_window")? {
        let last = config.count("max_window_layers")?;
        common::set_windows(&mut spec, config, |layer| layer.is_multiple_of(2) && layer < last)?;
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    place::with_shared_step(spec, role, layout, "mlp.shared_expert")
}
