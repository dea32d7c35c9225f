//! How fast an open vindex answers: `cargo bench -p larql-vindex --bench vindex_ops`. It is SmolLM2's, extracted
//! beforehand, or a tiny one where that model is not there. Bytes a second are of gate rows read.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use larql_compute::Pool;
use larql_models::{Checkpoint, LayerRole, Role, WeightSource};
use larql_vindex::search::{Ranking, gate_knn, walk};
use larql_vindex::{ExtractOptions, FeatureStore, NoProgress, Vindex, extract};

/// Where the vindex lies.
static PATH: OnceLock<PathBuf> = OnceLock::new();

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the vindex");
    let path = match larql_test_data::real_model(larql_test_data::SMOLLM2) {
        Some(model) => extracted(&model, folder.path().join("smollm2.vindex")),
        None => larql_test_data::repository("fixtures/llama-f16-all.vindex"),
    };
    PATH.get_or_init(|| path);
    divan::main();
}

fn extracted(model: &Path, target: PathBuf) -> PathBuf {
    let checkpoint = Checkpoint::open(model).expect("the model opens");
    extract(&checkpoint, &target, &ExtractOptions::default(), &NoProgress).expect("the model is extracted");
    target
}

/// An open vindex, what searches it, and a query for it.
struct Subject {
    vindex: Vindex,
    pool: Pool,
    /// `[hidden]`
    query: Vec<f32>,
}

impl Subject {
    fn open() -> Subject {
        let vindex = open();
        let query = (0..vindex.hidden_size()).map(|i| (i as f32 * 0.7).sin()).collect();
        Subject { vindex, pool: Pool::for_this_machine(), query }
    }

    /// Bytes of the gate rows of some layers.
    fn gate_bytes(&self, layers: impl Iterator<Item = usize>) -> BytesCount {
        let matrix = |layer| self.vindex.matrix(Role::Layer(layer, LayerRole::Gate));
        let bytes = layers.map(|layer| matrix(layer).expect("gates are held").view().bytes().len());
        BytesCount::new(bytes.sum::<usize>())
    }
}

fn open() -> Vindex {
    Vindex::open(PATH.get().expect("set by main")).expect("the vindex opens")
}

#[divan::bench(name = "open")]
fn opening(bencher: Bencher) {
    bencher.bench(open);
}

#[divan::bench(args = [1, 10, 100])]
fn knn_one_layer(bencher: Bencher, k: usize) {
    let Subject { vindex, pool, query } = &Subject::open();
    let bytes = Subject::open().gate_bytes(0..1);
    bencher.counter(bytes).bench(|| gate_knn(vindex, pool, 0, black_box(query), k));
}

#[divan::bench]
fn knn_all_layers(bencher: Bencher) {
    let subject = &Subject::open();
    let layers = 0..subject.vindex.layers();
    let knn = |layer| gate_knn(&subject.vindex, &subject.pool, layer, black_box(&subject.query), 10);
    bencher.counter(subject.gate_bytes(layers.clone())).bench(|| layers.clone().map(knn).collect::<Vec<_>>());
}

/// One layer, ranked by what features add to the residual: gates and ups of all features are read.
#[divan::bench]
fn walk_one_layer(bencher: Bencher) {
    let Subject { vindex, pool, query } = &Subject::open();
    bencher.bench(|| walk(vindex, pool, 0, black_box(query), Ranking::Activation, 10));
}

/// All that is known of one feature.
#[divan::bench]
fn lookup(bencher: Bencher) {
    let Subject { vindex, query, .. } = &Subject::open();
    let mut row = vec![0.0; query.len()];
    let features = vindex.features(0);
    let mut feature = 0;
    bencher.bench_local(|| {
        // A stride that visits them all in an order that no cache line follows.
        feature = (feature + 761) % features;
        vindex.gate_row(0, feature, &mut row);
        black_box(vindex.top_tokens(0, feature))
    });
}
