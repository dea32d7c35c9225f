//! The tokens that features answer to most.

use larql_compute::{Activations, Pool};
use larql_models::{Role, WeightSource};

use crate::search::TokenTexts;
use crate::{FeatureStore, Vindex, VindexError};
use larql_core::progress::Meter;

/// Tokens that are remembered for a feature.
const KEPT: usize = 5;
/// Tokens whose scores are held at a time.
const BLOCK: usize = 256;
/// Tokens that are tried; vocabularies begin with the frequent ones.
const MOST_TOKENS: usize = 32_768;

/// The words of the vocabulary that features are tried with.
pub(super) fn vocabulary(vindex: &Vindex, texts: &dyn TokenTexts) -> Vec<u32> {
    let rows = vindex.matrix(Role::Embedding).map_or(0, |embedding| embedding.rows()) as u32;
    (0..rows).filter(|token| texts.word(*token).is_some()).take(MOST_TOKENS).collect()
}

/// For each feature of a layer those of `tokens` whose embeddings, as the layer's norm prepares them, have the largest
/// product with its gate row; the largest first.
pub(super) fn of_layer(
    vindex: &Vindex,
    pool: &Pool,
    layer: usize,
    tokens: &[u32],
    meter: &mut Meter<'_>,
) -> Result<Vec<Vec<u32>>, VindexError> {
    let features = vindex.features(layer);
    let mut strongest: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(KEPT + 1); features];
    let mut scores = vec![0.0; BLOCK * features];
    meter.set_item(&format!("layer {layer}"));
    for block in tokens.chunks(BLOCK) {
        let mut queries = Vec::with_capacity(block.len() * vindex.hidden_size());
        for token in block {
            queries.extend(vindex.layer_query(layer, &vindex.embedding_query(&[*token])?));
        }
        let scores = &mut scores[..block.len() * features];
        vindex.gate_scores(pool, layer, &Activations::new(&queries, vindex.hidden_size()), scores);
        for (scores, token) in scores.chunks_exact(features).zip(block) {
            for (score, strongest) in scores.iter().zip(&mut strongest) {
                if strongest.len() < KEPT || strongest.last().is_some_and(|(least, _)| least < score) {
                    let place = strongest.partition_point(|(other, _)| other >= score);
                    strongest.insert(place, (*score, *token));
                    strongest.truncate(KEPT);
                }
            }
        }
        meter.advance(block.len() as u64)?;
    }
    Ok(strongest.into_iter().map(|kept| kept.into_iter().map(|(_, token)| token).collect()).collect())
}
