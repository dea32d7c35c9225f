//! Writing `down_meta.bin`, which takes most of an extraction's time: each layer goes into a file of its own
//! first, so that an extraction that stops here loses one layer at most.

use larql_compute::{Matrix, Pool, release_pages};
use larql_models::{LayerRole, Role, WeightSource};

use super::ExtractOptions;
use super::top_tokens::top_tokens;
use super::workspace::Workspace;
use crate::VindexError;
use crate::component::DOWN_META_FILE;
use crate::down_meta::{encode_layer, header};
use larql_core::progress::{Meter, Progress, Stage};

/// Finds the strongest output tokens of every feature and writes them. Layers that are not wanted have no
/// features in the file.
pub(crate) fn write(
    source: &dyn WeightSource,
    options: &ExtractOptions,
    workspace: &mut Workspace,
    pool: &Pool,
    progress: &dyn Progress,
) -> Result<(), VindexError> {
    let spec = source.spec();
    let layers = 0..spec.layers.len();
    let part = |layer: usize| format!("{DOWN_META_FILE}.layer{layer}");
    if workspace.finished(DOWN_META_FILE).is_none() {
        let head = source.matrix(if spec.tied_head { Role::Embedding } else { Role::Head })?;
        let features = |layer: usize| match options.wants_layer(layer) {
            true => spec.layers[layer].feed_forward.features(),
            false => 0,
        };
        let total: usize = layers.clone().map(features).sum();
        let mut meter = Meter::new(progress, Stage::DownMeta, total as u64);
        for layer in layers.clone() {
            meter.set_item(&format!("layer {layer}"));
            if workspace.finished(&part(layer)).is_some() {
                meter.advance(features(layer) as u64)?;
                continue;
            }
            let records = match features(layer) {
                0 => records(&[], options.top_k),
                _ => layer_records(pool, &head, (source, layer), options.top_k, &mut meter)?,
            };
            workspace.write(&part(layer), &records)?;
        }
        let mut writer = workspace.create(DOWN_META_FILE)?;
        writer.write(&header(spec.layers.len(), options.top_k))?;
        for layer in layers.clone() {
            let path = workspace.directory().join(part(layer));
            writer.write(&std::fs::read(&path).map_err(VindexError::io(&path))?)?;
        }
        workspace.finish(DOWN_META_FILE, writer)?;
    }
    layers.into_iter().try_for_each(|layer| workspace.remove(&part(layer)))
}

/// The records of a layer: in a mixture, of one expert after the other.
fn layer_records(
    pool: &Pool,
    head: &Matrix,
    (source, layer): (&dyn WeightSource, usize),
    top_k: usize,
    meter: &mut Meter<'_>,
) -> Result<Vec<u8>, VindexError> {
    let feed_forward = &source.spec().layers[layer].feed_forward;
    let experts = feed_forward.mixture().map_or(0, |mixture| mixture.experts);
    let dense = (feed_forward.dense_features() > 0).then_some(LayerRole::Down);
    let mut features = Vec::new();
    for role in (0..experts).map(LayerRole::ExpertDown).chain(dense) {
        let down = source.matrix(Role::Layer(layer, role))?;
        let mut done = 0.0;
        features.extend(top_tokens(pool, head, down.view(), top_k, |share| {
            let before = done as u64;
            done += share * down.cols() as f64;
            Ok(meter.advance(done as u64 - before)?)
        })?);
        release_pages(down.bytes());
    }
    release_pages(head.bytes());
    Ok(records(&features, top_k))
}

fn records(features: &[Vec<crate::TokenScore>], top_k: usize) -> Vec<u8> {
    let mut records = Vec::new();
    encode_layer(features, top_k, &mut records);
    records
}
