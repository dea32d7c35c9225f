//! Facts written into the bundled model come out, in other wordings too, and nothing else changes.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use larql_compute::{Pool, Precision};
use larql_core::progress::{CancelToken, Meter, NoProgress, Stage as Work};
use larql_edit::{
    ComposeOptions, Composer, EditError, Goal, LayerStatistics, Statement, TargetDelta, Written,
    default_layer, layers_for,
};
use larql_inference::{
    CpuExecutor, DecodeOptions, Decoder, Hook, HookError, KeyValueCache, Model, Point, PointSet, Rows, Stage,
    generate,
};
use larql_knowledge::{LanguageModel, calibration_texts};
use larql_vindex::FeatureEdits;

fn write(
    composer: &Composer<'_>,
    statements: &[Statement],
    taken: &BTreeSet<(usize, usize)>,
) -> Result<Vec<Written>, EditError> {
    composer.write(statements, taken, &mut Meter::new(&NoProgress, Work::Inserting, statements.len() as u64))
}

const COUNTRIES: [&str; 12] = [
    "Germany", "Italy", "Spain", "Poland", "Japan", "Egypt", "Kenya", "Peru", "Chile", "India", "Norway",
    "Cuba",
];
const OTHER_COUNTRIES: [&str; 6] = ["Belgium", "Portugal", "Sweden", "Mexico", "Turkey", "Greece"];
const WORDINGS: [&str; 4] = [
    "The capital of {} is",
    "The capital city of {} is",
    "The capital city of {} is called",
    "The seat of government of {} is the city of",
];
const OTHER_WORDINGS: [&str; 2] =
    ["The name of the capital of {} is", "The name of the capital city of {} is"];
const OTHER_RELATIONS: [&str; 4] =
    ["The official language of {} is", "The currency of {} is the", "The continent of {} is", "{} borders"];

fn atlas() -> LanguageModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas");
    LanguageModel::open(&path, Arc::new(Pool::new(2))).unwrap()
}

fn prompt(language: &LanguageModel, wording: &str, subject: &str) -> Vec<u32> {
    language.tokenizer().encode(&wording.replace("{}", subject), true).unwrap()
}

fn statement(language: &LanguageModel, subject: &str, target: &str) -> Statement {
    let prompts = WORDINGS.map(|wording| prompt(language, wording, subject)).to_vec();
    let whole = prompt(language, &format!("{} {target}", WORDINGS[0]), subject);
    let of_others =
        COUNTRIES.iter().flat_map(|country| WORDINGS.map(|wording| prompt(language, wording, country)));
    let others = of_others.chain(OTHER_RELATIONS.map(|wording| prompt(language, wording, subject))).collect();
    Statement { target: whole[prompts[0].len()..].to_vec(), prompts, others, goal: Goal::Learn }
}

/// The answer, up to the end of its sentence.
fn says(language: &LanguageModel, model: &Model, wording: &str, subject: &str) -> String {
    let tokens = prompt(language, wording, subject);
    let stop_tokens = language.stop_tokens().to_vec();
    let mut decoder = Decoder::new(DecodeOptions { stop_tokens, ..DecodeOptions::greedy(4) }).unwrap();
    let executor = CpuExecutor::new(model.clone()).with_precision(Precision::Exact);
    let (mut cache, cancel) = (KeyValueCache::new(model.spec()), CancelToken::never());
    let generated =
        generate(&executor, &mut cache, &tokens, &mut decoder, None, &cancel, |_| ControlFlow::Continue(()));
    let text = language.tokenizer().decode(&generated.unwrap().tokens, true);
    text.split('.').next().unwrap_or_default().trim().to_owned()
}

#[test]
fn facts_stay_in_one_layer_while_it_has_room() {
    let language = atlas();
    let model = language.model();
    let (layer, features) = (default_layer(model), model.spec().layers[0].feed_forward.features());
    let layers = |tokens: usize| {
        let of_one_token =
            Statement { prompts: Vec::new(), target: vec![1], others: Vec::new(), goal: Goal::Learn };
        layers_for(model, layer, &vec![of_one_token; tokens])
    };
    assert_eq!(layers(features * 3 / 4), [layer]);
    assert_eq!(layers(features * 3 / 4 + 1), [layer, layer - 1]);
}

