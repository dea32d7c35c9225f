//! From features that fire to edges that read: DESCRIBE's retrieval.

use std::collections::HashMap;

use larql_compute::{Pool, top_k_by_value};
use serde::{Deserialize, Serialize};

use super::target::fold;
use super::{FiringRates, TokenTexts};
use crate::{FeatureStore, Label, LabelSource};

/// How strongly the features of one layer fire for an entity.
#[derive(Clone, Debug)]
pub struct Firing {
    /// The layer.
    pub layer: usize,
    /// `[features]`; what is not positive does not fire.
    pub strengths: Vec<f32>,
    /// How often each of them fires anyway.
    pub rates: FiringRates,
}

/// How an edge was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Gate rows asked with the entity's embedding.
    Embedding,
    /// Activations in a forward pass over the entity.
    Residual,
    /// A patch says so in words.
    Patch,
    /// Those, times how much each pushes its word.
    Attribution,
    /// The model was asked in words, and the feature carries its answer.
    Contextual,
}

impl Via {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Via::Embedding => "embedding",
            Via::Residual => "residual",
            Via::Patch => "patch",
            Via::Attribution => "attribution",
            Via::Contextual => "contextual",
        }
    }
}

/// An association of an entity: one or more features that fire for it and write the same word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// The relation, if the strongest feature is labelled.
    pub relation: Option<String>,
    /// The word, as the strongest feature writes it.
    pub target: String,
    /// Strength of the strongest feature.
    pub gate: f32,
    /// First layer with such a feature.
    pub layer: usize,
    /// Last layer with such a feature.
    pub layer_max: usize,
    /// The strongest feature, which is in `layer` or a later layer up to `layer_max`.
    pub feature: usize,
    /// Number of features.
    pub count: usize,
    /// How the relation is known.
    pub source: Option<LabelSource>,
    /// How the edge was found.
    pub via: Via,
    /// The probability that it is true, from 0 to 1, where that is known.
    pub confidence: Option<f32>,
    /// Other spellings of the word, then other words that the strongest feature writes.
    pub also: Vec<String>,
}

/// An edge with the layer and number of each of its features, strongest first; none if it is remembered beside the weights.
pub type EdgeOfFeatures = (Edge, Vec<(usize, usize)>);

/// What DESCRIBE keeps.
#[derive(Clone, Copy, Debug)]
pub struct DescribeOptions {
    /// At most so many edges.
    pub limit: usize,
    /// Only edges with a relation.
    pub relations_only: bool,
    /// How the strengths were computed.
    pub via: Via,
}

/// Features a layer that are looked at. More only adds edges that no limit lets through.
const FEATURES_A_LAYER: usize = 64;
/// Words beside the target that an edge shows.
const ALSO: usize = 3;

/// The edges that `firings` amount to, strongest first: hits of several layers on one word are merged, features
/// that write no word are passed over, and features that fire for nearly everything are damped.
pub fn describe(
    pool: &Pool,
    store: &dyn FeatureStore,
    texts: &dyn TokenTexts,
    firings: &[Firing],
    options: DescribeOptions,
) -> Vec<Edge> {
    describe_with_features(pool, store, texts, firings, options).into_iter().map(|(edge, _)| edge).collect()
}

/// As [`describe`], with the layer and number of every feature of each edge, strongest first.
pub fn describe_with_features(
    pool: &Pool,
    store: &dyn FeatureStore,
    texts: &dyn TokenTexts,
    firings: &[Firing],
    options: DescribeOptions,
) -> Vec<EdgeOfFeatures> {
    let mut of_layers: Vec<Vec<(String, Hit)>> = firings.iter().map(|_| Vec::new()).collect();
    pool.for_each_piece(&mut of_layers, 1, |first, of_layers| {
        for (hits, firing) in of_layers.iter_mut().zip(&firings[first..]) {
            *hits = strongest_with_words(store, texts, firing);
        }
    });
    let mut by_word: HashMap<String, Vec<Hit>> = HashMap::new();
    for (word, hit) in of_layers.into_iter().flatten() {
        by_word.entry(word).or_default().push(hit);
    }
    let mut groups: Vec<(String, Vec<Hit>)> = by_word.into_iter().collect();
    for (_, hits) in &mut groups {
        hits.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.layer.cmp(&b.layer)));
    }
    groups.retain(|(_, hits)| !options.relations_only || hits[0].label(store).is_some());
    groups.sort_by(|(a, of_a), (b, of_b)| of_b[0].strength.total_cmp(&of_a[0].strength).then(a.cmp(b)));
    groups.truncate(options.limit);
    groups.iter().map(|(word, hits)| edge(store, texts, word, hits, options.via)).collect()
}

/// The features of a layer that fire most, those that write a word, with the word in lower case.
fn strongest_with_words(
    store: &dyn FeatureStore,
    texts: &dyn TokenTexts,
    firing: &Firing,
) -> Vec<(String, Hit)> {
    let strongest = top_k_by_value(&firing.rates.damped(&firing.strengths), FEATURES_A_LAYER);
    let firing_ones = strongest.into_iter().take_while(|(_, strength)| *strength > 0.0);
    let hits = firing_ones.map(|(feature, strength)| Hit { layer: firing.layer, feature, strength });
    hits.filter_map(|hit| Some((fold(&hit.words(store, texts).next()?), hit))).collect()
}

/// A feature that fires, and writes a word.
struct Hit {
    layer: usize,
    feature: usize,
    strength: f32,
}

