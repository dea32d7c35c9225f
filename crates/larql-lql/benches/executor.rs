//! How long statements take in an open session, beside what they must read: `cargo bench -p larql-lql --bench
//! executor`. The vindex is SmolLM2's, or a tiny one where that model is not there.

use std::error::Error;
use std::sync::Arc;

use larql_compute::Pool;
use larql_compute::limits::ReadProbe;
use larql_inference::eval::speed::weight_bytes_per_token;
use larql_lql::{Session, parse_statement};
use larql_models::Checkpoint;
use larql_test_data::Table;
use larql_vindex::{Component, ExtractOptions, NoProgress, Vindex, extract};

/// Statements, and which files each of them reads: those of weights, those of features, or none of any size.
const STATEMENTS: [(&str, Reads); 6] = [
    ("DESCRIBE \"France\"", Reads::Weights),
    ("WALK \"The capital of France is\" TOP 5", Reads::Weights),
    ("INFER \"The capital of France is\" TOP 5", Reads::Weights),
    ("SELECT * FROM FEATURES LIMIT 10", Reads::DownMeta),
    ("SELECT * FROM FEATURES WHERE layer = 20 AND feature = 100", Reads::Little),
    ("STATS", Reads::Little),
];

#[derive(Clone, Copy)]
enum Reads {
    Weights,
    DownMeta,
    Little,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = match larql_test_data::real_model(larql_test_data::SMOLLM2) {
        Some(model) => {
            let target = folder.path().join("smollm2.vindex");
            extract(&Checkpoint::open(&model)?, &target, &ExtractOptions::default(), &NoProgress)?;
            target
        }
        None => larql_test_data::repository("fixtures/llama-f16-all.vindex"),
    };
    let pool = Arc::new(Pool::for_this_machine());
    let weights = weight_bytes_per_token(&Vindex::open(&path)?)?;
    let down_meta: u64 = Component::DownMeta.files().iter().filter_map(|name| size(&path.join(name))).sum();
    let mut session = Session::new(Arc::clone(&pool));
    session.open_path(&path)?;
    println!("{}, {} threads\n", path.display(), pool.threads());

    let mut table = Table::beside_limits("statement");
    for (text, reads) in STATEMENTS {
        let statement = parse_statement(text)?;
        session.execute(&statement)?;
        let bytes = match reads {
            Reads::Weights => weights,
            Reads::DownMeta => down_meta,
            Reads::Little => 4096,
        };
        let memory = ReadProbe::new(bytes as usize);
        table.line(
            text,
            || drop(session.execute(&statement).expect("it ran before")),
            &format!("reading {:.2} MB once", bytes as f64 / 1e6),
            || bytes as f64 / memory.bytes_per_second(&pool),
        );
    }
    Ok(())
}

fn size(path: &std::path::Path) -> Option<u64> {
    path.metadata().ok().map(|file| file.len())
}
