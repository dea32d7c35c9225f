//! Chain, boundary and context files of any bytes are opened or refused; everything in one that opens can be read.
//! Declarations of interventions are read or refused.
#![no_main]

use larql_trace::{BoundaryStore, ChainStore, ContextStore, Declaration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Declaration::from_json(text);
    }
    let path = std::env::temp_dir().join(format!("larql-fuzz-{}", std::process::id()));
    if std::fs::write(&path, data).is_err() {
        return;
    }
    if let Ok(store) = ChainStore::open(&path) {
        for token in 0..store.tokens() {
            let _ = store.chain(token);
        }
    }
    if let Ok(store) = BoundaryStore::open(&path) {
        for boundary in 0..store.boundaries() {
            let _ = (store.residual(boundary), store.token_range(boundary), store.last_token(boundary));
        }
    }
    if let Ok(store) = ContextStore::open(&path) {
        for boundary in 0..store.boundaries() {
            let _ = (store.contents(boundary), store.token_range(boundary));
        }
    }
});
