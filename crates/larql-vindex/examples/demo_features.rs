//! Features as records: `cargo run -p larql-vindex --example demo_features [-- WORD]`.
//!
//! Extracts atlas for browsing, and prints for one token the features that its embedding fires, with the words that
//! they write.

use std::error::Error;

use larql_compute::Pool;
use larql_core::progress::NoProgress;
use larql_models::Checkpoint;
use larql_vindex::search::{TokenTexts, gate_knn};
use larql_vindex::{ExtractOptions, FeatureStore, Vindex, extract};
use larql_vindex_spec::ExtractLevel;

fn main() -> Result<(), Box<dyn Error>> {
    let word = std::env::args().nth(1).unwrap_or_else(|| "Peru".to_owned());
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("atlas.vindex");
    let checkpoint = Checkpoint::open(&larql_testing::shipped("atlas"))?;
    let options = ExtractOptions { level: ExtractLevel::Browse, ..ExtractOptions::default() };
    extract(&checkpoint, &path, &options, &NoProgress)?;

    let vindex = Vindex::open(&path)?;
    let tokenizer = vindex.text().tokenizer()?.ok_or("atlas has a tokenizer")?;
    let tokens = tokenizer.encode(&format!(" {word}"), false)?;
    let query = vindex.embedding_query(&tokens)?;
    let pool = Pool::for_this_machine();
    for layer in 0..vindex.layers() {
        let query = vindex.layer_query(layer, &query);
        for hit in gate_knn(&vindex, &pool, layer, &query, 3) {
            let written = vindex.top_tokens(layer, hit.feature);
            let words: Vec<String> = written.filter_map(|top| tokenizer.word(top.token)).take(4).collect();
            println!(
                "L{layer} feature {:3}  gate {:6.2}  writes {}",
                hit.feature,
                hit.gate,
                words.join(", ")
            );
        }
    }
    Ok(())
}
