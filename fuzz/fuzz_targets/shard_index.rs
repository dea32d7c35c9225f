//! A safetensors index of any bytes is read or refused.
#![no_main]

use std::path::Path;

use larql_models::ShardIndex;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = ShardIndex::parse(data, Path::new("model.safetensors.index.json"));
});
