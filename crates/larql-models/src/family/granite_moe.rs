//! Granite 3 with mixtures of experts: as Granite, with experts in every layer, whose matrices are stored in two
//! tensors.

use larql_compute::router::RouterScores;
use serde_json::{Value, json};

use super::{Family, Layout, Place, common, granite, place};
use crate::{Config, FeedForwardSpec, LayerRole, ModelError, ModelSpec, Role};

pub(super) const FAMILY: Family = Family {
    name: "granite_moe",
    model_types: &["granitemoe"],
    gguf_architectures: &["granitemoe"],
    defaults,
    spec,
    place,
    unused: &[],
};

fn defaults() -> Value {
    let (mut all, own) = (granite::defaults(), json!({ "num_local_experts": 8, "num_experts_per_tok": 2 }));
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
}

fn spec(config: &Config) -> Result<ModelSpec, ModelError> {
    let mut spec = granite::spec(config)?;
    let mut mixture = common::mixture(config, config.size("intermediate_size")?)?;
    mixture.router.scores = RouterScores::SoftmaxOfChosen;
    mixture.router.normalise = false;
    for layer in &mut spec.layers {
        layer.feed_forward = FeedForwardSpec::Mixture(mixture.clone());
    }
    Ok(spec)
}

fn place(spec: &ModelSpec, role: Role, layout: Layout) -> Place {
    use LayerRole::{ExpertDown, ExpertGate, ExpertUp};
    let Role::Layer(layer, part) = role else { return place::common(spec, role, layout) };
    let Some(mixture) = spec.layers[layer].feed_forward.mixture().filter(|_| layout != Layout::Gguf) else {
        return place::common(spec, role, layout);
    };
    let features = mixture.features;
    let stacked = |expert: usize, name: &str| {
        Place::whole(format!("layers.{layer}.block_sparse_moe.{name}.weight"))
            .stacked(expert, mixture.experts)
    };
    match part {
        ExpertGate(expert) => stacked(expert, "input_linear").part(0..features, 2 * features),
        ExpertUp(expert) => stacked(expert, "input_linear").part(features..2 * features, 2 * features),
        ExpertDown(expert) => stacked(expert, "output_linear"),
        _ => place::renamed(spec, role, layout, &[("mlp.gate", "block_sparse_moe.router.layer")]),
    }
}
