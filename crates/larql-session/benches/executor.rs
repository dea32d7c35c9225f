//! Time of statements in an open session, beside what they must read: `cargo bench -p larql-session --bench
//! executor`. The vindex is SmolLM2's, or a tiny one where that model is not there.

use std::error::Error;
use std::sync::Arc;

use larql_compute::Pool;
use larql_compute::limits::ReadProbe;
use larql_core::progress::NoProgress;
use larql_eval::speed::weight_bytes_per_token;
use larql_hub::Library;
use larql_lql::parse_statement;
use larql_models::{Checkpoint, LayerRole, Role, WeightSource};
use larql_session::{Catalog, Session};
use larql_testing::Table;
use larql_vindex::{Component, ExtractOptions, FeatureStore, Vindex, extract};

/// Statements, and what each of them must read.
const STATEMENTS: [(&str, Reads); 6] = [
    ("DESCRIBE \"France\"", Reads::Weights),
    ("WALK \"The capital of France is\" TOP 5", Reads::GatesAndUps),
    ("INFER \"The capital of France is\" TOP 5", Reads::Weights),
    ("SELECT * FROM FEATURES LIMIT 10", Reads::Records(10)),
    ("SELECT * FROM FEATURES ORDER BY score DESC LIMIT 20", Reads::AllRecords),
    ("SELECT * FROM FEATURES WHERE layer = 20 AND feature = 100", Reads::Records(1)),
];

#[derive(Clone, Copy)]
enum Reads {
    /// All that a token passes.
    Weights,
    /// Gate and up rows of every layer.
    GatesAndUps,
    /// Down vectors of some features.
    Records(usize),
    AllRecords,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = match larql_testing::real_model(larql_testing::SMOLLM2) {
        Some(model) => {
            let target = folder.path().join("smollm2.vindex");
            extract(&Checkpoint::open(&model)?, &target, &ExtractOptions::default(), &NoProgress)?;
            target
        }
        None => larql_testing::repository("fixtures/llama-f16-all.vindex"),
    };
    let pool = Arc::new(Pool::for_this_machine());
    let vindex = Vindex::open(&path)?;
    let weights = weight_bytes_per_token(&vindex)? as usize;
    let layers = 0..vindex.layers();
    let features: usize = layers.clone().map(|layer| vindex.features(layer)).sum();
    let (mut gates_and_ups, mut downs) = (0, 0);
    for layer in layers {
        for role in [LayerRole::Gate, LayerRole::Up] {
            gates_and_ups += vindex.matrix(Role::Layer(layer, role))?.bytes().len();
        }
        downs += vindex.matrix(Role::Layer(layer, LayerRole::Down))?.bytes().len();
    }
    let records: usize = Component::DownMeta.files().iter().filter_map(|name| size(&path.join(name))).sum();
    let mut session = Session::new(Arc::new(Catalog::new(Arc::clone(&pool), Library::default())));
    session.open_path(&path)?;
    println!("{}, {} threads\n", path.display(), pool.threads());

    let mut table = Table::beside_limits("statement");
    for (text, reads) in STATEMENTS {
        let statement = parse_statement(text)?;
        session.execute(&statement)?;
        let bytes = match reads {
            Reads::Weights => weights,
            Reads::GatesAndUps => gates_and_ups,
            Reads::Records(count) => count * records / features,
            Reads::AllRecords => records,
        };
        let memory = ReadProbe::new(bytes.max(1 << 20));
        table.line(
            text,
            || drop(session.execute(&statement).expect("it ran before")),
            &format!("reading {bytes} bytes once"),
            || bytes as f64 / memory.bytes_per_second(&pool),
        );
    }
    session.execute(&parse_statement("DELETE FROM EDGES WHERE layer = 0 AND feature = 1")?)?;
    let statement = parse_statement(&format!("DIFF {:?} CURRENT", path.display().to_string()))?;
    let bytes = 2 * (gates_and_ups + downs);
    let memory = ReadProbe::new(bytes);
    table.line(
        "DIFF with one feature deleted",
        || drop(session.execute(&statement).expect("the shapes are the same")),
        "reading the features of both",
        || bytes as f64 / memory.bytes_per_second(&pool),
    );
    Ok(())
}

fn size(path: &std::path::Path) -> Option<usize> {
    path.metadata().ok().map(|file| file.len() as usize)
}
