//! Mixes of formats: which format each matrix gets when a model is quantised.
//!
//! The names and rules are those of llama.cpp (`llama_tensor_get_type` of `llama-quant.cpp`, without its exceptions for
//! Falcon), so that a file has the size that users expect of a name. They spend more bits where errors cost most: on the
//! head, on values and on down projections, and there on the first and last layers.

use std::fmt;
use std::path::Path;

use larql_compute::Format;
use serde::Serialize;

use crate::export::GgufForm;
use crate::family::Layout;
use crate::{LayerRole, ModelSpec, Role};

/// A mix of formats, by its name in llama.cpp. Serialised, it is its name.
#[allow(non_camel_case_types, reason = "these are the names the field uses")]
#[allow(missing_docs, reason = "`Mix::about` describes each")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub enum Mix {
    Q2_K,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    IQ4_XS,
    IQ4_NL,
    MXFP4,
    Q4_0,
    Q4_1,
    Q4_K_S,
    Q4_K_M,
    Q5_0,
    Q5_1,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    Q8_0,
}

/// A mix, its name, the format of most matrices, and a description.
type Facts = (Mix, &'static str, Format, &'static str);

#[rustfmt::skip]
const FACTS: [Facts; 17] = { use Mix::*; [
    (Q2_K,   "q2_k",   Format::Q2_K,   "2 bits, and 3 or 4 where errors cost most"),
    (Q3_K_S, "q3_k_s", Format::Q3_K,   "3 bits"),
    (Q3_K_M, "q3_k_m", Format::Q3_K,   "3 bits, and 4 or 5 where errors cost most"),
    (Q3_K_L, "q3_k_l", Format::Q3_K,   "3 bits, and 5 where errors cost most"),
    (IQ4_XS, "iq4_xs", Format::IQ4_XS, "4 bits of a table, the smallest of them"),
    (IQ4_NL, "iq4_nl", Format::IQ4_NL, "4 bits of a table"),
    (MXFP4,  "fp4",    Format::MXFP4,  "4-bit floats (OCP microscaling), and 8 bits for embeddings and head"),
    (Q4_0,   "q4_0",   Format::Q4_0,   "4 bits, one scale for 32 weights"),
    (Q4_1,   "q4_1",   Format::Q4_1,   "4 bits, scale and minimum for 32 weights"),
    (Q4_K_S, "q4_k_s", Format::Q4_K,   "4 bits, and 5 in the first layers"),
    (Q4_K_M, "q4_k_m", Format::Q4_K,   "4 bits, and 6 where errors cost most: the usual choice"),
    (Q5_0,   "q5_0",   Format::Q5_0,   "5 bits, one scale for 32 weights"),
    (Q5_1,   "q5_1",   Format::Q5_1,   "5 bits, scale and minimum for 32 weights"),
    (Q5_K_S, "q5_k_s", Format::Q5_K,   "5 bits"),
    (Q5_K_M, "q5_k_m", Format::Q5_K,   "5 bits, and 6 where errors cost most"),
    (Q6_K,   "q6_k",   Format::Q6_K,   "6 bits"),
    (Q8_0,   "q8_0",   Format::Q8_0,   "8 bits: hardly any loss"),
] };

impl Mix {
    /// Every mix, the smallest first.
    pub fn all() -> impl Iterator<Item = Mix> {
        FACTS.iter().map(|(mix, ..)| *mix)
    }

    fn facts(self) -> &'static Facts {
        let facts = &FACTS[self as usize];
        debug_assert_eq!(facts.0, self);
        facts
    }

    /// The name, for instance `q4_k_m`.
    pub fn name(self) -> &'static str {
        self.facts().1
    }

    /// The mix of that name, in any case.
    pub fn from_name(name: &str) -> Option<Mix> {
        FACTS.iter().find(|(_, known, ..)| known.eq_ignore_ascii_case(name)).map(|(mix, ..)| *mix)
    }

    /// A description in a few words.
    pub fn about(self) -> &'static str {
        self.facts().3
    }

    /// The format of most matrices.
    pub fn base(self) -> Format {
        self.facts().2
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Mix> for &'static str {
    fn from(mix: Mix) -> Self {
        mix.name()
    }
}

/// A mix, applied to one model.
#[derive(Clone, Debug)]
pub struct Mixing<'a> {
    mix: Mix,
    spec: &'a ModelSpec,
    /// The importance of columns is known.
    weighted: bool,
    /// GGUF files hold queries, keys and values of this family in one tensor, which has one format.
    fused: bool,
    /// Number of experts in the first mixture; 0 in a dense model.
    experts: usize,
}

