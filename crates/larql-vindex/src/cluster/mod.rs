//! Groups of features that lead from and to words in the same way, named after facts.
//!
//! A feature leads from the tokens whose embeddings its gate answers to most, to the tokens that its down vector
//! writes most. The direction from the one to the other in the embedding space is alike for pairs of one relation
//! (France to Paris, Italy to Rome), so features are grouped by it, with k-means on unit vectors. A group gets the
//! name of a relation whose facts occur among its pairs of words, and much more often than among those of all features;
//! otherwise it stays without a name. In small models, whose features stand for many things at once, most do.

mod k_means;
mod naming;
mod triggers;

use std::collections::HashMap;
use std::path::Path;

use larql_compute::Pool;
use larql_compute::vector::normalise;
use larql_models::{Role, WeightSource};
use serde::Serialize;
use serde_json::json;

use crate::component::{FEATURE_CLUSTERS_FILE, RELATION_CLUSTERS_FILE};
use crate::extract::write_file;
use crate::search::TokenTexts;
use crate::{FeatureStore, Vindex, VindexError};
use larql_core::progress::{Meter, Progress, Stage};
use naming::Facts;

/// Features that one group has on average, where the number of groups is not given.
const FEATURES_OF_A_GROUP: usize = 8;
/// Most groups, where their number is not given.
const MOST_GROUPS: usize = 1024;
/// Groups are found on so many features at most; the others are put where they fit best.
const SAMPLE: usize = 16_384;
/// Words that a group is shown with.
const TOP_WORDS: usize = 10;

/// Options of grouping features.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Number of groups; one for every eight features if not given.
    pub groups: Option<usize>,
    /// Seed of the groups' first centres.
    pub seed: u64,
}

/// Groups of the features of a vindex's knowledge band.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// The groups.
    pub groups: Vec<ClusterGroup>,
    /// Layer, feature and number of its group, in order.
    pub members: Vec<(usize, usize, usize)>,
}

/// Features that lead from and to words in the same way.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterGroup {
    /// The relation that it is named after, or nothing.
    pub label: String,
    /// Number of features in it.
    pub features: usize,
    /// Number of them that lead from the subject of a fact of that relation to its object.
    pub confirmed: usize,
    /// Words that its features write, those of most features first.
    pub top_tokens: Vec<String>,
}

/// A feature as words.
struct FeatureWords {
    layer: usize,
    feature: usize,
    /// The tokens that it answers to most.
    inputs: Vec<u32>,
    /// The tokens that it writes most.
    outputs: Vec<u32>,
}

/// Groups the features of the knowledge band, and names groups after `facts`: subjects, relations and objects.
///
/// # Errors
/// If the embeddings are not held, or `progress` breaks.
pub fn cluster<'a>(
    vindex: &Vindex,
    pool: &Pool,
    texts: &dyn TokenTexts,
    facts: impl IntoIterator<Item = [&'a str; 3]>,
    options: &ClusterOptions,
    progress: &dyn Progress,
) -> Result<Clusters, VindexError> {
    let words = feature_words(vindex, pool, texts, progress)?;
    let number = options.groups.unwrap_or((words.len() / FEATURES_OF_A_GROUP).clamp(1, MOST_GROUPS));
    let assigned = assign(vindex, pool, &words, number, options.seed)?;
    let facts = Facts::new(facts);
    let mut groups = vec![ClusterGroup::default(); assigned.iter().max().map_or(0, |last| last + 1)];
    let matches: Vec<_> = words.iter().map(|words| facts.matching(words, texts)).collect();
    facts.name(&mut groups, &assigned, &matches);
    let mut written: Vec<HashMap<String, usize>> = vec![HashMap::new(); groups.len()];
    for (words, group) in words.iter().zip(&assigned) {
        groups[*group].features += 1;
        for word in words.outputs.iter().filter_map(|token| texts.word(*token)) {
            *written[*group].entry(word.trim().to_owned()).or_default() += 1;
        }
    }
    for (group, written) in groups.iter_mut().zip(written) {
        let mut written: Vec<(String, usize)> = written.into_iter().collect();
        written.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        group.top_tokens = written.into_iter().take(TOP_WORDS).map(|(word, _)| word).collect();
    }
    let members = words.iter().zip(assigned).map(|(words, group)| (words.layer, words.feature, group));
    Ok(Clusters { groups, members: members.collect() })
}

