//! GGUF metadata and configurations give the same spec: the metadata that llama.cpp's converter writes for
//! the reference checkpoints give their specs, up to what GGUF files store differently.

use larql_compute::rotary::Pairing;
use larql_models::{
    Checkpoint, Config, GgufFile, KeysAndValues, LayerRole, ModelSpec, NormKind, Role, WeightSource,
};
use serde_json::{Value, json};

use crate::gguf_writer::{ARRAY, BOOL, GgufWriter, U32};

/// The spec that a reference checkpoint's own configuration gives.
fn reference(family: &str) -> ModelSpec {
    let folder = larql_testing::repository("conformance").join(family);
    ModelSpec::from_config(&Config::read(&folder.join("config.hub.json")).unwrap()).unwrap()
}

/// The spec of a GGUF file with these metadata, and with a tensor of each of these names and shapes.
fn described(architecture: &str, metadata: Value, tensors: &[(&str, &[u64])]) -> ModelSpec {
    let mut writer = GgufWriter::new(architecture);
    let Value::Object(metadata) = metadata else { panic!("{metadata}") };
    for (key, value) in metadata {
        let key = format!("{architecture}.{key}");
        match value {
            Value::Bool(flag) => writer.raw(&key, BOOL, &[u8::from(flag)]),
            Value::Number(number) if number.is_u64() => {
                writer.u32(&key, u32::try_from(number.as_u64().unwrap()).unwrap());
            }
            Value::Number(number) => writer.f32(&key, number.as_f64().unwrap() as f32),
            Value::String(text) => writer.text(&key, &text),
            Value::Array(values) => {
                let is_flags = values[0].is_boolean();
                let mut bytes = (if is_flags { BOOL } else { U32 }).to_le_bytes().to_vec();
                bytes.extend((values.len() as u64).to_le_bytes());
                for value in values {
                    match value.as_bool() {
                        Some(flag) => bytes.push(u8::from(flag)),
                        None => bytes.extend((value.as_u64().unwrap() as u32).to_le_bytes()),
                    }
                }
                writer.raw(&key, ARRAY, &bytes);
            }
            other => panic!("{key}: {other}"),
        }
    }
    for (name, shape) in tensors {
        let values = 1..=shape.iter().product::<u64>();
        let bytes = values.flat_map(|value| (value as f32).to_le_bytes()).collect();
        writer.tensor_of(name, shape, 0, bytes, None);
    }
    let file = GgufFile::parse(writer.bytes().into(), "tiny.gguf".as_ref()).unwrap();
    ModelSpec::from_config(&file.config().unwrap()).unwrap()
}

/// The keys that every file has; others are added to them.
fn metadata(layers: usize, more: Value) -> Value {
    let mut all = json!({
        "vocab_size": 256, "context_length": 256, "embedding_length": 64, "block_count": layers,
        "attention.head_count": 4, "rope.freq_base": 10_000.0,
    });
    let (Value::Object(values), Value::Object(more)) = (&mut all, more) else { panic!("not objects") };
    values.extend(more);
    all
}

const HEAD: (&str, &[u64]) = ("output.weight", &[256, 64]);

#[test]
fn norms_of_gemma_are_finished() {
    let mut expected = reference("gemma");
    let finished = |norm: &mut larql_models::NormSpec| norm.kind = NormKind::Rms;
    finished(&mut expected.final_norm);
    for layer in &mut expected.layers {
        layer.attention_norm.iter_mut().for_each(finished);
        layer.feed_forward_norm.iter_mut().for_each(finished);
    }
    let found = metadata(
        4,
        json!({
            "feed_forward_length": 96, "attention.head_count_kv": 1, "attention.key_length": 32,
            "attention.value_length": 32, "attention.layer_norm_rms_epsilon": 1e-6,
        }),
    );
    assert_eq!(described("gemma", found, &[]), expected);
}

#[test]
fn granite_names_its_multipliers_and_permutes() {
    let mut expected = reference("granite");
    for layer in &mut expected.layers {
        layer.attention.rotary.as_mut().unwrap().pairing = Pairing::Interleaved;
    }
    let found = metadata(
        4,
        json!({
            "feed_forward_length": 96, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-6,
            "attention.scale": 0.12, "embedding_scale": 4.0, "residual_scale": 0.7, "logit_scale": 2.0,
        }),
    );
    assert_eq!(described("granite", found, &[]), expected);
}

