//! Directories in safetensors: layouts, shards, MLX, and the files other than weights.

use larql_compute::Format;
use larql_models::{Checkpoint, CheckpointKind, LayerRole, Role, SafetensorsFile, WeightSource};
use safetensors::Dtype;
use serde_json::json;

use crate::conformance::read_all;
use crate::tiny::{Tiny, Written};

#[test]
fn a_tied_head_in_the_file_is_left_alone() {
    let written = Tiny::llama().set("tie_word_embeddings", true).write();
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    read_all(&checkpoint);
    assert!(checkpoint.matrix(Role::Head).is_err());
    assert_eq!(checkpoint.unused_tensors().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["lm_head.weight"]);
}

#[test]
fn checkpoints_of_the_decoder_alone_have_no_prefix() {
    let mut tiny = Tiny::llama().set("tie_word_embeddings", true).without("lm_head.weight");
    tiny.tensors = tiny.tensors.into_iter().map(|(name, t)| (name.replace("model.", ""), t)).collect();
    read_all(&Checkpoint::open(tiny.write().path()).unwrap());
}

#[test]
fn rotary_tables_are_ignored_and_half_precision_vectors_widened() {
    let mut tiny = Tiny::llama();
    tiny.add("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]);
    let ones = [0x3f80u16; 8].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    tiny.tensors.insert("model.norm.weight".into(), (Dtype::BF16, vec![8], ones));
    let checkpoint = Checkpoint::open(tiny.write().path()).unwrap();
    assert_eq!(checkpoint.vector(Role::FinalNorm).unwrap(), [1.0; 8]);
    assert_eq!(checkpoint.dtype(), Some(Format::F32));
}

#[test]
fn shards_without_an_index_are_read_together() {
    let tiny = Tiny::llama();
    let written = Written::new()
        .with("config.json", tiny.config.to_string())
        .with("weights.00.safetensors", tiny.weights_of(|name| name.contains("layers")))
        .with("weights.01.safetensors", tiny.weights_of(|name| !name.contains("layers")));
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    read_all(&checkpoint);
    assert_eq!(checkpoint.kind(), CheckpointKind::Mlx);
    assert_eq!(
        checkpoint.weight_files(),
        [written.file("weights.00.safetensors"), written.file("weights.01.safetensors")]
    );
}

/// The GPT-2 reference with its tensors renamed.
fn gpt2_with_names(rename: impl Fn(&str) -> String) -> (Checkpoint, Tiny) {
    let folder = larql_testing::repository("conformance/gpt2");
    let hub = Checkpoint::open(&folder).unwrap();
    let mut tiny = Tiny::llama();
    tiny.config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    tiny.tensors = (hub.tensors().iter())
        .map(|tensor| (rename(&tensor.name), (Dtype::F32, tensor.shape.clone(), tensor.bytes.to_vec())))
        .collect();
    (hub, tiny)
}

#[test]
fn the_published_gpt2_has_no_prefix_but_masks() {
    let (hub, mut published) = gpt2_with_names(|name| name.replace("transformer.", ""));
    for layer in 0..3 {
        published.add(&format!("h.{layer}.attn.bias"), &[1, 1, 64, 64]);
        published.add(&format!("h.{layer}.attn.masked_bias"), &[]);
    }
    let written = published.write();
    let published = Checkpoint::open(written.path()).unwrap();
    read_all(&published);
    assert_eq!(published.spec(), hub.spec());
    assert_eq!(published.unused_tensors().count(), 6);
}

#[test]
fn mlx_stores_gpt2_projections_outputs_first() {
    let (hub, mut mlx) = gpt2_with_names(|name| name.replace("transformer.", "model."));
    mlx.metadata = vec![("format".into(), "mlx".into())];
    for (name, (_, shape, bytes)) in &mut mlx.tensors {
        if name.contains(".c_") && shape.len() == 2 {
            let (rows, cols) = (shape[0], shape[1]);
            let transposed = (0..rows * cols).map(|i| (i % rows) * cols + i / rows);
            *bytes = transposed.flat_map(|i| bytes[i * 4..][..4].to_vec()).collect();
            shape.reverse();
        }
    }
    let written = mlx.write();
    let mlx = Checkpoint::open(written.path()).unwrap();
    assert_eq!(mlx.kind(), CheckpointKind::Mlx);
    for role in
        [LayerRole::Query, LayerRole::Value, LayerRole::AttentionOutput, LayerRole::Gate, LayerRole::Down]
    {
        let role = Role::Layer(2, role);
        assert_eq!(mlx.matrix(role).unwrap().bytes(), hub.matrix(role).unwrap().bytes(), "{role}");
    }
}

#[test]
fn every_configuration_counts_on_where_to_stop() {
    let written = Tiny::llama()
        .write()
        .with("generation_config.json", json!({"eos_token_id": [2, 4]}).to_string())
        .with("tokenizer_config.json", json!({"add_bos_token": true}).to_string());
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    let special = checkpoint.text().special_tokens().unwrap();
    assert_eq!((special.bos, special.eos.as_slice(), special.add_bos), (Some(1), &[2, 4][..], Some(true)));
    let files = ["tokenizer_config.json", "generation_config.json", "config.json"];
    let files = files.map(|name| (name.to_owned(), written.file(name)));
    assert_eq!(checkpoint.side_files().unwrap(), files);

    let also = Tiny::llama().set("eos_token_id", json!([7, -1])).write();
    let also = also.with("generation_config.json", json!({"eos_token_id": [2, 7]}).to_string());
    let checkpoint = Checkpoint::open(also.path()).unwrap();
    assert_eq!(checkpoint.text().special_tokens().unwrap().eos, [2, 7]);
}

#[test]
fn a_name_given_twice_is_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 8]);
    assert!(SafetensorsFile::parse(bytes.into(), "twice.safetensors".as_ref()).is_err());
}
