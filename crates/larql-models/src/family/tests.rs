use serde_json::{Value, json};

use super::*;
use crate::LayerSpec;

/// The spec of a configuration as it is published; sizes that matter to no test are as in the smallest model.
fn published(config: Value) -> ModelSpec {
    let Value::Object(values) = config else { panic!("{config}") };
    ModelSpec::from_config(&Config::from_values(values, "config.json".as_ref())).unwrap()
}

fn windows(spec: &ModelSpec) -> Vec<Option<usize>> {
    spec.layers.iter().map(|layer| layer.attention.window).collect()
}

#[test]
fn patterns_describe_whole_names() {
    for (pattern, text, expected) in [
        ("rope_freqs.weight", "rope_freqs.weight", true),
        ("rope_freqs.weight", "rope_freqs.weight2", false),
        ("*vision_tower.*", "vision_tower.x", true),
        ("*vision_tower.*", "model.vision_tower.", true),
        ("*vision_tower.*", "model.vision.tower", false),
        ("*h.*.attn.bias", "transformer.h.0.attn.bias", true),
        ("*h.*.attn.bias", "h.0.attn.c_attn.bias", false),
        ("*h.*.attn.bias", "h.attn.bias", false),
        ("a*a", "a", false),
        ("*", "", true),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn every_family_has_a_name_of_its_own_and_says_what_absent_keys_mean() {
    let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FAMILIES.len());
    for family in FAMILIES {
        assert!((family.defaults)().is_object(), "{}", family.name);
    }
}

#[test]
fn the_first_mistral_has_windows_and_later_ones_none() {
    let config = |window: Value| {
        json!({
            "model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": 32768, "sliding_window": window,
        })
    };
    assert_eq!(windows(&published(config(4096.into()))), [Some(4096), Some(4096)]);
    assert_eq!(windows(&published(config(Value::Null))), [None, None]);
}

#[test]
fn qwen_windows_are_off_until_switched_on() {
    let config = |on: bool, from: usize| {
        json!({
            "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 3, "num_attention_heads": 14,
            "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0, "max_position_embeddings": 32768, "tie_word_embeddings": true,
            "use_sliding_window": on, "sliding_window": 32768, "max_window_layers": from,
        })
    };
    assert_eq!(windows(&published(config(false, 0))), [None; 3]);
    assert_eq!(windows(&published(config(true, 2))), [None, None, Some(32768)]);
    assert_eq!(windows(&published(config(true, 0))), [Some(32768); 3]);
    let LayerSpec { attention, .. } = &published(config(false, 0)).layers[0];
    assert_eq!((attention.head_dim, attention.qkv_bias, attention.output_bias), (64, true, false));
}

#[test]
fn the_sparse_gemma_3_configuration_means_the_defaults() {
    let spec = published(json!({
        "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    }));
    assert_eq!((spec.vocab_size, spec.context_length), (262_208, 131_072));
    let full: Vec<usize> = (0..34).filter(|layer| windows(&spec)[*layer].is_none()).collect();
    assert_eq!(full, [5, 11, 17, 23, 29]);
    let attention = &spec.layers[0].attention;
    assert_eq!((attention.heads, attention.kv_heads, attention.head_dim), (8, 4, 256));
    assert_eq!(attention.score_scale, 1.0 / 16.0);
    let rotary = |layer: usize| spec.layers[layer].attention.rotary.clone().unwrap();
    use larql_compute::rotary::Scaling;
    assert_eq!((rotary(0).base, rotary(0).scaling), (10_000.0, Scaling::None));
    assert_eq!((rotary(5).base, rotary(5).scaling), (1_000_000.0, Scaling::Linear { factor: 8.0 }));
}

#[test]
fn yarn_and_longrope_compute_what_is_not_given() {
    use larql_compute::rotary::Scaling;
    let scaling = |scaling: Value| {
        let spec = published(json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 6, "vocab_size": 5, "max_position_embeddings": 131072, "rope_scaling": scaling,
        }));
        spec.layers[0].attention.rotary.clone().unwrap().scaling
    };
    let yarn = scaling(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}));
    let Scaling::Yarn {
        original_context: 32768,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        attention_factor,
        ..
    } = yarn
    else {
        panic!("{yarn:?}")
    };
    assert!((attention_factor - 1.138629).abs() < 1e-6);

    let factors = json!([1.0, 2.0]);
    let longrope = scaling(json!({
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors,
        "original_max_position_embeddings": 4096,
    }));
    let Scaling::LongRope { original_context: 4096, attention_factor, .. } = longrope else {
        panic!("{longrope:?}")
    };
    assert!((attention_factor - (1.0 + 32f64.ln() / 4096f64.ln()).sqrt()).abs() < 1e-12);
}