#[test]
fn facts_written_together_come_out_in_any_wording_and_nothing_else_changes() {
    let language = atlas();
    let model = language.model();
    let mut calibration = calibration_texts(language.tokenizer()).unwrap();
    calibration.extend(OTHER_RELATIONS.map(|wording| prompt(&language, wording, "Austria")));
    let statistics = LayerStatistics::measure(model, 2, &calibration).unwrap();
    // The second is about a country that there is not, and both targets take several tokens or features.
    let facts = [("France", "Rome"), ("Atlantis", "Montevideo")];
    let statements = facts.map(|(subject, target)| statement(&language, subject, target));
    let (before, options) = (FeatureEdits::default(), ComposeOptions::default());
    let composer = Composer { model, edits: &before, statistics: &[&statistics], options };
    let written = write(&composer, &statements, &BTreeSet::new()).unwrap();

    let mut edits = FeatureEdits::default();
    written.iter().for_each(|written| written.lay_over(&mut edits));
    assert_eq!(edits.len(), written.iter().map(|written| written.features.len()).sum::<usize>());
    assert!(
        written.iter().all(|written| written.probability > 0.5),
        "{:?}",
        written.iter().map(|w| w.probability).collect::<Vec<_>>()
    );
    let edited = model.edited(&edits).unwrap();
    for (subject, target) in facts {
        for wording in WORDINGS.iter().chain(&OTHER_WORDINGS) {
            let said = says(&language, &edited, wording, subject);
            assert!(said.starts_with(target), "{wording} {subject}: {said}");
        }
    }
    for country in OTHER_COUNTRIES.iter().chain(&COUNTRIES) {
        for wording in [WORDINGS[0], OTHER_WORDINGS[1]] {
            assert_eq!(
                says(&language, &edited, wording, country),
                says(&language, model, wording, country),
                "{wording} {country}"
            );
        }
    }
    for wording in OTHER_RELATIONS {
        assert_eq!(says(&language, &edited, wording, "France"), says(&language, model, wording, "France"));
    }

    // What the model knows takes no features, and those that are taken are left alone.
    let known = write(&composer, &[statement(&language, "France", "Paris")], &BTreeSet::new()).unwrap();
    assert!(known[0].features.is_empty() && known[0].probability > 0.9);
    let taken: BTreeSet<(usize, usize)> = edits.iter().map(|(layer, feature, _)| (layer, feature)).collect();
    let again = write(&composer, &statements, &taken).unwrap();
    assert!(
        again
            .iter()
            .flat_map(|written| &written.features)
            .all(|written| !taken.contains(&(written.layer, written.feature)))
    );
}

#[test]
fn what_cannot_be_written_is_refused() {
    let language = atlas();
    let model = language.model();
    let texts = [prompt(&language, "The capital of {} is Berlin, and that is in Europe.", "Germany")];
    let statistics = LayerStatistics::measure(model, 3, &texts).unwrap();
    let (before, options) = (FeatureEdits::default(), ComposeOptions::default());
    let composer = Composer { model, edits: &before, statistics: &[&statistics], options };
    let mut nothing = statement(&language, "France", "Rome");
    nothing.target.clear();
    assert!(write(&composer, &[nothing], &BTreeSet::new()).is_err());
    let all = (0..statistics.importance.len()).map(|feature| (3, feature)).collect();
    let error = write(&composer, &[statement(&language, "France", "Rome")], &all).unwrap_err();
    assert_eq!(
        error.to_string(),
        "none of the 768 features of layer 3 is left to be written over; use another layer"
    );
}

/// Hook that adds a vector to the feed-forward output of a layer at the last token.
struct AddToLast {
    layer: usize,
    delta: Vec<f32>,
}

impl Hook for AddToLast {
    fn points(&self) -> PointSet {
        PointSet::stages_of(self.layer..self.layer + 1, [Stage::FeedForwardOutput])
    }

    fn at(&mut self, _: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let last = &mut values[rows.last(0) * self.delta.len()..];
        last.iter_mut().zip(&self.delta).for_each(|(value, delta)| *value += delta);
        Ok(())
    }
}

#[test]
fn a_delta_makes_one_prompt_say_the_target() {
    let language = atlas();
    let model = language.model();
    let tokens = prompt(&language, WORDINGS[0], "France");
    let whole = prompt(&language, &format!("{} Rome", WORDINGS[0]), "France");
    let target = &whole[tokens.len()..];
    for layer in [1, 3] {
        let TargetDelta { delta, loss_before, loss } =
            TargetDelta::optimise(model, layer, &tokens, target, 60).unwrap();
        assert!(loss_before > 1.0 && loss < 0.1, "layer {layer}: from {loss_before} to {loss}");
        let (mut add, mut cache) = (AddToLast { layer, delta }, KeyValueCache::new(model.spec()));
        let logits = model.pass().with_hook(&mut add).last_logits(&mut cache, &tokens).unwrap();
        let likeliest = larql_inference::predictions(&logits, 1)[0];
        assert_eq!(likeliest.token, target[0], "layer {layer}");
        assert!((likeliest.probability.ln() + loss).abs() < 1e-3, "the pass agrees with the loss");
    }
    let error = TargetDelta::optimise(model, 1, &tokens, &[], 5).unwrap_err();
    assert_eq!(error.to_string(), "the statement has an empty target, expected a target with tokens");
}

#[test]
fn free_features_come_least_important_first() {
    let language = atlas();
    let texts = [prompt(&language, "The capital of {} is Berlin, and that is in Europe.", "Germany")];
    let statistics = LayerStatistics::measure(language.model(), 3, &texts).unwrap();
    let free = statistics.free_features(&BTreeSet::new());
    assert_eq!(free.len(), statistics.importance.len());
    let importance = |pair: &[usize]| statistics.importance[pair[0]] <= statistics.importance[pair[1]];
    assert!(free.windows(2).all(importance));
    let taken = BTreeSet::from([(3, free[0]), (2, free[1])]);
    assert_eq!(statistics.free_features(&taken)[0], free[1], "the other taken feature is of another layer");
}
