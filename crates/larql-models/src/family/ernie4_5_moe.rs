//! ERNIE 4.5 with mixtures of experts: Llama with heads rotated in neighbouring pairs, and after the first layers a
//! mixture whose router corrects its choice, beside shared experts.

use larql_compute::rotary::Pairing;
use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{Config, FeedForwardSpec, LayerRole, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "ernie4_5_moe",
    model_types: &["ernie4_5_moe"],
    gguf_architectures: &["ernie4_5-moe"],
    defaults,
    spec,
    place,
    unused: &["*mtp_*", "*layers.#.*", "blk.#.*"],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 4,
        "max_position_embeddings": 131_072,
        "rope_theta": 500_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": true,
        "use_bias": false,
        "moe_intermediate_size": 1536,
        "num_local_experts": 64,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "first_k_dense_replace": 1,
        "moe_layer_interval": 1,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    if config.flag("use_bias")? {
        let advice = "no published model of this family has them";
        return Err(ModelError::unsupported(config.path(), "biases beside a mixture of experts", advice));
    }
    let mut spec = common::decoder(config)?;
    common::set_pairing(&mut spec, Pairing::Interleaved);
    let features = config.size("moe_intermediate_size")?;
    let mut mixture = common::mixture(config, features)?;
    mixture.score_correction = true;
    let shared = config.count("n_shared_experts")?;
    mixture.shared_features = Some(shared * features).filter(|features| *features > 0);
    let (first, every) = (config.count("first_k_dense_replace")?, config.size("moe_layer_interval")?);
    // -1 stands for the last layer.
    let last = config.optional_number("moe_layer_end_index")?.filter(|last| *last >= 0.0);
    for (index, layer) in spec.layers.iter_mut().enumerate().skip(first) {
        if (index + 1).is_multiple_of(every) && last.is_none_or(|last| index as f64 <= last) {
            layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
        }
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    match (role, layout) {
        (Role::Layer(layer, LayerRole::RouterCorrection), Layout::Hub | Layout::Mlx) => {
            Place::whole(format!("layers.{layer}.mlp.moe_statics.e_score_correction_bias")).in_one_row()
        }
        _ => place::with_shared_experts(spec, role, layout),
    }
}
