//! `down_meta.bin` and its JSON-lines form of any bytes are read or refused; every record that is read can be had.
#![no_main]

use bytes::Bytes;
use larql_vindex::DownMeta;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = DownMeta::parse_lines(data, 4);
    let _ = DownMeta::parse(Bytes::copy_from_slice(data));
});
