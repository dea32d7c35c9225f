//! From GGUF metadata to the keys of `config.json`, so that a family reads both with the same code.

use larql_compute::MatRef;
use serde_json::{Map, Value, json};

use super::{GgufFile, GgufValue};
use crate::tensor::Encoding;
use crate::{Config, ModelError};

/// Metadata keys, without the architecture in front, and what `config.json` calls them; a dot leads into a
/// section.
const KEYS: &[(&str, &str)] = &[
    ("vocab_size", "vocab_size"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("block_count", "num_hidden_layers"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("attention.layer_norm_epsilon", "layer_norm_epsilon"),
    ("attention.sliding_window", "sliding_window"),
    ("attention.sliding_window_pattern", "sliding_window_pattern"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("attention.key_length_swa", "head_dim_swa"),
    ("attention.shared_kv_layers", "num_kv_shared_layers"),
    ("attention.q_lora_rank", "q_lora_rank"),
    ("attention.kv_lora_rank", "kv_lora_rank"),
    ("attention.key_length_mla", "qk_head_dim"),
    ("attention.value_length_mla", "v_head_dim"),
    ("attention.value_length", "value_length"),
    ("embedding_length_per_layer_input", "hidden_size_per_layer_input"),
    ("leading_dense_block_count", "first_k_dense_replace"),
    ("expert_count", "num_local_experts"),
    ("expert_used_count", "num_experts_per_tok"),
    ("expert_shared_count", "n_shared_experts"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
    ("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
    ("interleave_moe_layer_step", "moe_layer_interval"),
    ("nextn_predict_layers", "num_nextn_predict_layers"),
    ("expert_group_count", "n_group"),
    ("expert_group_used_count", "topk_group"),
    ("expert_weights_scale", "routed_scaling_factor"),
    ("expert_weights_norm", "norm_topk_prob"),
    ("expert_gating_func", "expert_gating_func"),
    ("attention.scale", "attention_multiplier"),
    ("attention.temperature_scale", "attention_temperature_scale"),
    ("embedding_scale", "embedding_multiplier"),
    ("residual_scale", "residual_multiplier"),
    ("logit_scale", "logits_scaling"),
    ("rope.dimension_count", "rotary_dim"),
    ("rope.freq_base", "rope_theta"),
    ("rope.freq_base_swa", "rope_local_base_freq"),
    ("rope.scaling.type", "rope_scaling.rope_type"),
    ("rope.scaling.factor", "rope_scaling.factor"),
    ("rope.scaling.original_context_length", "rope_scaling.original_max_position_embeddings"),
    ("rope.scaling.attn_factor", "rope_scaling.attention_factor"),
    ("rope.scaling.yarn_beta_fast", "rope_scaling.beta_fast"),
    ("rope.scaling.yarn_beta_slow", "rope_scaling.beta_slow"),
    ("rope.scaling.yarn_log_multiplier", "rope_scaling.yarn_log_multiplier"),
];

/// Lists with an entry for each layer are no longer than this.
const LONGEST_LIST: usize = 1024;

/// The metadata key that a configuration key was translated from, for messages.
pub(crate) fn metadata_key(architecture: &str, config_key: &str) -> String {
    match KEYS.iter().find(|(_, name)| *name == config_key) {
        Some((suffix, _)) => format!("{architecture}.{suffix}"),
        None => config_key.into(),
    }
}

impl GgufFile {
    /// The metadata as a configuration.
    ///
    /// # Errors
    /// If the file names no architecture, a value has no counterpart in JSON, or heads have keys and values
    /// of different widths.
    pub fn config(&self) -> Result<Config, ModelError> {
        const ARCHITECTURE: &str = "general.architecture";
        let architecture = match self.get(ARCHITECTURE) {
            Some(GgufValue::String(name)) => name,
            Some(other) => {
                return Err(ModelError::malformed(&self.path, ARCHITECTURE, "a string", other.to_string()));
            }
            None => {
                return Err(ModelError::malformed(&self.path, ARCHITECTURE, "a name", "no such key"));
            }
        };
        let mut values = Map::new();
        for (suffix, key) in KEYS {
            if let Some(value) = self.get(&format!("{architecture}.{suffix}")) {
                insert(&mut values, key, to_json(value));
            }
        }
        // Layers that predict several tokens ahead are counted, too.
        let count = |key: &str| values.get(key).and_then(Value::as_u64);
        if let (Some(layers), Some(beyond)) = (count("num_hidden_layers"), count("num_nextn_predict_layers"))
        {
            values.insert("num_hidden_layers".into(), layers.saturating_sub(beyond).into());
        }
        self.add_rotation(architecture, &mut values)?;
        self.add_facts_of_tensors(architecture, &mut values)?;
        // No experts, as no other mixture says, mean that there is none.
        if values.get("num_local_experts").is_some_and(|experts| experts == 0) {
            values.remove("num_local_experts");
        }
        // A window of no tokens is how these files say that there is none.
        if values.get("sliding_window").is_some_and(|window| window == 0) {
            values.insert("sliding_window".into(), Value::Null);
        }
        let config = Config::from_gguf(values, &self.path, architecture);
        self.check_value_width(&config, architecture)?;
        Ok(config)
    }

    /// Resolves absent and older keys of rotary embeddings as llama.cpp does: scaling without a type is linear,
    /// its factor may stand under an older key, and a base that is not given is 10,000 for every architecture.
    fn add_rotation(&self, architecture: &str, values: &mut Map<String, Value>) -> Result<(), ModelError> {
        let number =
            |name: &str| self.get(&format!("{architecture}.rope.{name}")).and_then(GgufValue::as_f64);
        values.entry("rope_theta").or_insert_with(|| 10_000.0.into());
        // 0 and 1 both stand for no scaling.
        let factor = number("scaling.factor").or(number("scale_linear")).filter(|factor| *factor != 0.0);
        let kind = self.get(&format!("{architecture}.rope.scaling.type"));
        let mut kind = kind.map_or(Some("linear"), GgufValue::as_str).unwrap_or_default().to_owned();
        if kind == "yarn" {
            let extrapolation = number("scaling.yarn_ext_factor").unwrap_or(1.0);
            let share = number("scaling.attn_factor").unwrap_or(1.0)
                * number("scaling.yarn_attn_factor").unwrap_or(1.0);
            match extrapolation {
                1.0 if share != 1.0 => insert(values, "rope_scaling.attention_factor", share.into()),
                1.0 => {}
                0.0 if share == 1.0 => "linear".clone_into(&mut kind),
                _ => {
                    let feature =
                        format!("YaRN that extrapolates by {extrapolation} and scales attention by {share}");
                    return Err(ModelError::unsupported(
                        &self.path,
                        feature,
                        "use a file made for its context length",
                    ));
                }
            }
        }
        match (kind.as_str(), factor) {
            ("linear", None) => {
                if let Some(Value::Object(scaling)) = values.get_mut("rope_scaling") {
                    scaling.remove("rope_type");
                    scaling.remove("factor");
                }
            }
            ("linear" | "yarn", factor) => {
                insert(values, "rope_scaling.rope_type", kind.into());
                insert(values, "rope_scaling.factor", factor.unwrap_or(1.0).into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Properties that `config.json` states and a GGUF file shows by its tensors.
    fn add_facts_of_tensors(
        &self,
        architecture: &str,
        values: &mut Map<String, Value>,
    ) -> Result<(), ModelError> {
        let holds = |name: &str| self.tensor(name).is_some();
        let layers =
            values.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0).min(LONGEST_LIST as u64);
        if let Some(all @ Value::Bool(_)) = values.get("sliding_window_pattern").cloned() {
            values.insert("sliding_window_pattern".into(), (0..layers).map(|_| all.clone()).collect());
        }
        if let Some(Value::Array(sliding)) = values.get("sliding_window_pattern") {
            let kind = |sliding: &Value| match sliding.as_bool() {
                Some(true) => "sliding_attention".into(),
                Some(false) => "full_attention".into(),
                None => sliding.clone(),
            };
            let kinds: Value = sliding.iter().map(kind).collect();
            values.remove("sliding_window_pattern");
            values.insert("layer_types".into(), kinds);
        }
        if let Some(multiplier) =
            values.get("rope_scaling").and_then(|s| s.get("yarn_log_multiplier")?.as_f64())
        {
            // DeepSeek's weight on the logarithm of the factor; its files know one for both of its uses, and a tenth of
            // it. Ministral's know that of the denominator, as it is.
            let (numerator, denominator) = match architecture {
                "mistral3" => (1.0, multiplier),
                _ => (multiplier * 10.0, multiplier * 10.0),
            };
            insert(values, "rope_scaling.mscale", numerator.into());
            insert(values, "rope_scaling.mscale_all_dim", denominator.into());
        }
        if let Some(Value::Object(scaling)) = values.get_mut("rope_scaling")
            && scaling.get("rope_type").is_some_and(|kind| kind == "yarn")
            && let Some(Value::Number(factor)) = scaling.get("factor").cloned()
            && let Some(Value::Number(share)) = scaling.get("attention_factor").cloned()
            && let (Some(factor), Some(share)) = (factor.as_f64(), share.as_f64())
        {
            // These files say by how much attention differs from what YaRN makes of the factor.
            let usual = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
            scaling.insert("attention_factor".into(), (share * usual).into());
        }
        values.insert("tie_word_embeddings".into(), (!holds("output.weight")).into());
        // Gemma 4: a layer without values of its own takes its keys for them.
        let keys = self.tensors.iter().filter_map(|tensor| tensor.name.strip_suffix(".attn_k.weight"));
        let keys_are_values = keys.into_iter().any(|layer| !holds(&format!("{layer}.attn_v.weight")));
        values.insert("attention_k_eq_v".into(), keys_are_values.into());
        for (key, tensor) in [
            ("attention_bias", "blk.0.attn_q.bias"),
            ("qkv_bias", "blk.0.attn_q.bias"),
            ("use_qkv_bias", "blk.0.attn_q.bias"),
            ("attention_out_bias", "blk.0.attn_output.bias"),
            ("mlp_bias", "blk.0.ffn_down.bias"),
            ("lm_head_bias", "output.bias"),
            ("use_qk_norm", "blk.0.attn_q_norm.weight"),
            ("qk_layernorm", "blk.0.attn_q_norm.weight"),
        ] {
            values.insert(key.into(), holds(tensor).into());
        }
        // StableLM: one norm feeds both branches.
        values.insert("use_parallel_residual".into(), (!holds("blk.0.ffn_norm.weight")).into());
        let has_keys_alone = |layer| {
            holds(&format!("blk.{layer}.attn_k.weight")) && !holds(&format!("blk.{layer}.attn_v.weight"))
        };
        values.insert("attention_k_eq_v".into(), (0..layers).any(has_keys_alone).into());
        if !values.contains_key("vocab_size")
            && let Some(embedding) = self.tensor("token_embd.weight")
        {
            values.insert("vocab_size".into(), embedding.shape[0].into());
        }
        let long_and_short =
            (self.rope_factors("rope_factors_long.weight")?, self.rope_factors("rope_factors_short.weight")?);
        if let (Some(long), Some(short)) = long_and_short {
            insert(values, "rope_scaling.rope_type", "longrope".into());
            insert(values, "rope_scaling.long_factor", long.into());
            insert(values, "rope_scaling.short_factor", short.into());
        }
        if let Some(mut factors) = self.rope_factors("rope_freqs.weight")? {
            // Llama 3.1 and later: a factor for each frequency, the same at every length, on top of a linear one.
            let scaling = values.get("rope_scaling");
            let said = |key: &str| scaling.and_then(|scaling| scaling.get(key));
            match said("rope_type").and_then(Value::as_str) {
                Some("linear") => {
                    let factor = said("factor").and_then(Value::as_f64).unwrap_or(1.0) as f32;
                    factors.iter_mut().for_each(|value| *value *= factor);
                }
                Some("yarn") => {
                    let feature = "YaRN on top of factors in `rope_freqs.weight`";
                    return Err(ModelError::unsupported(
                        &self.path,
                        feature,
                        "use a file with one of the two",
                    ));
                }
                _ => {}
            }
            let scaling = json!({
                "rope_type": "longrope",
                "short_factor": factors,
                "long_factor": factors,
                "attention_factor": 1.0,
            });
            values.insert("rope_scaling".into(), scaling);
        }
        Ok(())
    }

    fn rope_factors(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(tensor) = self.tensor(name) else { return Ok(None) };
        let Encoding::Format(format) = tensor.encoding else { return Ok(None) };
        let count: usize = tensor.shape.iter().product();
        let matrix = MatRef::new(format, 1, count, &tensor.bytes).map_err(|source| ModelError::Tensor {
            path: self.path.clone(),
            tensor: name.into(),
            source,
        })?;
        Ok(Some(matrix.to_f32()))
    }

    fn check_value_width(&self, config: &Config, architecture: &str) -> Result<(), ModelError> {
        let width = |name: &str| self.get(&format!("{architecture}.attention.{name}"));
        match (width("key_length"), width("value_length")) {
            // Latent attention says elsewhere what its heads' widths are.
            _ if config.gives("kv_lora_rank") => Ok(()),
            (Some(key), Some(value)) if key.as_u64() != value.as_u64() => Err(config.contradiction(format!(
                "{architecture}.attention.key_length is {key}, but value_length is {value}; \
                 heads with keys and values of different widths are not supported"
            ))),
            _ => Ok(()),
        }
    }
}

fn insert(values: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            values.insert(key.into(), value);
        }
        Some((section, key)) => {
            let section = values.entry(section).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(section) = section {
                insert(section, key, value);
            }
        }
    }
}

/// A value as JSON. Floats that JSON cannot write, and long lists, become text: code that expects a number
/// there reports the text that it found. A list that repeats one value, as for layers that are all alike, becomes that value.
fn to_json(value: &GgufValue) -> Value {
    if let GgufValue::Array(array) = value {
        let mut elements = array.iter();
        if let Some(first) = elements.next()
            && elements.all(|element| element == first)
        {
            return to_json(&first);
        }
    }
    match value {
        GgufValue::Bool(flag) => (*flag).into(),
        GgufValue::String(text) => text.as_str().into(),
        GgufValue::F32(_) | GgufValue::F64(_) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => number.into(),
            None => value.to_string().into(),
        },
        GgufValue::I8(number) => (*number).into(),
        GgufValue::I16(number) => (*number).into(),
        GgufValue::I32(number) => (*number).into(),
        GgufValue::I64(number) => (*number).into(),
        GgufValue::U8(number) => (*number).into(),
        GgufValue::U16(number) => (*number).into(),
        GgufValue::U32(number) => (*number).into(),
        GgufValue::U64(number) => (*number).into(),
        GgufValue::Array(array) if array.len() <= LONGEST_LIST => array.iter().map(|v| to_json(&v)).collect(),
        GgufValue::Array(_) => value.to_string().into(),
    }
}
