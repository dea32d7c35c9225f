//! USE and STATS, what is refused before anything is open, and the statements that this version lacks.

use insta::assert_snapshot;

use super::*;

#[test]
fn a_vindex_says_what_it_is() {
    let mut session = session();
    let output = run(&mut session, &format!("USE '{}'", fixture(ALL))).unwrap();
    assert_snapshot!(shown(&output), @"
    Using fixtures/llama-f16-all.vindex (llama, level all)
    3 layers, 1,536 features, 0 relation types
    ");
    assert_snapshot!(shown(&run(&mut session, "STATS").unwrap()), @"
    fixtures/llama-f16-all.vindex
      model       llama
      family      llama
      level       all
      dtype       f16
      quant       none
      layers      3
      hidden_size 256
      vocab_size  320
      features    1,536
      bytes       3.9 MB
     file                       bytes
    ──────────────────────────────────
     attn_weights.bin          1.2 MB
     down_meta.bin           135.2 kB
     down_weights.bin        786.4 kB
     embeddings.bin          163.8 kB
     gate_vectors.bin        786.4 kB
     generation_config.json     216 B
     index.json                1.7 kB
     norms.bin                 3.6 kB
     tokenizer.json            9.6 kB
     tokenizer_config.json      199 B
     up_weights.bin          786.4 kB
     weight_manifest.json      4.7 kB
    ");
}

#[test]
fn blocks_say_what_they_are() {
    assert_snapshot!(shown(&ask(BLOCKS, "STATS")), @"
    fixtures/llama-q4k.vindex
      model       llama
      family      llama
      level       inference
      dtype       f16
      quant       q4k
      layers      3
      hidden_size 256
      vocab_size  320
      features    1,536
      bytes       2.2 MB
     file                               bytes
    ──────────────────────────────────────────
     attn_weights_q4k.bin            357.1 kB
     attn_weights_q4k_manifest.json    1.9 kB
     down_meta.bin                   135.2 kB
     embeddings.bin                  163.8 kB
     gate_vectors.bin                786.4 kB
     generation_config.json             216 B
     index.json                        1.4 kB
     interleaved_q4k.bin             764.9 kB
     interleaved_q4k_manifest.json     1.4 kB
     norms.bin                         7.2 kB
     tokenizer.json                    9.6 kB
     tokenizer_config.json              199 B
     weight_manifest.json              1.2 kB
    ");
}

#[test]
fn a_checkpoint_is_opened_live() {
    let mut session = session();
    let output = run(&mut session, &format!("USE MODEL '{}'", fixture(CHECKPOINT))).unwrap();
    // The word MODEL may be left out.
    assert_eq!(run(&mut session, &format!("USE '{}'", fixture(CHECKPOINT))).unwrap(), output);
    assert_snapshot!(shown(&output), @"
    Using fixtures/llama-checkpoint (llama-checkpoint, checkpoint)
    3 layers, 1,536 features, 0 relation types
    ");
    assert_snapshot!(shown(&run(&mut session, "STATS").unwrap()), @"
    fixtures/llama-checkpoint
      model       llama-checkpoint
      family      llama
      layers      3
      hidden_size 256
      vocab_size  320
      features    1,536
      bytes       3.7 MB
     file                     bytes
    ────────────────────────────────
     config.json              731 B
     generation_config.json   216 B
     model.safetensors       3.7 MB
     tokenizer.json          9.6 kB
     tokenizer_config.json    199 B
    ");
    assert!(matches!(run(&mut session, "INFER 'The' TOP 1"), Ok(Output::Infer(_))));
    // It is asked in words, and has no features to look up.
    assert!(matches!(run(&mut session, "DESCRIBE 'x'"), Ok(Output::Describe(_))));
    for statement in ["WALK 'x'", "DESCRIBE 'x' AT LAYER 1", "SHOW LAYERS", "EXPLAIN INFER 'x'"] {
        let error = run(&mut session, statement).unwrap_err();
        assert!(matches!(error, ExecuteError::NeedsVindex { .. }), "{statement}: {error}");
    }
}

#[test]
fn stats_of_another_vindex_leave_the_open_one() {
    let mut session = open(ALL);
    let statement = format!("STATS '{}'", fixture(BROWSE));
    let Output::Stats(stats) = run(&mut session, &statement).unwrap() else { panic!() };
    assert_eq!(stats.path, fixture(BROWSE));
    let Output::Stats(stats) = run(&mut session, "STATS").unwrap() else { panic!() };
    assert_eq!(stats.path, fixture(ALL));
}

#[test]
fn nothing_is_there() {
    assert_snapshot!(refused(&mut session(), "USE 'no-such.vindex'"), @"
     × there is no file or model named no-such.vindex
      ╭─[lql:1:5]
    1 │ USE 'no-such.vindex'
      ·     ────────┬───────
      ·             ╰── not found
      ╰────
     help: give the path of a vindex, a GGUF file or a checkpoint directory, or a name that `larql
           list` or SHOW MODELS; shows
    ");
}

#[test]
fn a_truncated_vindex_is_refused_and_the_open_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let truncated = folder.path().join("truncated.vindex");
    copy(BROWSE, &truncated);
    let gates = std::fs::OpenOptions::new().write(true).open(truncated.join("gate_vectors.bin")).unwrap();
    gates.set_len(1000).unwrap();
    let mut session = open(ALL);
    let error = run(&mut session, &format!("USE '{}'", truncated.display())).unwrap_err();
    assert!(matches!(error, ExecuteError::Vindex(_)), "{error}");
    assert!(error.to_string().contains("gate_vectors.bin"), "{error}");
    let Output::Stats(stats) = run(&mut session, "STATS").unwrap() else { panic!() };
    assert_eq!(stats.path, fixture(ALL));
}

#[test]
fn models_are_known_by_name_in_the_library() {
    let mut session = Session::new(catalog(Library::new(larql_testing::repository("fixtures"))));
    let Output::Models(models) = run(&mut session, "SHOW MODELS").unwrap() else { panic!() };
    let names: Vec<&str> = models.rows.iter().map(|row| &*row.name).collect();
    assert_eq!(names, ["atlas", "gemma3-f16-all", "llama-f16-all", "llama-f32-browse", "llama-q4k"]);
    // The bundled model would be put there.
    for name in &names[1..] {
        assert!(matches!(run(&mut session, &format!("USE '{name}'")), Ok(Output::Use(_))), "{name}");
    }
    // A name is no path: nothing outside the library is found by one.
    assert!(run(&mut session, "USE '../fixtures/llama-q4k'").is_err());
}

#[test]
fn without_a_library_there_are_no_models() {
    assert_snapshot!(shown(&run(&mut session(), "SHOW MODELS").unwrap()), @"(no models in the cache; EXTRACT MODEL makes a vindex of a checkpoint or GGUF file)");
}

#[test]
fn most_statements_need_something_open() {
    for statement in [
        "STATS",
        "SHOW LAYERS",
        "WALK 'x'",
        "DESCRIBE 'x'",
        "SELECT * FROM EDGES",
        "INFER 'x'",
        "EXPLAIN WALK 'x'",
    ] {
        let error = run(&mut session(), statement).unwrap_err();
        assert!(matches!(error, ExecuteError::NothingOpen), "{statement}: {error}");
    }
    assert_snapshot!(refused(&mut session(), "DESCRIBE 'France'"), @r#"
    × no vindex is open
    help: open one first, for instance: USE "model.vindex";
    "#);
}

#[test]
fn a_session_carries_out_nothing_on_a_server() {
    let error = run(&mut open(BROWSE), "USE REMOTE 'http://localhost:8080'").unwrap_err();
    assert!(
        matches!(&error, ExecuteError::NotAvailable { statement: "USE REMOTE" }),
        "a prompt hands it to another engine: {error}"
    );
}
