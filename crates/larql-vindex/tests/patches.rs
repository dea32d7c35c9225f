//! Patches: what is read, refused, laid over a vindex and taken off again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use larql_compute::{Activations, Pool};
use larql_core::Triple;
use larql_core::progress::NoProgress;
use larql_models::Checkpoint;
use larql_vindex::{
    Conflict, EditedFeature, ExtractOptions, FeatureEdit, FeatureOperation, FeatureStore, KnnEntry,
    Operation, Origin, Overlay, Patch, PatchStack, Q4kOptions, StatedEdge, Storage, TokenScore, Vindex,
    VindexError, extract,
};
use larql_vindex_spec::{ExtractLevel, FloatType};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    larql_testing::repository("fixtures").join(name)
}

fn base() -> Arc<Vindex> {
    static BASE: OnceLock<Arc<Vindex>> = OnceLock::new();
    let open = || Arc::new(Vindex::open(&fixture("llama-f16-all.vindex")).unwrap());
    Arc::clone(BASE.get_or_init(open))
}

fn sample() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("sample.vlp")).unwrap()).unwrap()
}

fn parse(json: &Value) -> Result<Patch, String> {
    Patch::parse(json.to_string().as_bytes()).map_err(|damage| damage.to_string())
}

#[test]
fn a_patch_of_the_existing_implementation_applies() {
    let mut stack = PatchStack::new(base()).unwrap();
    stack.apply("sample", parse(&sample()).unwrap()).unwrap();
    let overlay = stack.overlay();
    let base = base();

    let label = overlay.label(1, 498).unwrap();
    assert_eq!((&*label.relation, label.source.name()), ("capital", "inserted"));
    assert_eq!(overlay.top_tokens(1, 498).next().unwrap().token, 314);
    let Some(FeatureEdit::Changed(inserted)) = overlay.edits().get(1, 498) else { panic!() };
    assert_eq!(inserted.edge.target.as_deref(), Some("Poseidon"));
    let mut row = vec![0.0; 256];
    overlay.gate_row(1, 498, &mut row);
    assert_eq!(row[..2], [1.751_248_6, -0.091_838_434]);

    overlay.gate_row(0, 3, &mut row);
    assert!(row.iter().all(|value| *value == 0.0) && overlay.top_tokens(0, 3).next().is_none());
    let mut same = row.clone();
    overlay.gate_row(2, 5, &mut row);
    base.gate_row(2, 5, &mut same);
    assert_eq!((row, overlay.top_tokens(2, 5).next().unwrap().token), (same, 102));
    let [entry] = overlay.knn().entries(1) else { panic!() };
    assert_eq!((&*entry.triple.entity, &*entry.triple.target, entry.target_id), ("Japan", "yen", 309));
}

#[test]
fn what_is_read_is_written_and_unknown_fields_survive() {
    let mut json = sample();
    json["mood"] = json!({"a": [1, null]});
    json["operations"][0]["provenance"] = json!("a book");
    let written: Value = serde_json::from_str(&parse(&json).unwrap().to_json()).unwrap();
    let fields = |value: &Value| value.as_object().unwrap().clone();
    let without_nulls = |value: &Value| {
        let mut fields = fields(value);
        fields.retain(|_, value| !value.is_null());
        fields
    };
    let (mut read, mut again) = (without_nulls(&json), without_nulls(&written));
    let operations = |fields: &mut serde_json::Map<String, Value>| -> Vec<_> {
        fields.remove("operations").unwrap().as_array().unwrap().iter().map(without_nulls).collect()
    };
    assert_eq!(operations(&mut read), operations(&mut again));
    assert_eq!(read, again);

    let tokens = [(3, 0.5), (9, -1.25)].map(|(token, score)| TokenScore { token, score });
    let edited = EditedFeature { tokens: Some(tokens.into()), ..EditedFeature::default() };
    let mut patch = Patch::new(&base());
    let operation = FeatureOperation { layer: 1, feature: 2, edited, token_text: Some(" a".into()) };
    let entry = KnnEntry {
        layer: 0,
        triple: Triple::new("Mu", "capital", "x"),
        target_id: 1,
        confidence: 0.7,
        key: vec![1.0; 256].into(),
        threshold: Some(0.8),
    };
    patch.extend([
        Operation::Update(operation),
        Operation::InsertKnn(entry),
        Operation::DeleteKnn { entity: "x".into() },
    ]);
    assert_eq!(Patch::parse(patch.to_json().as_bytes()).unwrap(), patch);
    assert_eq!(patch.base_checksum, base().base_checksum());
}

