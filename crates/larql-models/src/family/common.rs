//! The common decoder that families state their differences against, and the pieces they share.

use larql_compute::rotary::{Pairing, RotarySpec, Scaling};
use larql_compute::router::{RouterScores, RouterSpec};
use serde_json::Value;

use crate::{
    Activation, AttentionSpec, Config, FeedForwardSpec, KeysAndValues, LayerSpec, MixtureSpec, ModelError,
    ModelSpec, NormKind, NormSpec, QueryKeyNorm,
};

/// More layers than any model has; keeps a damaged configuration from filling memory.
const MOST_LAYERS: usize = 1024;

/// A decoder as Llama's: RMS norms before both branches, rotary positions, gated feed-forward, no biases.
pub(super) fn decoder(config: &Config) -> Result<ModelSpec, ModelError> {
    let norm = norm(config, NormKind::Rms, "rms_norm_eps")?;
    let mut spec = skeleton(config, norm, gated(config)?)?;
    set_rotary(&mut spec, config)?;
    Ok(spec)
}

/// The gated feed-forward step without biases.
pub(super) fn gated(config: &Config) -> Result<FeedForwardSpec, ModelError> {
    Ok(FeedForwardSpec::Gated {
        features: required(config, "intermediate_size", 0)?,
        activation: activation(config)?,
        bias: false,
    })
}

/// Replaces every layer's feed-forward step by a plain one without biases.
pub(super) fn set_plain(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let features = required(config, "intermediate_size", 0)?;
    let activation = activation(config)?;
    for layer in &mut spec.layers {
        layer.feed_forward = FeedForwardSpec::Plain { features, activation, bias: false };
    }
    Ok(())
}

/// Gives every layer the rotation that the configuration describes.
pub(super) fn set_rotary(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let rotary = rotary(config, spec.layers[0].attention.head_dim)?;
    for layer in &mut spec.layers {
        layer.attention.rotary = Some(rotary.clone());
    }
    Ok(())
}

/// Biases on all projections of attention (`attention_bias`) and of the feed-forward step (`mlp_bias`), where
/// the configuration has them.
pub(super) fn set_biases(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    set_attention_biases(spec, config)?;
    let bias = config.flag("mlp_bias")?;
    spec.layers.iter_mut().for_each(|layer| layer.feed_forward.set_bias(bias));
    Ok(())
}

/// Features of an expert: `moe_intermediate_size`, which GGUF files give in newer versions alone, or else `intermediate_size`.
pub(super) fn expert_features(config: &Config) -> Result<usize, ModelError> {
    match config.optional_size("moe_intermediate_size")? {
        Some(features) => Ok(features),
        None => config.size("intermediate_size"),
    }
}

/// Biases on all projections of attention (`attention_bias`), where the configuration has them.
pub(super) fn set_attention_biases(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let bias = config.flag("attention_bias")?;
    for layer in &mut spec.layers {
        layer.attention.qkv_bias = bias;
        layer.attention.output_bias = bias;
    }
    Ok(())
}

/// The rows of Q and K are permuted in the GGUF files of some architectures, so that pairs are neighbours.
pub(super) fn set_gguf_pairing(spec: &mut ModelSpec, config: &Config) {
    if config.is_gguf() {
        set_pairing(spec, Pairing::Interleaved);
    }
}

/// Gives every rotation this pairing.
pub(super) fn set_pairing(spec: &mut ModelSpec, pairing: Pairing) {
    let rotaries = spec.layers.iter_mut().filter_map(|layer| layer.attention.rotary.as_mut());
    rotaries.for_each(|rotary| rotary.pairing = pairing);
}

