//! Stores: what is written is read back bit for bit, and a file cut anywhere opens with what was whole.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::fs;

use larql_trace::{
    BoundaryStore, BoundaryWriter, ChainStore, ChainWriter, Component, ContextContents, ContextStore,
    ContextWriter, ModelDigest, StoreError, Tier,
};
use proptest::prelude::*;

const HIDDEN: usize = 5;
const LAYERS: usize = 3;
const CHAIN: usize = (LAYERS + 1) * 3 * HIDDEN;

fn model() -> ModelDigest {
    ModelDigest::of("a model")
}

fn chain(seed: usize) -> Vec<f32> {
    (0..CHAIN).map(|index| (seed * 1000 + index) as f32 * 0.37).collect()
}

fn contents(seed: usize, tier: &Tier) -> ContextContents {
    let values = |offset: usize, count: usize| -> Vec<f32> {
        (0..count * HIDDEN).map(|index| ((seed + offset) as f32 + index as f32 * 0.61).sin()).collect()
    };
    let (feed_forward, attention) = match tier {
        Tier::Residual => (0, 0),
        Tier::Critical(layers) => (layers.len(), 0),
        Tier::Full | Tier::FullInt8 => (LAYERS, LAYERS),
    };
    ContextContents {
        residual: values(0, 1),
        feed_forward_deltas: values(1, feed_forward),
        attention_deltas: values(2, attention),
    }
}

#[test]
fn chains_are_read_back_bit_for_bit_and_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chains.bin");
    for round in 0..2 {
        let mut writer = ChainWriter::open(&path, HIDDEN, LAYERS, &model()).unwrap();
        assert_eq!(writer.tokens(), round * 2);
        (0..2).for_each(|index| writer.append(&chain(round * 2 + index)).unwrap());
    }
    let store = ChainStore::open_for(&path, &model()).unwrap();
    assert_eq!((store.tokens(), store.layers(), store.hidden_size()), (4, LAYERS, HIDDEN));
    for token in 0..4 {
        assert_eq!(store.chain(token), Some(&chain(token)[..]));
    }
    // Waypoint 2, feed-forward delta: the address that the format gives.
    let start = 2 * 3 * HIDDEN + 2 * HIDDEN;
    let vector = store.vector(1, 2, Component::FeedForwardDelta);
    assert_eq!(vector, Some(&chain(1)[start..start + HIDDEN]));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[64 + CHAIN * 4 + start * 4..][..4], chain(1)[start].to_le_bytes());
    assert_eq!(bytes.len(), 64 + 4 * CHAIN * 4);
    assert!(store.chain(4).is_none() && store.vector(0, LAYERS + 1, Component::Residual).is_none());
}

#[test]
fn a_file_cut_anywhere_opens_with_what_was_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chains.bin");
    let mut writer = ChainWriter::open(&path, HIDDEN, LAYERS, &model()).unwrap();
    writer.append(&chain(0)).unwrap();
    let whole = fs::read(&path).unwrap();
    // A kill during the second append leaves some of its bytes, and the header as it was.
    for torn in [1, 3, CHAIN * 2, CHAIN * 4 - 1, CHAIN * 4] {
        let mut bytes = whole.clone();
        bytes.extend(vec![7; torn]);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(ChainStore::open(&path).unwrap().tokens(), 1);
        let mut writer = ChainWriter::open(&path, HIDDEN, LAYERS, &model()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
        writer.append(&chain(9)).unwrap();
        assert_eq!(ChainStore::open(&path).unwrap().chain(1), Some(&chain(9)[..]));
    }
}

#[test]
fn files_of_other_kinds_models_versions_and_lengths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chains.bin");
    let mut writer = ChainWriter::open(&path, HIDDEN, LAYERS, &model()).unwrap();
    writer.append(&chain(0)).unwrap();
    let other = ModelDigest::of("another model");
    assert!(matches!(ChainStore::open_for(&path, &other), Err(StoreError::OtherModel { .. })));
    assert!(ChainStore::open_for(&path, &ModelDigest::default()).is_ok());
    assert!(matches!(BoundaryStore::open(&path), Err(StoreError::NotAStore { .. })));
    let short = writer.append(&chain(0)[1..]);
    assert!(matches!(short, Err(StoreError::Length { expected: CHAIN, .. })), "{short:?}");
    let wider = ChainWriter::open(&path, HIDDEN + 1, LAYERS, &model());
    assert!(matches!(wider, Err(StoreError::Header { .. })), "{wider:?}");

    let whole = fs::read(&path).unwrap();
    let mut version = whole.clone();
    version[4] = 2;
    fs::write(&path, version).unwrap();
    assert!(matches!(ChainStore::open(&path), Err(StoreError::Version { found: 2, .. })));
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(ChainStore::open(&path), Err(StoreError::TooShort { .. })));
}

