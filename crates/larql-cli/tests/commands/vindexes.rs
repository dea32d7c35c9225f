//! `extract`, `show`, `list`, `verify` and `convert`.

use predicates::prelude::*;
use serde_json::Value;

use super::*;

/// Extracts the checkpoint of the fixtures to `NAME.vindex` in `folder`.
fn extracted(folder: &Path, name: &str, options: &[&str]) -> PathBuf {
    let output = folder.join(format!("{name}.vindex"));
    let checkpoint = fixture("llama-checkpoint");
    let arguments = ["extract", text(&checkpoint), "-o", text(&output)];
    larql(arguments.into_iter().chain(options.iter().copied()))
        .assert()
        .success()
        .stdout("")
        .stderr(predicate::str::contains(format!("{name}.vindex: level ")));
    output
}

#[test]
fn extract_show_list_and_verify() {
    let folder = tempfile::tempdir().unwrap();
    let vindex = extracted(folder.path(), "small", &["--level", "all"]);

    larql(["show", text(&vindex)]).assert().success().stderr("").stdout(predicate::str::contains(
        "  kind          vindex of level all\n  model         llama-checkpoint\n",
    ));
    let summary: Value =
        serde_json::from_str(&stdout(&larql(["show", "--format", "json", text(&vindex)]).assert().success()))
            .unwrap();
    assert_eq!((summary["layers"].as_u64(), summary["features"].as_u64()), (Some(3), Some(1536)));

    larql(["list", text(folder.path())])
        .assert()
        .success()
        .stdout(predicate::str::is_match("^name  .*\nsmall.vindex  vindex  .*").unwrap());

    let verified = stdout(&larql(["verify", text(&vindex)]).assert().success());
    let (files, verdict) = verified.trim_end().rsplit_once('\n').unwrap();
    let states: Vec<&str> = files.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(states.len() > 5 && states.iter().all(|state| *state == "matches"), "{verified}");
    assert_eq!(verdict, format!("all {} files with a checksum match it", states.len()));
}

#[test]
fn levels_and_storage_are_options() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, level, storage) in [
        ("usual", &[][..], "inference", "f16\n"),
        ("browse", &["--level", "browse", "--f32"], "browse", "f32\n"),
        ("blocks", &["--quant", "q4k"], "inference", "q4k, other tensors "),
        ("as-it-was", &["--keep-formats"], "inference", "the source's blocks, other tensors "),
    ] {
        let vindex = extracted(folder.path(), name, options);
        larql(["show", text(&vindex)]).assert().success().stdout(
            predicate::str::contains(format!("vindex of level {level}\n"))
                .and(predicate::str::contains(format!("  stored as     {storage}"))),
        );
    }
}

#[test]
fn a_changed_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let vindex = copy_of("llama-f16-all.vindex", folder.path());
    larql(["verify", text(&vindex)]).assert().success();

    let weights = vindex.join("up_weights.bin");
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let report = larql(["verify", text(&vindex)]).assert().code(1);
    let changed = |line: &&str| line.ends_with("CHANGED");
    let named: Vec<String> = stdout(&report).lines().filter(changed).map(str::to_owned).collect();
    assert!(matches!(&named[..], [line] if line.starts_with("up_weights.bin ")), "{named:?}");

    std::fs::remove_file(&weights).unwrap();
    larql(["verify", text(&vindex)]).assert().code(1).stdout(predicate::str::contains("MISSING"));
    let report = stdout(&larql(["verify", "--format", "json", text(&vindex)]).assert().code(1));
    assert!(serde_json::from_str::<Value>(&report).unwrap()["files"].is_array());
}

#[test]
fn what_exists_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let vindex = extracted(folder.path(), "once", &["--level", "browse"]);
    let before = std::fs::read(vindex.join("index.json")).unwrap();
    let checkpoint = fixture("llama-checkpoint");
    larql(["extract", text(&checkpoint), "-o", text(&vindex)])
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("once.vindex exists; choose another name, or delete it first"));
    assert_eq!(std::fs::read(vindex.join("index.json")).unwrap(), before);
}

#[test]
fn what_is_not_there_is_named() {
    for command in [&["show"][..], &["verify"], &["run"], &["bench"], &["convert", "gguf-info"]] {
        let arguments = command.iter().copied().chain(["no-such-model"]);
        larql(arguments).assert().code(1).stdout("").stderr(predicate::str::contains("no-such-model"));
    }
}

#[test]
fn a_gguf_file_tells_of_itself() {
    let seed = larql_testing::repository("../../fuzz/seeds/gguf/llama.gguf");
    let info =
        stdout(&larql(["convert", "gguf-info", text(&seed), "--tensors"]).assert().success().stderr(""));
    assert!(info.starts_with("GGUF version 3, "), "{info}");
    assert!(info.contains("general.architecture") && info.contains("token_embd.weight"), "{info}");
    let json = stdout(&larql(["convert", "gguf-info", text(&seed), "--format", "json"]).assert().success());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["metadata"]["general.architecture"], "llama");
    assert_eq!(json["tensors"][0]["name"], "token_embd.weight");
}

