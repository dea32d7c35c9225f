//! Damaged files: they open or are refused, but nothing panics, and what opens can be read in full.

use larql_models::{Checkpoint, Config, GgufFile, ModelSpec, SafetensorsFile, ShardIndex, WeightSource};
use proptest::prelude::*;

use crate::conformance::read_all;
use crate::tiny::{Tiny, Written, llama_gguf};

/// A change to bytes at a place given as a fraction of their length.
#[derive(Clone, Debug)]
enum Damage {
    Flip(f64, u8),
    Set(f64, u8),
    Huge(f64, u64),
    Cut(f64),
    Insert(f64, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let huge = prop_oneof![Just(u64::MAX), Just(1 << 63), Just(1 << 32), Just(0), any::<u64>()];
    let place = || 0.0..1.0f64;
    let one = prop_oneof![
        8 => (place(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (place(), huge).prop_map(|(at, number)| Damage::Huge(at, number)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ];
    prop::collection::vec(one, 1..4)
}

/// Damages the first `reach` bytes.
fn apply(damage: &[Damage], bytes: &mut Vec<u8>, reach: usize) {
    for one in damage {
        let place = |at: f64| (reach.min(bytes.len()) as f64 * at) as usize;
        match one {
            Damage::Flip(at, bit) => {
                let at = place(*at);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
            }
            Damage::Set(at, value) => {
                let at = place(*at);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = *value);
            }
            Damage::Huge(at, number) => {
                let at = place(*at);
                bytes.iter_mut().skip(at).zip(number.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
            Damage::Cut(at) => bytes.truncate(place(*at)),
            Damage::Insert(at, new) => {
                let at = place(*at);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

fn look_at_everything(file: &GgufFile) {
    for (key, value) in file.metadata() {
        assert!(format!("{key} = {value}").len() < 10_000);
        if let Some(array) = value.as_array() {
            assert_eq!(array.iter().count(), array.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gguf(damage in damage()) {
        let mut bytes = llama_gguf().bytes();
        let reach = bytes.len();
        apply(&damage, &mut bytes, reach);
        if let Ok(file) = GgufFile::parse(bytes.into(), "damaged.gguf".as_ref()) {
            look_at_everything(&file);
            if let Ok(checkpoint) = Checkpoint::from_gguf(file) {
                read_all(&checkpoint);
            }
        }
    }

    #[test]
    fn safetensors(damage in damage()) {
        let mut bytes = Tiny::llama().weights();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        apply(&damage, &mut bytes, header);
        if let Ok(file) = SafetensorsFile::parse(bytes.into(), "damaged.safetensors".as_ref()) {
            for tensor in file.tensors() {
                prop_assert!(tensor.shape.iter().product::<usize>() <= tensor.bytes.len());
            }
        }
    }

    #[test]
    fn shard_index(damage in damage()) {
        let path = larql_testing::repository("conformance/llama3_sharded_bf16/model.safetensors.index.json");
        let mut bytes = std::fs::read(&path).unwrap();
        let reach = bytes.len();
        apply(&damage, &mut bytes, reach);
        if let Ok(index) = ShardIndex::parse(&bytes, &path) {
            prop_assert!(index.shards().iter().all(|shard| !shard.contains('/')));
        }
    }

    #[test]
    fn config(damage in damage(), family in prop::sample::select(vec!["llama3", "gemma3", "gemma2", "gpt2", "qwen2"])) {
        let path = larql_testing::repository("conformance").join(family).join("config.json");
        let mut bytes = std::fs::read(&path).unwrap();
        let reach = bytes.len();
        apply(&damage, &mut bytes, reach);
        if let Ok(spec) = Config::parse(&bytes, &path).and_then(|config| ModelSpec::from_config(&config)) {
            prop_assert!(spec.tensors().len() > spec.layers.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn directories(config_damage in damage(), weight_damage in damage(), which in 0..3u8) {
        let tiny = Tiny::llama();
        let (mut config, mut weights) = (tiny.config.to_string().into_bytes(), tiny.weights());
        let (config_len, weights_len) = (config.len(), weights.len());
        if which != 0 {
            apply(&config_damage, &mut config, config_len);
        }
        if which != 1 {
            apply(&weight_damage, &mut weights, weights_len);
        }
        let written = Written::new().with("config.json", config).with("model.safetensors", weights);
        if let Ok(checkpoint) = Checkpoint::open(written.path()) {
            read_all(&checkpoint);
            prop_assert_eq!(checkpoint.spec().layers.len(), 1);
        }
    }
}
