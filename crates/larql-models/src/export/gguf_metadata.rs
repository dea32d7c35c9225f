//! Description of a model in a GGUF file: from a [`ModelSpec`] to metadata, and to the few tensors that carry
//! configuration.
//!
//! The metadata are those that llama.cpp requires of each architecture and that this crate reads. They may express less
//! than the spec: [`GgufForm::spec`] is the spec that a reader gets from them. The writer of the weights compares the
//! two, and converts tensors that are stored differently, such as rows of Q and K.

use std::f64::consts::TAU;
use std::path::Path;

use larql_compute::Format;
use larql_compute::rotary::{RotarySpec, Scaling};
use larql_compute::router::RouterScores;

use crate::family::{Family, Layout};
use crate::gguf::{GgufArray, GgufFile, GgufTensor, GgufValue};
use crate::{
    AttentionSpec, FeedForwardSpec, KeysAndValues, LayerSpec, MixtureSpec, ModelError, ModelSpec, NormKind,
    Role,
};

/// Form of a model in a GGUF file.
pub(crate) struct GgufForm {
    /// The family that reads it, and knows where its tensors lie; Mixtral's files are Llama's.
    pub(crate) family: &'static Family,
    /// The model as readers of the file see it.
    pub(crate) spec: ModelSpec,
    /// Metadata that describe the model, `general.architecture` first.
    pub(crate) metadata: Vec<(String, GgufValue)>,
    /// Tensors in F32 besides the weights: divisors of rotary frequencies.
    pub(crate) divisors: Vec<(&'static str, Vec<f32>)>,
}

impl GgufForm {
    /// The first of its family's architectures whose metadata can be read again; `path` is the file for messages.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for what no GGUF file can say; else why the metadata do not describe a model.
    pub(crate) fn new(spec: &ModelSpec, path: &Path) -> Result<GgufForm, ModelError> {
        let unknown = || {
            let advice = "write safetensors instead";
            ModelError::unsupported(
                path,
                format!("a GGUF file of a model of the family {}", spec.family),
                advice,
            )
        };
        let family = Family::named(&spec.family).ok_or_else(unknown)?;
        let mut first_error = None;
        for architecture in family.gguf_architectures {
            match GgufForm::of_architecture(spec, family, architecture, path) {
                Ok(form) => return Ok(form),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(unknown))
    }

    fn of_architecture(
        spec: &ModelSpec,
        family: &Family,
        architecture: &str,
        path: &Path,
    ) -> Result<GgufForm, ModelError> {
        let mut entries = Entries { architecture, entries: Vec::new() };
        entries.put_whole("general.architecture", GgufValue::String(architecture.into()));
        entries.put_whole("general.type", GgufValue::String("model".into()));
        put_sizes(spec, &mut entries);
        put_attention(spec, &mut entries);
        put_mixtures(spec, &mut entries);
        let divisors = put_rotations(spec, &mut entries, path)?;
        let metadata = entries.entries;

        // Reading asks for some tensors' names and shapes, and for the bytes of the divisors.
        let mut tensors: Vec<(GgufTensor, Vec<u8>)> = Vec::new();
        for (role, _) in spec.tensors() {
            let place = (family.place)(spec, role, Layout::Gguf);
            let shape =
                if role == Role::Embedding { vec![spec.vocab_size, spec.hidden_size] } else { vec![1] };
            tensors.push((GgufTensor { name: place.name, format: Format::F32, shape }, Vec::new()));
        }
        for (name, values) in &divisors {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let shape = vec![values.len()];
            tensors.push((GgufTensor { name: (*name).into(), format: Format::F32, shape }, bytes));
        }
        let config = GgufFile::described(path, metadata.clone(), tensors).config()?;
        let family = Family::of(&config)?;
        Ok(GgufForm { family, spec: family.read_spec(&config)?, metadata, divisors })
    }
}

/// `general.file_type`: what most of a file's matrices are in, by the numbers of llama.cpp.
pub(crate) fn file_type(format: Format) -> Option<u32> {
    Some(match format {
        Format::F32 => 0,
        Format::F16 => 1,
        Format::Q4_0 => 2,
        Format::Q4_1 => 3,
        Format::Q8_0 => 7,
        Format::Q5_0 => 8,
        Format::Q5_1 => 9,
        Format::Q2_K => 10,
        Format::Q3_K => 12,
        Format::Q4_K => 15,
        Format::Q5_K => 17,
        Format::Q6_K => 18,
        Format::IQ2_XXS => 19,
        Format::IQ2_XS => 20,
        Format::IQ3_XXS => 23,
        Format::IQ1_S => 24,
        Format::IQ4_NL => 25,
        Format::IQ3_S => 26,
        Format::IQ2_S => 28,
        Format::IQ4_XS => 30,
        Format::IQ1_M => 31,
        Format::TQ1_0 => 36,
        Format::TQ2_0 => 37,
        Format::BF16 => 32,
        Format::MXFP4 => 38,
        Format::Q8_K | Format::AFFINE8 => return None,
    })
}

/// Metadata in the making.
struct Entries<'a> {
    architecture: &'a str,
    entries: Vec<(String, GgufValue)>,
}

impl Entries<'_> {
    /// An entry whose key is whole.
    fn put_whole(&mut self, key: &str, value: GgufValue) {
        self.entries.push((key.into(), value));
    }