#[test]
fn a_vindex_is_stored_in_blocks_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = folder.path().join("blocks.vindex");
    let source = fixture("llama-f16-all.vindex");
    larql(["convert", "quantize", "q4k", text(&source), text(&blocks)])
        .assert()
        .success()
        .stdout("")
        .stderr(predicate::str::contains("tensors lost precision"));
    larql(["show", text(&blocks)]).assert().success().stdout(predicate::str::contains("q4k"));
    larql(["verify", text(&blocks)]).assert().success();
}

#[test]
fn a_model_is_quantised_in_a_mix() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("llama-checkpoint");
    let quantised = |mix: &str, name: &str, options: &[&str]| {
        let target = folder.path().join(name);
        let arguments = ["convert", "quantize", mix, text(&source), text(&target)].map(str::to_owned);
        let run = larql(arguments.iter().map(String::as_str).chain(options.iter().copied())).assert();
        (run, target)
    };
    let formats = |file: &Path| -> Vec<(String, String)> {
        let json =
            stdout(&larql(["convert", "gguf-info", text(file), "--format", "json"]).assert().success());
        let json: Value = serde_json::from_str(&json).unwrap();
        let tensors = json["tensors"].as_array().unwrap().iter();
        let texts =
            tensors.map(|tensor| [&tensor["name"], &tensor["type"]].map(|v| v.as_str().unwrap().to_owned()));
        texts.map(|[name, format]| (name, format)).collect()
    };
    let (run, plain) = quantised("Q4_K_M", "plain.gguf", &[]);
    run.success().stdout("").stderr(predicate::str::contains("of the source's"));
    let plain_formats = formats(&plain);
    let format = |name: &str| plain_formats.iter().find(|(known, _)| known == name).unwrap().1.as_str();
    assert_eq!((format("blk.0.attn_v.weight"), format("blk.2.attn_v.weight")), ("Q4_K", "Q6_K"));
    // The embedding is the head too.
    assert_eq!((format("output_norm.weight"), format("token_embd.weight")), ("F32", "Q6_K"));

    let (run, weighted) = quantised("q4_k_m", "weighted.gguf", &["--imatrix", "--format", "json"]);
    let report: Value = serde_json::from_str(&stdout(&run.success())).unwrap();
    assert_eq!((&report["mix"], &report["by_importance"]), (&"q4_k_m".into(), &true.into()));
    assert!(report["bytes"].as_u64() < report["source_bytes"].as_u64(), "{report}");
    assert_eq!(formats(&weighted), plain_formats);
    assert_ne!(std::fs::read(&weighted).unwrap(), std::fs::read(&plain).unwrap());
    larql(["run", "--raw", "--max-tokens", "1", text(&weighted), "Hi"]).assert().success();

    let (run, vindex) = quantised("q8_0", "small.vindex", &[]);
    run.success();
    larql(["verify", text(&vindex)]).assert().success();
    // What is there is not overwritten, and nothing else is left behind.
    let (run, _) = quantised("q8_0", "plain.gguf", &[]);
    run.failure().stderr(predicate::str::contains("exists; choose another name, or delete it first"));
    let (run, _) = quantised("q4k", "other.gguf", &[]);
    run.failure().stderr(predicate::str::contains("for a GGUF file choose q4_k_m"));
    assert_eq!(names_in(folder.path()), ["plain.gguf", "small.vindex", "weighted.gguf"]);
}

#[test]
fn a_tensor_that_several_matrices_share_has_one_format() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (larql_testing::repository("conformance/phi3"), folder.path().join("phi3.gguf"));
    larql(["convert", "quantize", "q4_k_m", text(&source), text(&target)]).assert().success();
    let info = stdout(&larql(["convert", "gguf-info", text(&target), "--tensors"]).assert().success());
    let fused = info.lines().filter(|line| line.contains("attn_qkv.weight"));
    let formats: Vec<&str> = fused.filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(formats, vec!["Q5_1"; formats.len()]);
    assert!(!formats.is_empty());
}

