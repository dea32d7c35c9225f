//! Bands of layers: the three groups by which DESCRIBE orders edges.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A span of layers `[first, last]`, both included, or none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Band(Option<[usize; 2]>);

impl Band {
    /// The layers from `first` to `last`, both included.
    pub fn new(first: usize, last: usize) -> Band {
        Band(Some([first, last]))
    }

    /// The band without layers.
    pub fn empty() -> Band {
        Band(None)
    }

    /// The layers as a half-open range.
    pub fn layers(self) -> Range<usize> {
        self.0.map_or(0..0, |[first, last]| first..last.saturating_add(1))
    }

    /// True if `layer` belongs to the band.
    pub fn contains(self, layer: usize) -> bool {
        self.layers().contains(&layer)
    }
}

/// The layers of a model by what they are mostly found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBands {
    /// Word forms and grammar.
    #[serde(default)]
    pub syntax: Band,
    /// Facts.
    #[serde(default)]
    pub knowledge: Band,
    /// Wording the answer.
    #[serde(default)]
    pub output: Band,
}

impl LayerBands {
    /// Below this many layers a model is too shallow to divide.
    const SHALLOW: usize = 8;

    /// The bands of a model of `layers` layers, where its manifest does not give them: two fifths syntax, two
    /// fifths knowledge, the rest output. In a shallow model every layer is knowledge.
    pub fn derive(layers: usize) -> LayerBands {
        if layers < Self::SHALLOW {
            let knowledge = layers.checked_sub(1).map_or(Band::empty(), |last| Band::new(0, last));
            return LayerBands { syntax: Band::empty(), knowledge, output: Band::empty() };
        }
        let (syntax_end, knowledge_end) = (layers * 2 / 5, layers * 4 / 5);
        LayerBands {
            syntax: Band::new(0, syntax_end),
            knowledge: Band::new(syntax_end + 1, knowledge_end),
            output: Band::new(knowledge_end + 1, layers - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_four_layers_divide_as_published() {
        let bands = LayerBands::derive(34);
        assert_eq!(bands.syntax, Band::new(0, 13));
        assert_eq!(bands.knowledge, Band::new(14, 27));
        assert_eq!(bands.output, Band::new(28, 33));
    }

    #[test]
    fn bands_cover_every_layer_once() {
        for layers in 0..200 {
            let bands = LayerBands::derive(layers);
            for layer in 0..layers {
                let holders = [bands.syntax, bands.knowledge, bands.output]
                    .iter()
                    .filter(|b| b.contains(layer))
                    .count();
                assert_eq!(holders, 1, "layer {layer} of {layers}");
            }
            assert!(layers == 0 || !bands.knowledge.layers().is_empty());
        }
    }

    #[test]
    fn written_as_pairs() {
        let json = serde_json::to_string(&LayerBands::derive(34)).unwrap();
        assert_eq!(json, r#"{"syntax":[0,13],"knowledge":[14,27],"output":[28,33]}"#);
    }
}
