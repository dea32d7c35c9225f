//! Costs of making and searching a vindex, each with the limit of this machine: `cargo bench -p
//! larql-vindex --bench vindex_ops`. It is SmolLM2's, or a tiny one's where that model is not there.
//!
//! Times and limits are the best of several taken in turn. A limit is reading as many bytes as the work must read, as many f32
//! products as it needs, hashing as many bytes, or copying as many and waiting for the disk.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use larql_compute::limits::ReadProbe;
use larql_compute::{Activations, Format, Matrix, Pool, Precision, matmul};
use larql_core::progress::{CancelToken, NoProgress, Progress, Stage, Step};
use larql_models::{
    Checkpoint, Export, ExportOptions, LayerRole, ModelError, ModelSpec, Role, WeightSource, write_gguf,
};
use larql_testing::Table;
use larql_vindex::search::{Ranking, gate_knn_in_layers, walk};
use larql_vindex::{
    ExtractOptions, FeatureStore, Part, Q4kOptions, Storage, Vindex, extract, quantize, verify,
};
use larql_vindex_spec::FloatType;
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = larql_testing::real_model(larql_testing::SMOLLM2)
        .unwrap_or_else(|| larql_testing::repository("conformance/llama_512"));
    let checkpoint = Checkpoint::open(&model)?;
    let pool = Pool::for_this_machine();
    println!("{}, {} threads\n", model.display(), pool.threads());
    let floats = folder.path().join("f16.vindex");
    making(&checkpoint, &floats, &pool)?;
    let (float_vindex, blocks) = (Vindex::open(&floats)?, folder.path().join("q4k.vindex"));
    quantize(
        &float_vindex,
        &blocks,
        &ExtractOptions::in_storage(Storage::Q4k(Q4kOptions::default())),
        &NoProgress,
    )?;
    let eight_bits = in_8_bits(&checkpoint, folder.path())?;

    let mut table = Table::beside_limits("searching");
    let memory = ReadProbe::new(1 << 30);
    for vindex in [&float_vindex, &Vindex::open(&blocks)?, &Vindex::open(&eight_bits)?] {
        searching(&mut table, vindex, &memory, &pool);
    }
    looking_up(&mut table, &float_vindex, &floats, &pool)
}

/// Every part but the one with which the tokens that features write are found.
const ALL_BUT_DOWN: [Part; 5] = [Part::FfnGate, Part::FfnUp, Part::Embeddings, Part::AttnOv, Part::AttnQk];

/// Making a vindex in f16, and in 4-bit blocks of that; checking it.
fn making(checkpoint: &Checkpoint, target: &Path, pool: &Pool) -> Result<()> {
    let mut table = Table::beside_limits("making");
    let options = ExtractOptions { storage: Storage::Floats(FloatType::F16), ..ExtractOptions::default() };
    let stages = Stages::default();
    let started = Instant::now();
    let report = extract(checkpoint, target, &options, &stages)?;
    let (whole, down_meta) = (started.elapsed().as_secs_f64(), stages.seconds(Stage::DownMeta));
    let copy = copied(checkpoint, target, &report.files)?;
    table.print("extract in f16", whole, "copying as many bytes", copy);
    let scratch = tempfile::tempdir_in(target.parent().unwrap_or(target))?;
    let mut number = 0;
    let without = ExtractOptions { parts: Some(ALL_BUT_DOWN.into_iter().collect()), ..options };
    let mut extract_without = || {
        number += 1;
        let target = scratch.path().join(format!("{number}.vindex"));
        extract(checkpoint, &target, &without, &NoProgress)
    };
    let files = extract_without()?.files;
    table.line(
        "extract in f16 without down and down_meta",
        || drop(extract_without().expect("there is room")),
        "copying as many bytes",
        || copied(checkpoint, target, &files).expect("there is room"),
    );

    let spec = checkpoint.spec();
    let features: usize = spec.layers.iter().map(|layer| layer.feed_forward.features()).sum();
    let rate = product_rate(spec.hidden_size, pool);
    let products = 2.0 * (features * spec.vocab_size * spec.hidden_size) as f64;
    table.print("down_meta of all layers", down_meta, "as many products in f32", products / rate);

    let vindex = Vindex::open(target)?;
    let mut number = 0;
    let read: u64 = report.files.iter().map(|(_, bytes)| bytes).sum();
    let memory = ReadProbe::new(1 << 30);
    table.line(
        "quantize to q4k",
        || {
            number += 1;
            let target = scratch.path().join(format!("blocks-{number}.vindex"));
            quantize(
                &vindex,
                &target,
                &ExtractOptions::in_storage(Storage::Q4k(Q4kOptions::default())),
                &NoProgress,
            )
            .expect("there is room");
        },
        &format!("reading {:.1} MB", read as f64 / 1e6),
        || read as f64 / memory.bytes_per_second(pool),
    );
    encoding(&mut table, pool, &memory);

    let bytes = vec![1; 64 << 20];
    table.line(
        "verify",
        || assert!(verify(target, &NoProgress).expect("it is there").is_sound()),
        "SHA-256 of as many bytes in memory, one thread",
        || {
            let started = Instant::now();
            black_box(Sha256::digest(&bytes));
            started.elapsed().as_secs_f64() * read as f64 / bytes.len() as f64
        },
    );
    println!();
    Ok(())
}

