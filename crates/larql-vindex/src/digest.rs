//! SHA-256 digests of files, and the manifest's digest of itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use larql_vindex_spec::Manifest;
use sha2::{Digest, Sha256};

use crate::VindexError;
use larql_core::progress::Meter;

/// Text before a manifest's digest of itself.
const SEAL: &[u8] = b"\"self_digest\": \"";
/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Lower-case hexadecimal digits.
pub(crate) fn hexadecimal(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of bytes in memory.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes))
}

/// The digest of a file; `meter` advances with every chunk.
pub(crate) fn of_file(path: &Path, meter: &mut Meter<'_>) -> Result<String, VindexError> {
    let mut file = File::open(path).map_err(VindexError::io(path))?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let length = file.read(&mut chunk).map_err(VindexError::io(path))?;
        if length == 0 {
            return Ok(hexadecimal(digest.finalize()));
        }
        digest.update(&chunk[..length]);
        meter.advance(length as u64)?;
    }
}

/// One digest for several files, from their names and digests in order of name.
pub(crate) fn of_digests<'a>(digests: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let mut all = Sha256::new();
    for (name, digest) in digests {
        all.update(format!("{name}:{digest}\n"));
    }
    hexadecimal(all.finalize())
}

/// The text of a manifest with its digest of itself in place.
pub(crate) fn sealed(manifest: &Manifest) -> String {
    let unsealed = Manifest { self_digest: Some("0".repeat(DIGITS)), ..manifest.clone() };
    let json = unsealed.to_json();
    Manifest { self_digest: Some(of_bytes(json.as_bytes())), ..unsealed }.to_json()
}

/// The digest that a manifest's text gives of itself and the one that it has, or nothing if it gives none.
pub(crate) fn seal_of(json: &[u8]) -> Option<(String, String)> {
    let start = json.windows(SEAL.len()).rposition(|bytes| bytes == SEAL)? + SEAL.len();
    let stated = json.get(start..start + DIGITS)?;
    let mut unsealed = json.to_vec();
    unsealed[start..start + DIGITS].fill(b'0');
    Some((String::from_utf8_lossy(stated).into_owned(), of_bytes(&unsealed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_breaks_the_seal() {
        let json =
            br#"{"version": 2, "model": "m", "num_layers": 1, "hidden_size": 4, "intermediate_size": 8,
            "vocab_size": 16, "layers": [], "spare": "self_digest"}"#;
        let sealed = sealed(&Manifest::parse(json).unwrap());
        let (stated, found) = seal_of(sealed.as_bytes()).unwrap();
        assert_eq!(stated, found);
        for position in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[position] ^= 1;
            assert!(seal_of(&bytes).is_none_or(|(stated, found)| stated != found), "byte {position}");
        }
    }
}