#[test]
fn a_llama_file_with_experts_is_a_mixtral() {
    let mut expected = reference("mixtral");
    expected.family = "llama".into();
    for layer in &mut expected.layers {
        layer.attention.rotary.as_mut().unwrap().pairing = Pairing::Interleaved;
    }
    let found = metadata(
        3,
        json!({
            "feed_forward_length": 32, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": 1e6, "expert_count": 6, "expert_used_count": 2,
        }),
    );
    assert_eq!(described("llama", found, &[HEAD]), expected);
}

#[test]
fn qwen_mixtures_are_normalised() {
    let mut expected = reference("qwen3_moe");
    // Files cannot say that a layer in the middle is dense.
    expected.layers[1].feed_forward = expected.layers[0].feed_forward.clone();
    let found = metadata(
        4,
        json!({
            "feed_forward_length": 80, "expert_feed_forward_length": 24, "attention.head_count_kv": 2,
            "attention.key_length": 24, "attention.value_length": 24, "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.freq_base": 1e6, "expert_count": 8, "expert_used_count": 3,
        }),
    );
    assert_eq!(described("qwen3moe", found, &[HEAD]), expected);
}

#[test]
fn gpt_oss_has_the_published_clamp() {
    let mut expected = reference("gpt_oss");
    for layer in &mut expected.layers {
        let larql_models::FeedForwardSpec::Mixture(mixture) = &mut layer.feed_forward else { panic!() };
        mixture.activation = larql_models::Activation::ClampedSwiglu { limit: 7.0, slope: 1.702 };
    }
    let found = metadata(
        3,
        json!({
            "feed_forward_length": 64, "expert_feed_forward_length": 64, "attention.head_count_kv": 2,
            "attention.key_length": 16, "attention.value_length": 16, "attention.sliding_window": 8,
            "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 150_000.0, "rope.dimension_count": 16,
            "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32, "expert_count": 4, "expert_used_count": 2,
        }),
    );
    assert_eq!(described("gpt-oss", found, &[HEAD, ("blk.0.attn_q.bias", &[64])]), expected);
}

#[test]
fn deepseek_says_its_sizes_apart_from_those_of_its_cache() {
    let common = json!({
        "feed_forward_length": 80, "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.key_length": 32, "attention.value_length": 24, "attention.key_length_mla": 24,
        "attention.value_length_mla": 12, "attention.q_lora_rank": 32, "attention.kv_lora_rank": 24,
        "rope.dimension_count": 8, "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 64, "leading_dense_block_count": 1,
        "expert_feed_forward_length": 16, "expert_shared_count": 1,
    });
    let with = |more: Value| {
        let (mut all, Value::Object(more)) = (common.clone(), more) else { panic!() };
        all.as_object_mut().unwrap().extend(more);
        metadata(3, all)
    };
    let third = with(json!({
        "expert_count": 16, "expert_used_count": 4, "expert_gating_func": 2, "expert_weights_scale": 2.5,
        "expert_weights_norm": true, "expert_group_count": 4, "expert_group_used_count": 2,
        "rope.scaling.yarn_log_multiplier": 0.1,
    }));
    let (found, expected) = (described("deepseek2", third, &[HEAD]), reference("deepseek_v3"));
    assert_eq!(found.layers[2].feed_forward, expected.layers[2].feed_forward);
    let (attention, wanted) = (&found.layers[0].attention, &expected.layers[0].attention);
    assert!((attention.score_scale - wanted.score_scale).abs() < 1e-6);
    let scale = wanted.score_scale;
    assert_eq!(larql_models::AttentionSpec { score_scale: scale, ..attention.clone() }, *wanted);

    let second = with(json!({
        "expert_count": 12, "expert_used_count": 3, "expert_weights_scale": 2.0,
        "expert_group_count": 4, "expert_group_used_count": 2, "rope.scaling.yarn_log_multiplier": 0.08,
    }));
    let (found, expected) = (described("deepseek2", second, &[HEAD]), reference("deepseek_v2"));
    assert_eq!(found.layers[2].feed_forward, expected.layers[2].feed_forward);
    assert_eq!(found.layers[0].feed_forward, expected.layers[0].feed_forward);
}

