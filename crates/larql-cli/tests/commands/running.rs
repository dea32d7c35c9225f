//! `run` and `chat`.

use predicates::prelude::*;

use super::*;

#[test]
fn text_and_nothing_else_goes_to_standard_output() {
    let generate = |model: &str| {
        let model = fixture(model);
        let arguments = ["run", text(&model), "The capital of France is", "-n", "8", "--precision", "exact"];
        stdout(&larql(arguments).assert().success().stderr(""))
    };
    let text = generate("llama-checkpoint");
    assert!(text.ends_with('\n'));
    assert_eq!(generate("llama-f16-all.vindex"), text);
}

#[test]
fn a_seed_makes_a_choice_repeatable() {
    let model = fixture("llama-q4k.vindex");
    let generate = |seed: &str| {
        let options = ["-n", "12", "--temperature", "1.5", "--seed", seed];
        stdout(&larql(["run", text(&model), "The"].into_iter().chain(options)).assert().success())
    };
    assert_eq!(generate("1"), generate("1"));
    assert_ne!(generate("1"), generate("2"));
}

#[test]
fn a_model_without_a_chat_template_does_not_chat() {
    let model = fixture("llama-f16-all.vindex");
    let arguments = ["chat", text(&model)];
    larql(arguments)
        .write_stdin("Hello\n")
        .assert()
        .code(1)
        .stdout("")
        .stderr(predicate::str::contains("template"));
}

#[test]
fn browsing_does_not_predict() {
    let model = fixture("llama-f32-browse.vindex");
    let arguments = ["run", text(&model), "The"];
    larql(arguments).assert().code(1).stdout("").stderr(predicate::str::contains("level"));
}

/// The bundled model in `folder`, with a template that gives the last message.
fn talking(folder: &Path) -> PathBuf {
    let model = folder.join("talking");
    std::fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(larql_testing::shipped("atlas").join(name), model.join(name)).unwrap();
    }
    let template =
        r#"{"chat_template": "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}"}"#;
    std::fs::write(model.join("tokenizer_config.json"), template).unwrap();
    model
}

#[test]
fn a_template_makes_an_answer_of_a_prompt_and_raw_completes_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = talking(folder.path());
    let said = |arguments: &[&str]| {
        let all = ["run", text(&model), "-n", "2", "--temperature", "0", "--precision", "exact"];
        stdout(&larql(all.into_iter().chain(arguments.iter().copied())).assert().success().stderr(""))
    };
    let question = "The capital of France is";
    assert_eq!(said(&[question]), " Paris.\n");
    // The prompt has another beginning, so that the system's message is in it.
    assert_eq!(said(&["of France is", "--system", "The capital "]), " Paris.\n");
    assert_eq!(said(&["--raw", question]), " Paris.\n");
    let json = said(&["--format", "json", question]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["text"], &report["reason"]), (&" Paris.".into(), &"max_tokens".into()));

    let completes = fixture("llama-checkpoint");
    let arguments = ["run", text(&completes), "Hello", "--system", "Be brief."];
    larql(arguments).assert().code(1).stdout("").stderr(predicate::str::contains("no chat template"));
}

#[test]
fn standard_input_is_part_of_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let model = talking(folder.path());
    let run = |arguments: &[&'static str], input: &'static str| {
        let all = ["run", text(&model), "-n", "2", "--temperature", "0", "--precision", "exact", "--raw"];
        larql(all.into_iter().chain(arguments.iter().copied())).write_stdin(input).assert()
    };
    assert_eq!(stdout(&run(&[], "The capital of France is\n").success()), " Paris.\n");
    let both = stdout(&run(&["Facts."], "The capital of France is").success());
    let whole = stdout(&run(&["Facts.\n\nThe capital of France is"], "").success());
    assert_eq!(both, whole);
    run(&[], "\n").code(1).stderr(predicate::str::contains("no prompt"));
}

#[test]
fn a_text_that_ends_early_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let model = talking(folder.path());
    let run = |arguments: &[&'static str]| {
        let all = ["run", text(&model), "--raw", "The capital of France is"];
        let run = larql(all.into_iter().chain(arguments.iter().copied())).assert().success();
        (stdout(&run), stderr(&run))
    };
    let (said, told) = run(&["--stop", "ris", "--precision", "exact"]);
    assert_eq!((&*said, &*told), (" Pa\n", ""));
    let (_, told) = run(&["--context", "8", "-n", "50"]);
    assert_eq!(told, "(stopped: prompt and text fill the context of 8 tokens; --context N for more)\n");
    assert_eq!(run(&["-n", "3"]).1, "");
    let (_, told) = run(&["-n", "3", "--stats"]);
    assert!(told.contains("prompt ") && told.contains("tokens/s"), "{told}");
    let long = ["run", text(&model), "--raw", "a b c d e f", "--context", "2"].map(str::to_owned);
    larql(long.iter().map(String::as_str))
        .assert()
        .code(1)
        .stderr(predicate::str::contains("the context holds 2").and(predicate::str::contains("--context")));
}

