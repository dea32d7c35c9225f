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