    /// An entry of the architecture.
    fn put(&mut self, key: &str, value: GgufValue) {
        self.entries.push((format!("{}.{key}", self.architecture), value));
    }

    /// A number of things; sizes of valid specs fit.
    fn size(&mut self, key: &str, value: usize) {
        self.put(key, GgufValue::U32(value as u32));
    }

    /// A number of things in each layer: one where all are alike.
    fn sizes(&mut self, key: &str, values: Vec<usize>) {
        match values.split_first() {
            Some((first, rest)) if rest.iter().any(|size| size != first) => {
                let values = values.into_iter().map(|size| size as u32);
                self.put(key, GgufValue::Array(GgufArray::of_u32s(values)));
            }
            Some((first, _)) => self.size(key, *first),
            None => {}
        }
    }

    fn number(&mut self, key: &str, value: f64) {
        self.put(key, GgufValue::F32(value as f32));
    }

    /// A number that says nothing where it is 1.
    fn factor(&mut self, key: &str, value: f64) {
        if value != 1.0 {
            self.number(key, value);
        }
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.put(key, GgufValue::Bool(value));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.put(key, GgufValue::String(value.into()));
    }
}

fn put_sizes(spec: &ModelSpec, entries: &mut Entries<'_>) {
    entries.size("vocab_size", spec.vocab_size);
    entries.size("context_length", spec.context_length);
    entries.size("embedding_length", spec.hidden_size);
    entries.size("block_count", spec.layers.len());
    let dense = |layer: &LayerSpec| match &layer.feed_forward {
        FeedForwardSpec::Gated { features, .. } | FeedForwardSpec::Plain { features, .. } => Some(*features),
        FeedForwardSpec::Mixture(mixture) => mixture.shared_features.filter(|_| mixture.branch.is_some()),
    };
    // Layers of experts only say here what is said of the dense ones.
    let usual = spec.layers.iter().find_map(dense);
    let features =
        |layer| dense(layer).or(usual).unwrap_or_else(|| experts_of(layer).map_or(0, |m| m.features));
    entries.sizes("feed_forward_length", spec.layers.iter().map(features).collect());
    let epsilon = match spec.final_norm.kind {
        // Phi 3 has RMS norms, and this architecture its key.
        _ if entries.architecture == "phimoe" => "attention.layer_norm_rms_epsilon",
        NormKind::Layer | NormKind::LayerUnbiased | NormKind::LayerOnePlus => "attention.layer_norm_epsilon",
        NormKind::Rms | NormKind::RmsOnePlus | NormKind::RmsUnit => "attention.layer_norm_rms_epsilon",
    };
    entries.number(epsilon, spec.final_norm.epsilon.into());
    // The root of the hidden size is what architectures that scale embeddings do by themselves.
    if spec.embedding_scale != (spec.hidden_size as f64).sqrt() as f32 {
        entries.factor("embedding_scale", spec.embedding_scale.into());
    }
    entries.factor("residual_scale", spec.layers[0].residual_multiplier.into());
    match entries.architecture {
        "granite" | "granitemoe" => entries.number("logit_scale", f64::from(spec.logit_scale).recip()),
        "cohere2" => entries.number("logit_scale", spec.logit_scale.into()),
        "stablelm" => entries.flag("use_parallel_residual", spec.layers[0].parallel),
        _ => {}
    }
    if let Some(cap) = spec.logit_soft_cap {
        entries.number("final_logit_softcapping", cap.into());
    }
    if entries.architecture == "gemma4" {
        let width = spec.per_layer_inputs.as_ref().map_or(0, |inputs| inputs.width);
        entries.size("embedding_length_per_layer_input", width);
    }
}

