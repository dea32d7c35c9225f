//! Checkpoints of a few kilobytes, to be changed and damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::gguf_writer::GgufWriter;

/// A checkpoint in safetensors: the values of its files, to be edited before they are written.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    pub(crate) metadata: Vec<(String, String)>,
}

/// A directory that goes when it is dropped.
pub(crate) struct Written {
    directory: tempfile::TempDir,
}

impl Written {
    pub(crate) fn new() -> Written {
        Written { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds a file.
    pub(crate) fn with(self, name: &str, content: impl AsRef<[u8]>) -> Written {
        std::fs::write(self.path().join(name), content).unwrap();
        self
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A message with the directory's random name replaced.
    pub(crate) fn neutral(&self, message: impl ToString) -> String {
        message.to_string().replace(&*self.path().to_string_lossy(), "DIR")
    }
}

impl Tiny {
    /// One layer, hidden size 8, two query heads of 4, one key/value head, 6 features, 5 tokens.
    pub(crate) fn llama() -> Tiny {
        let config = json!({
            "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 6, "vocab_size": 5, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 32, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
        });
        let mut tiny = Tiny { config, tensors: BTreeMap::new(), metadata: Vec::new() };
        let layer = "model.layers.0.";
        for (name, shape) in [
            ("self_attn.q_proj", &[8, 8][..]),
            ("self_attn.k_proj", &[4, 8]),
            ("self_attn.v_proj", &[4, 8]),
            ("self_attn.o_proj", &[8, 8]),
            ("mlp.gate_proj", &[6, 8]),
            ("mlp.up_proj", &[6, 8]),
            ("mlp.down_proj", &[8, 6]),
            ("input_layernorm", &[8]),
            ("post_attention_layernorm", &[8]),
        ] {
            tiny.add(&format!("{layer}{name}.weight"), shape);
        }
        tiny.add("model.embed_tokens.weight", &[5, 8]);
        tiny.add("model.norm.weight", &[8]);
        tiny.add("lm_head.weight", &[5, 8]);
        tiny
    }

    /// A checkpoint of the tests' data.
    pub(crate) fn read(folder: &Path) -> Tiny {
        let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
        let tensors = tensors
            .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
            .collect();
        Tiny { config, tensors, metadata: Vec::new() }
    }

    /// Adds an F32 tensor whose values count up from 0.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize]) {
        let count: usize = shape.iter().product();
        let bytes = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
        self.tensors.insert(name.into(), (Dtype::F32, shape.into(), bytes));
    }

    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Tiny {
        self.config[key] = value.into();
        self
    }

    pub(crate) fn without_key(mut self, key: &str) -> Tiny {
        self.config.as_object_mut().unwrap().shift_remove(key);
        self
    }

    pub(crate) fn without(mut self, tensor: &str) -> Tiny {
        self.tensors.remove(tensor).unwrap();
        self
    }

    pub(crate) fn weights(&self) -> Vec<u8> {
        self.weights_of(|_| true)
    }

    /// A file of the tensors whose name is `chosen`.
    pub(crate) fn weights_of(&self, chosen: impl Fn(&str) -> bool) -> Vec<u8> {
        let views =
            self.tensors.iter().filter(|(name, _)| chosen(name)).map(|(name, (dtype, shape, bytes))| {
                (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
            });
        let metadata = (!self.metadata.is_empty()).then(|| self.metadata.iter().cloned().collect());
        safetensors::serialize(views, metadata).unwrap()
    }

    pub(crate) fn write(&self) -> Written {
        Written::new().with("config.json", self.config.to_string()).with("model.safetensors", self.weights())
    }
}

/// The GGUF file of a model like [`Tiny::llama`], with a vocabulary.
pub(crate) fn llama_gguf() -> GgufWriter {
    let mut gguf = GgufWriter::new("llama");
    for (key, value) in [
        ("context_length", 32),
        ("embedding_length", 8),
        ("block_count", 1),
        ("feed_forward_length", 6),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", 4),
    ] {
        gguf.u32(&format!("llama.{key}"), value);
    }
    gguf.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    gguf.f32("llama.rope.freq_base", 10_000.0);
    gguf.texts("tokenizer.ggml.tokens", &["a", "b", "c", "<s>", "</s>"]);
    gguf.u32("tokenizer.ggml.bos_token_id", 3);
    gguf.u32("tokenizer.ggml.eos_token_id", 4);
    for (name, shape) in [
        ("token_embd.weight", &[5, 8][..]),
        ("blk.0.attn_norm.weight", &[8]),
        ("blk.0.attn_q.weight", &[8, 8]),
        ("blk.0.attn_k.weight", &[4, 8]),
        ("blk.0.attn_v.weight", &[4, 8]),
        ("blk.0.attn_output.weight", &[8, 8]),
        ("blk.0.ffn_norm.weight", &[8]),
        ("blk.0.ffn_gate.weight", &[6, 8]),
        ("blk.0.ffn_up.weight", &[6, 8]),
        ("blk.0.ffn_down.weight", &[8, 6]),
        ("output_norm.weight", &[8]),
        ("output.weight", &[5, 8]),
    ] {
        gguf.tensor(name, shape);
    }
    gguf
}