impl Hit {
    /// The words that it writes, most of all the first.
    fn words<'a>(
        &self,
        store: &dyn FeatureStore,
        texts: &'a dyn TokenTexts,
    ) -> impl Iterator<Item = String> + use<'a> {
        store.top_tokens(self.layer, self.feature).into_iter().filter_map(|token| texts.word(token.token))
    }

    fn label(&self, store: &dyn FeatureStore) -> Option<Label> {
        store.label(self.layer, self.feature)
    }
}

/// The edge to a word, in lower case, of the features that write it, strongest first.
fn edge(
    store: &dyn FeatureStore,
    texts: &dyn TokenTexts,
    word: &str,
    hits: &[Hit],
    via: Via,
) -> EdgeOfFeatures {
    let strongest = &hits[0];
    let label = strongest.label(store);
    let spellings = hits.iter().flat_map(|hit| hit.words(store, texts)).filter(|other| fold(other) == word);
    let mut words: Vec<String> = Vec::new();
    for other in spellings.chain(strongest.words(store, texts)) {
        let other = other.trim();
        if !words.iter().any(|seen| seen == other) {
            words.push(other.to_owned());
        }
    }
    words.truncate(1 + ALSO);
    let mut words = words.into_iter();
    let layers = || hits.iter().map(|hit| hit.layer);
    let edge = Edge {
        relation: label.as_ref().map(|label| label.relation.clone()),
        target: words.next().unwrap_or_default(),
        gate: strongest.strength,
        layer: layers().min().unwrap_or(strongest.layer),
        layer_max: layers().max().unwrap_or(strongest.layer),
        feature: strongest.feature,
        count: hits.len(),
        source: label.map(|label| label.source),
        via,
        confidence: None,
        also: words.collect(),
    };
    (edge, hits.iter().map(|hit| (hit.layer, hit.feature)).collect())
}

#[cfg(test)]
mod tests {
    use larql_compute::{Activations, Pool};

    use super::*;
    use crate::{TokenScore, VindexError};

    /// Two layers of three features each that write the tokens given.
    struct Store([[&'static [u32]; 3]; 2]);

    impl FeatureStore for Store {
        fn layers(&self) -> usize {
            2
        }
        fn hidden_size(&self) -> usize {
            1
        }
        fn features(&self, _: usize) -> usize {
            3
        }
        fn gate_scores(&self, _: &Pool, _: usize, _: &Activations<'_>, out: &mut [f32]) {
            out.fill(0.0);
        }
        fn activations(
            &self,
            _: &Pool,
            _: usize,
            _: &Activations<'_>,
            _: &mut [f32],
        ) -> Result<(), VindexError> {
            Ok(())
        }
        fn gate_row(&self, _: usize, _: usize, out: &mut [f32]) {
            out.fill(0.0);
        }
        fn down_vector(&self, _: usize, _: usize, out: &mut [f32]) -> Result<(), VindexError> {
            out.fill(0.0);
            Ok(())
        }
        fn top_tokens(&self, layer: usize, feature: usize) -> Vec<TokenScore> {
            self.0[layer][feature].iter().map(|token| TokenScore { token: *token, score: 1.0 }).collect()
        }
        fn label(&self, layer: usize, feature: usize) -> Option<Label> {
            let label = Label { relation: "capital".into(), source: LabelSource::Probe };
            ((layer, feature) == (1, 0)).then_some(label)
        }
    }

    struct Texts(&'static [&'static str]);

    impl TokenTexts for Texts {
        fn word(&self, token: u32) -> Option<String> {
            let text = self.0[token as usize];
            text.chars().any(char::is_alphabetic).then(|| text.to_owned())
        }
    }

    const TEXTS: Texts = Texts(&[" Paris", "paris", " French", "##", " London"]);

    fn edges(strengths: [[f32; 3]; 2], rates: FiringRates, relations_only: bool) -> Vec<Edge> {
        let store = Store([[&[1, 2], &[3], &[4]], [&[0, 3, 2], &[3, 2], &[]]]);
        let firings = strengths.into_iter().enumerate().map(|(layer, strengths)| Firing {
            layer,
            strengths: strengths.to_vec(),
            rates: rates.clone(),
        });
        let options = DescribeOptions { limit: 10, relations_only, via: Via::Residual };
        describe(&Pool::new(2), &store, &TEXTS, &firings.collect::<Vec<_>>(), options)
    }

    #[test]
    fn variants_over_layers_become_one_edge() {
        let edges = edges([[2.0, 9.0, -1.0], [3.0, 1.0, 5.0]], FiringRates::default(), false);
        assert_eq!(edges.len(), 2);
        let paris = &edges[0];
        assert_eq!((&*paris.target, paris.relation.as_deref(), paris.gate), ("Paris", Some("capital"), 3.0));
        assert_eq!((paris.layer, paris.layer_max, paris.feature, paris.count), (0, 1, 0, 2));
        assert_eq!(paris.also, ["paris", "French"]);
        // A feature whose strongest token is no word shows its strongest word.
        assert_eq!((&*edges[1].target, edges[1].gate), ("French", 1.0));
    }

    #[test]
    fn only_edges_with_a_relation_can_be_asked_for() {
        let edges = edges([[0.0, 0.0, 4.0], [3.0, 0.0, 0.0]], FiringRates::default(), true);
        assert_eq!(edges.iter().map(|edge| &*edge.target).collect::<Vec<_>>(), ["Paris"]);
    }

    #[test]
    fn what_fires_for_everything_falls_behind() {
        let always_first = FiringRates::of_sample(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 3);
        let edges = edges([[9.0, 0.0, 2.0], [0.0, 0.0, 0.0]], always_first, false);
        assert_eq!(edges.iter().map(|edge| &*edge.target).collect::<Vec<_>>(), ["London", "paris"]);
    }
}