/// A decoder with a norm before both branches and no positions, all layers alike.
pub(super) fn skeleton(
    config: &Config,
    norm: NormSpec,
    feed_forward: FeedForwardSpec,
) -> Result<ModelSpec, ModelError> {
    let hidden_size = config.size("hidden_size")?;
    let layer_count = config.size("num_hidden_layers")?;
    if layer_count > MOST_LAYERS {
        let found = Value::from(layer_count);
        return Err(config.wrong("num_hidden_layers", format!("at most {MOST_LAYERS} layers"), &found));
    }
    let layer = |index: usize| -> Result<LayerSpec, ModelError> {
        Ok(LayerSpec {
            attention: attention(config, hidden_size, index)?,
            feed_forward: feed_forward.clone(),
            attention_norm: Some(norm),
            post_attention_norm: None,
            feed_forward_norm: Some(norm),
            post_feed_forward_norm: None,
            parallel: false,
            residual_multiplier: 1.0,
            output_scale: false,
        })
    };
    Ok(ModelSpec {
        family: String::new(),
        hidden_size,
        vocab_size: config.size("vocab_size")?,
        context_length: config.size("max_position_embeddings")?,
        embedding_scale: 1.0,
        learned_positions: false,
        per_layer_inputs: None,
        layers: (0..layer_count).map(layer).collect::<Result<_, _>>()?,
        final_norm: norm,
        tied_head: config.flag("tie_word_embeddings")?,
        head_bias: false,
        logit_scale: 1.0,
        logit_soft_cap: None,
    })
}

/// Attention with the sizes of one layer, and nothing unusual.
fn attention(config: &Config, hidden_size: usize, layer: usize) -> Result<AttentionSpec, ModelError> {
    let heads = required(config, "num_attention_heads", layer)?;
    let head_dim = match config.layer_size("head_dim", layer)? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            return Err(config.contradiction(format!(
                "the hidden size {hidden_size} is not a multiple of the {heads} attention heads, \
                 and `head_dim` is not given"
            )));
        }
    };
    Ok(AttentionSpec {
        heads,
        kv_heads: config.layer_size("num_key_value_heads", layer)?.unwrap_or(heads),
        head_dim,
        value_dim: head_dim,
        rotary: None,
        window: None,
        score_scale: score_scale(head_dim as f64),
        score_soft_cap: None,
        qkv_bias: false,
        output_bias: false,
        query_key_norm: None,
        value_norm: None,
        sinks: false,
        query_rank: None,
        keys_and_values: KeysAndValues::Projected,
        query_growth: None,
    })
}

/// A positive number of things in one layer.
pub(super) fn required(config: &Config, key: &str, layer: usize) -> Result<usize, ModelError> {
    config.layer_size(key, layer)?.ok_or_else(|| config.missing(key, "a positive integer"))
}

/// A mixture of as many experts as the configuration says, with a router as Mixtral's: softmax over all experts, the
/// chosen ones' shares made to add up to 1.
pub(super) fn mixture(config: &Config, features: usize) -> Result<MixtureSpec, ModelError> {
    Ok(MixtureSpec {
        experts: config.size("num_local_experts")?,
        features,
        activation: activation(config)?,
        bias: false,
        router: RouterSpec {
            chosen: config.size("num_experts_per_tok")?,
            scores: RouterScores::Softmax,
            groups: None,
            normalise: true,
            scale: 1.0,
        },
        router_bias: false,
        score_correction: false,
        shared_features: None,
        shared_gate: false,
        branch: None,
    })
}

/// Puts a mixture into every layer whose number is a multiple of `decoder_sparse_step` and not in `mlp_only_layers`.
pub(super) fn set_sparse_steps(
    spec: &mut ModelSpec,
    config: &Config,
    mixture: &MixtureSpec,
) -> Result<(), ModelError> {
    let step = config.size("decoder_sparse_step")?;
    let dense = config.optional_list("mlp_only_layers")?.unwrap_or_default();
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if (index + 1).is_multiple_of(step) && !dense.iter().any(|layer| *layer == index) {
            layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
        }
    }
    Ok(())
}

