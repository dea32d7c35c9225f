//! Messages for checkpoints that cannot be opened.

use larql_models::{Checkpoint, GgufFile};
use serde_json::{Value, json};

use crate::gguf_writer::{ARRAY, GgufWriter, STRING, U32};
use crate::tiny::{Tiny, Written, llama_gguf};

/// The message for a directory that does not open.
fn refused(written: Written) -> String {
    let error = Checkpoint::open(written.path()).expect_err("this must not open");
    written.neutral(error)
}

/// The message for the tiny model after a change of its configuration.
fn with(key: &str, value: impl Into<Value>) -> String {
    refused(Tiny::llama().set(key, value).write())
}

fn gguf(change: impl FnOnce(&mut GgufWriter)) -> String {
    let mut writer = llama_gguf();
    change(&mut writer);
    of_bytes(writer.bytes())
}

fn of_bytes(bytes: Vec<u8>) -> String {
    let file = GgufFile::parse(bytes.into(), "tiny.gguf".as_ref());
    file.and_then(Checkpoint::from_gguf).expect_err("this must not open").to_string()
}

#[test]
fn places_that_are_no_checkpoint() {
    let messages = [
        refused(Written::new()),
        refused(Written::new().with("pytorch_model.bin", "")),
        refused(Written::new().with("a.gguf", "").with("b.gguf", "")),
        refused(Written::new().with("model.safetensors", Tiny::llama().weights())),
        {
            let written = Written::new().with("notes.txt", "");
            written.neutral(Checkpoint::open(&written.file("notes.txt")).unwrap_err())
        },
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    DIR is not a checkpoint: it holds no weights; expected a .gguf file, or a directory with config.json and model.safetensors (or shards with model.safetensors.index.json)
    DIR is not a checkpoint: its weights are PyTorch pickles, which are not read: use the model's safetensors, or convert it; expected a .gguf file, or a directory with config.json and model.safetensors (or shards with model.safetensors.index.json)
    DIR is not a checkpoint: it holds 2 .gguf files, so name one; expected a .gguf file, or a directory with config.json and model.safetensors (or shards with model.safetensors.index.json)
    DIR/config.json: No such file or directory (os error 2)
    DIR/notes.txt is not a checkpoint: it is another kind of file; expected a .gguf file, or a directory with config.json and model.safetensors (or shards with model.safetensors.index.json)
    "#);
}

#[test]
fn configurations() {
    let messages = [
        refused(Tiny::llama().without_key("hidden_size").write()),
        with("model_type", "banana"),
        with("hidden_size", "8"),
        with("hidden_size", -8),
        with("num_hidden_layers", 1_000_000),
        with("rms_norm_eps", json!([1])),
        with("hidden_act", "quick_gelu"),
        with("num_attention_heads", 3),
        with("num_key_value_heads", 4),
        with("attention_bias", "no"),
        with("rope_scaling", json!({"type": "spiral", "factor": 2.0})),
        with("rope_scaling", json!({"rope_type": "linear"})),
        with("rope_parameters", json!({"rope_type": "default", "rope_theta": 5e5})),
        with("rope_theta", 0.5),
        with("quantization", json!({"group_size": 32, "bits": 4, "mode": "mxfp4"})),
        with("quantization_config", json!({"quant_method": "hqq"})),
        with("quantization_config", json!({"quant_method": "gptq"})),
        with("quantization_config", json!({"quant_method": "gptq", "bits": 5, "group_size": 32})),
        with("quantization_config", json!({"quant_method": "gptq", "bits": 4, "group_size": 0})),
        with(
            "quantization_config",
            json!({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}),
        ),
        with("quantization_config", json!({"quant_method": "awq", "bits": 4, "version": "gemv"})),
        with("quantization_config", json!({"quant_method": "fp8", "weight_block_size": [128]})),
        with(
            "quantization_config",
            json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}),
        ),
        refused(Tiny::llama().write().with("config.json", "{\"model_type\": ")),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    DIR/config.json: `hidden_size` is missing; expected a positive integer
    DIR/config.json: `model_type` is "banana"; supported: arcee, cohere2, deepseek_v2, deepseek_v3, ernie4_5_moe, exaone4, gemma, gemma2, gemma3, gemma3_text, gemma4, gemma4_text, glm4, glm4_moe, gpt2, gpt_oss, granite, granitemoe, hunyuan_v1_dense, llama, ministral3, mistral, mistral3, mixtral, nemotron, olmo2, olmo3, olmoe, phi, phi3, phimoe, qwen2, qwen2_moe, qwen3, qwen3_moe, seed_oss, smollm3, stablelm, starcoder2
    DIR/config.json: `hidden_size`: expected a positive integer up to 2^31, found "8"
    DIR/config.json: `hidden_size`: expected a positive integer up to 2^31, found -8
    DIR/config.json: `num_hidden_layers`: expected at most 1024 layers, found 1000000
    DIR/config.json: `rms_norm_eps`: expected a finite number, found [1]
    DIR/config.json: `hidden_act`: expected one of silu, swish, gelu, gelu_new, gelu_pytorch_tanh, relu2, found "quick_gelu"
    DIR/config.json: the hidden size 8 is not a multiple of the 3 attention heads, and `head_dim` is not given
    DIR/config.json: layer 0: 2 query heads cannot share 4 key/value heads evenly
    DIR/config.json: `attention_bias`: expected true or false, found "no"
    DIR/config.json: `rope_scaling.type`: expected one of default, linear, dynamic, llama3, yarn, longrope, proportional, found "spiral"
    DIR/config.json: `rope_scaling.factor` is missing; expected a number
    DIR/config.json: `rope_theta` is 10000, but 500000 in `rope_parameters`
    DIR/config.json: layer 0: `base` of the rotary embedding must be a number above 1, but is 0.5: check the model's configuration
    DIR/config.json: a model that MLX quantised by mxfp4 is not supported; use the unquantised checkpoint, or a GGUF file
    DIR/config.json: a model quantised by hqq is not supported; use the unquantised checkpoint, a GGUF file, or one quantised as FP8, GPTQ, AWQ (gemm), compressed-tensors or bitsandbytes
    DIR/config.json: `quantization_config.bits` is missing; expected a positive integer
    DIR/config.json: `quantization_config.bits`: expected 2, 3, 4 or 8, found 5
    DIR/config.json: `quantization_config.group_size`: expected a positive integer up to 2^31, found 0
    DIR/config.json: a model quantised by GPTQ in layout marlin is not supported; use the unquantised checkpoint, a GGUF file, or one quantised as FP8, GPTQ, AWQ (gemm), compressed-tensors or bitsandbytes
    DIR/config.json: a model quantised by AWQ in layout gemv with 4 bits is not supported; use the unquantised checkpoint, a GGUF file, or one quantised as FP8, GPTQ, AWQ (gemm), compressed-tensors or bitsandbytes
    DIR/config.json: `quantization_config.weight_block_size`: expected two positive integers, found [128]
    DIR/config.json: a model that compressed-tensors stored as nvfp4-pack-quantized is not supported; use the unquantised checkpoint, a GGUF file, or one quantised as FP8, GPTQ, AWQ (gemm), compressed-tensors or bitsandbytes
    DIR/config.json: content: expected a JSON object, found EOF while parsing a value at line 1 column 15
    "#);
}

