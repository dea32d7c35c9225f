//! The parts that slices are made of.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use larql_models::{LayerRole, Role};
use larql_vindex_spec::ExtractLevel;
use serde::{Deserialize, Serialize};

use crate::component::Component;

/// A part of a vindex that a slice keeps or leaves out as a whole. Every component belongs to one; tensors belong to the
/// part of their role, whatever file they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum SlicePart {
    /// The manifest and the list of tensors, which every slice keeps.
    Manifest,
    /// Token embeddings, and the head where it is tied to them.
    Embeddings,
    /// Norms, biases and other small tensors.
    Norms,
    /// Attention projections.
    Attention,
    /// Gate rows, those of experts too.
    Gate,
    /// The tokens that features write.
    DownMeta,
    /// Up and down projections of dense layers and of experts that every token passes.
    FeedForward,
    /// Up and down projections of the experts that a router chooses.
    Experts,
    /// Routers.
    Router,
    /// Output head, where it is not tied.
    Head,
    /// Inputs that tokens have in every layer.
    PerLayerInputs,
    /// Tokenizer, chat template, and the ids that end a text.
    Tokenizer,
    /// Names of relations.
    Labels,
    /// Edges that override the next tokens.
    EdgeMemory,
    /// The model card, and the instructions that the vindex was built by.
    Readme,
    /// The rest of the source, with which it is written back as it was.
    Source,
}

/// Constants of a part: one row of the table below.
struct Facts {
    part: SlicePart,
    /// Its name on the command line, then other names for it.
    names: &'static [&'static str],
}

#[rustfmt::skip]
const FACTS: [Facts; 16] = {
    use SlicePart::*;
    [
        Facts { part: Manifest, names: &["manifest", "weight_manifest"] },
        Facts { part: Embeddings, names: &["embed", "embeddings"] },
        Facts { part: Norms, names: &["norms", "norm"] },
        Facts { part: Attention, names: &["attn", "attention"] },
        Facts { part: Gate, names: &["gate", "gate_vectors", "gates"] },
        Facts { part: DownMeta, names: &["down_meta", "meta"] },
        Facts { part: FeedForward, names: &["ffn", "interleaved", "up_down"] },
        Facts { part: Experts, names: &["expert_layers", "expert-layers", "layers", "expert_weights"] },
        Facts { part: Router, names: &["router", "router_weights"] },
        Facts { part: Head, names: &["lm_head", "lmhead", "head"] },
        Facts { part: PerLayerInputs, names: &["per_layer_inputs", "ple"] },
        Facts { part: Tokenizer, names: &["tokenizer", "tok"] },
        Facts { part: Labels, names: &["labels", "clusters"] },
        Facts { part: EdgeMemory, names: &["edge_memory", "knn"] },
        Facts { part: Readme, names: &["readme"] },
        Facts { part: Source, names: &["source"] },
    ]
};

impl SlicePart {
    /// Every part.
    pub fn all() -> impl Iterator<Item = SlicePart> {
        FACTS.iter().map(|facts| facts.part)
    }

    fn facts(self) -> &'static Facts {
        let facts = &FACTS[self as usize];
        debug_assert_eq!(facts.part, self);
        facts
    }

    /// Its name on the command line and in manifests.
    pub fn name(self) -> &'static str {
        self.facts().names[0]
    }

    /// The part that a tensor belongs to.
    pub(crate) fn of_role(role: Role) -> SlicePart {
        match role {
            Role::Layer(_, LayerRole::ExpertUp(_) | LayerRole::ExpertDown(_)) => SlicePart::Experts,
            role => Component::of_role(role).part(),
        }
    }
}

impl fmt::Display for SlicePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<SlicePart> for &'static str {
    fn from(part: SlicePart) -> &'static str {
        part.name()
    }
}

impl TryFrom<String> for SlicePart {
    type Error = UnknownPart;

