//! Llama 1 to 3 and everything published as such (SmolLM2, TinyLlama, ...): the common decoder.
//!
//! GGUF files of this architecture, Mistral's and Mixtral's among them, store the rows of Q and K permuted so that
//! rotary pairs are neighbours.

use serde_json::{Value, json};

use super::{Family, common, mixtral, place};
use crate::{Config, ModelError, ModelSpec};

pub(super) const FAMILY: Family = Family {
    name: "llama",
    model_types: &["llama"],
    gguf_architectures: &["llama"],
    defaults,
    spec,
    place: place::common,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_biases(&mut spec, config)?;
    common::set_gguf_pairing(&mut spec, config);
    if config.is_gguf() && config.gives("num_local_experts") {
        mixtral::set_mixtures(&mut spec, config)?;
    }
    Ok(spec)
}