/// The common part of Gemma 2 and 3. The largest model of each, which has `largest_layers` layers, is the only one
/// whose scores are scaled by another width than the head's: GGUF files do not say so.
pub(super) fn gemma_decoder(config: &Config, largest_layers: usize) -> Result<ModelSpec, ModelError> {
    let mut spec = decoder(config)?;
    let norm = NormSpec { kind: gemma_norm_kind(config), ..spec.final_norm };
    let attention_bias = config.flag("attention_bias")?;
    spec.embedding_scale = (spec.hidden_size as f64).sqrt() as f32;
    spec.final_norm = norm;

    let layer_count = spec.layers.len();
    for layer in &mut spec.layers {
        layer.attention_norm = Some(norm);
        layer.post_attention_norm = Some(norm);
        layer.feed_forward_norm = Some(norm);
        layer.post_feed_forward_norm = Some(norm);
        let attention = &mut layer.attention;
        attention.qkv_bias = attention_bias;
        attention.output_bias = attention_bias;
        attention.score_scale = score_scale(match config.is_gguf() {
            false => config.number("query_pre_attn_scalar")?,
            true if layer_count == largest_layers => spec.hidden_size as f64 / attention.heads as f64,
            true => attention.head_dim as f64,
        });
    }
    Ok(spec)
}

/// Gemma's norms multiply by `1 + w`; GGUF files hold the sum.
pub(super) fn gemma_norm_kind(config: &Config) -> NormKind {
    if config.is_gguf() { NormKind::Rms } else { NormKind::RmsOnePlus }
}

/// A norm whose epsilon is called `key`. GGUF files always give it, whatever the family's default.
pub(super) fn norm(config: &Config, kind: NormKind, key: &str) -> Result<NormSpec, ModelError> {
    if config.is_gguf() && !config.gives(key) {
        return Err(config.missing(key, "a number"));
    }
    Ok(NormSpec { kind, epsilon: config.number(key)? as f32 })
}

/// A norm over each head of queries and keys.
pub(super) fn head_norm(config: &Config, kind: NormKind) -> Result<QueryKeyNorm, ModelError> {
    Ok(QueryKeyNorm::of_heads(norm(config, kind, "rms_norm_eps")?))
}

/// The scale of scores between vectors of `width` dimensions.
pub(super) fn score_scale(width: f64) -> f32 {
    width.powf(-0.5) as f32
}

pub(super) fn soft_cap(config: &Config, key: &str) -> Result<Option<f32>, ModelError> {
    Ok(config.optional_number(key)?.map(|cap| cap as f32))
}

/// The feed-forward's non-linearity.
pub(super) fn activation(config: &Config) -> Result<Activation, ModelError> {
    match config.text("hidden_activation")? {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu2" => Ok(Activation::ReluSquared),
        other => {
            let known = "one of silu, swish, gelu, gelu_new, gelu_pytorch_tanh, relu2";
            Err(config.wrong("hidden_activation", known, &other.into()))
        }
    }
}

/// Gives the window to the layers that `layer_types` calls sliding or, where it is absent, to those for which
/// `rule` holds.
pub(super) fn set_windows(
    spec: &mut ModelSpec,
    config: &Config,
    rule: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let layer_count = spec.layers.len();
    let sliding: Vec<bool> = match config.optional_list("layer_types")? {
        None => (0..layer_count).map(rule).collect(),
        Some(types) if types.len() != layer_count => {
            return Err(config.contradiction(format!(
                "`layer_types` lists {} layers, but `num_hidden_layers` is {layer_count}",
                types.len()
            )));
        }
        Some(types) => types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                _ => Err(config.wrong("layer_types", "full_attention or sliding_attention", kind)),
            })
            .collect::<Result<_, _>>()?,
    };
    if sliding.contains(&true) {
        let window = config.size("sliding_window")?;
        for (layer, _) in spec.layers.iter_mut().zip(sliding).filter(|(_, sliding)| *sliding) {
            layer.attention.window = Some(window);
        }
    }
    Ok(())
}

/// The window that some layers have; none where a GGUF file, which has no defaults, does not give it.
pub(super) fn given_window(config: &Config) -> Result<Option<usize>, ModelError> {
    match config.is_gguf() && !config.gives("sliding_window") {
        true => Ok(None),
        false => config.optional_size("sliding_window"),
    }
}

