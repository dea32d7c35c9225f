//! `slice`: every preset of dense and mixture models opens, verifies, and holds what it promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_compute::{Activations, Pool};
use larql_core::progress::NoProgress;
use larql_inference::Model;
use larql_models::{Checkpoint, LayerRole, Role, WeightSource};
use larql_vindex::search::gate_knn;
use larql_vindex::{
    Component, ExtractOptions, FeatureStore, Holdings, Q4kOptions, SlicePart, SliceParts, SlicePreset,
    Storage, Summary, Vindex, VindexError, extract, plan_slice, slice, verify,
};
use larql_vindex_spec::{ExtractLevel, FloatType};

/// Everything of a model, stored in one of the ways.
fn whole(folder: &Path, family: &str, storage: Storage) -> Arc<Vindex> {
    let checkpoint = Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap();
    let path =
        folder.join(format!("{family}-{storage:?}.vindex").replace([' ', '{', '}', ':', ',', '(', ')'], ""));
    let options = ExtractOptions { level: ExtractLevel::All, storage, ..ExtractOptions::default() };
    extract(&checkpoint, &path, &options, &NoProgress).unwrap();
    Arc::new(Vindex::open(&path).unwrap())
}

/// Dense models and mixtures, in every kind of storage.
fn wholes(folder: &Path) -> Vec<Arc<Vindex>> {
    let (floats, blocks) = (Storage::Floats(FloatType::F32), Storage::Q4k(Q4kOptions::default()));
    let models = [
        ("llama", floats),
        ("llama", Storage::Source),
        ("llama_512", blocks),
        ("gemma3_text", Storage::Source),
        ("mixtral", floats),
        ("mixtral", Storage::Source),
    ];
    models.map(|(family, storage)| whole(folder, family, storage)).into()
}

fn sliced(whole: &Arc<Vindex>, name: &str, parts: &SliceParts) -> Vindex {
    let target: PathBuf = whole.path().with_extension(format!("{name}.vindex"));
    let plan = plan_slice(whole, parts).unwrap();
    let report = slice(whole, &target, parts, &NoProgress).unwrap();
    // The plan is what comes of it.
    let names = |files: &[(String, u64)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&plan.files), names(&report.files), "{name}");
    assert!(verify(&target, &NoProgress).unwrap().is_sound(), "{name}");
    Vindex::open(&target).unwrap()
}

fn presets_of(whole: &Vindex) -> impl Iterator<Item = (SlicePreset, SliceParts)> {
    SlicePreset::all().filter_map(|preset| Some((preset, preset.parts_of(whole).ok()?)))
}

fn matrices(vindex: &Vindex) -> Vec<Role> {
    let tensors = vindex.spec().tensors().into_iter();
    let matrices = tensors.filter(|(_, shape)| matches!(shape, larql_models::Shape::Matrix(..)));
    matrices.map(|(role, _)| role).collect()
}

/// The part that a matrix belongs to, as the documentation says it.
fn part_of(role: Role) -> SlicePart {
    use LayerRole::*;
    match role {
        Role::Embedding => SlicePart::Embeddings,
        Role::Head => SlicePart::Head,
        Role::Layer(_, Query | Key | Value | AttentionOutput) => SlicePart::Attention,
        Role::Layer(_, Gate | ExpertGate(_)) => SlicePart::Gate,
        Role::Layer(_, Up | Down) => SlicePart::FeedForward,
        Role::Layer(_, ExpertUp(_) | ExpertDown(_)) => SlicePart::Experts,
        Role::Layer(_, Router) => SlicePart::Router,
        role => panic!("{role}"),
    }
}

#[test]
fn every_preset_holds_its_matrices_bit_for_bit_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    for whole in wholes(folder.path()) {
        for (preset, parts) in presets_of(&whole) {
            let slice = sliced(&whole, preset.name(), &parts);
            for role in matrices(&whole) {
                let kept = parts.contains(part_of(role));
                let context = format!("{} {preset} {role}", whole.path().display());
                assert_eq!(slice.holds(role), kept && whole.holds(role), "{context}");
                if kept {
                    assert_eq!(
                        slice.matrix(role).unwrap().bytes(),
                        whole.matrix(role).unwrap().bytes(),
                        "{context}"
                    );
                }
            }
            let expected = (!parts.is_everything()).then(|| parts.clone());
            assert_eq!(slice.slice(), expected);
            assert_eq!(slice.manifest().has_model_weights, slice.level() >= ExtractLevel::Inference);
        }
    }
}

#[test]
fn client_and_server_together_hold_every_matrix_and_the_large_ones_once() {
    let folder = tempfile::tempdir().unwrap();
    for whole in wholes(folder.path()) {
        let client = sliced(&whole, "client", &SlicePreset::Client.parts());
        let server = sliced(&whole, "server", &SlicePreset::Server.parts());
        for role in matrices(&whole) {
            let twice = matches!(part_of(role), SlicePart::Embeddings | SlicePart::Router);
            let held = usize::from(client.holds(role)) + usize::from(server.holds(role));
            assert_eq!(held, if twice { 2 } else { 1 }, "{role}");
        }
    }
}