impl<'a> Mixing<'a> {
    /// Applies a mix to a model. `weighted` tells that the importance of columns is known.
    pub fn new(mix: Mix, spec: &'a ModelSpec, weighted: bool) -> Mixing<'a> {
        let name =
            |form: &GgufForm, role| (form.family.place)(&form.spec, Role::Layer(0, role), Layout::Gguf).name;
        let fused = GgufForm::new(spec, Path::new(""))
            .is_ok_and(|form| name(&form, LayerRole::Query) == name(&form, LayerRole::Value));
        let mixture = spec.layers.iter().find_map(|layer| layer.feed_forward.mixture());
        Mixing { mix, spec, weighted, fused, experts: mixture.map_or(0, |mixture| mixture.experts) }
    }

    /// The format of a matrix, before it is known whether rows are whole blocks of it; none for matrices that are not
    /// quantised, being small or delicate.
    pub fn format(&self, role: Role) -> Option<Format> {
        let base = self.mix.base();
        Some(match role {
            Role::Head => self.head(),
            Role::Embedding if self.spec.tied_head || self.mix == Mix::MXFP4 => self.head(),
            Role::Embedding | Role::PerLayerEmbedding => base,
            Role::Layer(layer, role) => match role {
                LayerRole::Query | LayerRole::Key | LayerRole::Value if self.fused => self.fused_projection(),
                LayerRole::Value => self.value(layer),
                LayerRole::Key if self.experts == 8 => Format::Q8_0,
                LayerRole::AttentionOutput => self.attention_output(),
                LayerRole::Down | LayerRole::ExpertDown(_) => self.down(layer),
                LayerRole::Router | LayerRole::SharedGate => return None,
                _ => base,
            },
            _ => return None,
        })
    }

    /// The head, which every token passes through.
    fn head(&self) -> Format {
        match self.mix {
            Mix::Q8_0 | Mix::MXFP4 => Format::Q8_0,
            _ => Format::Q6_K,
        }
    }

    fn value(&self, layer: usize) -> Format {
        let grouped = |times: usize| {
            let attention = &self.spec.layers[layer].attention;
            attention.heads >= times * attention.kv_heads
        };
        let format = match self.mix {
            _ if self.experts == 8 => return Format::Q8_0,
            Mix::Q2_K => {
                if grouped(4) {
                    Format::Q4_K
                } else {
                    Format::Q3_K
                }
            }
            Mix::Q3_K_M => {
                if layer < 2 {
                    Format::Q5_K
                } else {
                    Format::Q4_K
                }
            }
            Mix::Q3_K_L => Format::Q5_K,
            Mix::IQ4_NL | Mix::IQ4_XS if grouped(4) => Format::Q5_K,
            Mix::Q4_K_M | Mix::Q5_K_M if self.has_more_bits(layer) => Format::Q6_K,
            Mix::Q4_K_S if layer < 4 => Format::Q5_K,
            mix => mix.base(),
        };
        // In models of 70B eight heads share a value, so that a few bits more for it cost little.
        let shares_values = self.spec.layers.len() == 80 && grouped(8);
        match format {
            Format::Q3_K | Format::Q4_K if shares_values => Format::Q5_K,
            format => format,
        }
    }

    fn fused_projection(&self) -> Format {
        match self.mix {
            Mix::Q3_K_M | Mix::Q3_K_L => Format::Q4_K,
            Mix::Q4_K_M => Format::Q5_K,
            Mix::Q5_K_M => Format::Q6_K,
            mix => mix.base(),
        }
    }

    fn attention_output(&self) -> Format {
        match self.mix {
            Mix::Q2_K | Mix::Q3_K_S | Mix::Q3_K_M | Mix::IQ4_NL | Mix::IQ4_XS | Mix::Q4_K_S | Mix::Q4_K_M
                if self.experts == 8 =>
            {
                Format::Q5_K
            }
            Mix::Q2_K => Format::Q3_K,
            Mix::Q3_K_M => Format::Q4_K,
            Mix::Q3_K_L => Format::Q5_K,
            mix => mix.base(),
        }
    }

    fn down(&self, layer: usize) -> Format {
        let layers = self.spec.layers.len();
        let is_early = layer < layers / 8;
        match self.mix {
            Mix::Q2_K => Format::Q3_K,
            Mix::Q3_K_M => {
                if layer < layers / 16 {
                    Format::Q5_K
                } else {
                    Format::Q4_K
                }
            }
            Mix::Q3_K_L => Format::Q5_K,
            Mix::Q4_K_M | Mix::Q5_K_M if self.has_more_bits(layer) => Format::Q6_K,
            Mix::IQ4_NL | Mix::IQ4_XS if is_early && !self.weighted => Format::Q5_K,
            Mix::Q4_K_S if is_early => Format::Q5_K,
            Mix::Q4_0 if is_early && self.weighted => Format::Q4_1,
            Mix::Q5_0 if is_early && self.weighted => Format::Q5_1,
            mix => mix.base(),
        }
    }

    /// True of the first and last eighth of the layers and of every third one between them.
    fn has_more_bits(&self, layer: usize) -> bool {
        let (layers, first) = (self.spec.layers.len(), self.spec.layers.len() / 8);
        layer < first || layer >= 7 * layers / 8 || (layer - first) % 3 == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoint, WeightSource};

    #[test]
    fn every_mix_has_its_facts_and_its_name() {
        for mix in Mix::all() {
            assert_eq!(Mix::from_name(&mix.name().to_uppercase()), Some(mix));
            assert!(mix.base().can_encode(), "{mix}");
        }
        assert_eq!(Mix::from_name("q4_k"), None);
    }

    #[test]
    fn values_and_down_projections_get_more_bits_in_some_layers() {
        let checkpoint = Checkpoint::open(&larql_testing::repository("conformance/llama3")).unwrap();
        let mut spec = checkpoint.spec().clone();
        spec.layers = vec![spec.layers[0].clone(); 16];
        let mixing = Mixing::new(Mix::Q4_K_M, &spec, false);
        let six_bits = |role: LayerRole| -> Vec<usize> {
            (0..16).filter(|layer| mixing.format(Role::Layer(*layer, role)) == Some(Format::Q6_K)).collect()
        };
        assert_eq!(six_bits(LayerRole::Down), [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(six_bits(LayerRole::Value), six_bits(LayerRole::Down));
        assert!(six_bits(LayerRole::Query).is_empty());
        assert_eq!(mixing.format(Role::FinalNorm), None);
        let weighted = Mixing::new(Mix::Q4_0, &spec, true);
        assert_eq!(weighted.format(Role::Layer(1, LayerRole::Down)), Some(Format::Q4_1));
        assert_eq!(weighted.format(Role::Layer(2, LayerRole::Down)), Some(Format::Q4_0));
    }
}
