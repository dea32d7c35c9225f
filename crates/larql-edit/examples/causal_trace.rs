//! Layers that bring a model's answers about, to which INSERT writes: `cargo run --release -p larql-edit
//! --example causal_trace -- smollm2.vindex`. The bundled model where none is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::facts::Facts;
use larql_core::progress::NoProgress;
use larql_edit::{CausalTrace, default_layer};
use larql_knowledge::LanguageModel;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas");
    let path = std::env::args().nth(1).map_or(bundled, PathBuf::from);
    let language = LanguageModel::open(&path, Arc::new(Pool::for_this_machine()))?;
    let model = language.model();
    let Some(trace) = CausalTrace::measure(model, language.tokenizer(), Facts::shipped(), &NoProgress)?
    else {
        println!("it knows none of the shipped facts; INSERT writes to layer {}", default_layer(model));
        return Ok(());
    };
    println!(
        "{} questions, each with the output of one layer's feed-forward step from another",
        trace.questions
    );
    for (layer, share) in trace.recovered.iter().enumerate() {
        println!(
            "  layer {layer:>3}  {:>5.1} %  {}",
            share * 100.0,
            "#".repeat((share.max(0.0) * 100.0) as usize)
        );
    }
    let best = trace.layer();
    println!("INSERT writes to layer {}", best.unwrap_or_else(|| default_layer(model)));
    Ok(())
}
