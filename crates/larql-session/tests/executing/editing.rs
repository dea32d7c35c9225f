//! Edits: patches, DELETE, UPDATE, MERGE, DIFF and COMPILE.

use insta::assert_snapshot;
use larql_core::progress::NoProgress;
use larql_lql::output::{Changed, Compiled, Differences};
use larql_models::Checkpoint;
use larql_vindex::{EditedFeature, ExtractOptions, FeatureStore, extract};
use larql_vindex_spec::ExtractLevel;
use tempfile::TempDir;

use super::*;

/// A session with the sample patch applied.
fn patched() -> Session {
    let mut session = open(ALL);
    run(&mut session, &format!("APPLY PATCH '{}'", fixture("sample.vlp"))).unwrap();
    session
}

fn folder() -> (TempDir, impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, move |name| path.join(name).display().to_string())
}

fn changed(session: &mut Session, text: &str) -> Changed {
    match run(session, text).unwrap() {
        Output::Changed(changed) => changed,
        other => panic!("{text} answers {other:?}"),
    }
}

/// Name, operations, whether it is open and saved, of each patch.
fn patches(session: &mut Session) -> Vec<(String, usize, bool, bool)> {
    match run(session, "SHOW PATCHES").unwrap() {
        Output::Patches(patches) => {
            patches.rows.into_iter().map(|row| (row.patch, row.operations, row.open, row.saved)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Number of patches that STATS counts.
fn stats_patches(session: &mut Session) -> usize {
    match run(session, "STATS").unwrap() {
        Output::Stats(stats) => stats.patches.len(),
        other => panic!("{other:?}"),
    }
}

/// The answers to questions of all kinds, as one text.
fn answers(session: &mut Session) -> String {
    let questions = "INFER 'The capital of' TOP 5; DESCRIBE 'Atlantis'; DESCRIBE 'a'; WALK 'a' TOP 3; SHOW RELATIONS; \
                     SELECT * FROM FEATURES WHERE layer = 1 LIMIT 1000; SHOW LAYERS; EXPLAIN INFER 'a' TOP 3;";
    let mut outputs = run_all(session, questions).unwrap();
    for output in &mut outputs {
        if let Output::Infer(inferred) = output {
            inferred.runs.iter_mut().for_each(|run| run.latency_ms = 0.0);
        }
    }
    outputs.iter().map(|output| render(output, Format::Json, &RenderOptions::default())).collect()
}

#[test]
fn a_patch_is_seen_everywhere_and_leaves_no_trace() {
    let mut session = open(ALL);
    let before = answers(&mut session);
    let apply = format!("APPLY PATCH '{}'", fixture("sample.vlp"));
    assert_snapshot!(shown(&run(&mut session, &apply).unwrap()), @"Applied patch fixtures/sample.vlp (4 operations)");
    let during = answers(&mut session);
    assert_ne!(before, during);
    assert_snapshot!(shown(&run(&mut session, "DESCRIBE 'atlantis' ALL LAYERS LIMIT 1").unwrap()), @"
    atlantis
      Edges (L0-2)
       relation  target    layers  features  source
      ────────────────────────────────────────────────
       capital   Poseidon  L1             1  inserted
      189 features fire too, without a known relation; VERBOSE shows them
    ");
    assert_snapshot!(shown(&run(&mut session, "SELECT relation, target, layer, source, via FROM EDGES WHERE entity = 'Japan' AND relation = 'currency'").unwrap()), @"
     relation  target  layer  source    via
    ──────────────────────────────────────────
     currency  yen         1  inserted  patch
    ");
    assert_eq!(patches(&mut session), [(fixture("sample.vlp"), 4, false, true)]);
    assert_snapshot!(shown(&run(&mut session, "REMOVE PATCH 'sample.vlp'").unwrap()), @"Removed patch sample.vlp (4 operations)");
    assert_eq!(answers(&mut session), before);
}

#[test]
fn edits_go_into_the_open_patch_or_an_automatic_one() {
    let (_folder, path) = folder();
    let mut session = open(ALL);
    assert_snapshot!(refused(&mut session, "SAVE PATCH"), @r#"
    × no patch is open, so there is nothing to save
    help: an edit opens one by itself, and so does: BEGIN PATCH "facts.vlp";
    "#);
    let output = run(&mut session, "DELETE FROM FEATURES WHERE layer = 1 AND feature = 3").unwrap();
    assert_snapshot!(shown(&output), @r#"
    Deleted 1 feature in patch automatic
    Not saved yet. Keep it: SAVE PATCH "edits.vlp";  Undo it: UNDO;
    "#);
    assert_snapshot!(refused(&mut session, "SAVE PATCH"), @r#"
    × the open patch has no file yet
    help: say where it is to go: SAVE PATCH "edits.vlp";
    "#);
    assert_snapshot!(refused(&mut session, "BEGIN PATCH 'more.vlp'"), @r#"
     × patch automatic has edits that are in no file
      ╭─[lql:1:13]
    1 │ BEGIN PATCH 'more.vlp'
      ·             ─────┬────
      ·                  ╰── would leave them behind
      ╰────
     help: keep them first: SAVE PATCH "edits.vlp"; or take them back: REMOVE PATCH "automatic";
    "#);
    run(&mut session, &format!("SAVE PATCH '{}'", path("edits.vlp"))).unwrap();
    assert!(changed(&mut session, "DELETE FROM FEATURES WHERE layer = 1 AND feature = 4").patch.is_some());
    run(&mut session, "SAVE PATCH").unwrap();
    run(&mut session, &format!("BEGIN PATCH '{}'", path("more.vlp"))).unwrap();
    let change = changed(
        &mut session,
        "UPDATE FEATURES SET relation = 'river', confidence = 0.5 WHERE layer = 2 AND feature = 9",
    );
    assert_eq!((change.count, change.patch, change.automatic), (1, Some(path("more.vlp")), false));
    let expected = [(path("edits.vlp"), 2, false, true), (path("more.vlp"), 1, true, false)];
    assert_eq!(patches(&mut session), expected);
    assert_eq!(stats_patches(&mut session), 2);

    // What was saved is what was seen.
    let seen = answers(&mut session);
    run(&mut session, "SAVE PATCH").unwrap();
    let mut other = open(ALL);
    run(&mut other, &format!("APPLY PATCH '{}'; APPLY PATCH '{}'", path("edits.vlp"), path("more.vlp")))
        .unwrap();
    assert_eq!(answers(&mut other), seen);
    let again = refused(&mut other, &format!("APPLY PATCH '{}'", path("edits.vlp")));
    assert!(again.contains("lies over the vindex already"), "{again}");
    let exists = refused(&mut open(ALL), &format!("BEGIN PATCH '{}'", path("edits.vlp")));
    assert!(exists.contains("exists, and a new patch would replace it"), "{exists}");
    assert_snapshot!(refused(&mut other, "APPLY PATCH 'none.vlp'"), @"
     × there is no patch file none.vlp
      ╭─[lql:1:13]
    1 │ APPLY PATCH 'none.vlp'
      ·             ─────┬────
      ·                  ╰── does not exist
      ╰────
     help: give the path of a file that SAVE PATCH wrote, from the folder in which LARQL runs
    ");
    assert!(
        refused(&mut other, "REMOVE PATCH 'none.vlp'").contains("no patch none.vlp lies over the vindex")
    );
}

#[test]
fn raw_features_are_named_by_layer_and_number() {
    let mut session = open(ALL);
    let delete = "DELETE FROM FEATURES WHERE layer IN (1, 2) AND feature IN (3, 4)";
    let deleted = changed(&mut session, delete);
    assert_eq!((deleted.count, deleted.features), (4, true));
    let undone = run(&mut session, "UNDO").unwrap();
    assert_snapshot!(shown(&undone), @"Took back the last edit of patch automatic (4 operations)");
    assert_eq!(patches(&mut session), [], "no empty patch is left");
    assert!(refused(&mut session, "UNDO").contains("no edit of this session to undo"));
    for (statement, expected) in [
        ("DELETE FROM FEATURES WHERE layer = 1", "needs the layer and the feature"),
        ("UPDATE FEATURES SET label = 'x' WHERE entity = 'a'", "needs the layer and the feature"),
        ("DELETE FROM FEATURES WHERE layer = 9 AND feature = 1", "layer 9 does not exist"),
        ("DELETE FROM FEATURES WHERE layer = 1 AND feature = 9999", "feature 9999 does not exist"),
        ("DELETE FROM EDGES WHERE layer = 1 AND feature = 3", "DELETE FROM FEATURES WHERE layer"),
    ] {
        let said = refused(&mut session, statement);
        assert!(said.contains(expected), "{statement}: {said}");
    }
}

#[test]
fn what_a_patch_states_is_updated_and_deleted() {
    let mut session = patched();
    let update = "UPDATE EDGES SET target = 'the', confidence = 0.4 WHERE entity = 'Atlantis' AND relation = 'capital'";
    assert_eq!(changed(&mut session, update).count, 1);
    let select = "SELECT relation, target, confidence FROM EDGES WHERE entity = 'Atlantis' AND via = 'patch'";
    assert_snapshot!(shown(&run(&mut session, select).unwrap()), @"
     relation  target  confidence
    ──────────────────────────────
     capital   the         0.4000
    ");
    let update = "UPDATE EDGES SET target = 'sen' WHERE entity = 'Japan' AND relation = 'currency'";
    assert_eq!(changed(&mut session, update).count, 1);
    let select = "SELECT target FROM EDGES WHERE entity = 'Japan' AND via = 'patch'";
    assert_snapshot!(shown(&run(&mut session, select).unwrap()), @"
     target
    ────────
     sen
    ");
    assert_eq!(changed(&mut session, "DELETE FROM EDGES WHERE relation = 'currency'").count, 1);
    let again = refused(&mut session, "DELETE FROM EDGES WHERE relation = 'currency'");
    assert!(again.contains("no inserted edge matches"), "{again}");
    assert_eq!(
        changed(&mut session, "DELETE FROM EDGES WHERE entity = 'Atlantis' AND via = 'patch'").count,
        1
    );
    assert_snapshot!(refused(&mut open(BROWSE), "DELETE FROM EDGES WHERE relation = 'capital'"), @r#"
     × no inserted edge matches, and DELETE changes what the model itself knows for named entities
     │ only
      ╭─[lql:1:25]
    1 │ DELETE FROM EDGES WHERE relation = 'capital'
      ·                         ────┬───
      ·                             ╰── names no entity
      ╰────
     help: add entity = "France", or name features: DELETE FROM FEATURES WHERE layer = 24 AND feature
           = 103;
    "#);
    assert_snapshot!(refused(&mut session, "UPDATE EDGES SET layer = 3 WHERE entity = 'a'"), @"
     × layer takes no value: it is what the model computes
      ╭─[lql:1:18]
    1 │ UPDATE EDGES SET layer = 3 WHERE entity = 'a'
      ·                  ──┬──
      ·                    ╰── set here
      ╰────
     help: entity, relation, target and confidence of edges can be set
    ");
    assert_snapshot!(refused(&mut session, "UPDATE EDGES SET confidence = 3 WHERE entity = 'a'"), @"
     × confidence takes a number from 0 to 1
      ╭─[lql:1:18]
    1 │ UPDATE EDGES SET confidence = 3 WHERE entity = 'a'
      ·                  ─────┬────
      ·                       ╰── set here
      ╰────
     help: entity, relation, target and confidence of edges can be set
    ");
}

#[test]
fn a_patch_that_does_not_fit_is_refused() {
    let (_folder, path) = folder();
    let text = std::fs::read_to_string(fixture("sample.vlp")).unwrap();
    let other = text.replace("\"base_checksum\": null", "\"base_checksum\": \"12ab\"");
    std::fs::write(path("other.vlp"), other).unwrap();
    let apply = format!("APPLY PATCH '{}'", path("other.vlp"));
    let said = refused(&mut open(ALL), &apply).replace(&path(""), "");
    assert!(said.contains("other.vlp does not fit") && said.contains("12ab"), "{said}");
    std::fs::write(path("broken.vlp"), "{").unwrap();
    let apply = format!("APPLY PATCH '{}'", path("broken.vlp"));
    assert!(refused(&mut open(ALL), &apply).contains("broken.vlp: content: expected JSON"));
}

fn differences(session: &mut Session, text: &str) -> Differences {
    match run(session, text).unwrap() {
        Output::Diff(differences) => differences,
        other => panic!("{text} answers {other:?}"),
    }
}

#[test]
fn differences_are_shown_and_become_a_patch() {
    let (_folder, path) = folder();
    let mut session = patched();
    let text = format!("DIFF '{}' CURRENT INTO PATCH '{}'", fixture(ALL), path("diff.vlp"));
    let found = differences(&mut session, &text);
    assert_eq!(found.count, 4);
    assert_snapshot!(shown(&Output::Diff(found)).replace(&path(""), ""), @"
     layer  feature  entity  relation  before  after  gate_cosine  parts
    ─────────────────────────────────────────────────────────────────────────────────────────────
         0        3                    H                     0.00  gate, down, tokens
         1      498          capital   Ger     Pos           0.06  gate, up, down, tokens, label
         2        5                    e                     1.00  tokens
         1           Japan   currency          yen                 key, target
    Wrote patch diff.vlp
    ");
    let mut other = open(ALL);
    run(&mut other, &format!("APPLY PATCH '{}'", path("diff.vlp"))).unwrap();
    let again = differences(&mut other, &format!("DIFF '{}' CURRENT", fixture(ALL)));
    assert_eq!(again.rows.len(), 4);
    assert_eq!(again.rows, differences(&mut session, &format!("DIFF '{}' CURRENT", fixture(ALL))).rows);
    let one = differences(&mut session, &format!("DIFF '{}' CURRENT RELATION 'capital'", fixture(ALL)));
    assert_eq!((one.count, one.rows[0].feature), (1, Some(498)));
    assert_eq!(
        differences(&mut session, &format!("DIFF '{}' CURRENT LAYER 0 LIMIT 9", fixture(ALL))).count,
        1
    );
    assert_eq!(differences(&mut session, &format!("DIFF '{0}' '{0}'", fixture(ALL))).count, 0);
    let checkpoint = larql_testing::repository("conformance/llama").display().to_string();
    run(&mut session, &format!("EXTRACT MODEL '{checkpoint}' INTO '{}'", path("small.vindex"))).unwrap();
    let said = refused(&mut session, &format!("DIFF '{}' CURRENT", path("small.vindex")));
    assert!(said.contains("have not the same layers, features, width and vocabulary"), "{said}");
}

#[test]
fn weights_that_no_patch_can_hold_are_named() {
    let (_folder, path) = folder();
    let checkpoint = Checkpoint::open(&larql_testing::repository("conformance/llama")).unwrap();
    let adapter = larql_testing::repository("adapters/lora-llama");
    let options = ExtractOptions { level: ExtractLevel::All, ..ExtractOptions::default() };
    extract(&checkpoint, Path::new(&path("base.vindex")), &options, &NoProgress).unwrap();
    let merged = checkpoint.with_adapter(&adapter).unwrap();
    extract(&merged, Path::new(&path("merged.vindex")), &options, &NoProgress).unwrap();
    let mut session = open(ALL);
    let text = format!("DIFF '{}' '{}'", path("base.vindex"), path("merged.vindex"));
    let found = differences(&mut session, &format!("{text} LIMIT 1"));
    assert!(found.count > 0);
    let shown = shown(&Output::Diff(found.clone()));
    let others: Vec<&str> = shown.lines().skip_while(|line| !line.starts_with("Other weights")).collect();
    assert_snapshot!(others.join("\n"), @"
    Other weights differ too; no patch can hold them:
      self_attn.q_proj.weight in L0-1, by up to 21.73%
      self_attn.v_proj.weight in L0-1, by up to 31.87%
    ");
    let of_layer = differences(&mut session, &format!("{text} LAYER 1")).other_weights;
    assert!(of_layer.iter().all(|weight| weight.layers == [1]), "{of_layer:?}");
    assert_eq!(of_layer.len(), found.other_weights.len());
}

#[test]
fn another_vindex_or_patch_is_merged() {
    let (_folder, path) = folder();
    let mut session = patched();
    let compile = format!("COMPILE CURRENT INTO VINDEX '{}' SNAPSHOT", path("other.vindex"));
    run(&mut session, &compile).unwrap();
    let mut fresh = open(ALL);
    assert_eq!(changed(&mut fresh, &format!("MERGE '{}'", path("other.vindex"))).count, 4);
    let relation = "SELECT relation, target FROM EDGES WHERE layer = 1 AND relation = 'capital'";
    assert!(shown(&run(&mut fresh, relation).unwrap()).contains("capital"));

    // What is there is more sure than what comes.
    run(
        &mut fresh,
        "UPDATE FEATURES SET relation = 'river', confidence = 1 WHERE layer = 1 AND feature = 498",
    )
    .unwrap();
    let merge = format!("MERGE '{}'", fixture("sample.vlp"));
    assert_eq!(changed(&mut fresh, &merge).count, 0);
    assert_eq!(changed(&mut fresh, &format!("{merge} ON CONFLICT KEEP_TARGET")).count, 0);
    assert_eq!(changed(&mut fresh, &format!("{merge} ON CONFLICT KEEP_SOURCE")).count, 4);

    let into = format!("{merge} INTO '{}'", path("all.vlp"));
    assert_eq!(changed(&mut fresh, &into).count, 4);
    assert_eq!(changed(&mut fresh, &into).count, 0);
    let said = refused(&mut fresh, &format!("{merge} INTO '{}'", fixture(ALL)));
    assert!(said.contains("not a .vlp file"), "{said}");
}

#[test]
fn rounding_of_a_compiled_layer_is_no_difference() {
    let (_folder, path) = folder();
    let mut session = open(BLOCKS);
    run(&mut session, "DELETE FROM FEATURES WHERE layer = 0 AND feature = 3").unwrap();
    run(&mut session, &format!("COMPILE CURRENT INTO VINDEX '{}'", path("compiled.vindex"))).unwrap();
    let found =
        differences(&mut session, &format!("DIFF '{}' '{}'", fixture(BLOCKS), path("compiled.vindex")));
    assert_eq!((found.count, found.rows[0].layer, found.rows[0].feature), (1, 0, Some(3)));
    let mut fresh = open(BLOCKS);
    let merged = changed(&mut fresh, &format!("MERGE '{}'", path("compiled.vindex")));
    assert_eq!((merged.count, merged.features), (1, true));
}

fn compiled(session: &mut Session, text: &str) -> Compiled {
    match run(session, text).unwrap() {
        Output::Compile(compiled) => compiled,
        other => panic!("{text} answers {other:?}"),
    }
}

#[test]
fn what_is_compiled_answers_as_what_was_open() {
    let (_folder, path) = folder();
    let mut session = patched();
    let into = format!("COMPILE CURRENT INTO VINDEX '{}'", path("compiled.vindex"));
    let report = compiled(&mut session, &format!("{into} SNAPSHOT"));
    assert_eq!((report.features, report.entries, report.grown < 10_000), (3, 1, true));
    let fixed =
        Compiled { path: "compiled.vindex".into(), bytes: 3_900_000, grown: -12, seconds: 0.25, ..report };
    assert_snapshot!(shown(&Output::Compile(fixed)), @"
    Compiled into compiled.vindex
    5 tensors written, 3 features changed, 7 files kept as they are, 1 edge kept as lookup entries
    3.9 MB (12 B smaller than the source) in 250.0 ms
    ");
    let rank = |session: &mut Session| match run(session, "INFER 'The capital of' TOP 5").unwrap() {
        Output::Infer(inferred) => {
            inferred.runs[0].predictions.iter().map(|p| p.token_id).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let wanted = rank(&mut session);
    session.open_path(path("compiled.vindex").as_ref()).unwrap();
    assert_eq!(rank(&mut session), wanted);
    assert!(refused(&mut session, &format!("{into} SNAPSHOT")).contains("exists"));

    run(&mut session, "DELETE FROM EDGES WHERE relation = 'currency'").unwrap();
    let model = format!("COMPILE CURRENT INTO MODEL '{}'", path("model"));
    let report = compiled(&mut session, &model);
    assert!(report.tensors > 20);
    session.open_path(path("model").as_ref()).unwrap();
    assert_eq!(rank(&mut session), wanted);
    let of_path = format!("COMPILE '{}' INTO MODEL '{}' FORMAT GGUF", fixture(ALL), path("model.gguf"));
    assert!(compiled(&mut open(ALL), &of_path).bytes > 1_000_000);
    let said = refused(&mut open(BROWSE), &format!("COMPILE CURRENT INTO MODEL '{}'", path("b")));
    assert!(said.contains("a model to write is not in"), "{said}");
}

#[test]
fn vectors_of_a_feature_are_replaced_in_the_open_patch() {
    let mut session = open(ALL);
    let before = answers(&mut session);
    let hidden = session.view().unwrap().overlay().hidden_size();
    let gate: Vec<f32> = (0..hidden).map(|place| place as f32).collect();
    let parts = || EditedFeature { gate: Some(gate.clone().into()), ..EditedFeature::default() };
    let edited = session.edit_feature((1, 7), parts(), None).unwrap();
    assert!(
        matches!(&edited, Output::Changed(changed) if changed.count == 1 && changed.features),
        "{edited:?}"
    );
    session.edit_feature((1, 7), EditedFeature::default(), Some(("a", 3.5))).unwrap();
    let view = session.view().unwrap().clone();
    let mut row = vec![0.0; hidden];
    view.overlay().gate_row(1, 7, &mut row);
    assert_eq!(row, gate, "the later edit leaves the gate row");
    let tokens: Vec<_> = view.overlay().top_tokens(1, 7).collect();
    assert_eq!((tokens.len(), tokens[0].score), (1, 3.5));
    assert_eq!(patches(&mut session), [("automatic".to_owned(), 2, true, false)]);

    let error = session.edit_feature((1, 7), EditedFeature::default(), Some((" ", 1.0))).unwrap_err();
    assert!(error.to_string().contains("no token"), "{error}");
    let short = EditedFeature { down: Some(vec![1.0; 3].into()), ..EditedFeature::default() };
    let error = session.edit_feature((1, 7), short, None).unwrap_err();
    assert!(error.to_string().contains("down vector: expected 256 values, found 3 values"), "{error}");
    run_all(&mut session, "UNDO; UNDO").unwrap();
    assert_eq!(answers(&mut session), before);
}

#[test]
fn the_free_feature_is_one_that_no_edit_has() {
    let mut session = open(ALL);
    let first = session.free_feature(1).unwrap();
    session.edit_feature((1, first), EditedFeature::default(), Some(("a", 1.0))).unwrap();
    let second = session.free_feature(1).unwrap();
    assert_ne!(first, second);
    run(&mut session, "UNDO").unwrap();
    assert_eq!(session.free_feature(1).unwrap(), first);
    assert!(session.free_feature(99).unwrap_err().to_string().contains("layer 99"));
}
