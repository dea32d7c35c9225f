//! Digests of files on the hub: SHA-256 of those outside of git, and git's own of the others.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::reading::RemoteFile;

/// Bytes that are read together.
pub(crate) const CHUNK: usize = 1 << 20;

/// A digest that grows with the bytes of a file.
#[derive(Clone)]
pub(crate) enum FileDigest {
    Sha256(Sha256),
    /// Over git's header, which has the length, and the bytes.
    Blob(Sha1),
}

impl FileDigest {
    /// Returns the digest of nothing, of the kind that the hub lists for a file.
    pub(crate) fn of_kind(file: &RemoteFile) -> FileDigest {
        match &file.sha256 {
            Some(_) => FileDigest::Sha256(Sha256::new()),
            None => FileDigest::Blob(blob_header(file.bytes)),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            FileDigest::Sha256(_) => "SHA-256",
            FileDigest::Blob(_) => "git digest",
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            FileDigest::Sha256(digest) => digest.update(bytes),
            FileDigest::Blob(digest) => digest.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> String {
        match self {
            FileDigest::Sha256(digest) => hexadecimal(&digest.finalize()),
            FileDigest::Blob(digest) => hexadecimal(&digest.finalize()),
        }
    }
}

fn blob_header(bytes: u64) -> Sha1 {
    Sha1::new_with_prefix(format!("blob {bytes}\0"))
}

/// Git's digest of bytes.
pub(crate) fn blob_of(bytes: &[u8]) -> String {
    hexadecimal(&blob_header(bytes.len() as u64).chain_update(bytes).finalize())
}

/// SHA-256 of bytes.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Adds the first `bytes` of a file to a digest.
pub(crate) fn add_file(digest: &mut FileDigest, file: &mut File, bytes: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut begin = file.take(bytes);
    let mut chunk = vec![0; CHUNK];
    loop {
        match begin.read(&mut chunk)? {
            0 => return Ok(()),
            length => digest.update(&chunk[..length]),
        }
    }
}

/// SHA-256 of a file.
pub(crate) fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut digest = FileDigest::Sha256(Sha256::new());
    add_file(&mut digest, &mut File::open(path)?, u64::MAX)?;
    Ok(digest.finish())
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_of_sha256sum() {
        assert_eq!(blob_of(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(blob_of(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(sha256_of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
