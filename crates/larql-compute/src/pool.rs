//! The threads that kernels run on.
//!
//! Generating one token takes some hundred products of 10 to 100 microseconds, so what matters is how soon all
//! threads are at work and how soon the caller knows that they are done. Workers wait for the next job by
//! spinning for a moment before they sleep, and the caller works as well: handing out a job and collecting it
//! takes half a microsecond so, where a work-stealing pool that was measured took 6 to 30.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Number of times that a worker looks for a new job before it sleeps: some ten microseconds, longer than the caller
/// takes between two products of the same token.
const SPINS: usize = 2000;

/// Pieces a job is cut into for each thread, so that a thread which is slower or starts later does fewer.
const PIECES_PER_THREAD: usize = 4;

/// A fixed number of threads that share a job by ranges.
///
/// How a job is cut depends only on its size and the number of threads; which thread takes which piece depends
/// on time. A pool may be used from several threads, and from inside its own jobs: a caller that finds it busy does all
/// of the work alone. Dropping it ends its threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// State that callers and workers share.
///
/// A job is valid while `open` is set and until `active` is zero after that. A worker counts itself in `active`
/// before it looks at `open`, and the caller looks at `active` after it cleared `open`, all in one total order
/// (`SeqCst`), so either the caller waits for the worker or the worker stays away from the job.
struct Shared {
    /// A caller is between publishing a job and its end.
    busy: AtomicBool,
    job: UnsafeCell<Job>,
    open: AtomicBool,
    /// Workers that may be at the job.
    active: AtomicUsize,
    /// The first piece that is not taken yet.
    next: AtomicUsize,
    /// Counts jobs, so that a worker notices a new one.
    generation: AtomicUsize,
    /// Workers that sleep.
    sleepers: Mutex<usize>,
    wake: Condvar,
    stop: AtomicBool,
    /// Panic of the first worker that panicked in this job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only part that is not `Sync`. It is written by the one caller that holds `busy`, while no
// worker may read it (see `Shared`).
unsafe impl Sync for Shared {}

#[derive(Clone, Copy)]
struct Job {
    work: &'static (dyn Fn(Range<usize>) + Sync),
    items: usize,
    /// Items a piece.
    step: usize,
}

impl Pool {
    /// A pool of `threads` threads, at least one: the caller's own and workers.
    ///
    /// # Panics
    /// If the system refuses to start a thread.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            busy: AtomicBool::new(false),
            job: UnsafeCell::new(Job { work: &|_| (), items: 0, step: 1 }),
            open: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map(|number| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("larql-{number}"))
                    .spawn(move || shared.serve())
                    .expect("the system starts threads")
            })
            .collect();
        Pool { shared, workers }
    }

    /// A pool with a thread for each core.
    pub fn for_this_machine() -> Pool {
        Pool::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with ranges that together cover `0..items` once each, in parallel. Every range but the
    /// last is a multiple of `grain` long.
    ///
    /// # Panics
    /// If `work` panics; ranges that have not begun by then may be left out.
    pub fn for_each_range(&self, items: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
        let grain = grain.max(1);
        let pieces = if self.workers.is_empty() { 1 } else { self.threads() * PIECES_PER_THREAD };
        let step = items.div_ceil(grain).div_ceil(pieces).max(1) * grain;
        if items <= step || self.shared.busy.swap(true, SeqCst) {
            for start in (0..items).step_by(step) {
                work(start..(start + step).min(items));
            }
            return;
        }
        let work: &(dyn Fn(Range<usize>) + Sync) = &work;
        // SAFETY: only the lifetime changes. The job is not used after `end` is dropped, and `work` lives longer.
        let work: &'static (dyn Fn(Range<usize>) + Sync) = unsafe { std::mem::transmute(work) };
        let end = self.shared.publish(Job { work, items, step });
        self.shared.take_pieces(Job { work, items, step });
        drop(end);
        let panic = lock(&self.shared.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Cuts `values` into consecutive pieces and calls `work`, in parallel, with each piece and the index of its
    /// first value. Every piece but the last is a multiple of `grain` long.
    ///
    /// # Panics
    /// As [`Pool::for_each_range`].
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

impl Shared {
    /// Opens a job, which ends when what is returned is dropped. The caller has set `busy`.
    fn publish(&self, job: Job) -> EndOfJob<'_> {
        *lock(&self.panic) = None;
        self.next.store(0, SeqCst);
        // SAFETY: the caller holds `busy`, and the last job has ended, so nothing else uses the cell.
        unsafe { *self.job.get() = job };
        self.open.store(true, SeqCst);
        self.announce();
        EndOfJob(self)
    }

    /// Makes every worker look up.
    fn announce(&self) {
        self.generation.fetch_add(1, SeqCst);
        if *lock(&self.sleepers) > 0 {
            self.wake.notify_all();
        }
    }

    fn take_pieces(&self, job: Job) {
        loop {
            let start = self.next.fetch_add(1, SeqCst) * job.step;
            if start >= job.items {
                return;
            }
            (job.work)(start..(start + job.step).min(job.items));
        }
    }

    /// Worker loop.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            seen = self.await_generation_after(seen);
            if self.stop.load(SeqCst) {
                return;
            }
            self.active.fetch_add(1, SeqCst);
            if self.open.load(SeqCst) {
                // SAFETY: the job is open and this worker counts as active, so the job stays as it is.
                let job = unsafe { *self.job.get() };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take_pieces(job))) {
                    lock(&self.panic).get_or_insert(panic);
                }
            }
            self.active.fetch_sub(1, SeqCst);
        }
    }

    fn await_generation_after(&self, seen: usize) -> usize {
        for _ in 0..SPINS {
            let generation = self.generation.load(SeqCst);
            if generation != seen {
                return generation;
            }
            std::hint::spin_loop();
        }
        let mut sleepers = lock(&self.sleepers);
        *sleepers += 1;
        let mut sleepers = self
            .wake
            .wait_while(sleepers, |_| self.generation.load(SeqCst) == seen)
            .unwrap_or_else(PoisonError::into_inner);
        *sleepers -= 1;
        self.generation.load(SeqCst)
    }
}

