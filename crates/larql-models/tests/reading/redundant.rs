//! Directories whose files contradict each other, where the data is complete.

use larql_models::{Checkpoint, Role, WeightSource};
use safetensors::Dtype;
use serde_json::json;

use crate::tiny::{Tiny, Written};

/// The tensors of a checkpoint by name, with their bytes.
fn tensors(written: &Written) -> Vec<(String, Vec<u8>)> {
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    let mut tensors: Vec<_> =
        checkpoint.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.bytes.to_vec())).collect();
    tensors.sort();
    tensors
}

fn index(shards: impl Fn(usize) -> String) -> String {
    let names = Tiny::llama().tensors.into_keys().enumerate();
    let map: serde_json::Map<_, _> = names.map(|(place, name)| (name, shards(place).into())).collect();
    json!({"metadata": {}, "weight_map": map}).to_string()
}

/// The tiny model in two shards, the second of which may be left out.
fn shards(whole: bool) -> Written {
    let tiny = Tiny::llama();
    let written = tiny.write();
    std::fs::remove_file(written.file("model.safetensors")).unwrap();
    let is_first = |name: &str| name.contains("layers.0");
    let written = written.with("model-00001-of-00002.safetensors", tiny.weights_of(is_first));
    if !whole {
        return written;
    }
    written.with("model-00002-of-00002.safetensors", tiny.weights_of(|name| !is_first(name)))
}

#[test]
fn a_file_that_holds_everything_comes_before_an_index() {
    let written = Tiny::llama().write();
    let expected = tensors(&written);
    let stale = index(|place| format!("model-0000{}-of-00005.safetensors", 1 + place % 5));
    let written = written.with("model.safetensors.index.json", stale);
    assert_eq!(tensors(&written), expected);
}

#[test]
fn other_precisions_are_left_alone() {
    let expected = tensors(&Tiny::llama().write());
    for name in ["model.fp16.safetensors", "model-q8.safetensors", "weights.safetensors"] {
        let written = Tiny::llama().write().with(name, Tiny::llama().weights());
        assert_eq!(tensors(&written), expected, "{name}");
    }
    let written = shards(true).with("model.fp16-00001-of-00001.safetensors", Tiny::llama().weights());
    assert_eq!(tensors(&written), expected);
}

#[test]
fn shards_that_hold_everything_need_no_index() {
    let expected = tensors(&Tiny::llama().write());
    assert_eq!(tensors(&shards(true)), expected);
    let stale = index(|place| format!("model-0000{}-of-00005.safetensors", 1 + place % 5));
    let written = shards(true).with("model.safetensors.index.json", stale);
    assert_eq!(tensors(&written), expected);
    assert!(
        Checkpoint::open(written.path()).unwrap().notes()[0].contains("model-00001-of-00005.safetensors")
    );
    let wrong = index(|_| "model-00002-of-00002.safetensors".into());
    // An index that is wrong about where tensors are does no harm where its shards are all there.
    let map = wrong.replacen("model-00002", "model-00001", 1);
    assert_eq!(tensors(&shards(true).with("model.safetensors.index.json", map)), expected);
}

#[test]
fn a_shard_that_is_missing_is_named() {
    let truthful = index(|place| format!("model-0000{}-of-00002.safetensors", 1 + place % 2));
    let written = shards(false).with("model.safetensors.index.json", truthful.clone());
    let message = written.neutral(Checkpoint::open(written.path()).unwrap_err());
    assert_eq!(
        message,
        "DIR/model-00002-of-00002.safetensors: it is not there, though the index names it; was the model downloaded \
         completely?"
    );
    let none = Tiny::llama().write().with("model.safetensors.index.json", truthful);
    std::fs::remove_file(none.file("model.safetensors")).unwrap();
    let message = none.neutral(Checkpoint::open(none.path()).unwrap_err());
    assert!(
        message.contains("model-00001-of-00002.safetensors") && message.contains("downloaded"),
        "{message}"
    );
}

