//! `index.json` of a new vindex.

use std::collections::BTreeMap;

use larql_models::{KeysAndValues, ModelSpec};
use larql_vindex_spec::{
    Band, CONTAINER_VERSION, CONTRACT_VERSION, LayerBands, Manifest, ModelConfig, Source,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::input::ExtractInput;
use super::plan::Plan;
use super::tensors::Drift;
use super::writer::FinishedFile;
use super::{ExtractOptions, Storage};
use crate::component::Component;

/// The manifest of a planned vindex whose files are all there.
pub(crate) fn build(
    input: &ExtractInput<'_>,
    plan: &Plan,
    options: &ExtractOptions,
    files: &BTreeMap<String, FinishedFile>,
    drift: &[Drift],
) -> Manifest {
    let spec = input.weights.spec();
    let checksums =
        files.iter().filter(|(name, _)| Component::of_file(name).is_none_or(Component::has_checksums));
    let widths = spec.layers.iter().map(|layer| layer.feed_forward.features());
    // Readers of old expect three spans, or derive them as this one does.
    let bands = LayerBands::derive(spec.layers.len());
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).ok();
    Manifest {
        version: CONTAINER_VERSION,
        vindex_spec_version: Some(CONTRACT_VERSION),
        model: input.model.clone(),
        family: spec.family.clone(),
        source: Some(Source {
            extracted_at: now.and_then(|now| now.format(&Rfc3339).ok()),
            ..input.source.clone()
        }),
        checksums: Some(checksums.map(|(name, file)| (name.clone(), file.sha256.clone())).collect()),
        num_layers: spec.layers.len(),
        hidden_size: spec.hidden_size,
        intermediate_size: widths.max().unwrap_or(0),
        vocab_size: spec.vocab_size,
        embed_scale: spec.embedding_scale,
        extract_level: Some(plan.level),
        dtype: Some(plan.float),
        quant: plan.quant(),
        layer_bands: Some(bands).filter(|bands| bands.syntax != Band::empty()),
        layers: plan.slots.clone(),
        down_top_k: options.top_k,
        has_model_weights: plan.level.has_model_weights(),
        model_config: model_config(spec),
        spec: serde_json::to_value(spec).ok(),
        extra: extra(spec).into_iter().chain(mix(options)).chain(repacked(input, plan, drift)).collect(),
        self_digest: None,
    }
}

/// Field about the mix of formats that the weights were quantised in.
fn mix(options: &ExtractOptions) -> Option<(String, Value)> {
    let Storage::Mix(mix) = options.storage else { return None };
    let weighted = options.importance.is_some();
    Some(("mix".to_owned(), json!({ "name": mix, "by_importance": weighted })))
}

/// Field about a source that a library quantised: the library, and by format the number of matrices that hold its values
/// only nearly, with their largest error.
fn repacked(input: &ExtractInput<'_>, plan: &Plan, drift: &[Drift]) -> Option<(String, Value)> {
    let method = input.quantisation?;
    let mut formats: BTreeMap<&str, Nearness> = BTreeMap::new();
    for drift in drift {
        let nearness = formats.entry(drift.format.name()).or_default();
        nearness.tensors += 1;
        nearness.least_cosine = nearness.least_cosine.min(drift.cosine);
        nearness.largest_difference = nearness.largest_difference.max(drift.max_difference);
    }
    let all: usize = plan.files.iter().map(|file| file.tensors.len()).sum();
    let exact = all.saturating_sub(drift.len());
    Some(("repacked".to_owned(), json!({ "from": method, "exact_tensors": exact, "formats": formats })))
}

/// Matrices of one format that are near to those of the source.
#[derive(Serialize)]
struct Nearness {
    tensors: usize,
    /// Smallest cosine of stored and source values.
    least_cosine: f64,
    /// Largest difference of two corresponding values.
    largest_difference: f64,
}

impl Default for Nearness {
    fn default() -> Nearness {
        Nearness { tensors: 0, least_cosine: 1.0, largest_difference: 0.0 }
    }
}

/// Fields about mixtures, which most models do not have.
fn extra(spec: &ModelSpec) -> Map<String, Value> {
    let Some(mixture) = spec.layers.iter().find_map(|layer| layer.feed_forward.mixture()) else {
        return Map::new();
    };
    let moe = json!({
        "num_experts": mixture.experts,
        "num_experts_per_token": mixture.router.chosen,
        "num_features_per_expert": mixture.features,
        "num_shared_features": mixture.shared_features.unwrap_or(0),
    });
    Map::from_iter([("moe_config".to_owned(), moe), ("ffn_layout".to_owned(), json!("per_layer"))])
}

/// Settings of the forward pass for readers that do not know `spec`, as far as their fields can express them.
fn model_config(spec: &ModelSpec) -> Option<ModelConfig> {
    let attention = || spec.layers.iter().map(|layer| &layer.attention);
    let first = attention().next()?;
    let base = |windowed: bool| {
        let layer = attention().find(|attention| attention.window.is_some() == windowed)?;
        Some(layer.rotary.as_ref()?.base)
    };
    let windowed = attention().any(|attention| attention.window.is_some());
    let layer_type =
        |windowed: bool| if windowed { "sliding_attention" } else { "full_attention" }.to_owned();
    Some(ModelConfig {
        model_type: spec.family.clone(),
        head_dim: first.head_dim,
        num_q_heads: first.heads,
        num_kv_heads: first.kv_heads,
        rope_base: base(false).or(base(true)),
        rope_local_base: base(true),
        sliding_window: attention().find_map(|attention| attention.window),
        layer_types: windowed.then(|| attention().map(|a| layer_type(a.window.is_some())).collect()),
        attention_k_eq_v: attention().any(|a| a.keys_and_values == KeysAndValues::SharedProjection),
        query_pre_attn_scalar: windowed.then(|| f64::from(first.score_scale).powi(-2)),
        ..ModelConfig::default()
    })
}
