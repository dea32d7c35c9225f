//! Gemma 4: as Gemma 3 with norms of `w`, heads of another size and fewer keys on the layers that see everything,
//! values that are normed, and a stored scale on every layer's output.
//!
//! The small models (E2B, E4B) give every layer an input of its own and let the last layers borrow the keys and
//! values of earlier ones; the mixture (26B-A4B) has experts beside its dense feed-forward step.

use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{
    Config, FeedForwardSpec, KeysAndValues, LayerRole, MixtureBranch, ModelError, ModelSpec, NormKind,
    NormSpec, PerLayerInputSpec, Role,
};

pub(super) const FAMILY: Family = Family {
    name: "gemma4",
    model_types: &["gemma4_text", "gemma4"],
    gguf_architectures: &["gemma4"],
    defaults,
    spec,
    place,
    unused: &[
        "*vision_tower.*",
        "*embed_vision.*",
        "*audio_tower.*",
        "*embed_audio.*",
        // Layers that borrow keys and values may come with some that are never used.
        "*.self_attn.k_proj.weight",
        "*.self_attn.v_proj.weight",
        "*.self_attn.k_norm.weight",
        "blk.*.attn_k.weight",
        "blk.*.attn_v.weight",
        "blk.*.attn_k_norm.weight",
    ],
};

fn defaults() -> Value {
    json!({
        "vocab_size": 262_144,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "global_head_dim": 512,
        "max_position_embeddings": 131_072,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "attention_k_eq_v": false,
        "sliding_window": 512,
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": false,
        "enable_moe_block": false,
        "hidden_size_per_layer_input": 0,
    })
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = common::decoder(config)?;
    let norm = spec.final_norm;
    spec.embedding_scale = (spec.hidden_size as f64).sqrt() as f32;
    spec.logit_soft_cap = common::soft_cap(config, "final_logit_softcapping")?;
    set_per_layer_inputs(&mut spec, config)?;

    let last = spec.layers.len() - 1;
    common::set_windows(&mut spec, config, |layer| (layer + 1) % 6 != 0 && layer != last)?;
    common::set_attention_biases(&mut spec, config)?;
    for layer in &mut spec.layers {
        layer.post_attention_norm = Some(norm);
        layer.post_feed_forward_norm = Some(norm);
        layer.output_scale = true;
        let attention = &mut layer.attention;
        // The norms of queries and keys carry the scale.
        attention.score_scale = 1.0;
        attention.query_key_norm = Some(common::head_norm(config, NormKind::Rms)?);
        attention.value_norm = Some(NormSpec { kind: NormKind::RmsUnit, ..norm });
    }
    set_head_sizes(&mut spec, config)?;
    set_feed_forward(&mut spec, config)?;
    lend_keys_and_values(&mut spec, config)?;
    Ok(spec)
}

fn set_per_layer_inputs(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let width = config.count("hidden_size_per_layer_input")?;
    if width > 0 {
        spec.per_layer_inputs = Some(PerLayerInputSpec {
            width,
            vocab_size: config.optional_size("vocab_size_per_layer_input")?.unwrap_or(spec.vocab_size),
            activation: common::activation(config)?,
            norm: spec.final_norm,
        });
    }
    Ok(())
}

