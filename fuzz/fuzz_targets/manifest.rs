//! `index.json` and `weight_manifest.json` of any bytes are read or refused; a manifest that is read is written back
//! the same.
#![no_main]

use larql_vindex_spec::{Manifest, parse_tensors};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = parse_tensors(data);
    if let Ok(manifest) = Manifest::parse(data) {
        let text = manifest.to_json();
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap().to_json(), text);
    }
});