/// Windows on all layers but those whose number is a multiple of `sliding_window_pattern`, unless `layer_types` lists
/// them.
pub(super) fn set_pattern_windows(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let pattern = match config.gives("layer_types") {
        true => 1,
        false => config.size("sliding_window_pattern")?,
    };
    set_windows(spec, config, |layer| !(layer + 1).is_multiple_of(pattern))
}

/// Qwen's windows: none unless `use_sliding_window`, then from layer `max_window_layers` upwards.
pub(super) fn set_upper_windows(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    if !config.flag("use_sliding_window")? {
        return Ok(());
    }
    let first = config.count("max_window_layers")?;
    set_windows(spec, config, |layer| layer >= first)
}

/// The rotation of layers that see everything: `rope_parameters` as transformers 5 writes it, or `rope_theta`
/// and `rope_scaling` as published files have them.
pub(super) fn rotary(config: &Config, head_dim: usize) -> Result<RotarySpec, ModelError> {
    rotary_of(config, "full_attention", head_dim)
}

/// The rotation of layers with a window, where the scaling of `rope_scaling` is not theirs: what `rope_parameters` says
/// of them, else with a base of its own where the configuration gives it.
pub(super) fn local_rotary(config: &Config, head_dim: usize) -> Result<RotarySpec, ModelError> {
    let mut rotary = rotary_of(config, "sliding_attention", head_dim)?;
    let has_own = match config.section("rope_parameters")? {
        Some(parameters) => parameters.gives("sliding_attention"),
        None => false,
    };
    if !has_own {
        rotary.scaling = Scaling::None;
        rotary.base = config.optional_number("rope_local_base_freq")?.unwrap_or(rotary.base);
    }
    Ok(rotary)
}

/// As [`rotary`], for layers of `layer_type`.
pub(super) fn rotary_of(
    config: &Config,
    layer_type: &str,
    head_dim: usize,
) -> Result<RotarySpec, ModelError> {
    let parameters = rope_parameters(config, layer_type)?;
    let mut base = match &parameters {
        Some(parameters) if parameters.gives("rope_theta") => {
            let base = parameters.number("rope_theta")?;
            if config.gives("rope_theta") && config.number("rope_theta")? != base {
                let other = config.number("rope_theta")?;
                return Err(
                    config.contradiction(format!("`rope_theta` is {other}, but {base} in `rope_parameters`"))
                );
            }
            base
        }
        _ => config.number("rope_theta")?,
    };
    let scaling = scaling_section(config, layer_type)?;
    let share = match &scaling {
        Some(section) if section.gives("partial_rotary_factor") => section.number("partial_rotary_factor")?,
        _ => config.optional_number("partial_rotary_factor")?.unwrap_or(1.0),
    };
    let turned = (head_dim as f64 * share) as usize;
    if let Some(section) = &scaling
        && section.optional_text("rope_type")? == Some("proportional")
    {
        let factor = section.optional_number("factor")?.unwrap_or(1.0);
        let scaling = Scaling::Proportional { rotated_pairs: turned / 2, factor };
        return Ok(RotarySpec { base, dims: head_dim, pairing: Pairing::Halves, scaling });
    }
    let dims = config.optional_size("rotary_dim")?.unwrap_or(turned);
    if let Some(section) = &scaling
        && section.optional_text("rope_type")? == Some("dynamic")
        && let Some(alpha) = section.optional_number("alpha")?
        && dims > 2
    {
        // NTK-aware scaling at a fixed length, which stretches the base once and for all (Hunyuan).
        base *= alpha.powf(dims as f64 / (dims as f64 - 2.0));
        return Ok(RotarySpec { base, dims, pairing: Pairing::Halves, scaling: Scaling::None });
    }
    let scaling = match scaling {
        Some(section) => rope_scaling(config, &section, dims / 2)?,
        None => Scaling::None,
    };
    Ok(RotarySpec { base, dims, pairing: Pairing::Halves, scaling })
}

