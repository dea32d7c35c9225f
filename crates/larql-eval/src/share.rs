//! Shares: counted cases.

use serde::{Deserialize, Serialize};

/// Share of cases: how many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Number of hits.
    pub hits: usize,
    /// Number of cases.
    pub of: usize,
}

impl Share {
    /// Counts a case.
    pub fn add(&mut self, hit: bool) {
        self.hits += usize::from(hit);
        self.of += 1;
    }

    /// Returns the share, from 0 to 1; none of no cases.
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }
}