/// Ends the job, also where the caller panics: a worker may still use what the caller's stack holds.
struct EndOfJob<'a>(&'a Shared);

impl Drop for EndOfJob<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, SeqCst);
        let mut spins = 0;
        while self.0.active.load(SeqCst) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        self.0.busy.store(false, SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.announce();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of jobs, so there is nothing to report.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

/// Nothing that runs under these locks can leave their contents half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_visited_once_in_pieces_of_whole_grains() {
        for threads in [1, 2, 7] {
            let pool = Pool::new(threads);
            for (items, grain) in [(0, 1), (1, 8), (37, 1), (1000, 16), (1000, 0)] {
                let mut visits = vec![0; items];
                pool.for_each_piece(&mut visits, grain, |start, piece| {
                    assert!(start + piece.len() == items || piece.len().is_multiple_of(grain.max(1)));
                    piece.iter_mut().for_each(|visits| *visits += 1);
                });
                assert_eq!(visits, vec![1; items]);
            }
        }
    }

    #[test]
    fn jobs_may_use_their_own_pool_and_come_from_many_threads() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.for_each_range(6, 1, |outer| {
                            pool.for_each_range(10, 1, |inner| {
                                sum.fetch_add(outer.len() * inner.len(), SeqCst);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 200 * 60);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_stays_usable() {
        let pool = Pool::new(2);
        for _ in 0..50 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each_range(100, 1, |range| assert!(!range.contains(&60), "sixty"));
            }));
            assert!(caught.is_err());
        }
        let count = AtomicUsize::new(0);
        pool.for_each_range(100, 1, |range| {
            count.fetch_add(range.len(), SeqCst);
        });
        assert_eq!(count.into_inner(), 100);
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        let barrier = std::sync::Barrier::new(2);
        while *lock(&pool.shared.sleepers) == 0 {
            std::thread::yield_now();
        }
        // Ends only if two threads are at the job at the same time.
        pool.for_each_range(8, 4, |_| {
            barrier.wait();
        });
    }
}
