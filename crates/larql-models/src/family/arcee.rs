//! Arcee (AFM): Llama with a plain feed-forward, whose activation is the square of positive values.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "arcee",
    model_types: &["arcee"],
    gguf_architectures: &["arcee"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "relu2",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "mlp_bias": false,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_plain(&mut spec, config)?;
    common::set_biases(&mut spec, config)?;
    common::set_gguf_pairing(&mut spec, config);
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    place::renamed(spec, role, layout, &[("mlp.gate_proj", "mlp.up_proj")])
}
