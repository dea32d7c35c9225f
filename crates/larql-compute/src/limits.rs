//! Limits of this machine: the bandwidth of its memory, and how many multiplications and additions its threads do. A
//! figure of a benchmark means little without the limit beside it.

use std::hint::black_box;
use std::time::Instant;

use crate::Pool;

/// Memory that is read again and again.
pub struct ReadProbe {
    words: Vec<u64>,
}

impl ReadProbe {
    /// So many bytes, a few more at most, all of them in memory.
    pub fn new(bytes: usize) -> ReadProbe {
        ReadProbe { words: vec![1; bytes.div_ceil(GROUP * 8).max(1) * GROUP] }
    }

    /// Reads all of it as often as makes a gibibyte at least, with every thread of `pool`: bytes a second.
    pub fn bytes_per_second(&self, pool: &Pool) -> f64 {
        let bytes = self.words.len() * 8;
        let passes = (1usize << 30).div_ceil(bytes);
        let started = Instant::now();
        for _ in 0..passes {
            pool.for_each_range(self.words.len(), 1 << 12, |range| {
                let mut sums = [0u64; GROUP];
                for group in self.words[range].as_chunks::<GROUP>().0 {
                    sums.iter_mut().zip(group).for_each(|(sum, word)| *sum ^= word);
                }
                black_box(sums);
            });
        }
        (bytes * passes) as f64 / started.elapsed().as_secs_f64()
    }
}

/// Words that are read side by side.
const GROUP: usize = 64;

/// Multiplications and additions of f32 a second that `pool` does where nothing leaves the registers.
pub fn operations_per_second(pool: &Pool) -> f64 {
    let started = Instant::now();
    pool.for_each_range(pool.threads(), 1, |range| {
        for _ in range {
            black_box(multiply_add());
        }
    });
    (pool.threads() * 2 * LANES * REPEATS) as f64 / started.elapsed().as_secs_f64()
}

/// Independent sums, as many as keep the multipliers of any core busy.
const LANES: usize = 96;

/// Multiplications of each.
const REPEATS: usize = 1 << 20;

/// Sums that depend on nothing but themselves.
fn multiply_add() -> [f32; LANES] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features were just found.
        return unsafe { multiply_add_avx2() };
    }
    multiply_add_plain()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_avx2() -> [f32; LANES] {
    multiply_add_plain()
}

#[inline(always)]
fn multiply_add_plain() -> [f32; LANES] {
    let (mut sums, factor) = ([1.0f32; LANES], black_box(0.999));
    for _ in 0..REPEATS {
        for sum in &mut sums {
            *sum = sum.mul_add(factor, 1e-3);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_rates() {
        let pool = Pool::new(2);
        let read = ReadProbe::new(1000).bytes_per_second(&pool);
        assert!(read.is_finite() && read > 0.0);
        let operations = operations_per_second(&pool);
        assert!(operations.is_finite() && operations > 0.0);
    }
}