/// Encoding f32 values as blocks, a row at a time on every thread.
fn encoding(table: &mut Table, pool: &Pool, memory: &ReadProbe) {
    const WIDTH: usize = 2048;
    let values: Vec<f32> =
        (0..8 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) as f32) / 4e9 - 0.5).collect();
    let megabytes = values.len() * 4;
    for format in [Format::Q4_K, Format::Q8_0] {
        let encode = |range: Range<usize>| {
            let mut blocks = Vec::new();
            for row in values[range].chunks_exact(WIDTH) {
                blocks.clear();
                format.encode(row, &mut blocks).expect("rows are whole blocks");
                black_box(&blocks);
            }
        };
        table.line(
            &format!("encode {:.1} MB of f32 in {format}", megabytes as f64 / 1e6),
            || pool.for_each_range(values.len(), WIDTH, encode),
            "reading as many bytes",
            || megabytes as f64 / memory.bytes_per_second(pool),
        );
    }
}

/// Gate KNN over a layer and over the knowledge band, and a walk through a layer, whose up projections are read too:
/// beside reading that from memory, and the band also beside reading as many bytes again and again, which may lie in
/// caches.
fn searching(table: &mut Table, vindex: &Vindex, memory: &ReadProbe, pool: &Pool) {
    let format = vindex.gate_format(0).map_or_else(|| "no".into(), |format| format.to_string());
    let query = query(vindex);
    let band = vindex.manifest().bands().knowledge.layers();
    let bytes = |role: LayerRole, layers: Range<usize>| -> usize {
        let matrix = |layer| vindex.matrix(Role::Layer(layer, role)).expect("the level holds it");
        layers.map(|layer| matrix(layer).bytes().len()).sum()
    };
    let mut line = |name: &str, bytes: usize, (probe, kind): (&ReadProbe, &str), work: &mut dyn FnMut()| {
        table.line(
            &format!("{format} gates: {name}"),
            work,
            &format!("reading {:.2} MB {kind}", bytes as f64 / 1e6),
            || bytes as f64 / probe.bytes_per_second(pool),
        );
    };
    let from_memory = (memory, "from memory");
    let knn = |layers| drop(black_box(gate_knn_in_layers(vindex, pool, layers, black_box(&query), 10)));
    line("KNN in one layer", bytes(LayerRole::Gate, 0..1), from_memory, &mut || knn(0..1));
    let band_bytes = bytes(LayerRole::Gate, band.clone());
    line("KNN in the knowledge band", band_bytes, from_memory, &mut || knn(band.clone()));
    let in_caches = ReadProbe::new(band_bytes);
    line("KNN in the knowledge band", band_bytes, (&in_caches, "again and again"), &mut || knn(band.clone()));
    let both = bytes(LayerRole::Gate, 0..1) + bytes(LayerRole::Up, 0..1);
    line("walk through one layer", both, from_memory, &mut || {
        walk(vindex, pool, 0, black_box(&query), Ranking::Activation, 10).expect("the level holds it");
    });
}

/// Opening, and all that is known of one feature. Neither has to read much; the limit is what it reads.
fn looking_up(table: &mut Table, vindex: &Vindex, path: &Path, pool: &Pool) -> Result<()> {
    let manifests = ["index.json", "weight_manifest.json"].map(|name| path.join(name));
    let bytes: u64 = manifests.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
    table.line(
        "open",
        || drop(Vindex::open(path).expect("it is there")),
        &format!("reading {bytes} bytes of manifests as files"),
        || {
            let started = Instant::now();
            manifests.iter().for_each(|path| drop(black_box(std::fs::read(path))));
            started.elapsed().as_secs_f64()
        },
    );
    let mut row = vec![0.0; vindex.hidden_size()];
    let (features, mut feature) = (vindex.features(0), 0);
    let bytes = row.len() * 2;
    let memory = ReadProbe::new(1 << 20);
    table.line(
        "look a feature up",
        || {
            // A stride that visits them all in an order that no cache line follows.
            feature = (feature + 761) % features;
            vindex.gate_row(0, feature, &mut row);
            black_box(vindex.top_tokens(0, feature).count());
        },
        &format!("reading {bytes} bytes"),
        || bytes as f64 / memory.bytes_per_second(pool),
    );
    Ok(())
}