fn put_attention(spec: &ModelSpec, entries: &mut Entries<'_>) {
    let each =
        |size: fn(&AttentionSpec) -> usize| spec.layers.iter().map(|layer| size(&layer.attention)).collect();
    entries.sizes("attention.head_count", each(|attention| attention.heads));
    entries.sizes("attention.head_count_kv", each(|attention| attention.kv_heads));
    let (global, local) = representatives(spec);
    entries.size("attention.key_length", global.head_dim);
    entries.size("attention.value_length", global.value_dim);
    if let Some(cap) = global.score_soft_cap {
        entries.number("attn_logit_softcapping", cap.into());
    }
    if matches!(entries.architecture, "granite" | "granitemoe") {
        entries.number("attention.scale", global.score_scale.into());
    }
    if let Some(rank) = global.query_rank {
        entries.size("attention.q_lora_rank", rank.rank);
    }
    if let KeysAndValues::Latent { latent, .. } = global.keys_and_values {
        entries.size("attention.kv_lora_rank", latent.rank);
    }
    if let Some(growth) = global.query_growth {
        entries.number("attention.temperature_scale", growth.slope.into());
    }
    let Some(local) = local else { return };
    entries.size("attention.sliding_window", local.window.unwrap_or(0));
    let windows = || spec.layers.iter().map(|layer| layer.attention.window.is_some());
    let is_usual = match entries.architecture {
        // Readers have a pattern of their own, and for the first no key.
        "cohere2" => windows().enumerate().all(|(layer, has_window)| has_window == ((layer + 1) % 4 != 0)),
        "exaone4" | "olmo2" => false,
        _ => windows().all(|has_window| has_window),
    };
    if !is_usual {
        entries.put("attention.sliding_window_pattern", GgufValue::Array(GgufArray::of_bools(windows())));
    }
    if entries.architecture == "gemma4" {
        entries.size("attention.key_length_swa", local.head_dim);
        entries.size("attention.value_length_swa", local.value_dim);
        let borrowers = spec.layers.iter().filter(|layer| layer.attention.lender().is_some()).count();
        entries.size("attention.shared_kv_layers", borrowers);
    }
}

/// Attention of a layer that sees everything, or any if there is none; and of one with a window.
fn representatives(spec: &ModelSpec) -> (&AttentionSpec, Option<&AttentionSpec>) {
    let mut layers = spec.layers.iter().map(|layer| &layer.attention);
    let global = layers.clone().find(|attention| attention.window.is_none());
    (global.unwrap_or(&spec.layers[0].attention), layers.find(|attention| attention.window.is_some()))
}

fn experts_of(layer: &LayerSpec) -> Option<&MixtureSpec> {
    layer.feed_forward.mixture()
}

fn put_mixtures(spec: &ModelSpec, entries: &mut Entries<'_>) {
    let Some(mixture) = spec.layers.iter().find_map(experts_of) else { return };
    let router = &mixture.router;
    entries.size("expert_count", mixture.experts);
    entries.size("expert_used_count", router.chosen);
    entries.size("expert_feed_forward_length", mixture.features);
    let shared = mixture.shared_features.unwrap_or(0);
    match entries.architecture {
        "deepseek2" | "glm4moe" => {}
        "ernie4_5-moe" => {
            put_dense_layers(spec, entries);
            entries.size("expert_shared_count", shared / mixture.features);
            entries.size("expert_shared_feed_forward_length", shared);
            return;
        }
        "qwen2moe" => return entries.size("expert_shared_feed_forward_length", shared),
        _ => return,
    }
    put_dense_layers(spec, entries);
    entries.size("expert_shared_count", shared / mixture.features);
    entries.number("expert_weights_scale", router.scale.into());
    entries.flag("expert_weights_norm", router.normalise);
    let scores = match router.scores {
        RouterScores::Softmax => 1,
        RouterScores::Sigmoid => 2,
        RouterScores::SoftmaxOfChosen => 3,
        // There is no number for it, and no architecture that would need one.
        RouterScores::SoftmaxOfRivals { .. } => return,
    };
    entries.size("expert_gating_func", scores);
    if let Some(groups) = router.groups {
        entries.size("expert_group_count", groups.count);
        entries.size("expert_group_used_count", groups.kept);
    }
}