#[test]
fn invalid_patches_are_errors_with_operation_and_field() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json = sample();
        change(&mut json);
        parse(&json).unwrap_err()
    };
    assert_eq!(with(&|p| p["version"] = json!(2)), "patch: `version`: expected 1, found 2");
    assert_eq!(
        with(&|p| p["operations"] = json!({})),
        "patch: `operations`: expected an array, found an object"
    );
    assert_eq!(
        with(&|p| p["operations"][2]["op"] = json!("drop")),
        "operation 3: `op`: expected insert, update, delete, insert_knn or delete_knn, found `drop`"
    );
    assert_eq!(
        with(&|p| p["operations"][0]["gate_vector_b64"] = json!("AAAA?")),
        "operation 1: `gate_vector_b64`: expected base64 of f32 values, found Invalid symbol 63, offset 4."
    );
    assert_eq!(
        with(&|p| p["operations"][0]["up_vector_b64"] = json!("AAAA")),
        "operation 1: `up_vector_b64`: expected base64 of f32 values, four bytes each, found 3 bytes"
    );
    assert_eq!(
        with(&|p| p["operations"][1]["target_id"] = Value::Null),
        "operation 2: `target_id`: expected a value, found none"
    );
    assert_eq!(
        with(&|p| p["operations"][2]["layer"] = json!(-1)),
        "operation 3: `layer`: expected a whole number, found -1"
    );
    assert_eq!(
        with(&|p| p["operations"][3]["down_meta"]["i"] = json!("a")),
        "operation 4: `down_meta`: `i`: expected a whole number, found \"a\""
    );
    assert!(Patch::parse(b"[1, 2").unwrap_err().to_string().starts_with("content: expected JSON, found EOF"));
}

#[test]
fn patches_that_do_not_fit_change_nothing() {
    let mut stack = PatchStack::new(base()).unwrap();
    stack.apply("sound", parse(&sample()).unwrap()).unwrap();
    let before = state(stack.overlay());
    let mut refused = |change: &dyn Fn(&mut Value)| {
        let mut json = sample();
        change(&mut json);
        let error = stack.apply("other", parse(&json).unwrap()).unwrap_err().to_string();
        assert_eq!((stack.patches().len(), state(stack.overlay())), (1, before.clone()));
        error
    };
    assert_eq!(
        refused(&|p| p["operations"][3]["layer"] = json!(3)),
        "patch other, operation 4: layer: expected a layer below 3, found 3"
    );
    assert_eq!(
        refused(&|p| p["operations"][2]["feature"] = json!(512)),
        "patch other, operation 3: feature: expected a feature below 512 in layer 0, found 512"
    );
    assert_eq!(
        refused(&|p| p["operations"][1]["key_vector_b64"] = json!("AACAPw==")),
        "patch other, operation 2: key vector: expected 256 values, found 1 values"
    );
    let nan = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        [f32::NAN; 256].map(f32::to_le_bytes).concat(),
    );
    assert_eq!(
        refused(&|p| p["operations"][0]["down_vector_b64"] = json!(nan)),
        "patch other, operation 1: down vector: expected finite numbers, found NaN at place 0"
    );
    let other = refused(&|p| p["base_checksum"] = json!("12ab"));
    assert!(other.contains("made for llama") && other.contains("12ab"), "{other}");
}

