//! Read-only files in memory without reading them: the one place that maps.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

/// Maps a file and returns its bytes. They stay valid for as long as any clone or slice of them lives, and
/// pages are read when first touched. An empty file gives empty bytes.
///
/// # Errors
/// Whatever opening or mapping the file reports.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: a mapping is undefined behaviour only if the file shrinks or changes while it is mapped.
    // Model files are written under a temporary name and renamed into place when complete, and are never
    // written again (the first of the project's invariants), so no program that follows the format changes
    // one in place.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bytes_outlive_the_file_handle() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a vindex").unwrap();
        let bytes = map_file(file.path()).unwrap();
        drop(file);
        assert_eq!(bytes.slice(2..), "vindex");
    }

    #[test]
    fn empty_files_map_to_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(map_file(file.path()).unwrap().is_empty());
    }
}
