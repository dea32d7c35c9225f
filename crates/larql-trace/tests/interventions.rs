//! Interventions equal those of transformers' forward hooks, in prefill and in generation; bad ones are refused before
//! anything runs. `scripts/intervention-references.py` made the expected values.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use larql_compute::{Pool, Precision};
use larql_core::progress::CancelToken;
use larql_inference::{DecodeOptions, Decoder, Hook, KeyValueCache, Model, Sequence, greedy};
use larql_models::Checkpoint;
use larql_trace::{Declaration, Intervention, InterventionError};
use safetensors::SafeTensors;

const FAMILIES: [&str; 3] = ["llama", "gemma2", "qwen3"];

/// Greatest difference of logits that conformance allows.
const TOLERANCE: f32 = 2e-4;

fn open(family: &str) -> Model {
    load(&larql_testing::repository("conformance").join(family))
}

fn load(path: &Path) -> Model {
    Model::load(&Checkpoint::open(path).unwrap(), Arc::new(Pool::new(2))).unwrap()
}

/// A model with its expected values.
struct Reference {
    name: &'static str,
    model: Model,
    expected: Expected,
    /// The expected logits are those of every so many-th token.
    columns: usize,
}

/// The families, and SmolLM2 where it is on this machine.
fn references() -> impl Iterator<Item = Reference> {
    let family = |name| Reference { name, model: open(name), expected: Expected::of(name), columns: 1 };
    let smollm2 = larql_testing::real_model(larql_testing::SMOLLM2).map(|path| Reference {
        name: "smollm2",
        model: load(&path),
        expected: Expected::of("smollm2"),
        columns: 64,
    });
    FAMILIES.into_iter().map(family).chain(smollm2)
}

impl Reference {
    fn tokens(&self) -> Vec<u32> {
        self.expected.tokens("tokens")
    }

    /// The logits of all tokens with an intervention, in the columns that are expected.
    fn logits(&self, intervention: &mut Intervention) -> Vec<f32> {
        let mut state = KeyValueCache::new(self.model.spec());
        let mut pass = self.model.pass().with_precision(Precision::Exact).with_hook(intervention);
        let logits = pass.all_logits(&mut state, &self.tokens()).unwrap();
        let rows = logits.chunks_exact(self.model.spec().vocab_size);
        rows.flat_map(|row| row.iter().step_by(self.columns).copied()).collect()
    }
}

struct Expected(Vec<u8>);

impl Expected {
    fn of(family: &str) -> Expected {
        let path = larql_testing::repository("interventions").join(format!("{family}.safetensors"));
        Expected(std::fs::read(path).unwrap())
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = tensors.tensor(name).unwrap().data().chunks_exact(4);
        bytes.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = tensors.tensor(name).unwrap().data().chunks_exact(8);
        bytes.map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as u32).collect()
    }
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Resolves a declaration whose prompts are the words `tokens` and `donor`.
fn resolve(model: &Model, expected: &Expected, json: &str) -> Result<Intervention, InterventionError> {
    Declaration::from_json(json)?.resolve(model, &|prompt| Ok(expected.tokens(prompt)))
}

fn vector(width: usize) -> String {
    let values: Vec<f32> = (0..width).map(|index| (index as f32 * 0.7).sin()).collect();
    format!("{values:?}")
}