/// A query that prefers no feature.
fn query(vindex: &Vindex) -> Vec<f32> {
    (0..vindex.hidden_size()).map(|i| (i as f32 * 0.7).sin()).collect()
}

/// Products of f32 a second, multiplication and addition counted, for matrices of the width of the model.
fn product_rate(width: usize, pool: &Pool) -> f64 {
    const ROWS: usize = 1024;
    let values: Vec<f32> = (0..ROWS * width).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let weights = Matrix::from_f32(ROWS, width, &values).expect("the sizes fit");
    let input = Activations::new(&values, width);
    let mut out = vec![0.0; ROWS * ROWS];
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let started = Instant::now();
        matmul(pool, weights.view(), &input, Precision::Exact, black_box(&mut out));
        best = best.min(started.elapsed().as_secs_f64());
    }
    2.0 * (ROWS * ROWS * width) as f64 / best
}

/// Seconds that it takes to read the checkpoint's files and to write as many bytes as a vindex has into files of the
/// same sizes, each of them waited for until it is on the disk.
fn copied(checkpoint: &Checkpoint, vindex: &Path, files: &[(String, u64)]) -> Result<f64> {
    let folder = tempfile::tempdir_in(vindex.parent().unwrap_or(vindex))?;
    let started = Instant::now();
    for path in checkpoint.weight_files() {
        black_box(std::fs::read(path)?);
    }
    let bytes = vec![7; 1 << 20];
    for (number, (_, length)) in files.iter().enumerate() {
        let mut file = File::create(folder.path().join(number.to_string()))?;
        let mut rest = *length as usize;
        while rest > 0 {
            let part = rest.min(bytes.len());
            file.write_all(&bytes[..part])?;
            rest -= part;
        }
        file.sync_all()?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// A vindex whose matrices are all in 8-bit blocks, by way of a GGUF file that has them so.
fn in_8_bits(checkpoint: &Checkpoint, folder: &Path) -> Result<std::path::PathBuf> {
    let (file, target) = (folder.join("q8_0.gguf"), folder.join("q8_0.vindex"));
    let export = Export {
        weights: &InBlocks { source: checkpoint, format: Format::Q8_0 },
        text: checkpoint.text(),
        path: checkpoint.path(),
        source: None,
        unused: &[],
    };
    write_gguf(export, &file, ExportOptions::default())?;
    let options = ExtractOptions { storage: Storage::Source, ..ExtractOptions::default() };
    extract(&Checkpoint::open(&file)?, &target, &options, &NoProgress)?;
    Ok(target)
}

/// The same model with its matrices in another format.
struct InBlocks<'a> {
    source: &'a Checkpoint,
    format: Format,
}

impl WeightSource for InBlocks<'_> {
    fn spec(&self) -> &ModelSpec {
        self.source.spec()
    }

    fn matrix(&self, role: Role) -> std::result::Result<Matrix, ModelError> {
        let matrix = self.source.matrix(role)?;
        let mut blocks = Vec::new();
        self.format.encode(&matrix.view().to_f32(), &mut blocks).expect("rows are whole blocks");
        Ok(Matrix::new(self.format, matrix.rows(), matrix.cols(), blocks.into()).expect("all rows are there"))
    }

    fn vector(&self, role: Role) -> std::result::Result<Vec<f32>, ModelError> {
        self.source.vector(role)
    }
}

/// Sums up how long each stage of an extraction takes.
#[derive(Default)]
struct Stages(Mutex<Vec<(Stage, Instant)>>, CancelToken);

impl Progress for Stages {
    fn report(&self, step: Step<'_>) {
        self.0.lock().expect("nothing panics with the lock").push((step.stage, Instant::now()));
    }

    fn cancel_token(&self) -> &CancelToken {
        &self.1
    }
}

impl Stages {
    /// From the last step of the stage before to the last step of this one.
    fn seconds(&self, stage: Stage) -> f64 {
        let steps = self.0.lock().expect("nothing panics with the lock");
        let taken = steps.windows(2).filter(|pair| pair[1].0 == stage).map(|pair| pair[1].1 - pair[0].1);
        taken.sum::<Duration>().as_secs_f64()
    }
}