/// The section `rope_parameters`: its part for layers of `layer_type` if it has parts, else all of it.
pub(super) fn rope_parameters(config: &Config, layer_type: &str) -> Result<Option<Config>, ModelError> {
    let Some(parameters) = config.section("rope_parameters")? else { return Ok(None) };
    Ok(Some(parameters.section(layer_type)?.unwrap_or(parameters)))
}

/// The section that says how the rotation of layers of `layer_type` is scaled.
pub(super) fn scaling_section(config: &Config, layer_type: &str) -> Result<Option<Config>, ModelError> {
    match rope_parameters(config, layer_type)? {
        Some(parameters) => Ok(Some(parameters)),
        None => config.section("rope_scaling"),
    }
}

/// `pairs` is the number of frequencies.
fn rope_scaling(config: &Config, section: &Config, pairs: usize) -> Result<Scaling, ModelError> {
    let original_context = || -> Result<usize, ModelError> {
        match section.optional_size("original_max_position_embeddings")? {
            Some(size) => Ok(size),
            None => match config.optional_size("original_max_position_embeddings")? {
                Some(size) => Ok(size),
                None => config.size("max_position_embeddings"),
            },
        }
    };
    let number_or = |key: &str, default: f64| -> Result<f64, ModelError> {
        Ok(section.optional_number(key)?.unwrap_or(default))
    };
    match section.optional_text("rope_type")? {
        None | Some("default" | "none") => Ok(Scaling::None),
        Some("linear") => Ok(Scaling::Linear { factor: section.number("factor")? }),
        Some("dynamic") => {
            Ok(Scaling::Dynamic { factor: section.number("factor")?, original_context: original_context()? })
        }
        Some("llama3") => Ok(Scaling::Llama3 {
            factor: section.number("factor")?,
            low_freq_factor: section.number("low_freq_factor")?,
            high_freq_factor: section.number("high_freq_factor")?,
            original_context: section.size("original_max_position_embeddings")?,
        }),
        Some("yarn") => {
            let factor = section.number("factor")?;
            Ok(Scaling::Yarn {
                factor,
                original_context: original_context()?,
                beta_fast: number_or("beta_fast", 32.0)?,
                beta_slow: number_or("beta_slow", 1.0)?,
                attention_factor: yarn_attention_factor(section, factor)?,
                truncate: !section.gives("truncate") || section.flag("truncate")?,
            })
        }
        Some("longrope" | "su") => {
            let original_context = original_context()?;
            let grown = config.size("max_position_embeddings")? as f64 / original_context as f64;
            let factor = number_or("factor", grown)?;
            let default = match factor > 1.0 {
                true => (1.0 + factor.ln() / (original_context as f64).ln()).sqrt(),
                false => 1.0,
            };
            Ok(Scaling::LongRope {
                short_factor: section.numbers("short_factor", pairs)?,
                long_factor: section.numbers("long_factor", pairs)?,
                original_context,
                attention_factor: number_or("attention_factor", default)?,
            })
        }
        Some(other) => {
            let known = "one of default, linear, dynamic, llama3, yarn, longrope, proportional";
            Err(section.wrong("rope_type", known, &other.into()))
        }
    }
}

/// Factor of cosine and sine in YaRN: given, or `0.1 ln(factor) + 1`, with DeepSeek's two weights on the
/// logarithm (numerator and denominator of a ratio) where they are given.
fn yarn_attention_factor(section: &Config, factor: f64) -> Result<f64, ModelError> {
    if let Some(given) = section.optional_number("attention_factor")? {
        return Ok(given);
    }
    let grown = |weight: f64| if factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 };
    let weights = (section.optional_number("mscale")?, section.optional_number("mscale_all_dim")?);
    Ok(match weights {
        (Some(numerator), Some(denominator)) if numerator != 0.0 && denominator != 0.0 => {
            grown(numerator) / grown(denominator)
        }
        _ => grown(1.0),
    })
}
