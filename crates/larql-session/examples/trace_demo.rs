//! The forms of TRACE: `cargo run -p larql-session --example trace_demo`.

mod shared;

const STATEMENTS: &str = r#"
    TRACE "The capital of France is";
    TRACE "The capital of France is" FOR "Paris";
    TRACE "The capital of France is" FOR "Paris" DECOMPOSE;
    TRACE "The capital of France is" POSITIONS ALL;
    TRACE "The capital of France is" DIFF "The capital of Japan is";
    TRACE "The capital of France is" POSITIONS ALL SAVE "france.trace" FORMAT CHAIN;
    EXPLAIN INFER "The capital of France is" GRAPH;
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::Atlas::open()?.show(STATEMENTS)
}