#[test]
fn a_patch_fits_the_same_weights_from_another_file_and_at_another_level() {
    let source = larql_testing::repository("conformance/llama");
    let folder = tempfile::tempdir().unwrap();
    let extracted = |name: &str, model: &str, level, storage| {
        let path = folder.path().join(name);
        let origin = Origin { model: Some(model.into()), ..Origin::default() };
        let options = ExtractOptions { level, storage, origin, ..ExtractOptions::default() };
        extract(&Checkpoint::open(&source).unwrap(), &path, &options, &NoProgress).unwrap();
        Arc::new(Vindex::open(&path).unwrap())
    };
    let q4k = Storage::Q4k(Q4kOptions::default());
    for storage in [Storage::Floats(FloatType::F16), Storage::Source, q4k] {
        let name = format!("{storage:?}");
        let all = extracted(&format!("{name}-all"), "a", ExtractLevel::All, storage);
        let patch = Patch::new(&all);
        assert_eq!(Patch::parse(patch.to_json().as_bytes()).unwrap(), patch);
        for level in ExtractLevel::ALL {
            let other = extracted(&format!("{name}-b-{level}"), "b", level, storage);
            PatchStack::new(Arc::clone(&other)).unwrap().apply("p", patch.clone()).unwrap();
            PatchStack::new(Arc::clone(&all)).unwrap().apply("p", Patch::new(&other)).unwrap();
        }
    }
    let exact = extracted("f32", "a", ExtractLevel::All, Storage::Floats(FloatType::F32));
    let half = extracted("f16", "a", ExtractLevel::All, Storage::Floats(FloatType::F16));
    let error = PatchStack::new(exact).unwrap().apply("p", Patch::new(&half)).unwrap_err().to_string();
    assert!(error.contains("the weights differ") && error.contains("gate_vectors.bin"), "{error}");
}

#[test]
fn of_two_patches_that_edit_one_feature_the_conflict_rule_chooses() {
    let insert = |confidence: f64, relation: &str| {
        let edge = StatedEdge {
            relation: Some(relation.into()),
            confidence: Some(confidence),
            ..StatedEdge::default()
        };
        let edited = EditedFeature { edge, ..EditedFeature::default() };
        let mut patch = Patch::new(&base());
        patch.extend([Operation::Insert(FeatureOperation {
            layer: 1,
            feature: 2,
            edited,
            token_text: None,
        })]);
        patch
    };
    let mut stack = PatchStack::new(base()).unwrap();
    stack.apply("first", insert(0.9, "capital")).unwrap();
    stack.apply("second", insert(0.5, "river")).unwrap();
    let relation = |conflict| stack.resolved(conflict).map(|overlay| overlay.label(1, 2).unwrap().relation);
    assert_eq!(relation(Conflict::LastWins).unwrap(), "river");
    assert_eq!(relation(Conflict::HighestConfidence).unwrap(), "capital");
    let error = relation(Conflict::Fail).unwrap_err();
    assert_eq!(
        error.to_string(),
        "patches first and second both edit feature 2 of layer 1; say which one counts"
    );
}

/// Everything that can be seen of an overlay's edits.
fn state(overlay: &Overlay) -> String {
    let pool = Pool::new(1);
    let mut seen = format!("{:?}", overlay.edits());
    let query = vec![0.25; overlay.hidden_size()];
    for layer in 0..overlay.layers() {
        let mut scores = vec![0.0; overlay.features(layer)];
        overlay.gate_scores(&pool, layer, &Activations::new(&query, query.len()), &mut scores);
        seen += &format!("{scores:?}{:?}", overlay.knn().entries(layer));
    }
    seen
}