    fn try_from(name: String) -> Result<SlicePart, UnknownPart> {
        name.parse()
    }
}

/// A word that names no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no part of a vindex; the parts are {}", SlicePart::all().map(SlicePart::name).collect::<Vec<_>>().join(", "))]
pub struct UnknownPart {
    name: String,
}

impl FromStr for SlicePart {
    type Err = UnknownPart;

    fn from_str(name: &str) -> Result<SlicePart, UnknownPart> {
        let known = FACTS.iter().find(|facts| facts.names.contains(&name));
        known.map(|facts| facts.part).ok_or_else(|| UnknownPart { name: name.to_owned() })
    }
}

/// A set of parts, which always has the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceParts(BTreeSet<SlicePart>);

impl FromIterator<SlicePart> for SliceParts {
    fn from_iter<I: IntoIterator<Item = SlicePart>>(parts: I) -> SliceParts {
        SliceParts(parts.into_iter().chain([SlicePart::Manifest]).collect())
    }
}

impl SliceParts {
    /// Returns true if a part is in the set.
    pub fn contains(&self, part: SlicePart) -> bool {
        self.0.contains(&part)
    }

    /// Iterates over the parts.
    pub fn iter(&self) -> impl Iterator<Item = SlicePart> {
        self.0.iter().copied()
    }

    /// Returns true if nothing is missing.
    pub fn is_everything(&self) -> bool {
        self.0.len() == FACTS.len()
    }

    /// Returns the strongest level that the parts have something of, at most that of the whole.
    pub fn level(&self, whole: ExtractLevel) -> ExtractLevel {
        let has = |part| self.contains(part);
        let level = if self.is_everything() {
            ExtractLevel::All
        } else if has(SlicePart::FeedForward) || has(SlicePart::Experts) {
            ExtractLevel::Inference
        } else if has(SlicePart::Attention) {
            ExtractLevel::Attention
        } else {
            ExtractLevel::Browse
        };
        level.min(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_one_part() {
        let mut names: Vec<&str> = Vec::new();
        for part in SlicePart::all() {
            assert_eq!(part.name().parse(), Ok(part));
            names.extend(part.facts().names);
        }
        let distinct: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        let error = "attend".parse::<SlicePart>().unwrap_err().to_string();
        assert!(
            error.starts_with("`attend` is no part of a vindex; the parts are manifest, embed, "),
            "{error}"
        );
    }

    #[test]
    fn no_part_is_without_a_component_and_no_component_without_a_part() {
        for part in SlicePart::all() {
            let of_files = Component::all().any(|component| component.part() == part);
            // Experts share files with other feed-forward weights in some vindexes, and have their own in others.
            assert!(of_files, "{part}");
        }
        // A component's part is a column of its table, so that none can be without one. The columns that a mistake would
        // put elsewhere:
        let part = |component: Component| component.part();
        assert_eq!(part(Component::Config), SlicePart::Tokenizer);
        assert_eq!(part(Component::KnnStore), SlicePart::EdgeMemory);
        assert_eq!(part(Component::Unused), SlicePart::Source);
        assert_eq!(part(Component::PerLayerInputs), SlicePart::PerLayerInputs);
    }

    #[test]
    fn the_level_is_the_strongest_tier_that_is_there() {
        use SlicePart::*;
        let level = |parts: &[SlicePart], whole| parts.iter().copied().collect::<SliceParts>().level(whole);
        assert_eq!(level(&[Embeddings, Gate], ExtractLevel::All), ExtractLevel::Browse);
        assert_eq!(level(&[Attention], ExtractLevel::All), ExtractLevel::Attention);
        assert_eq!(level(&[Experts], ExtractLevel::All), ExtractLevel::Inference);
        assert_eq!(level(&[FeedForward], ExtractLevel::Browse), ExtractLevel::Browse);
        assert_eq!(SlicePart::all().collect::<SliceParts>().level(ExtractLevel::All), ExtractLevel::All);
    }
}
