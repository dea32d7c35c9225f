//! Families of models: from a family's configuration to a [`ModelSpec`], and the names of its tensors.
//!
//! To add a family, write a file beside this one that states how it differs from the common decoder, and
//! name it in [`FAMILIES`].

mod arcee;
mod cohere2;
mod common;
mod deepseek;
mod ernie4_5_moe;
mod exaone4;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod glm4;
mod glm4_moe;
mod gpt2;
mod gpt_oss;
mod granite;
mod granite_moe;
mod hunyuan_dense;
mod llama;
mod ministral3;
mod mistral;
mod mixtral;
mod nemotron;
mod olmo2;
mod olmo3;
mod olmoe;
mod phi;
mod phi3;
mod phimoe;
mod place;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;

use crate::{Config, ModelError, ModelSpec, Role};

pub(crate) use place::{HUB_PREFIXES, Layout, Part, Place, Stacked};

/// A family of models.
pub(crate) struct Family {
    /// Its name, as specs and messages give it.
    pub(crate) name: &'static str,
    /// Values of `model_type` in its `config.json` files.
    pub(crate) model_types: &'static [&'static str],
    /// Values of `general.architecture` in its GGUF files; the first family that lists one reads it.
    pub(crate) gguf_architectures: &'static [&'static str],
    /// Values of absent keys of its configuration.
    pub(crate) defaults: fn() -> serde_json::Value,
    /// The model that a configuration describes.
    pub(crate) spec: fn(&Config) -> Result<ModelSpec, ModelError>,
    /// Location of a tensor.
    pub(crate) place: fn(&ModelSpec, Role, Layout) -> Place,
    /// Tensors that its files hold and the text model does not use; `*` stands for any characters, `#` for the number
    /// of a layer after the last.
    pub(crate) unused: &'static [&'static str],
}

static FAMILIES: &[Family] = &[
    llama::FAMILY,
    mistral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    gemma::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    gpt2::FAMILY,
    granite::FAMILY,
    olmo2::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    smollm3::FAMILY,
    starcoder2::FAMILY,
    gemma4::FAMILY,
    mixtral::FAMILY,
    qwen3_moe::FAMILY,
    gpt_oss::FAMILY,
    deepseek::FAMILY,
    olmo3::FAMILY,
    olmoe::FAMILY,
    qwen2_moe::FAMILY,
    glm4::FAMILY,
    glm4_moe::FAMILY,
    cohere2::FAMILY,
    exaone4::FAMILY,
    seed_oss::FAMILY,
    ministral3::FAMILY,
    granite_moe::FAMILY,
    arcee::FAMILY,
    stablelm::FAMILY,
    nemotron::FAMILY,
    hunyuan_dense::FAMILY,
    ernie4_5_moe::FAMILY,
    phimoe::FAMILY,
];

impl Family {
    /// The family that a configuration names.
    pub(crate) fn of(config: &Config) -> Result<&'static Family, ModelError> {
        let (key, found) = match config.gguf_architecture() {
            Some(architecture) => ("general.architecture", architecture),
            None => ("model_type", config.text("model_type")?),
        };
        let names = |family: &Family| match config.is_gguf() {
            true => family.gguf_architectures,
            false => family.model_types,
        };
        FAMILIES.iter().find(|family| names(family).contains(&found)).ok_or_else(|| {
            let mut supported: Vec<&str> = FAMILIES.iter().flat_map(|f| names(f).iter().copied()).collect();
            supported.sort_unstable();
            supported.dedup();
            ModelError::UnknownFamily {
                path: config.path().into(),
                key,
                found: crate::config::shorten(found),
                supported: supported.join(", "),
            }
        })
    }

    /// The family of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// The model that `config` describes; of a multimodal one, its text part.
    pub(crate) fn read_spec(&self, config: &Config) -> Result<ModelSpec, ModelError> {
        let text = match config.section("text_config")? {
            // Some say of the text model only here whether its head is tied.
            Some(text) => text.or_given_by(config, "tie_word_embeddings"),
            None => config.clone(),
        };
        let mut spec = (self.spec)(&text.with_defaults((self.defaults)()))?;
        spec.family = self.name.into();
        spec.validate(config.path())?;
        Ok(spec)
    }

    /// True if its files may hold a tensor of this name that a model with this number of layers does not use.
    pub(crate) fn ignores(&self, tensor: &str, layers: usize) -> bool {
        let beyond =
            || tensor.split('.').filter(|part| part.parse().is_ok_and(|layer: usize| layer >= layers));
        self.unused.iter().chain(place::UNUSED_ANYWHERE).any(|pattern| match pattern.contains('#') {
            false => matches(pattern, tensor),
            true => beyond().any(|layer| matches(&pattern.replace('#', layer), tensor)),
        })
    }
}

/// True if `pattern`, where `*` stands for any characters, describes the whole `text`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut tail) = text.strip_prefix(start) else { return false };
    let mut pieces = rest.split('*');
    let end = pieces.next_back().unwrap_or_default();
    for piece in pieces {
        match tail.split_once(piece) {
            Some((_, after)) => tail = after,
            None => return false,
        }
    }
    tail.ends_with(end)
}

#[cfg(test)]
mod tests;
