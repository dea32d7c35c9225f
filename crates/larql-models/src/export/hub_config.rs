//! The files of a hub checkpoint other than the weights: those it came with, or new ones from the spec.

use std::path::Path;

use larql_compute::Format;
use larql_compute::rotary::{RotarySpec, Scaling};
use serde_json::{Map, Value, json};

use super::{Export, ExportOptions};
use crate::text::side_files as side_files_of;
use crate::{
    Activation, AttentionSpec, Config, LayerRole, LayerSpec, MixtureSpec, ModelError, ModelSpec, Role,
    WeightSource, python_json,
};

/// Files of a checkpoint other than the weights.
pub(super) struct SideFiles {
    pub(super) config: Config,
    /// Every file, the configuration too.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

const CONFIG: &str = "config.json";

/// Collects the files that exist where the model is, and makes new ones for those that are missing.
pub(super) fn side_files(export: Export<'_>, options: ExportOptions) -> Result<SideFiles, ModelError> {
    let mut files = Vec::new();
    for (name, path) in side_files_of(export.path)? {
        let bytes = std::fs::read(&path).map_err(|source| ModelError::Io { path, source })?;
        files.push((name, bytes));
    }
    if !files.iter().any(|(name, _)| name == "tokenizer.json")
        && let Some(tokenizer) = export.text.tokenizer()?
    {
        let failed = |source| ModelError::Tokenizer { path: export.path.into(), source };
        let config = tokenizer.to_tokenizer_config_json(export.text.templates()?.to_config());
        files.push(("tokenizer.json".into(), tokenizer.to_tokenizer_json().map_err(failed)?.into()));
        if !files.iter().any(|(name, _)| name == "tokenizer_config.json") {
            files.push(("tokenizer_config.json".into(), config.into()));
        }
    }
    let path = export.path.join(CONFIG);
    let given = files.iter().position(|(name, _)| name == CONFIG).map(|place| files.remove(place).1);
    let bytes = match given {
        Some(bytes) => as_written(bytes, export.weights)?,
        None => {
            let config = new_config(export, options, &path)?;
            format!("{:#}\n", Value::Object(config)).into()
        }
    };
    let config = Config::parse(&bytes, &path)?;
    files.push((CONFIG.into(), bytes));
    Ok(SideFiles { config, files })
}

/// True if experts are held as MXFP4, the one kind of blocks that is written.
fn holds_packed_experts(weights: &dyn WeightSource) -> Result<bool, ModelError> {
    let is_expert = |role: &Role| matches!(role, Role::Layer(_, LayerRole::ExpertGate(_)));
    let Some(expert) = weights.spec().tensors().into_iter().map(|(role, _)| role).find(is_expert) else {
        return Ok(false);
    };
    Ok(weights.matrix(expert)?.format() == Format::MXFP4)
}

/// A configuration without what it says of quantised weights that are written as floats, and of a head that is tied
/// where one of its own is written.
fn as_written(bytes: Vec<u8>, weights: &dyn WeightSource) -> Result<Vec<u8>, ModelError> {
    const TIED: &str = "tie_word_embeddings";
    let Ok(mut config) = python_json::parse::<Map<String, Value>>(&bytes) else { return Ok(bytes) };
    let before = config.clone();
    config.shift_remove("quantization");
    if !holds_packed_experts(weights)? {
        config.shift_remove("quantization_config");
    }
    if !weights.spec().tied_head {
        config.insert(TIED.into(), false.into());
        if let Some(Value::Object(text)) = config.get_mut("text_config") {
            text.insert(TIED.into(), false.into());
        }
    }
    // What says the same is left as it stands there, spaces included.
    let says_tied = |config: &Map<String, Value>| {
        let text = config.get("text_config").and_then(|text| text.get(TIED));
        text.or(config.get(TIED)) != Some(&Value::Bool(false))
    };
    let differs =
        ["quantization", "quantization_config"].iter().any(|key| before.get(*key) != config.get(*key))
            || says_tied(&before) && !weights.spec().tied_head;
    Ok(if differs { format!("{:#}\n", Value::Object(config)).into() } else { bytes })
}

/// Differences of a family's configuration from Llama's.
struct Dialect {
    /// The family, as specs name it.
    family: &'static str,
    model_type: &'static str,
    /// Name of the class in transformers.
    class: &'static str,
    /// Keys that have another name: the usual one, and theirs.
    renamed: &'static [(&'static str, &'static str)],
    /// Keys of its own, and values of usual keys that mean something else.
    own: fn(&ModelSpec) -> Value,
}

#[rustfmt::skip]
const DIALECTS: &[Dialect] = &[
    Dialect { family: "llama", model_type: "llama", class: "LlamaForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "mistral", model_type: "mistral", class: "MistralForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "qwen2", model_type: "qwen2", class: "Qwen2ForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "qwen3", model_type: "qwen3", class: "Qwen3ForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "gemma", model_type: "gemma", class: "GemmaForCausalLM", renamed: &[("hidden_act", "hidden_activation")], own: nothing },
    Dialect { family: "gemma2", model_type: "gemma2", class: "Gemma2ForCausalLM", renamed: &[("hidden_act", "hidden_activation")], own: gemma },
    Dialect { family: "gemma3", model_type: "gemma3_text", class: "Gemma3ForCausalLM", renamed: &[("hidden_act", "hidden_activation")], own: gemma },
    Dialect { family: "granite", model_type: "granite", class: "GraniteForCausalLM", renamed: &[], own: granite },
    Dialect { family: "granite_moe", model_type: "granitemoe", class: "GraniteMoeForCausalLM", renamed: &[], own: granite_moe },
    Dialect { family: "olmo2", model_type: "olmo2", class: "Olmo2ForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "olmo3", model_type: "olmo3", class: "Olmo3ForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "olmoe", model_type: "olmoe", class: "OlmoeForCausalLM", renamed: &[("num_local_experts", "num_experts")], own: olmoe },
    Dialect { family: "smollm3", model_type: "smollm3", class: "SmolLM3ForCausalLM", renamed: &[], own: smollm3 },
    Dialect { family: "phi3", model_type: "phi3", class: "Phi3ForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "phimoe", model_type: "phimoe", class: "PhimoeForCausalLM", renamed: &[], own: phimoe },
    Dialect { family: "phi", model_type: "phi", class: "PhiForCausalLM", renamed: &[("rms_norm_eps", "layer_norm_eps")], own: nothing },
    Dialect { family: "starcoder2", model_type: "starcoder2", class: "Starcoder2ForCausalLM", renamed: &[("rms_norm_eps", "norm_epsilon"), ("attention_bias", "use_bias")], own: nothing },
    Dialect { family: "arcee", model_type: "arcee", class: "ArceeForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "nemotron", model_type: "nemotron", class: "NemotronForCausalLM", renamed: &[("rms_norm_eps", "norm_eps")], own: share_of_heads },
    Dialect { family: "stablelm", model_type: "stablelm", class: "StableLmForCausalLM", renamed: &[("rms_norm_eps", "layer_norm_eps")], own: stablelm },
    Dialect { family: "seed_oss", model_type: "seed_oss", class: "SeedOssForCausalLM", renamed: &[], own: seed_oss },
    Dialect { family: "hunyuan_dense", model_type: "hunyuan_v1_dense", class: "HunYuanDenseV1ForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "ministral3", model_type: "ministral3", class: "Ministral3ForCausalLM", renamed: &[], own: nothing },
    Dialect { family: "exaone4", model_type: "exaone4", class: "Exaone4ForCausalLM", renamed: &[], own: layer_types },
    Dialect { family: "cohere2", model_type: "cohere2", class: "Cohere2ForCausalLM", renamed: &[("rms_norm_eps", "layer_norm_eps")], own: cohere2 },
    Dialect { family: "glm4", model_type: "glm4", class: "Glm4ForCausalLM", renamed: &[], own: glm4 },
    Dialect { family: "glm4_moe", model_type: "glm4_moe", class: "Glm4MoeForCausalLM", renamed: &[("num_local_experts", "n_routed_experts")], own: glm4_moe },
    Dialect { family: "qwen2_moe", model_type: "qwen2_moe", class: "Qwen2MoeForCausalLM", renamed: &[("num_local_experts", "num_experts"), ("attention_bias", "qkv_bias")], own: qwen2_moe },
    Dialect { family: "ernie4_5_moe", model_type: "ernie4_5_moe", class: "Ernie4_5_MoeForCausalLM", renamed: &[("num_local_experts", "moe_num_experts"), ("num_experts_per_tok", "moe_k"), ("attention_bias", "use_bias")], own: ernie },
    Dialect {
        family: "gpt2",
        model_type: "gpt2",
        class: "GPT2LMHeadModel",
        renamed: &[
            ("hidden_size", "n_embd"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("intermediate_size", "n_inner"),
            ("max_position_embeddings", "n_positions"),
            ("rms_norm_eps", "layer_norm_epsilon"),
            ("hidden_act", "activation_function"),
        ],
        own: nothing,
    },
];

impl Dialect {
    /// The dialect of a model; OLMo 3 is OLMo 2 with windows in GGUF files.
    fn of(spec: &ModelSpec) -> Option<&'static Dialect> {
        let windowed = spec.layers.iter().any(|layer| layer.attention.window.is_some());
        let family = if spec.family == "olmo2" && windowed { "olmo3" } else { &*spec.family };
        DIALECTS.iter().find(|dialect| dialect.family == family)
    }
}

fn nothing(_: &ModelSpec) -> Value {
    json!({})
}

fn gemma(spec: &ModelSpec) -> Value {
    // transformers takes nothing but a whole number here.
    let width = f64::from(spec.layers[0].attention.score_scale).powi(-2).round();
    json!({ "query_pre_attn_scalar": width as u64 })
}

fn granite(spec: &ModelSpec) -> Value {
    let layer = &spec.layers[0];
    json!({
        "attention_multiplier": shortest(layer.attention.score_scale),
        "embedding_multiplier": shortest(spec.embedding_scale),
        "residual_multiplier": shortest(layer.residual_multiplier),
        "logits_scaling": rounded(f64::from(spec.logit_scale).recip()),
    })
}

fn granite_moe(spec: &ModelSpec) -> Value {
    with(granite(spec), experts_alone(spec))
}

fn olmoe(spec: &ModelSpec) -> Value {
    let normalise = first_mixture(spec).is_some_and(|mixture| mixture.router.normalise);
    with(experts_alone(spec), json!({ "norm_topk_prob": normalise }))
}

fn phimoe(spec: &ModelSpec) -> Value {
    let own = with(experts_alone(spec), json!({ "lm_head_bias": spec.head_bias }));
    let scaling = spec.layers[0].attention.rotary.as_ref().map(|rotary| &rotary.scaling);
    let Some(scaling @ Scaling::LongRope { attention_factor, .. }) = scaling else { return own };
    // This family has the factor of longrope under two names of its own.
    let factors = json!({ "short_mscale": attention_factor, "long_mscale": attention_factor });
    match rope_scaling(scaling) {
        Some(scaling) => with(own, json!({ "rope_scaling": with(scaling, factors) })),
        None => own,
    }
}

/// The width of experts where a configuration has no other.
fn experts_alone(spec: &ModelSpec) -> Value {
    json!({ "intermediate_size": first_mixture(spec).map(|mixture| mixture.features) })
}

fn smollm3(spec: &ModelSpec) -> Value {
    if spec.layers.iter().all(|layer| layer.attention.rotary.is_some()) {
        return json!({});
    }
    let turns = spec.layers.iter().map(|layer| i32::from(layer.attention.rotary.is_some()));
    json!({ "no_rope_layers": turns.collect::<Vec<_>>() })
}

fn stablelm(spec: &ModelSpec) -> Value {
    let layer = &spec.layers[0];
    let own = json!({
        "use_qkv_bias": layer.attention.qkv_bias,
        "qk_layernorm": layer.attention.query_key_norm.is_some(),
        "use_parallel_residual": layer.parallel,
    });
    with(own, share_of_heads(spec))
}

fn seed_oss(spec: &ModelSpec) -> Value {
    let attention = &spec.layers[0].attention;
    json!({ "attention_bias": attention.qkv_bias, "attention_out_bias": attention.output_bias })
}

fn cohere2(spec: &ModelSpec) -> Value {
    json!({ "logit_scale": shortest(spec.logit_scale) })
}

fn glm4(spec: &ModelSpec) -> Value {
    with(json!({ "attention_bias": spec.layers[0].attention.qkv_bias }), share_of_heads(spec))
}

fn glm4_moe(spec: &ModelSpec) -> Value {
    let Some(mixture) = first_mixture(spec) else { return glm4(spec) };
    let groups = mixture.router.groups;
    let own = json!({
        "use_qk_norm": spec.layers[0].attention.query_key_norm.is_some(),
        "first_k_dense_replace": dense_layers(spec),
        "n_shared_experts": mixture.shared_features.unwrap_or(0) / mixture.features,
        "routed_scaling_factor": shortest(mixture.router.scale),
        "norm_topk_prob": mixture.router.normalise,
        "n_group": groups.map_or(1, |groups| groups.count),
        "topk_group": groups.map_or(1, |groups| groups.kept),
    });
    with(own, glm4(spec))
}

fn qwen2_moe(spec: &ModelSpec) -> Value {
    let Some(mixture) = first_mixture(spec) else { return json!({}) };
    json!({
        "qkv_bias": spec.layers[0].attention.qkv_bias,
        "shared_expert_intermediate_size": mixture.shared_features,
        "norm_topk_prob": mixture.router.normalise,
    })
}

fn ernie(spec: &ModelSpec) -> Value {
    let Some(mixture) = first_mixture(spec) else { return json!({}) };
    let (first, count) = (dense_layers(spec), spec.layers.len());
    let is_mixture = |layer: usize| spec.layers[layer].feed_forward.mixture().is_some();
    let fits = |step: &usize| (first..count).all(|layer| is_mixture(layer) == ((layer + 1) % step == 0));
    json!({
        "moe_num_shared_experts": mixture.shared_features.unwrap_or(0) / mixture.features,
        "moe_layer_start_index": first,
        "moe_layer_interval": (1..=count).find(fits).unwrap_or(1),
    })
}

/// The windows of layers by name, also where no layer has one.
fn layer_types(spec: &ModelSpec) -> Value {
    json!({ "layer_types": spec.layers.iter().map(layer_type).collect::<Vec<_>>() })
}

fn layer_type(layer: &LayerSpec) -> &'static str {
    if layer.attention.window.is_some() { "sliding_attention" } else { "full_attention" }
}

/// The share of a head that is rotated, also where it is all of it, since absence means another share.
fn share_of_heads(spec: &ModelSpec) -> Value {
    let attention = &spec.layers[0].attention;
    let dims = attention.rotary.as_ref().map_or(attention.head_dim, |rotary| rotary.dims);
    json!({ "partial_rotary_factor": dims as f64 / attention.head_dim as f64 })
}

fn first_mixture(spec: &ModelSpec) -> Option<&MixtureSpec> {
    spec.layers.iter().find_map(|layer| layer.feed_forward.mixture())
}

/// The number of layers before the first mixture.
fn dense_layers(spec: &ModelSpec) -> usize {
    spec.layers.iter().take_while(|layer| layer.feed_forward.mixture().is_none()).count()
}

/// Both objects in one; what the second says counts.
fn with(mut all: Value, more: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    all
}

/// A configuration for a model that came without one. Whether it says all that the spec says is seen by reading it
/// back.
fn new_config(
    export: Export<'_>,
    options: ExportOptions,
    path: &Path,
) -> Result<Map<String, Value>, ModelError> {
    let spec = export.weights.spec();
    let Some(dialect) = Dialect::of(spec) else {
        let advice = "extract it at level all from a checkpoint with a config.json, or write GGUF";
        let feature = format!("a new configuration for the family {}", spec.family);
        return Err(ModelError::unsupported(path, feature, advice));
    };
    let mut config = Map::new();
    let mut put = |key: &str, value: Value| {
        let theirs =
            dialect.renamed.iter().find(|(usual, _)| *usual == key).map_or(key, |(_, theirs)| theirs);
        config.insert(theirs.to_owned(), value);
    };
    let layer = &spec.layers[0];
    let attention = &layer.attention;
    put("architectures", json!([dialect.class]));
    put("model_type", dialect.model_type.into());
    put("dtype", torch_name(options.float).into());
    put("hidden_size", spec.hidden_size.into());
    put("num_hidden_layers", spec.layers.len().into());
    put("num_attention_heads", attention.heads.into());
    put("num_key_value_heads", attention.kv_heads.into());
    put("head_dim", attention.head_dim.into());
    let mut dense = spec.layers.iter().filter(|layer| layer.feed_forward.mixture().is_none());
    let features = dense.next().map(|layer| layer.feed_forward.features());
    let mixture = first_mixture(spec);
    put("intermediate_size", features.or(mixture.map(|mixture| mixture.features)).into());
    if let Some(mixture) = mixture {
        put("num_local_experts", mixture.experts.into());
        put("num_experts_per_tok", mixture.router.chosen.into());
        put("moe_intermediate_size", mixture.features.into());
    }
    put("hidden_act", activation_name(layer.feed_forward.activation()).into());
    put("vocab_size", spec.vocab_size.into());
    put("max_position_embeddings", spec.context_length.into());
    put("rms_norm_eps", shortest(spec.final_norm.epsilon));
    put("tie_word_embeddings", spec.tied_head.into());
    put("attention_bias", attention.output_bias.into());
    put("mlp_bias", layer.feed_forward.has_bias().into());
    // What some classes assume instead may lie beyond the vocabulary.
    put("pad_token_id", Value::Null);
    let bos = export.text.tokenizer()?.and_then(|tokenizer| tokenizer.bos());
    put("bos_token_id", bos.or(export.text.special_tokens()?.bos).into());
    put("eos_token_id", export.text.stop_tokens()?.into());
    if let Some(cap) = spec.logit_soft_cap {
        put("final_logit_softcapping", shortest(cap));
    }
    if let Some(cap) = attention.score_soft_cap {
        put("attn_logit_softcapping", shortest(cap));
    }
    put_windows(spec, &mut put);
    put_rotation(spec, &mut put);
    if let Value::Object(own) = (dialect.own)(spec) {
        config.extend(own);
    }
    Ok(config)
}

fn put_windows(spec: &ModelSpec, put: &mut impl FnMut(&str, Value)) {
    let windows = || spec.layers.iter().map(|layer| layer.attention.window);
    let Some(window) = windows().flatten().next() else { return put("sliding_window", Value::Null) };
    put("sliding_window", window.into());
    put("use_sliding_window", true.into());
    put("max_window_layers", windows().position(|window| window.is_some()).into());
    put("layer_types", spec.layers.iter().map(layer_type).collect());
}

fn put_rotation(spec: &ModelSpec, put: &mut impl FnMut(&str, Value)) {
    let rotary = |pick: fn(&AttentionSpec) -> bool| -> Option<&RotarySpec> {
        spec.layers.iter().map(|layer| &layer.attention).filter(|a| pick(a)).find_map(|a| a.rotary.as_ref())
    };
    let Some(global) = rotary(|attention| attention.window.is_none()).or_else(|| rotary(|_| true)) else {
        return;
    };
    put("rope_theta", global.base.into());
    if let Some(local) = rotary(|attention| attention.window.is_some()).filter(|local| *local != global) {
        put("rope_local_base_freq", local.base.into());
    }
    let head_dim = spec.layers[0].attention.head_dim;
    if global.dims != head_dim {
        put("partial_rotary_factor", (global.dims as f64 / head_dim as f64).into());
    }
    if let Scaling::LongRope { original_context, .. } = global.scaling {
        // Phi 3 looks for it here.
        put("original_max_position_embeddings", original_context.into());
    }
    if let Some(mut scaling) = rope_scaling(&global.scaling) {
        if let Some(growth) = spec.layers[0].attention.query_growth {
            scaling["llama_4_scaling_beta"] = shortest(growth.slope);
        }
        put("rope_scaling", scaling);
    }
}

fn rope_scaling(scaling: &Scaling) -> Option<Value> {
    Some(match scaling {
        // There is no key for this one; reading the configuration back shows the difference.
        Scaling::None | Scaling::Proportional { .. } => return None,
        Scaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        Scaling::Dynamic { factor, original_context } => {
            json!({ "rope_type": "dynamic", "factor": factor, "original_max_position_embeddings": original_context })
        }
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context,
        }),
        Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate } => {
            json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_context,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "attention_factor": attention_factor,
                "truncate": truncate,
            })
        }
        Scaling::LongRope { short_factor, long_factor, original_context, attention_factor } => json!({
            "rope_type": "longrope",
            "short_factor": short_factor,
            "long_factor": long_factor,
            "original_max_position_embeddings": original_context,
            "attention_factor": attention_factor,
        }),
    })
}

fn torch_name(format: Format) -> &'static str {
    match format {
        Format::F16 => "float16",
        Format::BF16 => "bfloat16",
        _ => "float32",
    }
}

fn activation_name(activation: Activation) -> &'static str {
    match activation {
        // The clamp has keys of its own.
        Activation::Silu | Activation::ClampedSwiglu { .. } => "silu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::ReluSquared => "relu2",
    }
}

/// The shortest decimal that reads back as the same f32.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A number that went through an f32, without the digits that this added.
fn rounded(value: f64) -> Value {
    shortest(value as f32)
}