/// The declaration of each reference.
fn declarations(hidden: usize) -> Vec<(&'static str, String)> {
    let vector = vector(hidden);
    let part = |at: &str, change: &str| format!(r#"{{"interventions": [{{"at": {{{at}}}, {change}}}]}}"#);
    let head = r#""layer": 1, "stage": "head_outputs", "heads": [1], "positions": "all""#;
    let features = r#""layer": 1, "stage": "feature_activations", "features": [3, 10], "positions": "all""#;
    let output =
        |positions: &str| format!(r#""layer": 1, "stage": "layer_output", "positions": {positions}"#);
    vec![
        ("zero_head", part(head, r#""zero": true"#)),
        ("mean_head", part(head, r#""mean": "tokens""#)),
        ("zero_features", part(features, r#""zero": true"#)),
        (
            "steer_last",
            part(&output(r#""last""#), &format!(r#""add": {{"values": {vector}, "factor": 2.5}}"#)),
        ),
        ("project_out", part(&output(r#""all""#), &format!(r#""project_out": {{"values": {vector}}}"#))),
        ("patch", part(&output("[4]"), r#""patch": {"prompt": "donor", "positions": [4]}"#)),
    ]
}

#[test]
fn interventions_equal_those_of_transformers() {
    for reference in references() {
        let Reference { name: family, model, expected, .. } = &reference;
        for (name, json) in declarations(model.spec().hidden_size) {
            let mut intervention = resolve(model, expected, &json).unwrap();
            let logits = reference.logits(&mut intervention);
            let of_transformers = expected.numbers(&format!("logits_{name}"));
            let found = difference(&logits, &of_transformers);
            println!("{family:<8} {name:<19} {found:.1e}");
            assert!(found < TOLERANCE, "{family}, {name}: {found}");
            // It changes something, so that the test can fail.
            let changed = difference(&of_transformers, &expected.numbers("logits_plain"));
            assert!(changed > 10.0 * TOLERANCE, "{family}, {name} changes only {changed}");
            let receipt = intervention.receipt();
            let rows = match name {
                "steer_last" | "patch" => 1,
                _ => reference.tokens().len(),
            };
            assert_eq!(receipt.fired, [rows], "{family}, {name}");
        }
    }
}

#[test]
fn captures_equal_those_of_transformers() {
    for reference in references() {
        let Reference { name: family, model, expected, .. } = &reference;
        let stages = ["head_outputs", "feature_activations", "layer_output"];
        let captures =
            stages.map(|stage| format!(r#"{{"layer": 1, "stage": "{stage}", "positions": "all"}}"#));
        let json = format!(r#"{{"capture": [{}]}}"#, captures.join(", "));
        let mut intervention = resolve(model, expected, &json).unwrap();
        let logits = reference.logits(&mut intervention);
        assert!(difference(&logits, &expected.numbers("logits_plain")) < TOLERANCE);
        for (stage, captured) in stages.iter().zip(intervention.captured()) {
            let found = difference(captured, &expected.numbers(stage));
            println!("{family:<8} {stage:<19} {found:.1e}");
            assert!(found < TOLERANCE, "{family}, {stage}: {found}");
        }
    }
}

#[test]
fn interventions_hold_in_every_step_of_generation() {
    for reference in references() {
        let Reference { name: family, model, expected, .. } = &reference;
        let (tokens, generated) = (reference.tokens(), expected.tokens("generated_steer_last"));
        let declarations = declarations(model.spec().hidden_size);
        let (_, json) = declarations.iter().find(|(name, _)| *name == "steer_last").unwrap();
        let mut intervention = resolve(model, expected, json).unwrap();
        let mut state = KeyValueCache::new(model.spec());
        let mut next = tokens.clone();
        let mut found = Vec::<u32>::new();
        for _ in 0..generated.len() {
            let hook: &mut dyn Hook = &mut intervention;
            let logits = model.pass().with_precision(Precision::Exact).with_hook(hook);
            let mut logits = logits;
            let logits = logits.run(&mut [Sequence::new(&mut state, &next)]).unwrap().into_values();
            next = vec![greedy(&logits)];
            found.extend(&next);
        }
        assert_eq!(found, generated, "{family}");
        assert_eq!(intervention.receipt().fired, [generated.len()]);
        intervention.reset();
        assert_eq!(intervention.receipt().fired, [0]);
        let plain = {
            let executor = larql_inference::CpuExecutor::new(model.clone()).with_precision(Precision::Exact);
            let mut decoder = Decoder::new(DecodeOptions::greedy(generated.len())).unwrap();
            let (mut state, cancel) = (KeyValueCache::new(model.spec()), CancelToken::never());
            let go_on = |_: &larql_inference::DecodedToken| ControlFlow::Continue(());
            larql_inference::generate(&executor, &mut state, &tokens, &mut decoder, None, &cancel, go_on)
                .unwrap()
                .tokens
        };
        assert_ne!(plain, generated, "{family}: steering changes what is generated");
    }
}

#[test]
fn bad_declarations_are_refused_before_anything_runs() {
    let (model, expected) = (open("llama"), Expected::of("llama"));
    let refused = |json: &str| resolve(&model, &expected, json).unwrap_err().to_string();
    let part = |text: &str| format!(r#"{{"interventions": [{text}]}}"#);
    let layers = model.spec().layers.len();
    for (json, expected) in [
        (
            part(r#"{"at": {"layer": 99, "stage": "layer_output"}, "zero": true}"#),
            format!("part 1: layer 99 does not exist; there are {layers}, numbered from 0"),
        ),
        (
            part(r#"{"at": {"layer": 0, "stage": "head_outputs", "heads": [0, 77]}, "zero": true}"#),
            format!("part 1: head 77 does not exist; there are {}, numbered from 0", model.spec().layers[0].attention.heads),
        ),
        (
            part(r#"{"at": {"layer": 0, "stage": "layer_output", "features": [1]}, "zero": true}"#),
            "part 1: there are no features at LayerOutput; leave them out, or name the stage that has them".into(),
        ),
        (
            part(r#"{"at": {"layer": 0, "stage": "layer_output"}, "zero": true, "add": {"values": [1]}}"#),
            "part 1: a part needs exactly one change at LayerOutput; give one of zero, mean, add, project_out, \
             replace and patch"
                .into(),
        ),
        (
            part(r#"{"at": {"layer": 0, "stage": "layer_output"}, "add": {"values": [1, 2]}}"#),
            format!("part 1: the vector has 2 values; the place has {}", model.spec().hidden_size),
        ),
        (
            r#"{"hidden_size": 7, "interventions": []}"#.into(),
            format!("the declaration is for hidden size 7; this model has {}", model.spec().hidden_size),
        ),
    ] {
        assert_eq!(refused(&json), expected);
    }
    let wide: Vec<f32> = vec![1e38; model.spec().hidden_size];
    let infinite = format!(
        r#"{{"at": {{"layer": 0, "stage": "layer_output"}}, "add": {{"values": {wide:?}, "factor": 1e9}}}}"#
    );
    assert_eq!(refused(&part(&infinite)), "part 1: value 0 of the vector is not a finite number");
    let unknown = refused(r#"{"interventons": []}"#);
    assert!(unknown.contains("unknown field `interventons`") && unknown.contains("line 1"), "{unknown}");
    let mixture = part(r#"{"at": {"layer": 0, "stage": "expert_weights", "experts": [0]}, "zero": true}"#);
    assert!(refused(&mixture).contains("expert 0 does not exist; there are 0"));
}

#[test]
fn a_declaration_has_one_digest_however_it_is_written() {
    let a = Declaration::from_json(r#"{"interventions":[{"at":{"layer":0,"stage":"keys"},"zero":true}]}"#)
        .unwrap();
    let spaced = r#"{ "interventions": [ { "zero": true, "at": { "stage": "keys", "layer": 0 } } ] }"#;
    let b = Declaration::from_json(spaced).unwrap();
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    let c = Declaration::from_json(&spaced.replace("keys", "values")).unwrap();
    assert_ne!(a.digest().unwrap(), c.digest().unwrap());
}