#[test]
fn models_become_gguf_files() {
    let folder = tempfile::tempdir().unwrap();
    let model = |name: &str| larql_testing::repository("conformance").join(name);
    let target = folder.path().join("llama.gguf");
    let convert =
        |name: &str| larql(["convert", "vindex-to-gguf", text(&model(name)), text(&target)]).assert();
    let neutral = |message: String| message.replace(text(folder.path()), "FOLDER");

    insta::assert_snapshot!(neutral(stderr(&convert("mistral").failure())), @"  × FOLDER/llama.gguf: this container cannot hold the model: its layers.0.attention.window would become null where it is 8");
    assert!(!target.exists());
    insta::assert_snapshot!(neutral(stderr(&convert("llama").success().stdout(""))), @"FOLDER/llama.gguf: 39 tensors, 693.5 kB");
    insta::assert_snapshot!(stdout(&larql(["convert", "gguf-info", text(&target)]).assert().success()), @r#"
    GGUF version 3, 18 metadata entries
      general.architecture                         "llama"
      general.name                                 "llama"
      general.type                                 "model"
      llama.vocab_size                             256
      llama.context_length                         256
      llama.embedding_length                       64
      llama.block_count                            4
      llama.feed_forward_length                    96
      llama.attention.layer_norm_rms_epsilon       0.0001
      llama.attention.head_count                   4
      llama.attention.head_count_kv                4
      llama.attention.key_length                   16
      llama.attention.value_length                 16
      llama.rope.dimension_count                   16
      llama.rope.freq_base                         10000
      general.file_type                            0
      general.quantization_version                 2
      tokenizer.ggml.model                         "no_vocab"
    39 tensors, 690.4 kB
    "#);
    insta::assert_snapshot!(neutral(stderr(&convert("llama").failure())), @"  × FOLDER/llama.gguf: it exists; choose another name, or delete it first");
}

#[test]
fn a_patch_is_compiled_into_a_vindex_and_into_models() {
    let folder = tempfile::tempdir().unwrap();
    let vindex = extracted(folder.path(), "small", &["--level", "all"]);
    let patch = fixture("sample.vlp");
    let compile = |name: &str, options: &[&str]| {
        let output = folder.path().join(name);
        let arguments = ["compile", text(&vindex), "--patch", text(&patch), "-o", text(&output)];
        (larql(arguments.into_iter().chain(options.iter().copied())), output)
    };
    let (mut lowered, _) = compile("lowered.vindex", &[]);
    let table =
        predicate::str::contains("1 edge of the lookup entries became features:\n  Japan [currency] → yen");
    lowered.assert().success().stdout(table);
    let (mut compiled, output) = compile("edited.vindex", &["--snapshot"]);
    compiled.assert().success().stdout(predicate::str::contains("5 tensors written, 3 features changed"));
    larql(["verify", text(&output)]).assert().success();
    larql(["verify", text(&vindex)]).assert().success();
    larql(["lql", "--use", text(&output), "DESCRIBE 'Japan' ALL LAYERS LIMIT 1"])
        .assert()
        .success()
        .stdout(predicate::str::contains("currency  yen"));
}

#[test]
fn every_kind_of_model_is_shown_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (vindex, gguf) = (fixture("llama-f16-all.vindex"), folder.path().join("model"));
    larql(["compile", text(&vindex), "-o", text(&gguf), "--to", "gguf"]).assert().success();
    copy_of("llama-checkpoint", folder.path());
    copy_of("llama-f16-all.vindex", folder.path());
    std::fs::write(folder.path().join("notes.txt"), "no model").unwrap();
    for (name, kind) in [
        ("model", "GGUF model"),
        ("llama-checkpoint", "safetensors model"),
        ("llama-f16-all.vindex", "vindex of level all"),
    ] {
        let shown = stdout(&larql(["show", text(&folder.path().join(name))]).assert().success().stderr(""));
        for line in
            [format!("  kind          {kind}\n"), "  context       ".into(), "  chat template no\n".into()]
        {
            assert!(shown.contains(&line), "{line} in {shown}");
        }
        assert!(shown.lines().all(|line| line.chars().count() <= 80 || line.starts_with('/')), "{shown}");
    }
    let listed = stdout(&larql(["list", text(folder.path())]).assert().success().stderr(""));
    let kinds: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let expected = [
        ["name", "kind"],
        ["llama-checkpoint", "safetensors"],
        ["llama-f16-all.vindex", "vindex"],
        ["model", "GGUF"],
    ];
    assert_eq!(kinds, expected, "{listed}");

    larql(["verify", text(&gguf)]).assert().code(1).stderr(predicate::str::contains("larql extract"));
}

#[test]
fn a_patch_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (vindex, patch) = (fixture("llama-f16-all.vindex"), folder.path().join("edits.vlp"));
    let insert =
        "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Poseidon') MODE KNN;";
    larql(["lql", "--use", text(&vindex), "--save", text(&patch), insert]).assert().success();
    larql(["show", text(&patch)]).assert().success().stdout(
        predicate::str::contains("  kind          patch\n")
            .and(predicate::str::contains("Atlantis [capital] → Poseidon")),
    );
}

#[test]
fn the_tokens_of_a_text_are_shown() {
    let model = fixture("llama-checkpoint");
    let arguments = ["tokenize", text(&model), "--no-special", "Hi you"].map(str::to_owned);
    let shown = stdout(&larql(arguments.iter().map(String::as_str)).assert().success().stderr(""));
    let texts: String = shown.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(texts, "Hi␣you", "{shown}");
    let piped = ["tokenize", &arguments[1], "--no-special", "--format", "json"];
    let tokens: Value =
        serde_json::from_str(&stdout(&larql(piped).write_stdin("Hi you\n").assert().success())).unwrap();
    assert_eq!(tokens.as_array().unwrap().len(), shown.lines().count());
}
