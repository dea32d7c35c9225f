//! Costs of edits, each with the limit of this machine: `cargo bench -p larql-vindex --bench editing`. The
//! vindex is SmolLM2's, or a tiny one's where that model is not there.
//!
//! A limit is reading as many bytes as the work must read, or reading as many and writing as many into files that the
//! disk has when it is done.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use larql_compute::Pool;
use larql_compute::limits::ReadProbe;
use larql_core::progress::NoProgress;
use larql_models::{Checkpoint, ModelSpec, WeightSource};
use larql_testing::Table;
use larql_vindex::{
    CompileOptions, EditedFeature, ExtractOptions, FeatureOperation, FeatureStore, Operation, Patch,
    PatchStack, StatedEdge, Storage, TokenScore, Vindex, compile, extract,
};
use larql_vindex_spec::FloatType;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Numbers of stacked patches.
const STACKS: [usize; 4] = [1, 10, 100, 1000];

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = larql_testing::real_model(larql_testing::SMOLLM2)
        .unwrap_or_else(|| larql_testing::repository("conformance/llama_512"));
    let target = folder.path().join("base.vindex");
    let options = ExtractOptions { storage: Storage::Floats(FloatType::F16), ..ExtractOptions::default() };
    extract(&Checkpoint::open(&model)?, &target, &options, &NoProgress)?;
    let base = Arc::new(Vindex::open(&target)?);
    let pool = Pool::for_this_machine();
    println!("{}, {} threads\n", model.display(), pool.threads());
    mutating(&base, &pool)?;
    stacking(&base, folder.path(), &pool)?;
    compiling(&base, folder.path())
}

/// One edit more, in a patch that has none or a thousand.
fn mutating(base: &Arc<Vindex>, pool: &Pool) -> Result<()> {
    let mut table = Table::beside_limits("one edit more");
    let bytes = 3 * base.hidden_size() * size_of::<f32>();
    let memory = ReadProbe::new(1 << 20);
    for before in [0, 1000] {
        let mut patch = Patch::new(base);
        patch.extend((0..before).map(|number| insertion(base.spec(), number)));
        let mut stack = PatchStack::new(Arc::clone(base))?;
        stack.apply("edits", patch)?;
        let place = place(base.spec(), before);
        let (edit, (layer, feature)) = (edit(base.spec(), place), place);
        let operations = [
            ("INSERT", Operation::Insert(edit.clone()), bytes),
            ("UPDATE", Operation::Update(edit), bytes),
            ("DELETE", Operation::Delete { layer, feature, reason: None }, 0),
        ];
        for (name, operation, bytes) in operations {
            let mut patch = Patch::new(base);
            patch.extend([operation]);
            table.line(
                &format!("{name} over {before} edits, and off again"),
                || {
                    stack.apply("one more", patch.clone()).expect("it fits");
                    black_box(stack.remove(1).expect("nothing lies over it"));
                },
                &format!("reading {bytes} bytes"),
                || bytes as f64 / memory.bytes_per_second(pool),
            );
        }
    }
    println!();
    Ok(())
}

/// Laying patches over a vindex from their files, and looking up what the last one says.
fn stacking(base: &Arc<Vindex>, folder: &Path, pool: &Pool) -> Result<()> {
    let mut table = Table::beside_limits("patches of one edge, opened");
    let mut paths: Vec<PathBuf> = Vec::new();
    for count in STACKS {
        for number in paths.len()..count {
            let mut patch = Patch::new(base);
            patch.extend([insertion(base.spec(), number)]);
            let path = folder.join(format!("{number}.vlp"));
            patch.save(&path)?;
            paths.push(path);
        }
        let bytes: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
        let (layer, feature) = place(base.spec(), count - 1);
        table.line(
            &format!("{count} patches and a look at one feature"),
            || {
                let mut stack = PatchStack::new(Arc::clone(base)).expect("it was laid before");
                for path in &paths {
                    stack.apply("edit", Patch::read(path).expect("it was saved")).expect("it fits");
                }
                let mut row = vec![0.0; base.hidden_size()];
                stack.overlay().gate_row(layer, feature, &mut row);
                black_box((row, stack.overlay().top_tokens(layer, feature).count()));
            },
            &format!("reading {:.2} MB of files", bytes as f64 / 1e6),
            || read(&paths),
        );
    }
    let memory = ReadProbe::new(1 << 20);
    for count in STACKS {
        let mut stack = PatchStack::new(Arc::clone(base))?;
        for number in 0..count {
            let mut patch = Patch::new(base);
            patch.extend([insertion(base.spec(), number)]);
            stack.apply("edit", patch)?;
        }
        let (layer, feature) = place(base.spec(), count - 1);
        let mut row = vec![0.0; base.hidden_size()];
        let bytes = size_of_val(&row[..]);
        table.line(
            &format!("a look at one feature under {count} patches"),
            || {
                stack.overlay().gate_row(layer, feature, &mut row);
                black_box(stack.overlay().top_tokens(layer, feature).count());
            },
            &format!("reading {bytes} bytes"),
            || bytes as f64 / memory.bytes_per_second(pool),
        );
    }
    println!();
    Ok(())
}

