//! Values that are computed once, at their first use, however many threads ask for them.

use std::sync::{Mutex, OnceLock, PoisonError};

/// Value that is computed at its first use by one of the threads that ask for it, while the others wait.
///
/// `OnceLock` alone would let each thread compute a value that takes seconds, and keep the first.
#[derive(Debug)]
pub struct SharedLazy<T> {
    value: OnceLock<T>,
    /// Held by the thread that computes the value.
    computing: Mutex<()>,
}

impl<T> SharedLazy<T> {
    /// Returns a lazy value that is not computed yet.
    pub const fn new() -> SharedLazy<T> {
        SharedLazy { value: OnceLock::new(), computing: Mutex::new(()) }
    }

    /// Returns the value if it was computed before.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Returns the value, which `compute` yields at the first use. After an error the next caller tries again.
    ///
    /// # Errors
    /// That of `compute`.
    pub fn get_or_try_init<E>(&self, compute: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        // A thread that panicked while it computed leaves nothing behind, so the next one begins anew.
        let _computing = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.value.get() {
            Some(value) => Ok(value),
            None => {
                let value = compute()?;
                Ok(self.value.get_or_init(|| value))
            }
        }
    }

    /// Returns the value, which `compute` yields at the first use.
    pub fn get_or_init(&self, compute: impl FnOnce() -> T) -> &T {
        let Ok(value) = self.get_or_try_init(|| Ok::<T, std::convert::Infallible>(compute()));
        value
    }
}

impl<T> Default for SharedLazy<T> {
    fn default() -> SharedLazy<T> {
        SharedLazy::new()
    }
}

impl<T> From<T> for SharedLazy<T> {
    fn from(value: T) -> SharedLazy<T> {
        SharedLazy { value: value.into(), computing: Mutex::new(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_first_callers_compute_once() {
        let (lazy, computed) = (SharedLazy::new(), AtomicUsize::new(0));
        let compute = || {
            std::thread::sleep(Duration::from_millis(20));
            computed.fetch_add(1, Ordering::Relaxed)
        };
        assert_eq!(lazy.get(), None);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(*lazy.get_or_init(compute), 0));
            }
        });
        assert_eq!((computed.into_inner(), lazy.get()), (1, Some(&0)));
    }

    #[test]
    fn a_failure_is_not_kept() {
        let lazy = SharedLazy::new();
        assert_eq!(lazy.get_or_try_init(|| Err("no")), Err("no"));
        assert_eq!(lazy.get_or_try_init(|| Ok::<_, &str>(7)), Ok(&7));
        assert_eq!(lazy.get_or_try_init(|| Err("no")), Ok(&7));
    }
}
