//! Phi-3.5-MoE: layer norms, biases in attention and on the head, and a mixture of experts in every layer with the
//! router of SparseMixer.
//!
//! GGUF files do not say how near experts have to be to be rivals: as near as in the published model.

use larql_compute::rotary::Scaling;
use larql_compute::router::RouterScores;
use serde_json::{Value, json};

use super::{Family, common, mixtral};
use crate::{Config, FeedForwardSpec, ModelError, ModelSpec, NormKind};

pub(super) const FAMILY: Family = Family {
    name: "phimoe",
    model_types: &["phimoe"],
    gguf_architectures: &["phimoe"],
    defaults,
    spec,
    place: mixtral::place,
    unused: &["rope_factors_long.weight", "rope_factors_short.weight"],
};

fn defaults() -> Value {
    json!({
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": 1e-5,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "lm_head_bias": false,
        "sliding_window": null,
        "num_local_experts": 16,
        "num_experts_per_tok": 2,
        "router_jitter_noise": 0.01,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let norm = common::norm(config, NormKind::Layer, "rms_norm_eps")?;
    let mut spec = common::skeleton(config, norm, common::gated(config)?)?;
    common::set_rotary(&mut spec, config)?;
    set_attention_factor(&mut spec, config)?;
    let windowed = config.optional_size("sliding_window")?.is_some();
    common::set_windows(&mut spec, config, |_| windowed)?;
    let mut mixture = common::mixture(config, config.size("intermediate_size")?)?;
    mixture.router.scores =
        RouterScores::SoftmaxOfRivals { jitter: config.number("router_jitter_noise")? as f32 };
    mixture.router.normalise = false;
    common::set_attention_biases(&mut spec, config)?;
    spec.head_bias = config.flag("lm_head_bias")?;
    for layer in &mut spec.layers {
        layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
    }
    Ok(spec)
}

/// Sets the factor of cosine and sine in longrope: `short_mscale` and `long_mscale`, which are one number in published files,
/// in place of the factor that follows from the context (transformers, `modeling_phimoe.py`).
fn set_attention_factor(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let Some(section) = common::scaling_section(config, "full_attention")? else { return Ok(()) };
    let mscale = |key| section.optional_number(key);
    let (Some(short), Some(long)) = (mscale("short_mscale")?, mscale("long_mscale")?) else { return Ok(()) };
    if short != long {
        return Err(section.wrong(
            "long_mscale",
            format!("the number of `short_mscale`, {short}"),
            &long.into(),
        ));
    }
    for layer in &mut spec.layers {
        if let Some(Scaling::LongRope { attention_factor, .. }) =
            layer.attention.rotary.as_mut().map(|rotary| &mut rotary.scaling)
        {
            *attention_factor = short;
        }
    }
    Ok(())
}