#[test]
fn phi_3_5_moe_has_one_factor_of_its_own_for_long_and_short_texts() {
    use larql_compute::rotary::Scaling;
    let config = |long: f64| {
        json!({
            "model_type": "phimoe", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 256,
            "rope_scaling": {
                "type": "longrope", "short_factor": vec![1.0; 8], "long_factor": vec![2.0; 8],
                "original_max_position_embeddings": 4096, "short_mscale": 1.25, "long_mscale": long,
            },
        })
    };
    let spec = published(config(1.25));
    let Some(rotary) = &spec.layers[0].attention.rotary else { panic!("no rotary") };
    assert!(matches!(rotary.scaling, Scaling::LongRope { attention_factor: 1.25, .. }), "{rotary:?}");
    let Value::Object(values) = config(1.5) else { panic!("an object") };
    let error =
        ModelSpec::from_config(&Config::from_values(values, "config.json".as_ref())).unwrap_err().to_string();
    assert!(error.contains("long_mscale") && error.contains("1.25"), "{error}");
}

#[test]
fn olmo_3_scales_the_rotation_of_layers_that_see_everything() {
    use larql_compute::rotary::Scaling;
    let spec = published(json!({
        "model_type": "olmo3", "hidden_size": 64, "num_hidden_layers": 5, "num_attention_heads": 4,
        "intermediate_size": 96, "vocab_size": 256, "max_position_embeddings": 65536, "sliding_window": 16,
        "rope_theta": 500000,
        "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192},
    }));
    assert_eq!(windows(&spec), [Some(16), Some(16), Some(16), None, Some(16)]);
    let scaling = |layer: usize| spec.layers[layer].attention.rotary.clone().unwrap().scaling;
    assert_eq!(scaling(0), Scaling::None);
    assert!(matches!(scaling(3), Scaling::Yarn { factor: 8.0, original_context: 8192, .. }));
}

#[test]
fn exaone_4_rotates_everything_only_without_windows() {
    let config = |window: Value| {
        json!({
            "model_type": "exaone4", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 256, "sliding_window": window,
        })
    };
    let rotated = |spec: &ModelSpec| -> Vec<bool> {
        spec.layers.iter().map(|layer| layer.attention.rotary.is_some()).collect()
    };
    assert_eq!(rotated(&published(config(8.into()))), [true, true, true, false]);
    let plain = published(config(Value::Null));
    assert_eq!((rotated(&plain), windows(&plain)), (vec![true; 4], vec![None; 4]));
}

#[test]
fn a_fixed_alpha_stretches_the_base() {
    let spec = published(json!({
        "model_type": "hunyuan_v1_dense", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "head_dim": 128, "intermediate_size": 96, "vocab_size": 256, "rope_theta": 10000.0,
        "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1},
    }));
    let attention = &spec.layers[0].attention;
    let base = attention.rotary.as_ref().unwrap().base;
    assert!((base / (10_000.0 * 1000f64.powf(128.0 / 126.0)) - 1.0).abs() < 1e-12, "{base}");
    assert!(attention.query_key_norm.unwrap().after_rotation);
}

#[test]
fn ernie_says_where_its_mixtures_begin_and_end() {
    let mixtures = |more: Value| -> Vec<bool> {
        let mut config = json!({
            "model_type": "ernie4_5_moe", "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4,
            "intermediate_size": 96, "vocab_size": 256, "moe_num_experts": 8, "moe_k": 2,
        });
        let (Value::Object(config), Value::Object(more)) = (&mut config, more) else { panic!() };
        config.extend(more);
        let spec = published(config.clone().into());
        spec.layers.iter().map(|layer| layer.feed_forward.mixture().is_some()).collect()
    };
    assert_eq!(mixtures(json!({"moe_layer_end_index": -1})), [false, true, true, true, true, true]);
    let some = json!({"moe_layer_start_index": 2, "moe_layer_end_index": 4, "moe_layer_interval": 2});
    assert_eq!(mixtures(some), [false, false, false, true, false, false]);
}

#[test]
fn queries_of_ministral_grow_from_the_original_context_on() {
    let spec = published(json!({
        "model_type": "mistral3",
        "text_config": {
            "model_type": "ministral3", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 256,
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "mscale": 1.0, "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 16384, "llama_4_scaling_beta": 0.1,
            },
        },
    }));
    let growth = spec.layers[0].attention.query_growth.unwrap();
    assert_eq!((growth.factor(0), growth.factor(16_383)), (1.0, 1.0));
    assert!((growth.factor(16_384) - (1.0 + 0.1 * 2f32.ln())).abs() < 1e-6);
    assert!((growth.factor(40_000) - (1.0 + 0.1 * 3f32.ln())).abs() < 1e-6);
}

#[test]
fn settings_that_change_the_result_and_are_not_known_are_refused() {
    let sizes = json!({
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
        "vocab_size": 256,
    });
    for (family, key, value) in [("olmoe", "clip_qkv", json!(8.0)), ("ernie4_5_moe", "use_bias", true.into())]
    {
        let Value::Object(mut values) = sizes.clone() else { panic!() };
        values.insert("model_type".into(), family.into());
        values.insert(key.into(), value);
        let error = ModelSpec::from_config(&Config::from_values(values, "config.json".as_ref())).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{family}: {error}");
    }
}

#[test]
fn embedding_gemma_is_refused() {
    let config = json!({"model_type": "gemma3_text", "use_bidirectional_attention": true});
    let Value::Object(values) = config else { panic!("{config}") };
    let error = ModelSpec::from_config(&Config::from_values(values, "config.json".as_ref())).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
}
