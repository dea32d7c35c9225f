//! Speed of products: `cargo bench -p larql-compute --bench matmul`. Names of formats as arguments
//! (`-- Q4_K Q8_0`) leave out the others, and a number is the width of the rows (2,048 unless it is given).
//!
//! With one activation row the weights are read once and memory sets the limit, so that part is given in
//! gigabytes of weights a second beside a pass that only reads memory. With many rows arithmetic sets it, given
//! in billions of multiplications and additions a second beside multiply-adds that stay in registers. A second table,
//! whose weights are read from memory too, is of the few rows that short prompts have, of activations in 16 bits (`fine`), and of rows that are independent of
//! each other, as those of sequences that decode together (`parts`). Each figure is the best of several runs, to leave out
//! what other programs take.

use std::hint::black_box;
use std::time::{Duration, Instant};

use larql_compute::limits::{ReadProbe, operations_per_second};
use larql_compute::{Activations, Format, Matrix, Pool, Precision, matmul};

/// Values a row of weights, unless another number is given.
const WIDTH: usize = 2048;
/// Bytes of weights in the part that memory limits: several times what caches hold.
const LARGE: usize = 96 << 20;
/// Activation rows in the part that arithmetic limits.
const BATCH: usize = 256;
/// Small numbers of activation rows.
const FEW: [usize; 9] = [1, 2, 3, 4, 5, 6, 8, 16, 32];
/// Weight rows where there are many activation rows.
const ROWS: usize = 512;
/// Time for which each figure is measured.
const PATIENCE: Duration = Duration::from_millis(300);

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    let width = names.iter().find_map(|name| name.parse().ok()).unwrap_or(WIDTH);
    let formats: Vec<Format> = names.iter().filter_map(|name| Format::from_name(name)).collect();
    let pool = Pool::for_this_machine();
    let memory = ReadProbe::new(1 << 30);
    let read = best_rate(|| memory.bytes_per_second(&pool)) / 1e9;
    let peak = best_rate(|| operations_per_second(&pool)) / 1e9;
    println!("{} threads", pool.threads());
    println!("reading 1 GiB of memory: {read:.1} GB/s; f32 multiply-adds in registers: {peak:.0} GFLOP/s\n");
    let chosen = |format: &Format| {
        *format != Format::Q8_K
            && format.row_bytes(width).is_ok()
            && (formats.is_empty() || formats.contains(format))
    };
    println!("           1 activation row, GB/s        {BATCH} activation rows, GFLOP/s");
    println!("             exact         fast             exact         fast");
    for format in Format::all().filter(chosen) {
        let large = large_weights(format, width);
        let small = large.slice_rows(0..ROWS);
        let [exact, fast] = [Way::Exact, Way::Fast].map(|way| {
            let seconds = seconds_for_product(&pool, &large, 1, way);
            let bandwidth = large.bytes().len() as f64 / seconds / 1e9;
            (bandwidth, operation_rate(&pool, &small, BATCH, way))
        });
        let share = |part: f64, whole: f64| format!("{part:6.1} {:4.0}%", 100.0 * part / whole);
        println!(
            "{:8}{} {}       {} {}",
            format.name(),
            share(exact.0, read),
            share(fast.0, read),
            share(exact.1, peak),
            share(fast.1, peak)
        );
    }
    println!("\nActivation rows, GFLOP/s{}", FEW.map(|batch| format!("{batch:6}")).concat());
    for format in Format::all().filter(chosen) {
        let weights = large_weights(format, width);
        for way in Way::ALL {
            let rates = FEW.map(|batch| format!("{:6.1}", operation_rate(&pool, &weights, batch, way)));
            println!("{:8} {:15}{}", format.name(), format!("{way:?}").to_lowercase(), rates.concat());
        }
    }
}

/// A way to treat activations.
#[derive(Clone, Copy, Debug)]
enum Way {
    Exact,
    Fast,
    Fine,
    Parts,
    FineParts,
}

impl Way {
    const ALL: [Way; 5] = [Way::Exact, Way::Fast, Way::Fine, Way::Parts, Way::FineParts];

    fn precision(self) -> Precision {
        match self {
            Way::Exact => Precision::Exact,
            _ => Precision::Fast,
        }
    }

    fn activations(self, values: &[f32], width: usize) -> Activations<'_> {
        let mut activations = Activations::new(values, width);
        if matches!(self, Way::Fine | Way::FineParts) {
            activations = activations.fine();
        }
        if matches!(self, Way::Parts | Way::FineParts) {
            activations = activations.in_parts(vec![1; values.len() / width]);
        }
        activations
    }
}

/// A matrix of arbitrary weights, none of which is infinite, that caches do not hold.
fn large_weights(format: Format, width: usize) -> Matrix {
    let row_bytes = format.row_bytes(width).expect("whole blocks");
    let rows = LARGE / row_bytes;
    let mut state = 1u32;
    // With the two highest bits of every byte unset, no exponent of a float or a scale is large.
    let mut bytes: Vec<u8> = (0..rows * row_bytes)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 26) as u8
        })
        .collect();
    if format == Format::MXFP4 {
        // Its exponent is the first byte of a block, and numbers too small for f32 would be slow.
        bytes.chunks_mut(format.block_bytes()).for_each(|block| block[0] = 127);
    }
    Matrix::new(format, rows, width, bytes.into()).expect("the size fits")
}

/// Billions of multiplications and additions a second.
fn operation_rate(pool: &Pool, weights: &Matrix, batch: usize, way: Way) -> f64 {
    let operations = 2 * weights.rows() * weights.cols() * batch;
    operations as f64 / seconds_for_product(pool, weights, batch, way) / 1e9
}

fn seconds_for_product(pool: &Pool, weights: &Matrix, batch: usize, way: Way) -> f64 {
    let x: Vec<f32> = (0..batch * weights.cols()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let mut out = vec![0.0; batch * weights.rows()];
    best_seconds(|| {
        // New activations each time, so that the time to quantise them is included.
        let input = way.activations(&x, weights.cols());
        matmul(pool, weights.view(), &input, way.precision(), black_box(&mut out));
    })
}

fn best_rate(mut measure: impl FnMut() -> f64) -> f64 {
    (0..5).map(|_| measure()).fold(0.0, f64::max)
}

fn best_seconds(mut run: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while best.is_infinite() || begin.elapsed() < PATIENCE {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
