//! Read-only files in memory without reading them: the one place that maps.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

/// The mappings that live, by their first addresses, so that [`release_pages`] can tell mapped bytes from others.
static MAPPED: Mutex<BTreeMap<usize, Weak<memmap2::Mmap>>> = Mutex::new(BTreeMap::new());

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
    Ok(Bytes::from_owner(MappedFile::new(map)))
}

/// A mapping, listed in [`MAPPED`].
struct MappedFile(Arc<memmap2::Mmap>);

impl MappedFile {
    fn new(map: memmap2::Mmap) -> MappedFile {
        let map = Arc::new(map);
        let (first, listed) = (map.as_ptr().addr(), Arc::downgrade(&map));
        MAPPED.lock().unwrap_or_else(PoisonError::into_inner).insert(first, listed);
        MappedFile(map)
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        MAPPED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0.as_ptr().addr());
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Takes the pages of a mapped file that lie within `bytes` out of this process's memory. The system keeps them in its cache
/// of files as long as it has room, and they come back when next touched. Bytes that are not mapped stay as they are.
pub fn release_pages(bytes: &[u8]) {
    let start = bytes.as_ptr().addr();
    let mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((first, map)) = mapped.range(..=start).next_back() else { return };
    if let Some(map) = map.upgrade().filter(|map| start + bytes.len() <= first + map.len()) {
        release(&map, start - first, bytes.len());
    }
}

/// Releases the pages of some bytes of a mapping.
#[cfg(unix)]
fn release(map: &memmap2::Mmap, offset: usize, length: usize) {
    // SAFETY: the mapping is of a file that is only read, so that no page differs from the file, and what is read from it
    // later is the same. The advice may fail without harm.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) };
}

#[cfg(not(unix))]
fn release(_map: &memmap2::Mmap, _offset: usize, _length: usize) {}

/// Asks the system to read the pages of a mapped file that hold `bytes`, if some of them are not in memory, and returns at
/// once: what is needed soon is read while other things are computed, and several parts of a file at the same time.
#[cfg(unix)]
pub fn prefetch_pages(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: asks for a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = bytes.as_ptr().map_addr(|address| address / page * page).cast_mut().cast();
    let length = bytes.as_ptr().addr() % page + bytes.len();
    let mut resident = vec![0_u8; length.div_ceil(page)];
    // SAFETY: the range is whole pages, each of which holds some of `bytes` and so is mapped, and `resident` has a byte for
    // each. Neither call changes memory, and each may fail without harm.
    unsafe {
        let told = libc::mincore(start, length, resident.as_mut_ptr().cast()) == 0;
        if told && resident.iter().any(|page| page & 1 == 0) {
            libc::madvise(start, length, libc::MADV_WILLNEED);
        }
    }
}

/// Does nothing on a system that is not Unix.
#[cfg(not(unix))]
pub fn prefetch_pages(_bytes: &[u8]) {}

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

    /// A mapped file of 100,000 bytes, and these bytes.
    fn mapped() -> (Bytes, Vec<u8>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..100_000).map(|index| (index % 251) as u8).collect();
        file.write_all(&content).unwrap();
        (map_file(file.path()).unwrap(), content)
    }

    #[test]
    fn released_bytes_are_read_again() {
        let (bytes, content) = mapped();
        assert_eq!(bytes, content);
        for range in [0..100_000, 5..99_999, 10_000..10_001] {
            release_pages(&bytes[range]);
        }
        assert_eq!(bytes, content);
        let own = vec![7; 100_000];
        release_pages(&own);
        assert!(own.iter().all(|byte| *byte == 7), "memory that is not mapped stays");
        drop(bytes);
        release_pages(&own);
    }

    #[test]
    fn prefetched_bytes_stay_what_they_are() {
        let (bytes, content) = mapped();
        for range in [0..100_000, 5..99_999, 10_000..10_000] {
            prefetch_pages(&bytes[range]);
        }
        prefetch_pages(&[]);
        assert_eq!(bytes, content);
    }

    #[test]
    fn empty_files_map_to_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(map_file(file.path()).unwrap().is_empty());
    }
}