#[test]
fn a_chat_takes_messages_of_several_lines_and_commands() {
    let folder = tempfile::tempdir().unwrap();
    let (model, saved) = (talking(folder.path()), folder.path().join("saved.json"));
    let lines = format!(
        "/system The capital \n\"\"\"of\nFrance is\"\"\"\n/save {file}\n/clear\n/load {file}\n/system\n/set seed 5\n/set\n/etc/passwd is a file\n/bye\nunread\n",
        file = saved.display()
    );
    let chat = larql(["chat", text(&model), "-n", "1"]).write_stdin(lines).assert().success();
    let (out, err) = (stdout(&chat), stderr(&chat));
    assert!(out.contains("\nThe capital\n") && out.contains("  seed               5\n"), "{out}");
    assert_eq!(err, format!("saved 3 messages in {0}\nread 3 messages from {0}\n", saved.display()));
    let file = std::fs::read_to_string(&saved).unwrap();
    assert!(file.contains(r#""content": "of\nFrance is""#), "{file}");

    let wrong = larql(["chat", text(&model), "-n", "1"]).write_stdin("/show info\nHello\n").assert().code(1);
    assert_eq!(stderr(&wrong), "there is no command /show; /help lists them\n");
    assert_eq!(stdout(&wrong).lines().count(), 1, "the next message is answered");
}

#[test]
fn a_patch_lies_over_the_vindex_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (vindex, patch) = (fixture("llama-f16-all.vindex"), folder.path().join("edits.vlp"));
    let insert =
        "INSERT INTO EDGES (entity, relation, target) VALUES ('Atlantis', 'capital', 'Poseidon') MODE KNN;";
    larql(["lql", "--use", text(&vindex), "--save", text(&patch), insert]).assert().success();
    let run = ["run", text(&vindex), "--patch", text(&patch), "-n", "4", "The capital of Atlantis is"];
    larql(run)
        .assert()
        .success()
        .stderr(predicate::str::contains("inserted edge: capital of Atlantis → Poseidon"));
    let missing = ["run", text(&vindex), "--patch", "no-such.vlp", "-n", "4", "Hello"];
    larql(missing).assert().code(1).stderr(predicate::str::contains("no-such.vlp"));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let (checkpoint, vindex) = (fixture("llama-checkpoint"), fixture("llama-f16-all.vindex"));
    for arguments in [
        &["run", text(&checkpoint), "Hello", "-n", "2"][..],
        &["list", text(&larql_testing::repository("fixtures"))],
        &["show", text(&vindex)],
        &["show", text(&vindex), "--format", "json"],
        &["verify", text(&vindex)],
        &["tokenize", text(&checkpoint), "Hello"],
        &["lql", "--use", text(&vindex), "SHOW LAYERS"],
        &["completions", "bash"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(assert_cmd::cargo_bin!("larql"));
        let output =
            command.args(arguments).stdin(std::process::Stdio::null()).stdout(full).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("standard output cannot be written"), "{arguments:?}: {told}");
    }
}

#[test]
fn a_prompt_and_a_statement_may_begin_with_a_dash_and_a_number_is_checked() {
    let model = fixture("llama-checkpoint");
    for prompt in ["-5 + 3 =", "--- title ---", "- item"] {
        larql(["run", text(&model), "-n", "1", prompt]).assert().success();
    }
    larql(["lql", "-- a comment\nSHOW MODELS;"]).assert().success();
    for (option, value) in [("--seed", "-1"), ("--temperature", "-1"), ("-n", "-1"), ("--top-k", "-2")] {
        let run = larql(["run", text(&model), "Hello", option, value]).assert().failure();
        let told = stderr(&run);
        assert!(!told.contains("unexpected argument") && told.contains(value), "{told}");
    }
}

#[test]
fn an_intervention_changes_every_pass_and_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let model = talking(folder.path());
    let file = folder.path().join("silence.json");
    let silence = r#"{"interventions": [{"at": {"layer": 0, "stage": "attention_output", "positions": "all"}, "zero": true}]}"#;
    std::fs::write(&file, silence).unwrap();
    let run = |arguments: &[&str]| {
        let all = [
            "run",
            text(&model),
            "The capital of France is",
            "-n",
            "3",
            "--temperature",
            "0",
            "--format",
            "json",
        ];
        let output = stdout(&larql(all.into_iter().chain(arguments.iter().copied())).assert().success());
        serde_json::from_str::<serde_json::Value>(&output).unwrap()
    };
    for raw in [&[][..], &["--raw"]] {
        let (plain, changed) = (run(raw), run(&[raw, &["--intervention", text(&file)]].concat()));
        assert_ne!(plain["text"], changed["text"]);
        assert_eq!(plain["intervention"], serde_json::Value::Null);
        // All rows of the prompt, then one row for each token but the last.
        let rows = changed["intervention"]["fired"][0].as_u64().unwrap();
        let (prompt, tokens) =
            (changed["prompt_tokens"].as_u64().unwrap(), changed["tokens"].as_u64().unwrap());
        assert_eq!(rows, prompt + tokens - 1, "{changed}");
    }
    let missing = folder.path().join("missing.json");
    larql(["run", text(&model), "The", "--intervention", text(&missing)])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("missing.json cannot be read"));
}