/// The number of layers before the first mixture, and where architectures have it, the step from one mixture to the next.
fn put_dense_layers(spec: &ModelSpec, entries: &mut Entries<'_>) {
    let is_mixture = |layer: usize| experts_of(&spec.layers[layer]).is_some();
    let count = spec.layers.len();
    let first = (0..count).find(|layer| is_mixture(*layer)).unwrap_or(count);
    entries.size("leading_dense_block_count", first);
    if entries.architecture == "ernie4_5-moe" {
        let fits = |step: &usize| (first..count).all(|layer| is_mixture(layer) == ((layer + 1) % step == 0));
        entries.size("interleave_moe_layer_step", (1..=count).find(fits).unwrap_or(1));
    }
}

/// Entries about rotations, and the tensors that go with them.
fn put_rotations(
    spec: &ModelSpec,
    entries: &mut Entries<'_>,
    path: &Path,
) -> Result<Vec<(&'static str, Vec<f32>)>, ModelError> {
    let rotary_of = |windowed: Option<bool>| {
        let attention = spec.layers.iter().map(|layer| &layer.attention);
        let mut wanted = attention.filter(|a| windowed.is_none_or(|windowed| a.window.is_some() == windowed));
        wanted.find_map(|attention| attention.rotary.as_ref())
    };
    let Some(rotary) = rotary_of(Some(false)).or_else(|| rotary_of(None)) else { return Ok(Vec::new()) };
    entries.size("rope.dimension_count", rotary.dims);
    entries.number("rope.freq_base", rotary.base);
    if let (Some(local), Some(_)) = (rotary_of(Some(true)), rotary_of(Some(false))) {
        entries.number("rope.freq_base_swa", local.base);
        if entries.architecture == "gemma4" {
            entries.size("rope.dimension_count_swa", local.dims);
        }
    }
    match &rotary.scaling {
        Scaling::None => {}
        Scaling::Linear { factor } => {
            entries.text("rope.scaling.type", "linear");
            entries.number("rope.scaling.factor", *factor);
        }
        Scaling::Dynamic { .. } => {
            let advice = "write safetensors instead";
            return Err(ModelError::unsupported(path, "dynamic rotary scaling in a GGUF file", advice));
        }
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let kept = |frequency: f64| {
                let turns = *original_context as f64 * frequency / TAU;
                ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0)
            };
            let divisor = |frequency| 1.0 / ((1.0 - kept(frequency)) / factor + kept(frequency));
            return Ok(vec![("rope_freqs.weight", frequencies(rotary).map(|f| divisor(f) as f32).collect())]);
        }
        Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, .. } => {
            entries.text("rope.scaling.type", "yarn");
            entries.number("rope.scaling.factor", *factor);
            entries.size("rope.scaling.original_context_length", *original_context);
            entries.number("rope.scaling.yarn_beta_fast", *beta_fast);
            entries.number("rope.scaling.yarn_beta_slow", *beta_slow);
            let usual = if *factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
            if entries.architecture == "deepseek2" {
                entries.number("rope.scaling.yarn_log_multiplier", score_growth_weight(spec, *factor) / 10.0);
            } else if entries.architecture == "mistral3" && *factor > 1.0 && *attention_factor != usual {
                // The weight on the logarithm in the denominator.
                let weight = (usual / attention_factor - 1.0) / (0.1 * factor.ln());
                entries.number("rope.scaling.yarn_log_multiplier", weight);
            } else {
                // What readers multiply the usual factor by.
                entries.factor("rope.scaling.attn_factor", ((attention_factor / usual) as f32).into());
            }
        }
        Scaling::LongRope { short_factor, long_factor, original_context, attention_factor } => {
            let single = |factors: &[f64]| factors.iter().map(|factor| *factor as f32).collect();
            if short_factor == long_factor && *attention_factor == 1.0 {
                return Ok(vec![("rope_freqs.weight", single(long_factor))]);
            }
            entries.text("rope.scaling.type", "longrope");
            entries.size("rope.scaling.original_context_length", *original_context);
            entries.number("rope.scaling.attn_factor", *attention_factor);
            return Ok(vec![
                ("rope_factors_long.weight", single(long_factor)),
                ("rope_factors_short.weight", single(short_factor)),
            ]);
        }
        Scaling::Proportional { rotated_pairs, factor } => {
            let divisor = |pair| if pair < *rotated_pairs { *factor as f32 } else { STANDSTILL };
            return Ok(vec![("rope_freqs.weight", (0..rotary.dims / 2).map(divisor).collect())]);
        }
    }
    Ok(Vec::new())
}

