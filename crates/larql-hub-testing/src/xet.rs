//! Xet's store, a program of its own: what the hub asks of it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// Xet's digests of all files in the store.
pub(crate) fn files(store: &str) -> Vec<String> {
    let entries: Value = serde_json::from_slice(&get(store, "/simulation/file_entries")).unwrap_or_default();
    let digest = |entry: &Value| {
        // A digest is four numbers.
        let words = entry["file_hash"].as_array()?.iter().filter_map(Value::as_u64);
        Some(words.map(|word| format!("{word:016x}")).collect::<String>())
    };
    entries.as_array().into_iter().flatten().filter_map(digest).collect()
}

/// A file of the store.
pub(crate) fn read(store: &str, digest: &str) -> Vec<u8> {
    get(store, &format!("/simulation/files/{digest}/data"))
}

/// The body of an answer; empty if there is none.
fn get(store: &str, path: &str) -> Vec<u8> {
    let host = store.trim_start_matches("http://");
    let ask = || {
        let mut stream = TcpStream::connect(host)?;
        // With HTTP/1.0 the body is not sent in chunks, and ends with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    answer[end..].to_vec()
}
