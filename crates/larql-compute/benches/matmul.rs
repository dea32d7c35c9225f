//! How fast products are: `cargo bench -p larql-compute --bench matmul`.
//!
//! With one activation row the weights are read once and memory sets the limit, so that part is given in
//! gigabytes of weights a second beside a pass that only reads memory. With many rows arithmetic sets it, given
//! in billions of multiplications and additions a second. Each figure is the best of several runs.

use std::hint::black_box;
use std::time::Instant;

use larql_compute::{Activations, Format, Matrix, Pool, Precision, matmul};

/// Values a row of weights.
const WIDTH: usize = 2048;
/// Bytes of weights in the part that memory limits: several times what caches hold.
const LARGE: usize = 256 << 20;
/// Activation rows in the part that arithmetic limits.
const BATCH: usize = 256;
/// Weight rows in that part.
const ROWS: usize = 128;

fn main() {
    let pool = Pool::for_this_machine();
    let read = read_memory(&pool) / 1e9;
    println!("{} threads; a pass over 1 GiB of memory reads {read:.1} GB/s\n", pool.threads());
    println!("          one activation row, GB/s        {BATCH} activation rows, GFLOP/s");
    println!("           exact      fast                   exact      fast");
    for format in Format::all().filter(|format| *format != Format::Q8_K) {
        let row_bytes = format.row_bytes(WIDTH).expect("whole blocks");
        let large = weights(format, LARGE / row_bytes);
        let small = large.slice_rows(0..ROWS);
        let [exact, fast] = [Precision::Exact, Precision::Fast].map(|precision| {
            let seconds = seconds_for_product(&pool, &large, 1, precision);
            let bandwidth = large.bytes().len() as f64 / seconds / 1e9;
            let seconds = seconds_for_product(&pool, &small, BATCH, precision);
            (bandwidth, 2.0 * (ROWS * WIDTH * BATCH) as f64 / seconds / 1e9)
        });
        println!(
            "{:8} {:7.1} {:3.0}% {:6.1} {:3.0}%            {:9.1} {:9.1}",
            format.name(),
            exact.0,
            100.0 * exact.0 / read,
            fast.0,
            100.0 * fast.0 / read,
            exact.1,
            fast.1
        );
    }
}

/// Bytes a second.
fn read_memory(pool: &Pool) -> f64 {
    let words = vec![1u64; (1 << 30) / 8];
    let seconds = best_seconds(|| {
        pool.for_each_range(words.len(), 1 << 12, |range| {
            let words = &words[range];
            let mut sums = [0u64; 64];
            for group in words.as_chunks::<64>().0 {
                sums.iter_mut().zip(group).for_each(|(sum, word)| *sum ^= word);
            }
            black_box(sums);
        });
    });
    (1u64 << 30) as f64 / seconds
}

/// A matrix of arbitrary weights, none of which is infinite.
fn weights(format: Format, rows: usize) -> Matrix {
    let mut state = 1u32;
    // With the two highest bits of every byte unset, no exponent of a float or a scale is large.
    let bytes: Vec<u8> = (0..rows * format.row_bytes(WIDTH).expect("whole blocks"))
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 26) as u8
        })
        .collect();
    Matrix::new(format, rows, WIDTH, bytes.into()).expect("the size fits")
}

fn seconds_for_product(pool: &Pool, weights: &Matrix, batch: usize, precision: Precision) -> f64 {
    let x: Vec<f32> = (0..batch * WIDTH).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let mut out = vec![0.0; batch * weights.rows()];
    best_seconds(|| {
        // New activations each time, so that the time to quantise them is included.
        let input = Activations::new(&x, WIDTH);
        matmul(pool, weights.view(), &input, precision, black_box(&mut out));
    })
}

fn best_seconds(mut run: impl FnMut()) -> f64 {
    (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
