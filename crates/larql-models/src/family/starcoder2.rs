//! StarCoder 2: layer norms and biases everywhere, a plain feed-forward, rotary positions, a window on every layer.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, FeedForwardSpec, ModelError, ModelSpec, NormKind, Role};

pub(super) const FAMILY: Family = Family {
    name: "starcoder2",
    model_types: &["starcoder2"],
    gguf_architectures: &["starcoder2"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "layer_norm_epsilon": 1e-5,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": true,
        "use_bias": true,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let norm = common::norm(config, NormKind::Layer, "layer_norm_epsilon")?;
    let bias = config.flag("use_bias")?;
    let feed_forward = FeedForwardSpec::Plain {
        features: config.size("intermediate_size")?,
        activation: common::activation(config)?,
        bias,
    };
    let mut spec = common::skeleton(config, norm, feed_forward)?;
    common::set_rotary(&mut spec, config)?;
    for layer in &mut spec.layers {
        layer.attention.qkv_bias = bias;
        layer.attention.output_bias = bias;
    }
    let windowed = config.optional_size("sliding_window")?.is_some();
    common::set_windows(&mut spec, config, |_| windowed)?;
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    place::renamed(spec, role, layout, &[("mlp.gate_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")])
}