#[test]
fn a_folder_of_the_hubs_cache_is_its_snapshot() {
    let expected = tensors(&Tiny::llama().write());
    let cache = Written::new();
    for hash in ["aaa", "bbb"] {
        let snapshot = cache.file("snapshots").join(hash);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::write(snapshot.join("config.json"), Tiny::llama().config.to_string()).unwrap();
        std::fs::write(snapshot.join("model.safetensors"), Tiny::llama().weights()).unwrap();
    }
    let message = cache.neutral(Checkpoint::open(cache.path()).unwrap_err());
    assert!(message.contains("2 snapshots"), "{message}");
    std::fs::create_dir(cache.file("refs")).unwrap();
    let cache = cache.with("refs/main", "bbb");
    assert_eq!(tensors(&cache), expected);
    assert!(Checkpoint::open(cache.path()).unwrap().path().ends_with("snapshots/bbb"));
}

/// The head of a model whose configuration says that it is tied.
fn tied(change: impl FnOnce(&mut Tiny)) -> (bool, Vec<f32>, usize) {
    let mut tiny = Tiny::llama().set("tie_word_embeddings", true);
    change(&mut tiny);
    let written = tiny.write();
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    let is_tied = checkpoint.spec().tied_head;
    let head = checkpoint.matrix(if is_tied { Role::Embedding } else { Role::Head }).unwrap();
    (is_tied, head.view().to_f32(), checkpoint.notes().len())
}

#[test]
fn a_stored_head_counts_unless_it_is_the_embedding() {
    let embedding: Vec<f32> = (0..40).map(|value| value as f32).collect();
    let changed: Vec<f32> = embedding.iter().map(|value| value + 1.0).collect();
    let put = |tiny: &mut Tiny, values: &[f32]| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tiny.tensors.insert("lm_head.weight".into(), (Dtype::F32, vec![5, 8], bytes));
    };
    assert_eq!(tied(|tiny| drop(tiny.tensors.remove("lm_head.weight"))), (true, embedding.clone(), 0));
    assert_eq!(tied(|_| ()), (true, embedding.clone(), 0));
    assert_eq!(tied(|tiny| put(tiny, &changed)), (false, changed.clone(), 1));
    // The same values in another format.
    let halves = |tiny: &mut Tiny| {
        let bytes = (0..40).flat_map(|value| ((value as f32).to_bits() >> 16).to_le_bytes()[..2].to_vec());
        tiny.tensors.insert("lm_head.weight".into(), (Dtype::BF16, vec![5, 8], bytes.collect()));
    };
    assert_eq!(tied(halves), (true, embedding, 0));
}

#[test]
fn a_flag_outside_the_text_model_counts() {
    let tiny = Tiny::llama().set("tie_word_embeddings", true).without("lm_head.weight");
    let mut nested = tiny.clone().without_key("tie_word_embeddings").config;
    nested["model_type"] = "llama".into();
    let outer = json!({"model_type": "llama", "text_config": nested, "tie_word_embeddings": true});
    let written = tiny.write().with("config.json", outer.to_string());
    assert!(Checkpoint::open(written.path()).unwrap().spec().tied_head);
}

#[test]
fn numbers_that_json_has_not_do_no_harm() {
    let written = Tiny::llama().write();
    let config = std::fs::read_to_string(written.file("config.json")).unwrap();
    let expected = tensors(&written);
    for word in ["Infinity", "-Infinity", "NaN"] {
        let config = config.replacen('{', &format!("{{\"time_step_limit\": [0.0, {word}], "), 1);
        assert_eq!(tensors(&Tiny::llama().write().with("config.json", config)), expected);
    }
    let config = config.replace("\"rms_norm_eps\":", "\"rms_norm_eps\":NaN,\"other\":");
    let written = Tiny::llama().write().with("config.json", config);
    let message = written.neutral(Checkpoint::open(written.path()).unwrap_err());
    assert!(message.contains("`rms_norm_eps` is missing"), "{message}");
}
