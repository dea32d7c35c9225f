//! SmolLM3: Llama without positions on every fourth layer (NoPE, arXiv 2501.18795).
//!
//! GGUF files do not say which layers those are: every fourth.

use serde_json::{Value, json};

use super::{Family, common, place};
use crate::{Config, ModelError, ModelSpec};

pub(super) const FAMILY: Family = Family {
    name: "smollm3",
    model_types: &["smollm3"],
    gguf_architectures: &["smollm3"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
        "rope_theta": 2_000_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "use_sliding_window": false,
        "no_rope_layer_interval": 4,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_biases(&mut spec, config)?;
    common::set_gguf_pairing(&mut spec, config);
    let layer_count = spec.layers.len();
    let interval = config.size("no_rope_layer_interval")?;
    let rotates: Vec<bool> = match config.optional_list("no_rope_layers")? {
        // The key says the contrary of its name: 1 stands for rotation.
        Some(flags) if flags.len() == layer_count => flags.iter().map(|flag| flag != 0).collect(),
        Some(flags) => {
            let problem = format!("`no_rope_layers` lists {} of {layer_count} layers", flags.len());
            return Err(config.contradiction(problem));
        }
        None => (1..=layer_count).map(|number| number % interval != 0).collect(),
    };
    for (layer, _) in spec.layers.iter_mut().zip(&rotates).filter(|(_, rotates)| !**rotates) {
        layer.attention.rotary = None;
    }
    if config.flag("use_sliding_window")? {
        common::set_windows(&mut spec, config, |layer| !rotates[layer])?;
    }
    Ok(spec)
}