/// The features of the knowledge band that answer to words and write words.
fn feature_words(
    vindex: &Vindex,
    pool: &Pool,
    texts: &dyn TokenTexts,
    progress: &dyn Progress,
) -> Result<Vec<FeatureWords>, VindexError> {
    let tokens = triggers::vocabulary(vindex, texts);
    let layers: Vec<usize> =
        vindex.manifest().bands().knowledge.layers().filter(|layer| vindex.features(*layer) > 0).collect();
    let mut meter = Meter::new(progress, Stage::Triggers, (layers.len() * tokens.len()) as u64);
    let mut words = Vec::new();
    for layer in layers {
        let triggers = triggers::of_layer(vindex, pool, layer, &tokens, &mut meter)?;
        for (feature, inputs) in triggers.into_iter().enumerate() {
            let top = vindex.top_tokens(layer, feature).map(|score| score.token);
            let outputs: Vec<u32> = top.filter(|token| texts.word(*token).is_some()).collect();
            if !inputs.is_empty() && !outputs.is_empty() {
                words.push(FeatureWords { layer, feature, inputs, outputs });
            }
        }
    }
    Ok(words)
}

/// The group of each feature. Every group has one.
fn assign(
    vindex: &Vindex,
    pool: &Pool,
    words: &[FeatureWords],
    groups: usize,
    seed: u64,
) -> Result<Vec<usize>, VindexError> {
    let width = vindex.hidden_size();
    let sample: Vec<&FeatureWords> = words.iter().step_by(words.len().div_ceil(SAMPLE).max(1)).collect();
    let centres = k_means::centres(pool, &offsets(vindex, &sample)?, width, groups, seed);
    let mut assigned = Vec::with_capacity(words.len());
    for block in words.chunks(SAMPLE) {
        let block: Vec<&FeatureWords> = block.iter().collect();
        assigned.extend(k_means::nearest(pool, &offsets(vindex, &block)?, &centres, width));
    }
    let mut used: Vec<usize> = assigned.clone();
    used.sort_unstable();
    used.dedup();
    Ok(assigned.iter().filter_map(|group| used.binary_search(group).ok()).collect())
}

/// The unit vectors from the token that each feature answers to most, to the one that it writes most,
/// `[features, hidden]`.
fn offsets(vindex: &Vindex, words: &[&FeatureWords]) -> Result<Vec<f32>, VindexError> {
    let embedding = vindex.matrix(Role::Embedding)?;
    let mut from = vec![0.0; embedding.cols()];
    let mut offsets = vec![0.0; words.len() * embedding.cols()];
    for (words, offset) in words.iter().zip(offsets.chunks_exact_mut(embedding.cols())) {
        embedding.view().decode_row(words.inputs[0] as usize, &mut from);
        embedding.view().decode_row(words.outputs[0] as usize, offset);
        offset.iter_mut().zip(&from).for_each(|(to, from)| *to -= from);
        normalise(offset);
    }
    Ok(offsets)
}

impl Clusters {
    /// Writes the groups into the vindex at `path`, in place of those that were there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), VindexError> {
        let groups = json!({
            "k": self.groups.len(),
            "labels": self.groups.iter().map(|group| &group.label).collect::<Vec<_>>(),
            "counts": self.groups.iter().map(|group| group.features).collect::<Vec<_>>(),
            "top_tokens": self.groups.iter().map(|group| &group.top_tokens).collect::<Vec<_>>(),
        });
        let lines: String =
            self.members.iter().map(|(l, f, c)| format!("{{\"l\":{l},\"f\":{f},\"c\":{c}}}\n")).collect();
        // Memberships of the old groups must not meet the new names, even if the power fails in between.
        write_file(path, FEATURE_CLUSTERS_FILE, b"")?;
        write_file(path, RELATION_CLUSTERS_FILE, groups.to_string().as_bytes())?;
        write_file(path, FEATURE_CLUSTERS_FILE, lines.as_bytes())?;
        Ok(())
    }
}
