//! Edges of features that fire: DESCRIBE's retrieval from embeddings.

use std::collections::HashMap;

use larql_compute::Pool;
use serde::{Deserialize, Serialize};

use super::{Firing, Words};
use crate::{FeatureStore, LabelSource};

/// Method by which an edge was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Products of gate rows with the entity's embedding.
    Embedding,
    /// Activations in a forward pass over the entity.
    Residual,
    /// A patch states the edge.
    Patch,
    /// Activations, times the score of the feature's token.
    Attribution,
    /// The model was asked in words, and the feature carries its answer.
    Asked,
}

impl Via {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Via::Embedding => "embedding",
            Via::Residual => "residual",
            Via::Patch => "patch",
            Via::Attribution => "attribution",
            Via::Asked => "asked",
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
    /// Origin of the relation.
    pub source: Option<LabelSource>,
    /// Method by which the edge was found.
    pub via: Via,
    /// The probability that it is true, from 0 to 1, where that is known.
    pub confidence: Option<f32>,
    /// Other spellings of the word, then other words that the strongest feature writes.
    pub also: Vec<String>,
}

/// An edge with the layer and number of each of its features, strongest first; none for an entry of the edge
/// memory.
pub type EdgeOfFeatures = (Edge, Vec<(usize, usize)>);

/// Filter of the edges.
#[derive(Clone, Copy, Debug)]
pub struct DescribeOptions {
    /// Greatest number of edges.
    pub limit: usize,
    /// Only edges with a relation.
    pub relations_only: bool,
    /// Method by which the strengths were computed.
    pub via: Via,
}

/// Number of further words that an edge shows.
const ALSO: usize = 3;

/// The edges of `firings`, strongest first: hits of several layers on one word are merged, features
/// that write no word are passed over.
pub fn describe(
    pool: &Pool,
    store: &dyn FeatureStore,
    words: &Words,
    firings: &[Firing],
    options: DescribeOptions,
) -> Vec<Edge> {
    describe_with_features(pool, store, words, firings, options).into_iter().map(|(edge, _)| edge).collect()
}

/// As [`describe`], with the layer and number of every feature of each edge, strongest first.
pub fn describe_with_features(
    pool: &Pool,
    store: &dyn FeatureStore,
    words: &Words,
    firings: &[Firing],
    options: DescribeOptions,
) -> Vec<EdgeOfFeatures> {
    let mut of_layers: Vec<Vec<Hit>> = firings.iter().map(|_| Vec::new()).collect();
    pool.for_each_piece(&mut of_layers, 1, |first, of_layers| {
        for (hits, firing) in of_layers.iter_mut().zip(&firings[first..]) {
            *hits = strongest_with_words(store, words, firing);
        }
    });
    let mut hits: Vec<Hit> = of_layers.into_iter().flatten().collect();
    let place = |hit: &Hit| (hit.layer, hit.feature);
    hits.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(place(a).cmp(&place(b))));
    // The first hit on a word is the strongest one, so words come in the order in which they are shown.
    let mut groups: Vec<Vec<Hit>> = Vec::new();
    let mut of_words: HashMap<u32, Option<usize>> = HashMap::new();
    for hit in hits {
        let group = of_words.entry(hit.word).or_insert_with(|| {
            let shown = groups.len() < options.limit
                && (!options.relations_only || store.label(hit.layer, hit.feature).is_some());
            shown.then(|| {
                groups.push(Vec::new());
                groups.len() - 1
            })
        });
        if let Some(group) = *group {
            groups[group].push(hit);
        }
    }
    groups.iter().map(|hits| edge(store, words, hits, options.via)).collect()
}

/// The features of a layer that fire most, those that write a word.
fn strongest_with_words(store: &dyn FeatureStore, words: &Words, firing: &Firing) -> Vec<Hit> {
    let layer = firing.layer;
    let hits = firing.features.iter().filter_map(|&(feature, strength)| {
        let word = store.top_tokens(layer, feature).find_map(|token| words.number(token.token))?;
        Some(Hit { layer, feature, strength, word })
    });
    hits.collect()
}

/// A feature that fires, and writes a word.
struct Hit {
    layer: usize,
    feature: usize,
    strength: f32,
    /// The number of the word that it writes most.
    word: u32,
}

/// The edge to the word that features write, strongest first.
fn edge(store: &dyn FeatureStore, words: &Words, hits: &[Hit], via: Via) -> EdgeOfFeatures {
    let strongest = &hits[0];
    let label = store.label(strongest.layer, strongest.feature);
    let tokens = |hit: &Hit| store.top_tokens(hit.layer, hit.feature).map(|top| top.token);
    let spellings = hits.iter().flat_map(tokens).filter(|token| words.number(*token) == Some(strongest.word));
    let mut written: Vec<String> = Vec::new();
    for token in spellings.chain(tokens(strongest)) {
        if written.len() > ALSO {
            break;
        }
        if let Some(text) = words.text(token).filter(|text| !written.contains(text)) {
            written.push(text);
        }
    }
    let mut written = written.into_iter();
    let layers = || hits.iter().map(|hit| hit.layer);
    let edge = Edge {
        relation: label.as_ref().map(|label| label.relation.clone()),
        target: written.next().unwrap_or_default(),
        gate: strongest.strength,
        layer: layers().min().unwrap_or(strongest.layer),
        layer_max: layers().max().unwrap_or(strongest.layer),
        feature: strongest.feature,
        count: hits.len(),
        source: label.map(|label| label.source),
        via,
        confidence: None,
        also: written.collect(),
    };
    (edge, hits.iter().map(|hit| (hit.layer, hit.feature)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::{Activations, Pool};

    use super::super::{FiringRates, TokenTexts};
    use super::*;
    use crate::{Label, TokenScore, TopTokens, VindexError};

    /// Two layers of three features each that write the tokens given.
    struct Store([[&'static [TokenScore]; 3]; 2]);

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
        fn top_tokens(&self, layer: usize, feature: usize) -> TopTokens<'_> {
            TopTokens::listed(self.0[layer][feature])
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
        const fn t(token: u32) -> TokenScore {
            TokenScore { token, score: 1.0 }
        }
        const WRITTEN: [[&[TokenScore]; 3]; 2] =
            [[&[t(1), t(2)], &[t(3)], &[t(4)]], [&[t(0), t(3), t(2)], &[t(3), t(2)], &[]]];
        let store = Store(WRITTEN);
        let firings = (0..).zip(strengths).map(|(layer, strengths)| Firing::new(layer, &strengths, &rates));
        let options = DescribeOptions { limit: 10, relations_only, via: Via::Residual };
        describe(
            &Pool::new(2),
            &store,
            &Words::new(Arc::new(TEXTS), TEXTS.0.len()),
            &firings.collect::<Vec<_>>(),
            options,
        )
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
    fn features_that_fire_for_everything_rank_last() {
        let always_first = FiringRates::of_sample(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 3);
        let edges = edges([[9.0, 0.0, 2.0], [0.0, 0.0, 0.0]], always_first, false);
        assert_eq!(edges.iter().map(|edge| &*edge.target).collect::<Vec<_>>(), ["London", "paris"]);
    }
}