/// A divisor after which nothing turns.
const STANDSTILL: f32 = 1e30;

/// The frequency of each pair before scaling, in radians a token.
fn frequencies(rotary: &RotarySpec) -> impl Iterator<Item = f64> {
    let (base, dims) = (rotary.base, rotary.dims);
    (0..dims / 2).map(move |pair| base.powf(-2.0 * pair as f64 / dims as f64))
}

/// DeepSeek's weight on the logarithm of the context's growth (`mscale_all_dim`), from the scale of scores that it
/// led to: `(0.1 * weight * ln(factor) + 1)^2 / sqrt(head_dim)`.
fn score_growth_weight(spec: &ModelSpec, factor: f64) -> f64 {
    let AttentionSpec { score_scale, head_dim, .. } = spec.layers[0].attention;
    let growth = (f64::from(score_scale) * (head_dim as f64).sqrt()).sqrt();
    if factor > 1.0 { (growth - 1.0) / (0.1 * factor.ln()) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::conversion::Conversion;
    use crate::{Checkpoint, WeightSource};

    /// The GGUF description of a reference checkpoint's model.
    fn described(name: &str) -> Result<GgufForm, String> {
        let folder = larql_testing::repository("conformance").join(name);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let path = Path::new("out.gguf");
        let form = GgufForm::new(checkpoint.spec(), path).map_err(|error| error.to_string())?;
        match Conversion::between(checkpoint.spec(), &form.spec, path) {
            Ok(_) => Ok(form),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_family_is_described_so_that_it_reads_the_same() {
        let folder = larql_testing::repository("conformance");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        let refused: Vec<String> = names
            .iter()
            .filter_map(|name| described(name).err().map(|error| format!("{name}: {error}")))
            .collect();
        insta::assert_snapshot!(refused.join("\n"), @"
        deepseek_v2: out.gguf: this container cannot hold how layer 0 rotates queries and keys
        gemma2: out.gguf: this container cannot hold the model: its layers.0.attention.score_scale would become 0.20412415266036987 where it is 0.2357022613286972
        gemma3: out.gguf: this container cannot hold the model: its layers.0.attention.score_scale would become 0.20412415266036987 where it is 0.22360679507255554
        gemma3_text: out.gguf: this container cannot hold the model: its layers.0.attention.score_scale would become 0.20412415266036987 where it is 0.22360679507255554
        gpt_oss: out.gguf: this container cannot hold the model: its layers.0.feed_forward.activation.clamped_swiglu.limit would become 7.0 where it is 1.5
        gpt_oss_mxfp4: out.gguf: this container cannot hold the model: its layers.0.feed_forward.activation.clamped_swiglu.limit would become 7.0 where it is 1.5
        mistral: out.gguf: this container cannot hold the model: its layers.0.attention.window would become null where it is 8
        qwen2: out.gguf: this container cannot hold the model: its layers.2.attention.window would become null where it is 8
        qwen2_moe: out.gguf: this container cannot hold the model: its layers.1.feed_forward.kind would become \"mixture\" where it is \"gated\"
        qwen3_moe: out.gguf: this container cannot hold the model: its layers.1.feed_forward.kind would become \"mixture\" where it is \"gated\"
        ");
    }
}