fn operation() -> impl Strategy<Value = Operation> {
    let place = || (0..2_usize, 0..3_usize);
    let vector = || prop::option::of((-4i8..4).prop_map(|value| vec![f32::from(value); 256].into()));
    let edited = || {
        (vector(), vector(), vector(), prop::option::of("[ab]")).prop_map(|(gate, up, down, relation)| {
            let edge = StatedEdge { relation, ..StatedEdge::default() };
            EditedFeature { gate, up, down, tokens: None, edge }
        })
    };
    let of = || {
        (place(), edited()).prop_map(|((layer, feature), edited)| FeatureOperation {
            layer,
            feature,
            edited,
            token_text: None,
        })
    };
    let entry = (0..2_usize, "[ab]", -4i8..4).prop_map(|(layer, entity, value)| KnnEntry {
        layer,
        triple: Triple::new(entity, "r", "t"),
        target_id: 1,
        confidence: 0.5,
        key: vec![f32::from(value); 256].into(),
        threshold: None,
    });
    prop_oneof![
        of().prop_map(Operation::Insert),
        of().prop_map(Operation::Update),
        place().prop_map(|(layer, feature)| Operation::Delete { layer, feature, reason: None }),
        entry.prop_map(Operation::InsertKnn),
        "[ab]".prop_map(|entity| Operation::DeleteKnn { entity }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn taking_a_patch_off_leaves_no_trace(
        patches in prop::collection::vec(prop::collection::vec(operation(), 0..5), 1..6),
        removed: prop::sample::Index,
    ) {
        let patch = |operations: &Vec<Operation>| {
            let mut patch = Patch::new(&base());
            patch.extend(operations.iter().cloned());
            patch
        };
        let removed = removed.index(patches.len());
        let mut stack = PatchStack::new(base()).unwrap();
        let mut without = PatchStack::new(base()).unwrap();
        for (index, operations) in patches.iter().enumerate() {
            stack.apply("p", patch(operations)).unwrap();
            if index != removed {
                without.apply("p", patch(operations)).unwrap();
            }
        }
        stack.remove(removed).unwrap();
        prop_assert_eq!(state(stack.overlay()), state(without.overlay()));
    }

    #[test]
    fn any_text_is_a_patch_or_an_error(position: prop::sample::Index, byte: u8) {
        let mut bytes = std::fs::read(fixture("sample.vlp")).unwrap();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        if let Ok(patch) = Patch::parse(&bytes) {
            let _ = PatchStack::new(base()).unwrap().apply("p", patch);
        }
    }
}

fn old_and_new() -> (Patch, Patch) {
    let old = parse(&sample()).unwrap();
    let mut new = old.clone();
    new.description = Some("new".into());
    new.extend([Operation::DeleteKnn { entity: "Japan".into() }]);
    (old, new)
}

#[test]
fn a_save_that_fails_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.vlp");
    let (old, new) = old_and_new();
    old.save(&path).unwrap();
    // A folder with the name of the temporary file makes the write fail.
    let temporary = folder.path().join("facts.vlp.tmp");
    std::fs::create_dir(&temporary).unwrap();
    assert!(matches!(new.save(&path), Err(VindexError::Io { .. })));
    assert_eq!(Patch::read(&path).unwrap(), old);
    std::fs::remove_dir(&temporary).unwrap();
    // What a process that is killed leaves is any beginning of the new file under the temporary name.
    let text = new.to_json();
    for written in (0..text.len()).step_by(500).chain([text.len()]) {
        std::fs::write(&temporary, &text[..written]).unwrap();
        assert_eq!(Patch::read(&path).unwrap(), old);
    }
    new.save(&path).unwrap();
    assert_eq!(Patch::read(&path).unwrap(), new);
    assert!(!temporary.exists());
}

#[test]
fn at_every_moment_of_a_save_there_is_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.vlp");
    let (old, new) = old_and_new();
    old.save(&path).unwrap();
    std::thread::scope(|scope| {
        let saves = scope.spawn(|| {
            for round in 0..40 {
                [&new, &old][round % 2].save(&path).unwrap();
            }
        });
        while !saves.is_finished() {
            let read = Patch::read(&path).unwrap();
            assert!(read == old || read == new);
        }
    });
}
