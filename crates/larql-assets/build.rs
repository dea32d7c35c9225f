//! Computes what tells the weights of this build from those of another: a digest of the bundled model's files.

use std::error::Error;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Hexadecimal digits of the digest that are kept; it names a folder, and nobody forges their own cache.
const DIGITS: usize = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("data/atlas");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut digest = Sha256::new();
    for path in &paths {
        let bytes = std::fs::read(path)?;
        digest.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    let hexadecimal: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=LARQL_ATLAS_DIGEST={}", &hexadecimal[..DIGITS]);
    println!("cargo::rerun-if-changed={}", folder.display());
    Ok(())
}