/// Writing base and edits as a vindex of its own: files without edits are links.
fn compiling(base: &Arc<Vindex>, folder: &Path) -> Result<()> {
    let mut table = Table::beside_limits("compile");
    for count in [0, 1, 1000] {
        let mut patch = Patch::new(base);
        patch.extend((0..count).map(|number| insertion(base.spec(), number)));
        let mut stack = PatchStack::new(Arc::clone(base))?;
        stack.apply("edits", patch)?;
        let target = folder.join("compiled.vindex");
        let write = || {
            let report = compile(stack.overlay(), &target, &CompileOptions::default(), &NoProgress);
            std::fs::remove_dir_all(&target).expect("it was written");
            report.expect("there is room")
        };
        let kept = |name: &str| base.manifest().checksums.as_ref().and_then(|all| all.get(name));
        let report = compile(stack.overlay(), &target, &CompileOptions::default(), &NoProgress)?;
        let compiled = Vindex::open(&target)?;
        let new = |(name, _): &&(String, u64)| {
            compiled.manifest().checksums.as_ref().and_then(|all| all.get(name)) != kept(name)
        };
        let written: Vec<u64> = report.files.iter().filter(new).map(|(_, bytes)| *bytes).collect();
        drop(compiled);
        std::fs::remove_dir_all(&target)?;
        table.line(
            &format!("{count} edits"),
            || drop(write()),
            &format!("copying {:.1} MB", written.iter().sum::<u64>() as f64 / 1e6),
            || copied(folder, &written).expect("there is room"),
        );
    }
    Ok(())
}

/// A feature for each number, spread over the layers.
fn place(spec: &ModelSpec, number: usize) -> (usize, usize) {
    let layer = number % spec.layers.len();
    (layer, number / spec.layers.len() % spec.layers[layer].feed_forward.features())
}

fn edit(spec: &ModelSpec, (layer, feature): (usize, usize)) -> FeatureOperation {
    let vector = |seed: usize| -> Option<Arc<[f32]>> {
        Some((0..spec.hidden_size).map(|i| ((i * 37 + seed * 101) % 23) as f32 * 0.02 - 0.2).collect())
    };
    let edited = EditedFeature {
        gate: vector(1),
        up: vector(2).filter(|_| spec.layers[layer].feed_forward.is_gated()),
        down: vector(3),
        tokens: Some(vec![TokenScore { token: 7, score: 2.5 }]),
        edge: StatedEdge { relation: Some("capital".into()), ..StatedEdge::default() },
    };
    FeatureOperation { layer, feature, edited, token_text: None }
}

fn insertion(spec: &ModelSpec, number: usize) -> Operation {
    Operation::Insert(edit(spec, place(spec, number)))
}

/// Seconds that reading files takes.
fn read(paths: &[PathBuf]) -> f64 {
    let started = Instant::now();
    paths.iter().for_each(|path| drop(black_box(std::fs::read(path))));
    started.elapsed().as_secs_f64()
}

/// Seconds that it takes to write files of these sizes from memory, each of them waited for until it is on the disk.
fn copied(folder: &Path, sizes: &[u64]) -> Result<f64> {
    let folder = tempfile::tempdir_in(folder)?;
    let bytes = vec![7; 1 << 20];
    let started = Instant::now();
    for (number, size) in sizes.iter().enumerate() {
        let mut file = File::create(folder.path().join(number.to_string()))?;
        let mut rest = *size as usize;
        while rest > 0 {
            let part = rest.min(bytes.len());
            file.write_all(&bytes[..part])?;
            rest -= part;
        }
        file.sync_all()?;
    }
    Ok(started.elapsed().as_secs_f64())
}
