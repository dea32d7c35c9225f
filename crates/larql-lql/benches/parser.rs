//! Speed of the parser: `cargo bench -p larql-lql --bench parser`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use larql_lql::parse;

fn main() {
    divan::main();
}

const SHORT: &[&str] = &[
    "STATS;",
    "SHOW LAYERS 14-27;",
    r#"USE "gemma.vindex";"#,
    r#"WALK "The capital of France is" TOP 5;"#,
    r#"DESCRIBE "France";"#,
    r#"INFER "The capital of France is" TOP 3;"#,
];

const LONG: &str = r#"SELECT entity, relation, target, gate FROM EDGES NEAREST TO "Paris" AT LAYER 26
    WHERE relation IN (capital, "language", currency) AND gate >= 12.5 AND layer < 27 -- the strong ones
    ORDER BY gate DESC LIMIT 100;"#;

/// One short statement at a time.
#[divan::bench(args = SHORT)]
fn short(bencher: Bencher, text: &str) {
    bencher.counter(ItemsCount::new(1_usize)).bench(|| parse(black_box(text)));
}

/// A script of 6,000 short statements at once.
#[divan::bench]
fn script(bencher: Bencher) {
    let text = SHORT.join("\n").repeat(1_000);
    let statements = ItemsCount::new(SHORT.len() * 1_000);
    bencher.counter(statements).counter(BytesCount::of_str(&text)).bench(|| parse(black_box(&text)));
}

/// A statement with every clause.
#[divan::bench]
fn long(bencher: Bencher) {
    bencher.counter(ItemsCount::new(1_usize)).bench(|| parse(black_box(LONG)));
}

/// The mistake that takes the most to explain.
#[divan::bench]
fn mistake(bencher: Bencher) {
    bencher.bench(|| parse(black_box(r#"DESCRIB "France";"#)));
}