#[test]
fn boundaries_are_found_by_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windows.bndx");
    let open = || BoundaryWriter::open(&path, HIDDEN, 200, 3, &model()).unwrap();
    open().append(0, 200, &[1.0; HIDDEN], Some(0)).unwrap();
    open().append(200, 150, &[2.0; HIDDEN], None).unwrap();
    let store = BoundaryStore::open_for(&path, &model()).unwrap();
    assert_eq!((store.boundaries(), store.total_tokens(), store.window_size()), (2, 350, 200));
    assert_eq!(store.boundary_for_token(199), Some(0));
    assert_eq!((store.boundary_for_token(200), store.boundary_for_token(350)), (Some(1), None));
    assert_eq!((store.residual(1), store.residual(2)), (Some(&[2.0; HIDDEN][..]), None));
    assert_eq!((store.last_token(0), store.last_token(1)), (Some(0), None));
    // The first residual lies right after the preallocated index.
    assert_eq!(fs::read(&path).unwrap()[64 + 3 * 16..][..4], 1.0f32.to_le_bytes());
    let mut writer = open();
    writer.append(350, 1, &[3.0; HIDDEN], None).unwrap();
    assert!(matches!(writer.append(351, 1, &[3.0; HIDDEN], None), Err(StoreError::Full { limit: 3, .. })));
    let beyond = BoundaryWriter::open(&folder.path().join("x"), HIDDEN, 200, 1 << 29, &model());
    assert!(matches!(beyond, Err(StoreError::TooLarge { .. })));
}

#[test]
fn context_tiers_keep_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    for tier in [Tier::Residual, Tier::Critical(vec![0, 2]), Tier::Full, Tier::FullInt8] {
        let path = folder.path().join(format!("{tier:?}.ctxt"));
        for seed in 0..3 {
            let shape = (HIDDEN, LAYERS);
            let mut writer = ContextWriter::open(&path, shape, 8, tier.clone(), 4, &model()).unwrap();
            writer.append(seed * 8, 8, &contents(seed, &tier), Some(seed as u32)).unwrap();
            assert!(writer.worst_error() < 0.02);
        }
        let store = ContextStore::open_for(&path, &model()).unwrap();
        assert_eq!((store.boundaries(), store.total_tokens(), store.tier()), (3, 24, &tier));
        for seed in 0..3 {
            let (found, expected) = (store.contents(seed).unwrap(), contents(seed, &tier));
            let close = |a: &[f32], b: &[f32]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.01)
            };
            match tier {
                Tier::FullInt8 => {
                    assert_eq!(found.residual, expected.residual);
                    assert!(close(&found.feed_forward_deltas, &expected.feed_forward_deltas));
                    assert!(close(&found.attention_deltas, &expected.attention_deltas));
                }
                _ => assert_eq!(found, expected),
            }
        }
    }
    let path = folder.path().join("Critical([0, 2]).ctxt");
    let other = ContextWriter::open(&path, (HIDDEN, LAYERS), 8, Tier::Critical(vec![0, 1]), 4, &model());
    assert!(matches!(other, Err(StoreError::OtherLayers { .. })), "{other:?}");
    let nine = Tier::Critical((0..9).collect());
    let path = folder.path().join("nine.ctxt");
    assert!(ContextWriter::open(&path, (HIDDEN, 20), 8, nine, 4, &model()).is_err());
    assert!(!path.exists());
}

proptest! {
    #[test]
    fn bytes_from_outside_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..3usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let magic: [&[u8]; 3] = [b"TRAC\x01\0\0\0", b"BNDX\x01\0\0\0", b"CTXT\x01\0\0\0"];
        bytes.splice(..0, magic[kind].iter().copied());
        fs::write(&path, &bytes).unwrap();
        if let Ok(store) = ChainStore::open(&path) {
            (0..store.tokens().min(4)).for_each(|token| drop(store.chain(token).map(<[f32]>::to_vec)));
        }
        if let Ok(store) = BoundaryStore::open(&path) {
            (0..store.boundaries()).for_each(|boundary| drop(store.residual(boundary).map(<[f32]>::to_vec)));
        }
        if let Ok(store) = ContextStore::open(&path) {
            (0..store.boundaries()).for_each(|boundary| drop(store.contents(boundary)));
        }
    }
}