#[test]
fn layers_that_predict_ahead_are_counted_and_left_out() {
    let expected = reference("glm4_moe");
    let found = metadata(
        4,
        json!({
            "nextn_predict_layers": 1, "feed_forward_length": 96, "attention.head_count_kv": 2,
            "attention.key_length": 24, "attention.value_length": 24, "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": 1e6, "rope.dimension_count": 12, "leading_dense_block_count": 1,
            "expert_feed_forward_length": 16, "expert_count": 8, "expert_used_count": 2, "expert_shared_count": 1,
            "expert_gating_func": 2, "expert_weights_scale": 1.5, "expert_weights_norm": true,
        }),
    );
    assert_eq!(described("glm4moe", found, &[HEAD, ("blk.0.attn_q.bias", &[96])]), expected);
}

#[test]
fn ministral_names_its_growth_apart_from_the_rotation() {
    let mut expected = reference("ministral3");
    for layer in &mut expected.layers {
        layer.attention.rotary.as_mut().unwrap().pairing = Pairing::Interleaved;
    }
    let found = metadata(
        4,
        json!({
            "feed_forward_length": 96, "attention.head_count_kv": 2, "attention.key_length": 24,
            "attention.value_length": 24, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e6,
            "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_log_multiplier": 1.0,
            "rope.scaling.original_context_length": 32, "attention.temperature_scale": 0.1,
        }),
    );
    assert_eq!(described("mistral3", found, &[HEAD]), expected);
}

#[test]
fn an_olmo_2_file_with_a_window_is_an_olmo_3() {
    let mut expected = reference("olmo3");
    expected.family = "olmo2".into();
    let found = |pattern: Option<Value>| {
        let mut found = metadata(
            4,
            json!({
                "feed_forward_length": 96, "attention.head_count_kv": 2,
                "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 500_000.0,
                "attention.sliding_window": 8,
            }),
        );
        if let Some(pattern) = pattern {
            found["attention.sliding_window_pattern"] = pattern;
        }
        described("olmo2", found, &[HEAD])
    };
    assert_eq!(found(None), expected);
    assert_eq!(found(Some(json!([true, true, true, false]))), expected);
    let all = found(Some(json!([true, true, true, true])));
    assert!(all.layers.iter().all(|layer| layer.attention.window == Some(8)));
}

#[test]
fn cohere_multiplies_logits_by_the_key_that_granite_divides_by() {
    let found = metadata(
        4,
        json!({
            "feed_forward_length": 96, "attention.head_count_kv": 2, "attention.layer_norm_epsilon": 1e-4,
            "attention.sliding_window": 8, "rope.freq_base": 50_000.0, "logit_scale": 0.25,
        }),
    );
    assert_eq!(described("cohere2", found, &[]), reference("cohere2"));
}

#[test]
fn tensors_show_what_stablelm_leaves_out() {
    let expected = reference("stablelm");
    let found = |tensors: &[(&str, &[u64])]| {
        let metadata = metadata(
            4,
            json!({
                "feed_forward_length": 96, "attention.head_count_kv": 2, "attention.layer_norm_epsilon": 1e-5,
                "rope.dimension_count": 4, "use_parallel_residual": true,
            }),
        );
        described("stablelm", metadata, tensors)
    };
    let (norm, heads): (&str, &[u64]) = ("blk.0.attn_q_norm.weight", &[4, 16]);
    assert_eq!(found(&[HEAD, ("blk.0.ffn_norm.weight", &[64]), (norm, heads)]), expected);
    let parallel = found(&[HEAD]);
    assert!(parallel.layers.iter().all(|layer| layer.parallel && layer.feed_forward_norm.is_none()));
    assert!(parallel.layers.iter().all(|layer| layer.attention.query_key_norm.is_none()));
}