#[test]
fn configurations_against_tensors() {
    let mut extra = Tiny::llama();
    for layer in 0..6 {
        extra.add(&format!("model.layers.{layer}.self_attn.q_norm.weight"), &[4]);
    }
    let mut packed = Tiny::llama();
    let embedding = (safetensors::Dtype::U32, vec![5, 1], vec![0; 20]);
    packed.tensors.insert("model.embed_tokens.weight".into(), embedding);
    let messages = [
        with("num_hidden_layers", 2),
        with("intermediate_size", 7),
        with("vocab_size", 6),
        refused(Tiny::llama().without("lm_head.weight").write()),
        refused(Tiny::llama().without("model.norm.weight").write()),
        refused(extra.write()),
        refused(packed.write()),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    the AttentionNorm of layer 1 (`model.layers.1.input_layernorm.weight`) is missing from DIR
    DIR: the Gate of layer 0 (`model.layers.0.mlp.gate_proj.weight`) should be [7, 8] by the model's configuration, but is [6, 8]
    DIR: the Embedding (`model.embed_tokens.weight`) should be [6, 8] by the model's configuration, but is [5, 8]
    DIR: `tie_word_embeddings` is false, but there is no `lm_head.weight`
    the FinalNorm (`model.norm.weight`) is missing from DIR
    DIR: a llama model has no place for model.layers.0.self_attn.q_norm.weight, model.layers.1.self_attn.q_norm.weight, model.layers.2.self_attn.q_norm.weight, model.layers.3.self_attn.q_norm.weight, ... (6 in all); it may be of another kind, and its answers would be wrong without them
    DIR: `model.embed_tokens.weight` stored as U32 is not supported; use a checkpoint in F32, F16 or BF16, or a GGUF file
    "#);
}

#[test]
fn safetensors_files() {
    let tiny = Tiny::llama();
    let good = tiny.weights();
    let header_end = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let replace = |old: &str, new: &str| {
        let header = String::from_utf8(good[8..header_end].to_vec()).unwrap().replacen(old, new, 1);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&good[header_end..]);
        bytes
    };
    let file = |bytes: Vec<u8>| refused(tiny.write().with("model.safetensors", bytes));
    let index = |map: Value| {
        let index = json!({"metadata": {}, "weight_map": map}).to_string();
        let written = tiny.write().with("model-00001-of-00002.safetensors", tiny.weights());
        std::fs::remove_file(written.file("model.safetensors")).unwrap();
        refused(written.with("model.safetensors.index.json", index))
    };
    let messages = [
        file(Vec::new()),
        file(good[..good.len() - 4].to_vec()),
        file([&u64::MAX.to_le_bytes()[..], &good[8..]].concat()),
        file(replace("\"F32\"", "\"F33\"")),
        file(replace("[5,8]", "[5,9]")),
        file(replace("[5,8]", "[4611686018427387904,8]")),
        file(replace("\"data_offsets\":[0,", "\"data_offsets\":[4,")),
        index(json!({"model.norm.weight": "../../etc/passwd"})),
        index(json!(["model.safetensors"])),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    DIR/model.safetensors: header: expected at least 8 bytes, found a file of 0
    DIR/model.safetensors: tensor `model.norm.weight`: expected data up to 1760, found 1756 bytes of data in the file (was it downloaded completely?)
    DIR/model.safetensors: header: expected a header inside the file, of at most 100 MB, found a header of 18446744073709551615 bytes in a file of 2864
    DIR/model.safetensors: header: expected a JSON object of tensors, found unknown variant `F33`, expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64` at line 1 column 32
    DIR/model.safetensors: tensor `lm_head.weight`: expected 180 bytes for F32 [5, 9], found data_offsets 0 to 160
    DIR/model.safetensors: tensor `lm_head.weight`: expected a shape of whole bytes that memory can address, found [4611686018427387904, 8]
    DIR/model.safetensors: tensor `lm_head.weight`: expected data from 0 on, found data_offsets 4
    DIR/model.safetensors.index.json: weight_map of `model.norm.weight`: expected the name of a file beside the index, found "../../etc/passwd"
    DIR/model.safetensors.index.json: content: expected an object with a `weight_map`, found invalid type: sequence, expected a map at line 1 column 28
    "#);
}

#[test]
fn gguf_files() {
    let good = llama_gguf().bytes();
    let value = |key: &str, value_type: u32, bytes: &[u8]| gguf(|writer| writer.raw(key, value_type, bytes));
    let tensor = |shape: &[u64], ggml_type: u32, offset: u64| {
        gguf(|writer| writer.tensor_of("extra", shape, ggml_type, vec![0; 64], Some(offset)))
    };
    let list_of_lists = [&ARRAY.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    let endless_list = [&U32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    let messages = [
        of_bytes(Vec::new()),
        of_bytes(b"GGML and so on".to_vec()),
        of_bytes(good[..100].to_vec()),
        of_bytes(good[..good.len() - 200].to_vec()),
        gguf(|writer| writer.version = 1),
        gguf(|writer| writer.version = 3u32.swap_bytes()),
        gguf(|writer| writer.version = 77),
        gguf(|writer| writer.extra_tensors = 1 << 60),
        gguf(|writer| writer.extra_tensors = 1),
        value("bad", 13, &[]),
        value("bad", STRING, &u64::MAX.to_le_bytes()),
        value("bad", crate::gguf_writer::BOOL, &[2]),
        value("bad", ARRAY, &list_of_lists),
        value("bad", ARRAY, &endless_list),
        value("general.alignment", U32, &[3, 0, 0, 0]),
        value("llama.block_count", U32, &[1, 0, 0, 0]),
        value("split.count", U32, &[2, 0, 0, 0]),
        value("llama.attention.key_length", crate::gguf_writer::F32, &f32::NAN.to_le_bytes()),
        tensor(&[8], 0, 1),
        tensor(&[8], 0, 0),
        tensor(&[8], 0, 1 << 40),
        tensor(&[8], 0, u64::MAX - 31),
        tensor(&[1 << 62, 8], 0, 1 << 20),
        tensor(&[0], 0, 1 << 20),
        tensor(&[1, 1, 1, 1, 1], 0, 1 << 20),
        tensor(&[8], 2, 1 << 20),
        tensor(&[256], 40, 1 << 20),
        tensor(&[256], 4711, 1 << 20),
        gguf(|writer| writer.tensor("output.weight", &[5, 8])),
        gguf(|writer| writer.tensor("blk.7.strange.weight", &[8])),
        of_bytes(GgufWriter::new("banana").bytes()),
        of_bytes(GgufWriter::new("llama").bytes()),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r#"
    tiny.gguf: magic: expected 4 bytes, found 0 before the file's end
    tiny.gguf: magic: expected the four bytes GGUF, found [71, 71, 77, 76]
    tiny.gguf: metadata_kv_count: expected at most 5, for 76 bytes are left, found 13
    tiny.gguf: tensor `blk.0.ffn_down.weight`: expected 192 bytes at 1376 of the data, found a file of 2872 bytes, whose data starts at 1312 (was it downloaded completely?)
    tiny.gguf: GGUF version 1 is not supported; convert the model again
    tiny.gguf: a big-endian GGUF file is not supported; convert the model for little-endian machines
    tiny.gguf: version: expected 2 or 3, found 77
    tiny.gguf: tensor_count: expected at most 102, for 2455 bytes are left, found 1152921504606846988
    tiny.gguf: tensor ``: expected 1 to 4 dimensions, found 0
    tiny.gguf: `bad`: expected a value type from 0 to 12, found 13
    tiny.gguf: `bad`: expected 18446744073709551615 bytes, found 2464 before the file's end
    tiny.gguf: `bad`: expected 0 or 1, found 2
    tiny.gguf: `bad`: expected a list of plain values, found a list of lists
    tiny.gguf: `bad`: expected at most 615, for 2460 bytes are left, found 18446744073709551615
    tiny.gguf: `general.alignment`: expected a power of two up to 2^20, found 3
    tiny.gguf: key 13: expected a new key, found `llama.block_count` again
    tiny.gguf: one of the 2 files of a split GGUF model, by itself, is not supported; open it by its path, beside the other files
    tiny.gguf: `llama.attention.key_length`: expected a positive integer up to 2^31, found "NaN"
    tiny.gguf: tensor `extra`: expected an offset in multiples of 32, found 1
    tiny.gguf: tensor `extra`: expected bytes after those of `token_embd.weight`, found an overlap
    tiny.gguf: tensor `extra`: expected 32 bytes at 1099511627776 of the data, found a file of 3168 bytes, whose data starts at 1344 (was it downloaded completely?)
    tiny.gguf: tensor `extra`: expected 32 bytes at 18446744073709551584 of the data, found a file of 3168 bytes, whose data starts at 1344 (was it downloaded completely?)
    tiny.gguf: tensor `extra`: expected a shape that memory can address, found [4611686018427387904, 8]
    tiny.gguf: tensor `extra`: expected dimensions above 0, found 0
    tiny.gguf: tensor `extra`: expected 1 to 4 dimensions, found 5
    tiny.gguf: `extra`: rows of 8 values cannot be stored as Q4_0, whose blocks hold 32: choose a format with smaller blocks
    tiny.gguf: `extra`: ggml type 40 (NVFP4) is not supported: take a file whose tensors are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M, TQ1_0, TQ2_0, MXFP4
    tiny.gguf: `extra`: ggml type 4711 (unknown) is not supported: take a file whose tensors are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M, TQ1_0, TQ2_0, MXFP4
    tiny.gguf: tensor `output.weight`: expected one of that name, found another
    tiny.gguf: a llama model has no place for blk.7.strange.weight (1 in all); it may be of another kind, and its answers would be wrong without them
    tiny.gguf: `general.architecture` is "banana"; supported: arcee, cohere2, deepseek2, ernie4_5-moe, exaone4, gemma, gemma2, gemma3, gemma4, glm4, glm4moe, gpt-oss, gpt2, granite, granitemoe, hunyuan-dense, llama, mistral3, nemotron, olmo2, olmoe, phi2, phi3, phimoe, qwen2, qwen2moe, qwen3, qwen3moe, seed_oss, smollm3, stablelm, starcoder2
    tiny.gguf: `llama.attention.layer_norm_rms_epsilon` is missing; expected a number
    "#);
}

#[test]
fn other_kinds_of_files_are_named() {
    let of_file = |name: &str, content: &[u8]| {
        let written = Written::new().with(name, content);
        written.neutral(Checkpoint::open(&written.file(name)).unwrap_err())
    };
    let tiny = Tiny::llama();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let page = b"\n<!doctype HTML><html></html>";
    let adapter = r#"{"peft_type": "LORA", "base_model_name_or_path": "example/base-model"}"#;
    let partial = |files: &[&str]| {
        let written = files.iter().fold(tiny.write(), |written, name| written.with(name, ""));
        std::fs::remove_file(written.file("model.safetensors")).unwrap();
        refused(written)
    };
    let messages = [
        of_file("model.gguf", pointer),
        of_file("model.gguf", page),
        of_file("model.bin", pointer),
        refused(tiny.write().with("model.safetensors", pointer)),
        refused(tiny.write().with("model.safetensors", page)),
        refused(tiny.write().with("config.json", pointer)),
        of_file("pytorch_model.bin", b"PK\x03\x04"),
        of_file("model.onnx", b"\x08\x07"),
        of_file("model.tflite", b"\x1c\0\0\0TFL3"),
        of_file("weights.npz", b"PK\x03\x04"),
        of_file("x.vindex3", b""),
        of_file("old.bin", b"tjgg\x03\0\0\0"),
        of_file("model.safetensors", &tiny.weights()),
        refused(Written::new().with("adapter_config.json", adapter).with("adapter_model.safetensors", "")),
        partial(&["consolidated.safetensors", "params.json"]),
        partial(&["pytorch_model.safetensors"]),
        partial(&["weights.npz"]),
        partial(&["pytorch_model-00001-of-00002.bin"]),
        partial(&[]),
        partial(&["index.json", "weight_manifest.json", "tokenizer.json"]),
        partial(&["gate_vectors.bin"]),
    ];
    insta::assert_snapshot!(messages.join("\n"), @"
    DIR/model.gguf is a Git LFS pointer, not the file itself; run `git lfs pull` in its directory, or download the file
    DIR/model.gguf is a web page (HTML), not the file itself; download the file again, from the link that names the file
    DIR/model.bin is a Git LFS pointer, not the file itself; run `git lfs pull` in its directory, or download the file
    DIR/model.safetensors is a Git LFS pointer, not the file itself; run `git lfs pull` in its directory, or download the file
    DIR/model.safetensors is a web page (HTML), not the file itself; download the file again, from the link that names the file
    DIR/config.json is a Git LFS pointer, not the file itself; run `git lfs pull` in its directory, or download the file
    DIR/pytorch_model.bin is a PyTorch pickle, which is not read; use the model's safetensors, or convert it
    DIR/model.onnx is an ONNX graph; use a version of the model in safetensors or GGUF
    DIR/model.tflite is a TensorFlow Lite model; use a version of the model in safetensors or GGUF
    DIR/weights.npz is an archive of NumPy arrays, as early versions of MLX wrote; convert the model again with mlx_lm
    DIR/x.vindex3 is a VINDEX3 container; this version reads vindex directories: extract the model again with `larql extract`
    DIR/old.bin is a GGML file, which came before GGUF; take the model's GGUF file, or convert it with llama.cpp
    DIR/model.safetensors is not a checkpoint: it is one file of a checkpoint; give its directory, DIR; expected a .gguf file, or a directory with config.json and model.safetensors (or shards with model.safetensors.index.json)
    DIR is a LoRA adapter of example/base-model, not a model; merge it into that model first (PEFT: merge_and_unload), and give the merged checkpoint
    DIR is a checkpoint in the layout of its makers (consolidated weights with params.json); use the model's version for transformers, with config.json, or a GGUF file
    DIR is a directory whose only weights are pytorch_model.safetensors, which is no name for them; if they are a whole model, rename the file to model.safetensors
    DIR/weights.npz is an archive of NumPy arrays, as early versions of MLX wrote; convert the model again with mlx_lm
    DIR is not a checkpoint: its weights are PyTorch pickles, which are not read: use the model's safetensors, or convert it; expected a .gguf file, or a directory with config.json and model.safetensors (or shards with model.safetensors.index.json)
    DIR is not a checkpoint: it holds a configuration and no weights; was it downloaded completely?; expected a .gguf file, or a directory with config.json and model.safetensors (or shards with model.safetensors.index.json)
    DIR is a vindex already, not a checkpoint; use it as it is, or give the checkpoint that it was made of
    DIR is a vindex whose index.json is missing; copy all of its files, or extract the model again
    ");
}
