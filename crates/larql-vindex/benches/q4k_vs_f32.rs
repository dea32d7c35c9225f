//! The same vindex in f32, f16 and 4-bit blocks: `cargo bench -p larql-vindex --bench q4k_vs_f32`. It is SmolLM2's, or a
//! tiny one's where that model is not there.
//!
//! For each storage: bytes on disk, searches for features, reading a prompt and one more token, and how far the logits are
//! from those of f32. Times are the best of several; reading memory limits the search and the token.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use larql_compute::limits::ReadProbe;
use larql_compute::{Pool, Precision};
use larql_core::progress::NoProgress;
use larql_inference::{KeyValueCache, Model};
use larql_models::{Checkpoint, LayerRole, Role, WeightSource};
use larql_testing::Table;
use larql_vindex::search::gate_knn_in_layers;
use larql_vindex::{ExtractOptions, FeatureStore, Q4kOptions, Storage, Summary, Vindex, extract, quantize};
use larql_vindex_spec::FloatType;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Tokens of the prompt.
const PROMPT: usize = 64;
/// Features that a search returns.
const RESULTS: usize = 10;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let source = larql_testing::real_model(larql_testing::SMOLLM2)
        .unwrap_or_else(|| larql_testing::repository("conformance/llama_512"));
    let pool = Arc::new(Pool::for_this_machine());
    println!("{}, {} threads\n", source.display(), pool.threads());
    let paths = ["f32", "f16", "q4k"].map(|name| folder.path().join(name));
    let [single, half, blocks] = &paths;
    let in_storage = |storage| ExtractOptions::in_storage(storage);
    extract(&Checkpoint::open(&source)?, single, &in_storage(Storage::Floats(FloatType::F32)), &NoProgress)?;
    for (target, storage) in
        [(half, Storage::Floats(FloatType::F16)), (blocks, Storage::Q4k(Q4kOptions::default()))]
    {
        quantize(&Vindex::open(single)?, target, &in_storage(storage), &NoProgress)?;
    }

    let prompt: Vec<u32> = (0..PROMPT as u32).map(|token| token * 7 % 256).collect();
    let exact = logits(single, &pool, &prompt)?;
    for path in &paths {
        let differences =
            logits(path, &pool, &prompt)?.into_iter().zip(&exact).map(|(found, exact)| (found - exact).abs());
        let name = path.file_name().unwrap_or_default().display();
        println!(
            "{name}: {:.1} MB, logits at most {:.4} from those of f32",
            bytes(path)? as f64 / 1e6,
            differences.fold(0.0, f32::max)
        );
    }
    println!();
    let mut table = Table::beside_limits("storage");
    for path in &paths {
        measure(&mut table, path, &pool)?;
    }
    Ok(())
}

/// Bytes of all files of a vindex.
fn bytes(path: &Path) -> Result<u64> {
    Ok(Summary::read(path)?.bytes())
}

/// Bytes of a layer's gate rows.
fn gate_bytes(vindex: &Vindex, layer: usize) -> Result<usize> {
    Ok(vindex.matrix(Role::Layer(layer, LayerRole::Gate))?.bytes().len())
}

/// Logits `[vocab]` after the prompt, in an exact pass.
fn logits(path: &Path, pool: &Arc<Pool>, prompt: &[u32]) -> Result<Vec<f32>> {
    let model = Model::open(path, Arc::clone(pool))?;
    Ok(model.pass().last_logits(&mut KeyValueCache::new(model.spec()), prompt)?)
}

fn measure(table: &mut Table, path: &Path, pool: &Arc<Pool>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().display();
    let (vindex, model) = (Vindex::open(path)?, Model::open(path, Arc::clone(pool))?);
    let query: Vec<f32> = (0..vindex.hidden_size()).map(|i| (i as f32 * 0.7).sin()).collect();
    let gates: usize = (0..vindex.layers()).map(|layer| gate_bytes(&vindex, layer)).sum::<Result<usize>>()?;
    let memory = ReadProbe::new(gates.max(1 << 20));
    table.line(
        &format!("{name}: search of all layers"),
        || drop(black_box(gate_knn_in_layers(&vindex, pool, 0..vindex.layers(), &query, RESULTS))),
        &format!("reading {gates} bytes of gates"),
        || gates as f64 / memory.bytes_per_second(pool),
    );
    let weights = bytes(path)? as usize;
    let memory = ReadProbe::new(weights);
    for (what, length) in [("a token", 1), ("the prompt", PROMPT)] {
        let tokens: Vec<u32> = (0..length as u32).collect();
        table.line(
            &format!("{name}: {what}"),
            || {
                let mut cache = KeyValueCache::new(model.spec());
                let mut pass = model.pass().with_precision(Precision::Fast);
                drop(black_box(
                    pass.last_logits(&mut cache, &tokens).expect("the tokens are in the vocabulary"),
                ));
            },
            "reading all files once",
            || weights as f64 / memory.bytes_per_second(pool),
        );
    }
    Ok(())
}
