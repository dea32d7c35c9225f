//! Slices by the job that they are made for.

use std::fmt;
use std::str::FromStr;

use larql_models::WeightSource;

use super::part::{SlicePart, SliceParts};
use crate::{Vindex, VindexError};

/// A slice that is made for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SlicePreset {
    /// Runs the residual stream; feed-forward steps are elsewhere.
    Client,
    /// Attention alone; embeddings and logits are elsewhere.
    Attention,
    /// Embeddings and the output head.
    Embed,
    /// Feed-forward steps, dense or of experts, and searches.
    Server,
    /// Searches: DESCRIBE, WALK, SELECT.
    Browse,
    /// Choice of the experts of a token; mixtures only.
    Router,
    /// Feed-forward steps of the experts of a mixture.
    ExpertServer,
    /// Everything.
    Full,
}

/// Constants of a preset: one row of the table below.
struct Facts {
    preset: SlicePreset,
    /// Its name on the command line, then other names for it.
    names: &'static [&'static str],
    parts: &'static [SlicePart],
    /// Its job, and the command that it goes with, in a sentence for a list.
    purpose: &'static str,
}

const FACTS: [Facts; 8] = {
    use SlicePart::*;
    [
        Facts {
            preset: SlicePreset::Client,
            names: &["client"],
            // It computes logits and, in mixtures, chooses the experts that it asks for.
            parts: &[
                Embeddings,
                Norms,
                Attention,
                Router,
                Head,
                PerLayerInputs,
                Tokenizer,
                Labels,
                EdgeMemory,
            ],
            purpose: "Embeddings, attention and output head: runs the residual stream beside a `server` slice.",
        },
        Facts {
            preset: SlicePreset::Attention,
            names: &["attn", "attention"],
            parts: &[Norms, Attention, PerLayerInputs, Labels],
            purpose: "Attention alone: runs beside an `embed` and a `server` slice.",
        },
        Facts {
            preset: SlicePreset::Embed,
            names: &["embed", "embed-server"],
            // Logits take the last norm.
            parts: &[Embeddings, Norms, Head, Tokenizer, Labels],
            purpose: "Embeddings and output head: tokens to vectors, vectors to logits.",
        },
        Facts {
            preset: SlicePreset::Server,
            names: &["server", "ffn", "ffn-service"],
            parts: &[
                Embeddings,
                Norms,
                Gate,
                DownMeta,
                FeedForward,
                Experts,
                Router,
                Tokenizer,
                Labels,
                EdgeMemory,
            ],
            purpose: "Feed-forward weights: answers DESCRIBE and WALK, and runs beside a `client` slice.",
        },
        Facts {
            preset: SlicePreset::Browse,
            names: &["browse"],
            // Searches normalise what they look for.
            parts: &[Embeddings, Norms, Gate, DownMeta, Tokenizer, Labels, EdgeMemory, Readme],
            purpose: "Gate rows and the tokens that features write: answers DESCRIBE, WALK and SELECT.",
        },
        Facts {
            preset: SlicePreset::Router,
            names: &["router"],
            parts: &[Router, Norms, Tokenizer, Labels, Readme],
            purpose: "Routers of a mixture: choose the experts of a token.",
        },
        Facts {
            preset: SlicePreset::ExpertServer,
            names: &["expert-server", "expert_server", "moe-server"],
            parts: &[Embeddings, Norms, Gate, FeedForward, Experts, Router, Tokenizer],
            purpose: "Experts of a mixture: runs beside a `client` slice.",
        },
        Facts {
            preset: SlicePreset::Full,
            names: &["full", "all"],
            parts: &[
                Manifest,
                Embeddings,
                Norms,
                Attention,
                Gate,
                DownMeta,
                FeedForward,
                Experts,
                Router,
                Head,
                PerLayerInputs,
                Tokenizer,
                Labels,
                EdgeMemory,
                Readme,
                Source,
            ],
            purpose: "The whole vindex.",
        },
    ]
};

impl SlicePreset {
    /// Every preset.
    pub fn all() -> impl Iterator<Item = SlicePreset> {
        FACTS.iter().map(|facts| facts.preset)
    }

    fn facts(self) -> &'static Facts {
        let facts = &FACTS[self as usize];
        debug_assert_eq!(facts.preset, self);
        facts
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.facts().names[0]
    }

    /// Its parts.
    pub fn parts(self) -> SliceParts {
        self.facts().parts.iter().copied().collect()
    }

    /// Its parts, for slices of a vindex.
    ///
    /// # Errors
    /// [`VindexError::NotAMixture`] if it is for mixtures, and the model is none.
    pub fn parts_of(self, whole: &Vindex) -> Result<SliceParts, VindexError> {
        let has_experts = |layer: &larql_models::LayerSpec| layer.feed_forward.mixture().is_some();
        match self.is_of_mixtures() && !whole.spec().layers.iter().any(has_experts) {
            true => Err(VindexError::NotAMixture { path: whole.path().into(), preset: self }),
            false => Ok(self.parts()),
        }
    }

    /// Its job, in a sentence.
    pub fn purpose(self) -> &'static str {
        self.facts().purpose
    }

    /// Returns true if it has something only of mixtures.
    pub fn is_of_mixtures(self) -> bool {
        matches!(self, SlicePreset::Router | SlicePreset::ExpertServer)
    }
}

impl fmt::Display for SlicePreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no preset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no preset of slices; the presets are {}", SlicePreset::all().map(SlicePreset::name).collect::<Vec<_>>().join(", "))]
pub struct UnknownPreset {
    name: String,
}

impl FromStr for SlicePreset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<SlicePreset, UnknownPreset> {
        let known = FACTS.iter().find(|facts| facts.names.contains(&name));
        known.map(|facts| facts.preset).ok_or_else(|| UnknownPreset { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_mean_their_preset() {
        for preset in SlicePreset::all() {
            assert_eq!(preset.name().parse(), Ok(preset));
        }
        let alias = |name: &str| name.parse::<SlicePreset>().unwrap();
        assert_eq!(alias("attention"), SlicePreset::Attention);
        assert_eq!(alias("embed-server"), SlicePreset::Embed);
        assert_eq!(alias("ffn-service"), SlicePreset::Server);
        assert_eq!(alias("moe-server"), SlicePreset::ExpertServer);
        assert!("everything".parse::<SlicePreset>().is_err());
    }

    #[test]
    fn client_and_server_hold_everything_but_the_source_and_the_card() {
        let (client, server) = (SlicePreset::Client.parts(), SlicePreset::Server.parts());
        let missing: Vec<SlicePart> =
            SlicePart::all().filter(|part| !client.contains(*part) && !server.contains(*part)).collect();
        assert_eq!(missing, [SlicePart::Readme, SlicePart::Source]);
        // The large parts lie in one of them alone.
        let large = [SlicePart::Attention, SlicePart::Gate, SlicePart::FeedForward, SlicePart::Experts];
        assert!(large.iter().all(|part| client.contains(*part) != server.contains(*part)));
        assert!(SlicePreset::Full.parts().is_everything());
    }
}
