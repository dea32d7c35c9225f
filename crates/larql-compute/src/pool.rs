//! The threads that kernels run on.

use std::ops::Range;

/// A fixed number of threads that share a job by ranges.
///
/// How a job is cut depends only on its size and the number of threads, so results are the same on every run.
#[derive(Debug)]
pub struct Pool {
    threads: rayon::ThreadPool,
}

impl Pool {
    /// A pool of `threads` threads, at least one.
    ///
    /// # Panics
    /// If the system refuses to start a thread.
    pub fn new(threads: usize) -> Pool {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .build()
            .expect("the system starts threads");
        Pool { threads }
    }

    /// A pool with a thread for each core.
    pub fn for_this_machine() -> Pool {
        Pool::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Calls `work` with ranges that together cover `0..items` once each, in parallel. Every range but the
    /// last is a multiple of `grain` long.
    pub fn for_each_range(&self, items: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
        use rayon::prelude::*;

        let grains = items.div_ceil(grain.max(1));
        let step = grains.div_ceil(self.threads()).max(1) * grain.max(1);
        let starts: Vec<usize> = (0..items).step_by(step).collect();
        if let [start] = starts[..] {
            return work(start..items);
        }
        self.threads.install(|| starts.par_iter().for_each(|&start| work(start..(start + step).min(items))));
    }

    /// Cuts `values` into consecutive pieces, in parallel, and calls `work` with each piece and the index of
    /// its first value. Every piece but the last is a multiple of `grain` long.
    pub fn for_each_piece<T: Send>(
        &self,
        values: &mut [T],
        grain: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let base = SharedPointer(values.as_mut_ptr());
        self.for_each_range(values.len(), grain, |range| {
            // SAFETY: ranges lie within `values`, which stays borrowed until all are done, and no two overlap,
            // so each piece is reached through one reference only.
            let piece = unsafe { std::slice::from_raw_parts_mut(base.get().add(range.start), range.len()) };
            work(range.start, piece);
        });
    }
}

/// A pointer that threads of a pool may share, because each goes only to its own part of what is behind it.
struct SharedPointer<T>(*mut T);

impl<T> SharedPointer<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: the pointer is only turned into references to parts that do not overlap (`Pool::for_each_piece`), and
// `T: Send` lets those be used on any thread.
unsafe impl<T: Send> Sync for SharedPointer<T> {}
