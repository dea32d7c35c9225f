//! Hunyuan (dense): Llama with norms of queries and keys that come after the rotation, whose base the published models
//! stretch by a fixed `alpha`.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, ModelError, ModelSpec, NormKind, QueryKeyNorm, Role};

pub(super) const FAMILY: Family = Family {
    name: "hunyuan_dense",
    model_types: &["hunyuan_v1_dense"],
    gguf_architectures: &["hunyuan-dense"],
    defaults,
    spec,
    place,
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
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    common::set_attention_biases(&mut spec, config)?;
    let norm = QueryKeyNorm { after_rotation: true, ..common::head_norm(config, NormKind::Rms)? };
    for layer in &mut spec.layers {
        layer.attention.query_key_norm = Some(norm);
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    let words =
        [("self_attn.q_norm", "self_attn.query_layernorm"), ("self_attn.k_norm", "self_attn.key_layernorm")];
    place::renamed(spec, role, layout, &words)
}
