//! Progress of several files that move at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

use larql_core::progress::{Progress, Stage, Step};

use super::HubError;

/// Counter of the bytes of all files.
pub(crate) struct Moving<'a> {
    progress: &'a dyn Progress,
    stage: Stage,
    total: u64,
    /// Bytes that are where they belong, those of earlier attempts included.
    done: AtomicU64,
    /// Bytes that came or went over the network.
    moved: AtomicU64,
}

/// The share of one file, which can fall back when the file is begun anew.
pub(crate) struct MovingFile<'a> {
    moving: &'a Moving<'a>,
    name: &'a str,
    done: AtomicU64,
}

impl<'a> Moving<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, stage: Stage, total: u64) -> Moving<'a> {
        Moving { progress, stage, total, done: AtomicU64::new(0), moved: AtomicU64::new(0) }
    }

    pub(crate) fn file(&'a self, name: &'a str) -> MovingFile<'a> {
        MovingFile { moving: self, name, done: AtomicU64::new(0) }
    }

    /// Bytes that came or went over the network.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

impl MovingFile<'_> {
    /// Counts bytes that moved just now.
    pub(crate) fn add(&self, bytes: u64) -> Result<(), HubError> {
        self.moving.moved.fetch_add(bytes, Ordering::Relaxed);
        self.set(self.done.load(Ordering::Relaxed) + bytes)
    }

    /// Sets the number of bytes of the file that are there.
    pub(crate) fn set(&self, done: u64) -> Result<(), HubError> {
        let before = self.done.swap(done, Ordering::Relaxed);
        let all = match done.checked_sub(before) {
            Some(more) => self.moving.done.fetch_add(more, Ordering::Relaxed) + more,
            None => {
                let fewer = before - done;
                self.moving.done.fetch_sub(fewer, Ordering::Relaxed) - fewer
            }
        };
        let Moving { progress, stage, total, .. } = self.moving;
        progress.report(Step { stage: *stage, item: self.name, done: all, total: *total });
        Ok(progress.check()?)
    }
}

#[cfg(test)]
mod tests {
    use larql_core::progress::NoProgress;

    use super::*;

    #[test]
    fn a_file_that_is_begun_anew_takes_its_bytes_back() {
        let moving = Moving::new(&NoProgress, Stage::Verify, 10);
        let (one, other) = (moving.file("one"), moving.file("other"));
        one.add(4).unwrap();
        other.set(5).unwrap();
        one.set(0).unwrap();
        one.add(2).unwrap();
        assert_eq!((moving.done.load(Ordering::Relaxed), moving.moved()), (7, 6));
    }
}
