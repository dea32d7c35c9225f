//! A safetensors file of any bytes is read or refused.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use larql_models::SafetensorsFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = SafetensorsFile::parse(Bytes::copy_from_slice(data), Path::new("fuzz.safetensors"));
});
