//! A GGUF file of any bytes is read or refused; what is read can be turned into a configuration or refused.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use larql_models::GgufFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = GgufFile::parse(Bytes::copy_from_slice(data), Path::new("fuzz.gguf")) {
        let _ = file.config();
        let _ = file.tensors().len();
    }
});