#[test]
fn slices_do_their_job_and_say_what_they_cannot_do() {
    let folder = tempfile::tempdir().unwrap();
    let pool = Arc::new(Pool::new(1));
    for whole in wholes(folder.path()) {
        let query: Vec<f32> = (0..whole.hidden_size()).map(|i| (i as f32).sin()).collect();
        let input = Activations::new(&query, query.len());
        for (preset, parts) in presets_of(&whole) {
            let slice = sliced(&whole, preset.name(), &parts);
            let refusal = || slice.require(&Holdings::PREDICTING, "predicting").unwrap_err().to_string();
            match preset {
                SlicePreset::Full => {
                    assert!(slice.require_preset(ExtractLevel::All, "compiling").is_ok());
                    assert!(Model::load(&slice, Arc::clone(&pool)).is_ok());
                    continue;
                }
                SlicePreset::Browse => {
                    let hits = |vindex: &Vindex| gate_knn(vindex, &pool, 1, &query, 5);
                    assert_eq!(hits(&slice), hits(&whole));
                    assert!(slice.top_tokens(1, 0).eq(whole.top_tokens(1, 0)));
                    assert_eq!(slice.embedding_query(&[1]).unwrap(), whole.embedding_query(&[1]).unwrap());
                    assert!(refusal().contains("is a slice without attention weights"), "{}", refusal());
                }
                SlicePreset::Server | SlicePreset::ExpertServer => {
                    let fired = |vindex: &Vindex| {
                        let mut activations = vec![0.0; vindex.features(1)];
                        vindex.activations(&pool, 1, &input, &mut activations).unwrap();
                        activations
                    };
                    assert_eq!(fired(&slice), fired(&whole));
                    assert!(refusal().contains("is a slice without attention weights"), "{}", refusal());
                }
                SlicePreset::Client => {
                    let without: Vec<Component> = slice.holdings().missing(&Holdings::PREDICTING);
                    assert_eq!(without, [Component::Gate, Component::Up, Component::Down]);
                    assert!(gate_knn(&slice, &pool, 1, &query, 5).is_empty());
                    assert!(
                        refusal().ends_with(
                            "which is a slice without gate rows, up projections and down projections; \
                             use a vindex that has them"
                        ),
                        "{}",
                        refusal()
                    );
                }
                SlicePreset::Embed => {
                    assert!(slice.holdings().contains_all(&[Component::Embeddings, Component::Head]));
                    assert_eq!(slice.text().tokenizer().is_ok(), whole.text().tokenizer().is_ok());
                }
                _ => assert!(refusal().contains("is a slice without embeddings"), "{}", refusal()),
            }
            assert!(Model::load(&slice, Arc::clone(&pool)).is_err(), "{preset}");
            assert!(Model::load_held(&slice, Arc::clone(&pool)).is_ok(), "{preset}");
        }
    }
}

#[test]
fn every_file_of_every_preset_has_a_part() {
    let folder = tempfile::tempdir().unwrap();
    for whole in wholes(folder.path()) {
        for file in Summary::read(whole.path()).unwrap().files {
            assert!(file.component.is_some(), "{}", file.name);
        }
        // Each part alone can be cut out, or there is nothing of it.
        for part in SlicePart::all() {
            let parts: SliceParts = [part].into_iter().collect();
            match plan_slice(&whole, &parts) {
                Ok(plan) => assert!(plan.files.iter().any(|(name, _)| name == "index.json")),
                Err(error) => assert!(matches!(error, VindexError::NothingToSlice { .. }), "{error}"),
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn kept_files_are_links_and_cost_no_space() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let whole = whole(folder.path(), "llama", Storage::Floats(FloatType::F32));
    let slice = sliced(&whole, "server", &SlicePreset::Server.parts());
    for file in ["up_weights.bin", "gate_vectors.bin", "embeddings.bin"] {
        let node = |vindex: &Vindex| std::fs::metadata(vindex.path().join(file)).unwrap().ino();
        assert_eq!(node(&slice), node(&whole), "{file}");
    }
    assert!(!slice.path().join("attn_weights.bin").exists());
}

#[test]
fn slices_of_other_implementations_vindexes_open() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = larql_testing::repository("fixtures/llama-f16-all.vindex");
    let whole = Arc::new(Vindex::open(&fixture).unwrap());
    for (preset, parts) in presets_of(&whole) {
        let target = folder.path().join(format!("{preset}.vindex"));
        slice(&whole, &target, &parts, &NoProgress).unwrap();
        let slice = Vindex::open(&target).unwrap();
        assert_eq!(
            slice.holds(Role::Layer(0, LayerRole::Query)),
            parts.contains(SlicePart::Attention),
            "{preset}"
        );
    }
}

#[test]
fn impossible_slices_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dense = whole(folder.path(), "llama", Storage::Source);
    let error = SlicePreset::ExpertServer.parts_of(&dense).unwrap_err().to_string();
    assert!(error.ends_with(
        "is not a mixture of experts, and expert-server slices are for those; slice it as `server`"
    ));
    let labels: SliceParts = [SlicePart::Labels].into_iter().collect();
    let error = slice(&dense, &folder.path().join("x.vindex"), &labels, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("has nothing of the parts manifest, labels"), "{error}");
    let parts = SlicePreset::Browse.parts();
    assert!(matches!(
        slice(&dense, dense.path(), &parts, &NoProgress),
        Err(VindexError::AlreadyExists { .. })
    ));
    assert!(!folder.path().join("x.vindex").exists() && !folder.path().join("x.vindex.partial").exists());
}
