//! The reference checkpoints of every family, as transformers writes them.

use std::path::PathBuf;

use larql_compute::Format;
use larql_models::{Checkpoint, CheckpointKind, Config, LayerRole, ModelSpec, Role, Shape, WeightSource};

const FAMILIES: [&str; 45] = [
    "arcee",
    "cohere2",
    "deepseek_v2",
    "deepseek_v2_lite",
    "deepseek_v3",
    "ernie4_5_moe",
    "exaone4",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma4",
    "gemma4_e2b",
    "gemma4_moe",
    "gemma4_text",
    "glm4",
    "glm4_moe",
    "gpt2",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "granite",
    "granitemoe",
    "hunyuan_dense",
    "llama",
    "llama3",
    "llama3_sharded_bf16",
    "ministral3",
    "mistral",
    "mixtral",
    "nemotron",
    "olmo2",
    "olmo3",
    "olmoe",
    "phi",
    "phi3",
    "phi3_longrope",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
];

fn folder(family: &str) -> PathBuf {
    larql_testing::repository("conformance").join(family)
}

fn open(family: &str) -> Checkpoint {
    Checkpoint::open(&folder(family)).unwrap_or_else(|error| panic!("{family}: {error}"))
}

/// Reads every tensor that the spec calls for.
pub(crate) fn read_all(checkpoint: &Checkpoint) {
    for (role, shape) in checkpoint.spec().tensors() {
        match shape {
            Shape::Vector(len) => assert_eq!(checkpoint.vector(role).unwrap().len(), len, "{role}"),
            Shape::Matrix(rows, cols) => {
                let matrix = checkpoint.matrix(role).unwrap();
                assert_eq!((matrix.rows(), matrix.cols()), (rows, cols), "{role}");
            }
        }
    }
}

#[test]
fn both_spellings_of_a_configuration_give_one_spec() {
    for family in FAMILIES {
        let spec = |file: &str| {
            let config = Config::read(&folder(family).join(file)).unwrap();
            ModelSpec::from_config(&config).unwrap_or_else(|error| panic!("{family}: {error}"))
        };
        assert_eq!(spec("config.json"), spec("config.hub.json"), "{family}");
    }
}

#[test]
fn every_tensor_is_found_in_its_shape() {
    for family in FAMILIES {
        let checkpoint = open(family);
        assert_eq!(checkpoint.kind(), CheckpointKind::Safetensors);
        read_all(&checkpoint);
        let expected = match family {
            "llama3_sharded_bf16" => Some(Format::BF16),
            // Most of its weights are packed experts.
            "gpt_oss_mxfp4" => None,
            _ => Some(Format::F32),
        };
        assert_eq!(checkpoint.dtype(), expected, "{family}");
        assert_eq!(checkpoint.text().special_tokens().unwrap().eos, [1], "{family}");
    }
}

#[test]
fn a_spec_survives_json() {
    for family in FAMILIES {
        let spec = open(family).spec().clone();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ModelSpec>(&json).unwrap(), spec, "{family}");
    }
}