#[test]
fn a_window_of_no_tokens_is_none_and_a_part_of_a_head_is_rotated() {
    let expected = reference("phi3_longrope");
    let found = metadata(
        4,
        json!({
            "context_length": 192, "feed_forward_length": 96, "attention.head_count_kv": 2,
            "attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": 12, "attention.sliding_window": 0,
            "rope.scaling.original_context_length": 24,
        }),
    );
    let spec = described("phi3", found, &[]);
    let rotary = |spec: &ModelSpec| spec.layers[0].attention.rotary.clone().unwrap();
    assert_eq!((rotary(&spec).dims, spec.layers[0].attention.window), (rotary(&expected).dims, None));
}

#[test]
fn gemma_4_gives_each_layer_its_sizes() {
    let expected = reference("gemma4_e2b");
    let sliding = [true, true, false, true, true, true, false];
    let found = json!({
        "vocab_size": 256, "context_length": 256, "embedding_length": 48, "block_count": 7,
        "attention.head_count": 4, "attention.head_count_kv": 1, "attention.key_length": 32,
        "attention.value_length": 32, "attention.key_length_swa": 16, "attention.value_length_swa": 16,
        "attention.sliding_window": 8, "attention.sliding_window_pattern": sliding,
        "attention.shared_kv_layers": 3, "embedding_length_per_layer_input": 16,
        "feed_forward_length": [48, 48, 48, 48, 96, 96, 96], "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 1e6, "rope.freq_base_swa": 10_000.0, "final_logit_softcapping": 6.0,
    });
    let mut found = described("gemma4", found, &[]);
    for (found, expected) in found.layers.iter_mut().zip(&expected.layers) {
        // How far the layers that see everything rotate is in a tensor.
        if found.attention.window.is_none() {
            found.attention.rotary.clone_from(&expected.attention.rotary);
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn gemma_4_layers_without_values_use_their_keys() {
    let metadata = metadata(
        2,
        json!({
            "feed_forward_length": 48, "attention.head_count_kv": [2, 1], "attention.key_length": 32,
            "attention.value_length": 32, "attention.key_length_swa": 16, "attention.sliding_window": 8,
            "attention.sliding_window_pattern": [true, false], "attention.layer_norm_rms_epsilon": 1e-6,
        }),
    );
    let tensors: [(&str, &[u64]); 3] = [
        ("blk.0.attn_k.weight", &[32, 64]),
        ("blk.0.attn_v.weight", &[32, 64]),
        ("blk.1.attn_k.weight", &[32, 64]),
    ];
    let kinds = |spec: ModelSpec| -> Vec<(usize, KeysAndValues)> {
        spec.layers.iter().map(|layer| (layer.attention.kv_heads, layer.attention.keys_and_values)).collect()
    };
    assert_eq!(
        kinds(described("gemma4", metadata.clone(), &tensors)),
        [(2, KeysAndValues::Projected), (1, KeysAndValues::SharedProjection)]
    );
    assert_eq!(
        kinds(described("gemma4", metadata, &[])),
        [(2, KeysAndValues::Projected), (1, KeysAndValues::Projected)]
    );
}

#[test]
fn halves_of_the_latent_projection_are_joined() {
    let mut writer = GgufWriter::new("deepseek2");
    for (key, value) in [
        ("vocab_size", 5),
        ("context_length", 16),
        ("embedding_length", 4),
        ("block_count", 1),
        ("feed_forward_length", 6),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 5),
        ("attention.value_length", 3),
        ("attention.key_length_mla", 4),
        ("attention.value_length_mla", 1),
        ("attention.kv_lora_rank", 3),
        ("rope.dimension_count", 2),
        ("leading_dense_block_count", 1),
        ("expert_count", 2),
        ("expert_used_count", 1),
        ("expert_feed_forward_length", 3),
    ] {
        writer.u32(&format!("deepseek2.{key}"), value);
    }
    writer.f32("deepseek2.attention.layer_norm_rms_epsilon", 1e-6);
    for (name, shape) in [
        ("token_embd.weight", &[5, 4][..]),
        ("output_norm.weight", &[4]),
        ("blk.0.attn_norm.weight", &[4]),
        ("blk.0.attn_q.weight", &[8, 4]),
        ("blk.0.attn_kv_a_mqa.weight", &[5, 4]),
        ("blk.0.attn_kv_a_norm.weight", &[3]),
        ("blk.0.attn_k_b.weight", &[2, 3, 2]),
        ("blk.0.attn_v_b.weight", &[2, 1, 3]),
        ("blk.0.attn_output.weight", &[4, 2]),
        ("blk.0.ffn_norm.weight", &[4]),
        ("blk.0.ffn_gate.weight", &[6, 4]),
        ("blk.0.ffn_up.weight", &[6, 4]),
        ("blk.0.ffn_down.weight", &[4, 6]),
    ] {
        writer.tensor(name, shape);
    }
    let file = GgufFile::parse(writer.bytes().into(), "tiny.gguf".as_ref()).unwrap();
    let checkpoint = Checkpoint::from_gguf(file).unwrap();
    crate::conformance::read_all(&checkpoint);
    let joined = checkpoint.matrix(Role::Layer(0, LayerRole::KeyValueUp)).unwrap();
    assert_eq!(
        joined.view().to_f32().chunks(3).collect::<Vec<_>>(),
        [
            [0.0, 2.0, 4.0],
            [1.0, 3.0, 5.0],
            [0.0, 1.0, 2.0],
            [6.0, 8.0, 10.0],
            [7.0, 9.0, 11.0],
            [3.0, 4.0, 5.0]
        ]
    );
}

/// The rotation of a Llama with these metadata about it.
fn rotation(more: Value, tensors: &[(&str, &[u64])]) -> larql_compute::rotary::RotarySpec {
    let sizes = json!({"feed_forward_length": 128, "attention.layer_norm_rms_epsilon": 1e-5});
    let mut all = metadata(1, sizes);
    let (Value::Object(values), Value::Object(more)) = (&mut all, more) else { panic!("not objects") };
    values.extend(more);
    let spec = described("llama", all, tensors);
    spec.layers[0].attention.rotary.clone().unwrap()
}

#[test]
fn scaling_without_a_type_and_under_older_keys_is_linear() {
    use larql_compute::rotary::Scaling::{Linear, LongRope, None, Yarn};
    let scaling = |more: Value| rotation(more, &[]).scaling;
    let four = Linear { factor: 4.0 };
    assert_eq!(scaling(json!({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})), four);
    assert_eq!(scaling(json!({"rope.scaling.factor": 4.0})), four);
    assert_eq!(scaling(json!({"rope.scale_linear": 4.0})), four);
    assert_eq!(scaling(json!({"rope.scaling.type": "linear", "rope.scale_linear": 4.0})), four);
    assert_eq!(scaling(json!({"rope.scaling.factor": 4.0, "rope.scale_linear": 2.0})), four);
    assert_eq!(scaling(json!({"rope.scaling.type": "none", "rope.scaling.factor": 4.0})), None);
    for nothing in [json!({}), json!({"rope.scaling.type": "linear"}), json!({"rope.scaling.factor": 0.0})] {
        assert_eq!(scaling(nothing), None);
    }
    let yarn = json!({"rope.scaling.type": "yarn", "rope.scale_linear": 2.0, "rope.scaling.original_context_length": 64});
    assert!(matches!(scaling(yarn), Yarn { factor: 2.0, original_context: 64, .. }));
    let flat =
        json!({"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0, "rope.scaling.yarn_ext_factor": 0.0});
    assert_eq!(scaling(flat), Linear { factor: 2.0 });

    let factors = |more: Value| match rotation(more, &[("rope_freqs.weight", &[8])]).scaling {
        LongRope { long_factor, .. } => long_factor,
        other => panic!("{other:?}"),
    };
    let plain: Vec<f64> = (1..=8).map(f64::from).collect();
    assert_eq!(factors(json!({})), plain);
    let doubled: Vec<f64> = plain.iter().map(|factor| factor * 2.0).collect();
    assert_eq!(factors(json!({"rope.scaling.factor": 2.0})), doubled);
}

#[test]
fn a_base_that_is_not_given_is_ten_thousand() {
    let mut all = metadata(1, json!({"feed_forward_length": 128, "attention.layer_norm_rms_epsilon": 1e-5}));
    all.as_object_mut().unwrap().remove("rope.freq_base");
    for architecture in ["llama", "qwen3", "smollm3"] {
        let spec = described(architecture, all.clone(), &[]);
        assert_eq!(spec.layers[0].attention.rotary.as_ref().unwrap().base, 10_000.0, "{architecture}");
    }
}