/// Heads and rotations. Configurations of transformers 5 and GGUF files give each layer's sizes; older ones name
/// those of the layers that see everything.
fn set_head_sizes(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let sizes_are_resolved = config.gives("per_layer_config") || config.is_gguf();
    let keys_are_values = config.flag("attention_k_eq_v")?;
    for layer in &mut spec.layers {
        let attention = &mut layer.attention;
        if attention.window.is_some() {
            if let Some(head_dim) = config.optional_size("head_dim_swa")? {
                attention.head_dim = head_dim;
            }
        } else if !sizes_are_resolved {
            attention.head_dim = config.size("global_head_dim")?;
            if let Some(kv_heads) = config.optional_size("num_global_key_value_heads")?
                && keys_are_values
            {
                attention.kv_heads = kv_heads;
            }
        }
        attention.value_dim = attention.head_dim;
        if keys_are_values && attention.window.is_none() {
            attention.keys_and_values = KeysAndValues::SharedProjection;
        }
        let mut rotary = match attention.window {
            Some(_) => common::rotary_of(config, "sliding_attention", attention.head_dim)?,
            None => common::rotary_of(config, "full_attention", attention.head_dim)?,
        };
        if attention.window.is_some() && !config.gives("rope_parameters") {
            rotary.base = config.number("rope_local_base_freq")?;
            rotary.dims = attention.head_dim;
            rotary.scaling = larql_compute::rotary::Scaling::None;
        }
        attention.rotary = Some(rotary);
    }
    Ok(())
}

fn set_feed_forward(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let borrowers = first_borrower(spec, config)?..;
    let norm = spec.final_norm;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        let mut size = common::required(config, "intermediate_size", index)?;
        if config.flag("use_double_wide_mlp")? && borrowers.contains(&index) {
            size *= 2;
        }
        if config.flag("enable_moe_block")? || (config.is_gguf() && config.gives("num_local_experts")) {
            let mut mixture = common::mixture(config, config.size("moe_intermediate_size")?)?;
            mixture.shared_features = Some(size);
            mixture.branch = Some(MixtureBranch {
                router_norm: NormSpec { kind: NormKind::RmsUnit, ..norm },
                input_norm: norm,
                output_norm: norm,
                shared_output_norm: norm,
            });
            layer.feed_forward = FeedForwardSpec::Mixture(mixture);
        } else if let FeedForwardSpec::Gated { features, .. } = &mut layer.feed_forward {
            *features = size;
        }
    }
    Ok(())
}

/// The first of the last layers, which have no keys and values of their own.
fn first_borrower(spec: &ModelSpec, config: &Config) -> Result<usize, ModelError> {
    Ok(spec.layers.len().saturating_sub(config.count("num_kv_shared_layers")?))
}

/// Lets the last layers borrow from the last layer before them that sees as much as they do.
fn lend_keys_and_values(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let first = first_borrower(spec, config)?;
    let (lenders, borrowers) = spec.layers.split_at_mut(first);
    for borrower in borrowers {
        let sees = |attention: &crate::AttentionSpec| attention.window.is_some();
        let wanted = sees(&borrower.attention);
        let Some(layer) = lenders.iter().rposition(|lender| sees(&lender.attention) == wanted) else {
            let problem =
                format!("`num_kv_shared_layers` leaves no layer to borrow keys from before layer {first}");
            return Err(config.contradiction(problem));
        };
        borrower.attention.keys_and_values = KeysAndValues::Borrowed { layer };
    }
    Ok(())
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    use LayerRole::*;
    let Role::Layer(layer, part) = role else { return place::common(spec, role, layout) };
    let (experts, features) = match spec.layers[layer].feed_forward.mixture() {
        Some(mixture) => (mixture.experts, mixture.features),
        None => return place::common(spec, role, layout),
    };
    let (gate_up, down) = match layout {
        Layout::Gguf => {
            (format!("blk.{layer}.ffn_gate_up_exps.weight"), format!("blk.{layer}.ffn_down_exps.weight"))
        }
        Layout::Hub | Layout::Mlx => {
            (format!("layers.{layer}.experts.gate_up_proj"), format!("layers.{layer}.experts.down_proj"))
        }
    };
    let both = 2 * features;
    match part {
        ExpertGate(expert) => Place::whole(gate_up).stacked(expert, experts).part(0..features, both),
        ExpertUp(expert) => Place::whole(gate_up).stacked(expert, experts).part(features..both, both),
        ExpertDown(expert) => Place::whole(down).stacked(expert, experts),
        _ => place::renamed(spec, role, layout, &[("mlp.gate", "router.proj")]),
    }
}