#[test]
fn what_a_spec_looks_like() {
    let spec = open("gemma2").spec().clone();
    insta::assert_json_snapshot!(larql_models::ModelSpec { layers: spec.layers[..1].to_vec(), ..spec }, @r#"
    {
      "family": "gemma2",
      "hidden_size": 64,
      "vocab_size": 256,
      "context_length": 256,
      "embedding_scale": 8.0,
      "learned_positions": false,
      "per_layer_inputs": null,
      "layers": [
        {
          "attention": {
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 24,
            "value_dim": 24,
            "rotary": {
              "base": 10000.0,
              "dims": 24,
              "pairing": "halves",
              "scaling": {
                "kind": "none"
              }
            },
            "window": 8,
            "score_scale": 0.23570226,
            "score_soft_cap": 4.0,
            "qkv_bias": false,
            "output_bias": false,
            "query_key_norm": null,
            "value_norm": null,
            "sinks": false,
            "query_rank": null,
            "keys_and_values": {
              "kind": "projected"
            }
          },
          "feed_forward": {
            "kind": "gated",
            "features": 96,
            "activation": "gelu_tanh",
            "bias": false
          },
          "attention_norm": {
            "kind": "rms_one_plus",
            "epsilon": 0.000001
          },
          "post_attention_norm": {
            "kind": "rms_one_plus",
            "epsilon": 0.000001
          },
          "feed_forward_norm": {
            "kind": "rms_one_plus",
            "epsilon": 0.000001
          },
          "post_feed_forward_norm": {
            "kind": "rms_one_plus",
            "epsilon": 0.000001
          },
          "parallel": false,
          "residual_multiplier": 1.0,
          "output_scale": false
        }
      ],
      "final_norm": {
        "kind": "rms_one_plus",
        "epsilon": 0.000001
      },
      "tied_head": true,
      "head_bias": false,
      "logit_scale": 1.0,
      "logit_soft_cap": 6.0
    }
    "#);
}

#[test]
fn shards_are_listed_and_hold_what_the_single_file_holds() {
    let (sharded, single) = (open("llama3_sharded_bf16"), open("llama3"));
    assert_eq!(sharded.weight_files().len(), 3);
    assert_eq!(single.weight_files().len(), 1);
    // All weights are exact in bf16, so both spell the same model.
    for (role, shape) in single.spec().tensors() {
        match shape {
            Shape::Vector(_) => assert_eq!(sharded.vector(role).unwrap(), single.vector(role).unwrap()),
            Shape::Matrix(..) => {
                let values = |checkpoint: &Checkpoint| checkpoint.matrix(role).unwrap().view().to_f32();
                assert_eq!(values(&sharded), values(&single), "{role}");
            }
        }
    }
}

#[test]
fn vision_weights_are_left_over_and_nothing_else() {
    let checkpoint = open("gemma3");
    let unused: Vec<&str> = checkpoint.unused_tensors().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(unused.len(), 34);
    assert!(unused.iter().all(|name| name.starts_with("vision_tower.") || name.starts_with("multi_modal_")));
    assert_eq!(open("llama").unused_tensors().count(), 0);
}

#[test]
fn unread_keys_are_kept() {
    let checkpoint = open("gemma4_e2b");
    let unused: Vec<&str> = checkpoint.unused_tensors().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(unused.len(), 9, "{unused:?}");
    let borrowers: Vec<Option<usize>> =
        checkpoint.spec().layers.iter().map(|layer| layer.attention.lender()).collect();
    assert_eq!(borrowers, [None, None, None, None, Some(3), Some(3), Some(2)]);
}

#[test]
fn packed_experts_hold_what_unpacked_ones_hold() {
    // The two folders are of one shape; the packed one's values are on the grid, so both spell floats exactly.
    let checkpoint = open("gpt_oss_mxfp4");
    let gate = checkpoint.matrix(Role::Layer(1, LayerRole::ExpertGate(2))).unwrap();
    assert_eq!((gate.format(), gate.rows(), gate.cols()), (Format::MXFP4, 64, 64));
    let tensor = |name: &str| checkpoint.tensors().iter().find(|tensor| tensor.name == name).unwrap();
    let blocks = tensor("model.layers.1.mlp.experts.gate_up_proj_blocks");
    let scales = tensor("model.layers.1.mlp.experts.gate_up_proj_scales");
    let values = gate.view().to_f32();
    const GRID: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    for (row, col) in [(0, 0), (3, 17), (63, 63), (31, 32)] {
        // Expert 2 of 128 rows, gate rows being the even ones.
        let group = (2 * 128 + 2 * row) * 2 + col / 32;
        let code = (blocks.bytes[group * 16 + col % 32 / 2] >> (col % 2 * 4)) & 15;
        let sign = if code < 8 { 1.0 } else { -1.0 };
        let scale = 2f32.powi(i32::from(scales.bytes[group]) - 127);
        assert_eq!(values[row * 64 + col], sign * scale * GRID[usize::from(code % 8)]);
    }
}

#[test]
fn fused_columns_of_gpt2_become_rows_of_their_own() {
    let checkpoint = open("gpt2");
    let stored =
        checkpoint.tensors().iter().find(|t| t.name == "transformer.h.1.attn.c_attn.weight").unwrap();
    assert_eq!(stored.shape, [64, 192]);
    let stored_at = |row: usize, col: usize| {
        let at = (row * 192 + col) * 4;
        f32::from_le_bytes(stored.bytes[at..at + 4].try_into().unwrap())
    };
    for (third, role) in [LayerRole::Query, LayerRole::Key, LayerRole::Value].into_iter().enumerate() {
        let values = checkpoint.matrix(Role::Layer(1, role)).unwrap().view().to_f32();
        for (output, input) in [(0, 0), (5, 63), (63, 7)] {
            assert_eq!(values[output * 64 + input], stored_at(input, third * 64 + output));
        }
    }
}

#[test]
fn block_weights_of_real_files_stay_as_they_are() {
    for (file, blocks) in [(larql_testing::GEMMA3, Format::Q5_0), (larql_testing::SMOLLM2, Format::Q4_1)] {
        let Some(path) = larql_testing::real_model(file) else { continue };
        let checkpoint = Checkpoint::open(&path).unwrap();
        read_all(&checkpoint);
        assert_eq!(checkpoint.kind(), CheckpointKind::Gguf);
        assert_eq!(checkpoint.dtype(), None);
        let query = checkpoint.matrix(Role::Layer(3, LayerRole::Query)).unwrap();
        assert_eq!(query.format(), blocks);
        let stored = checkpoint.gguf().unwrap().tensor("blk.3.attn_q.weight").unwrap();
        assert_eq!(query.bytes().as_ptr(), stored.bytes.as_ptr(), "blocks are shared with the file");
    }
}

#[test]
fn gguf_gemma_3_has_pattern_and_local_base_by_default_and_finished_norms() {
    let Some(path) = larql_testing::real_model(larql_testing::GEMMA3) else { return };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let spec = checkpoint.spec();
    let full: Vec<usize> = (0..18).filter(|layer| spec.layers[*layer].attention.window.is_none()).collect();
    assert_eq!(full, [5, 11, 17]);
    let base = |layer: usize| spec.layers[layer].attention.rotary.as_ref().unwrap().base;
    assert_eq!((base(0), base(5)), (10_000.0, 1_000_000.0));
    assert_eq!(spec.final_norm.kind, larql_models::NormKind::Rms);
    assert!(spec.tied_head);
    assert_eq!(spec.embedding_scale, 640f32.sqrt());
    assert_eq!(checkpoint.text().special_tokens().unwrap().bos, Some(2));
    assert_eq!(checkpoint.text().special_tokens().unwrap().add_bos, Some(true));
}
