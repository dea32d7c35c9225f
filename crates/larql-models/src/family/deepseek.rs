//! DeepSeek V2 and V3 (arXiv 2405.04434, 2412.19437): latent keys and values, queries through a narrow vector, and
//! after the first layers mixtures of many small experts, in groups, with shared ones that every token passes.
//!
//! Files may hold layers that predict several tokens ahead, after the last one; they are not part of the model.

use larql_compute::rotary::{Pairing, Scaling};
use larql_compute::router::{ExpertGroups, RouterScores};
use serde_json::{Value, json};

use super::{Family, Layout, Place, common, place};
use crate::{
    Config, FeedForwardSpec, KeysAndValues, LayerRole, LowRank, MixtureSpec, ModelError, ModelSpec, NormKind,
    NormSpec, Role,
};

pub(super) const FAMILY: Family = Family {
    name: "deepseek",
    model_types: &["deepseek_v2", "deepseek_v3"],
    gguf_architectures: &["deepseek2"],
    defaults,
    spec,
    place,
    unused: &["*layers.#.*", "blk.#.*"],
};

fn defaults() -> Value {
    json!({
        "max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "silu",
        "tie_word_embeddings": false,
        "attention_bias": false,
        "first_k_dense_replace": 0,
        "moe_layer_freq": 1,
        "n_shared_experts": null,
        "routed_scaling_factor": 1.0,
        "norm_topk_prob": true,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
    })
}

/// The norms of narrow vectors have this epsilon, whatever the configuration says of the others.
const LOW_RANK_EPSILON: f32 = 1e-6;

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    if config.flag("attention_bias")? {
        let advice = "no published model has them";
        return Err(ModelError::unsupported(config.path(), "biases in latent attention", advice));
    }
    let mut spec = common::decoder(config)?;
    set_attention(&mut spec, config)?;
    let mixture = mixture(config)?;
    let (first, every) = (config.count("first_k_dense_replace")?, config.size("moe_layer_freq")?);
    let layers = spec.layers.iter_mut().enumerate().skip(first);
    for (_, layer) in layers.filter(|(index, _)| index.is_multiple_of(every)) {
        layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
    }
    Ok(spec)
}

fn set_attention(spec: &mut ModelSpec, config: &Config) -> Result<(), ModelError> {
    let low_rank = |rank| LowRank { rank, norm: NormSpec { kind: NormKind::Rms, epsilon: LOW_RANK_EPSILON } };
    let (own, shared_dims, value_dim) = match config.is_gguf() {
        false => {
            (config.size("qk_nope_head_dim")?, config.size("qk_rope_head_dim")?, config.size("v_head_dim")?)
        }
        true => {
            let shared = config.size("rotary_dim")?;
            let mla = config.gives("qk_head_dim");
            let (head, value) =
                if mla { ("qk_head_dim", "v_head_dim") } else { ("head_dim", "value_length") };
            (config.size(head)?.saturating_sub(shared), shared, config.size(value)?)
        }
    };
    let latent = low_rank(config.size("kv_lora_rank")?);
    let query_rank = config.optional_size("q_lora_rank")?.map(low_rank);
    let mut rotary = common::rotary(config, shared_dims)?;
    rotary.pairing = Pairing::Interleaved;
    let scale = common::score_scale((own + shared_dims) as f64) * score_growth(config, &rotary.scaling)?;
    for layer in &mut spec.layers {
        let attention = &mut layer.attention;
        attention.kv_heads = attention.heads;
        attention.head_dim = own + shared_dims;
        attention.value_dim = value_dim;
        attention.query_rank = query_rank;
        attention.keys_and_values = KeysAndValues::Latent { latent, shared_dims };
        attention.rotary = Some(rotary.clone());
        attention.score_scale = scale;
    }
    Ok(())
}

/// Scores grow with the context: by the square of what YaRN would multiply cosine and sine by, with a weight of
/// DeepSeek's own on the logarithm.
fn score_growth(config: &Config, scaling: &Scaling) -> Result<f32, ModelError> {
    let Scaling::Yarn { factor, .. } = scaling else { return Ok(1.0) };
    let weight = match common::scaling_section(config, "full_attention")? {
        Some(parameters) => parameters.optional_number("mscale_all_dim")?.unwrap_or(0.0),
        None => 0.0,
    };
    let growth = if *factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 };
    Ok((growth * growth) as f32)
}

fn mixture(config: &Config) -> Result<MixtureSpec, ModelError> {
    /// `expert_gating_func` of GGUF files that stands for the sigmoid.
    const SIGMOID: usize = 2;
    let is_third = match config.is_gguf() {
        true => config.optional_size("expert_gating_func")? == Some(SIGMOID),
        false => config.text("model_type")? == "deepseek_v3",
    };
    if is_third {
        return corrected_mixture(config);
    }
    let mut mixture = scaled_mixture(config)?;
    if config.is_gguf() || config.text("topk_method")? == "group_limited_greedy" {
        mixture.router.groups = groups(config, 1)?;
    }
    Ok(mixture)
}

/// The mixture of DeepSeek V3, and of models that copied it: sigmoids, a correction of the choice, and groups that are
/// ranked by their two best experts.
pub(super) fn corrected_mixture(config: &Config) -> Result<MixtureSpec, ModelError> {
    let mut mixture = scaled_mixture(config)?;
    mixture.score_correction = true;
    mixture.router.scores = RouterScores::Sigmoid;
    mixture.router.normalise = config.flag("norm_topk_prob")?;
    mixture.router.groups = groups(config, 2)?;
    Ok(mixture)
}

/// A mixture with shared experts whose shares are scaled and not made to add up to 1.
fn scaled_mixture(config: &Config) -> Result<MixtureSpec, ModelError> {
    let features = config.size("moe_intermediate_size")?;
    let mut mixture = common::mixture(config, features)?;
    mixture.shared_features = config.optional_size("n_shared_experts")?.map(|count| count * features);
    mixture.router.normalise = false;
    mixture.router.scale = config.number("routed_scaling_factor")? as f32;
    Ok(mixture)
}

fn groups(config: &Config, best: usize) -> Result<Option<ExpertGroups>, ModelError> {
    let (count, kept) = (config.size("n_group")?, config.size("topk_group")?);
    Ok(Some(ExpertGroups { count, kept, best }).filter(|groups| groups.count > 1))
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    let Role::Layer(layer, part) = role else { return place::common(spec, role, layout) };
    let layer = &spec.layers[layer];
    if part == LayerRole::Query && layer.attention.query_rank.is_some() {
        return place::renamed(spec, role, layout, &[("self_attn.q_proj", "self_attn.q_b_proj")]);
    }
    place::with_shared_experts(spec, role, layout)
}
