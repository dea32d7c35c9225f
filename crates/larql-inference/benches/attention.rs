//! Attention over long contexts: `cargo bench -p larql-inference --bench attention`.
//!
//! One layer with the heads of Llama 3.2 1B. Decoding reads the keys and values of the context once, which memory limits.
//! A prompt of that length multiplies half of all pairs of tokens, which arithmetic limits, given here as multiply-adds
//! of f32 that stay in registers. Each is measured with keys and values in f16 and in 8 bits, and with a window.

use std::hint::black_box;

use larql_compute::attention::{AttentionJob, AttentionShape, KeyValueFormat, KeyValues, attend};
use larql_compute::limits::{ReadProbe, operations_per_second};
use larql_compute::{Pool, Precision};
use larql_testing::{Table, noise};

/// Positions in the context.
const CONTEXTS: [usize; 3] = [1024, 8192, 32_768];
/// The longest prompt that is measured: the work grows with its square.
const LONGEST_PROMPT: usize = 8192;
/// Positions that a token sees in the layer with a window.
const WINDOW: usize = 1024;

fn main() {
    let pool = Pool::for_this_machine();
    println!("{} threads\n", pool.threads());
    let mut table = Table::beside_limits("attention");
    for context in CONTEXTS {
        for (name, format, window) in [
            ("f16", KeyValueFormat::Float, None),
            ("q8_0", KeyValueFormat::Q8_0, None),
            ("f16, window", KeyValueFormat::Float, Some(WINDOW)),
        ] {
            let shape = AttentionShape {
                heads: 32,
                kv_heads: 8,
                head_dim: 64,
                value_dim: 64,
                window,
                scale: 0.125,
                soft_cap: None,
                sinks: Vec::new(),
            };
            let held = held(&shape, format, context);
            let seen = window.map_or(context, |window| window.min(context));
            let bytes =
                seen * KeyValues::position_bytes(format, shape.kv_heads, shape.head_dim, shape.value_dim);
            let memory = ReadProbe::new(bytes);
            table.line(
                &format!("a token after {context}, {name}"),
                attention_of_last(&pool, &shape, &held, 1),
                &format!("reading {bytes} bytes"),
                || bytes as f64 / memory.bytes_per_second(&pool),
            );
            if context <= LONGEST_PROMPT {
                let pairs: usize = (0..context).map(|position| shape.visible(position).len()).sum();
                let operations = 2 * pairs * shape.heads * (shape.head_dim + shape.value_dim);
                table.line(
                    &format!("a prompt of {context}, {name}"),
                    attention_of_last(&pool, &shape, &held, context),
                    &format!("{:.1} GFLOP in f32", operations as f64 / 1e9),
                    || operations as f64 / operations_per_second(&pool),
                );
            }
        }
    }
}

/// Keys and values of arbitrary numbers.
fn held(shape: &AttentionShape, format: KeyValueFormat, positions: usize) -> KeyValues {
    let mut held = KeyValues::new(shape.kv_heads, shape.head_dim, shape.value_dim).with_format(format);
    let numbers = noise(positions * shape.kv_heads * shape.head_dim, 1);
    held.append(&numbers, &numbers, Precision::Fast);
    held
}

/// Attention of the last tokens over all before them, as work that can be repeated.
fn attention_of_last<'a>(
    pool: &'a Pool,
    shape: &'a AttentionShape,
    held: &'a KeyValues,
    tokens: usize,
) -> impl FnMut() + 'a {
    let queries = noise(tokens * shape.heads * shape.head_dim, 2);
    let mut out = vec![0.0; tokens * shape.heads * shape.value_dim];
    move || {
        attend(pool, shape, &mut [AttentionJob { cached: held, queries: &queries, out: &mut out }]);
        black_box(&mut out);
    }
}
