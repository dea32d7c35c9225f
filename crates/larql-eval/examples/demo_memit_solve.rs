//! Facts that features carry become one change of their layer, in closed form (MEMIT): `cargo run --release -p larql-eval
//! --example demo_memit_solve`.
//!
//! Writes thirty facts of the test edits into the bundled model, a few features each, solves for the update of the down
//! projection that replaces them all, and prints how probable the targets are before, with the features, and after.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use larql_compute::Pool;
use larql_core::progress::{CancelToken, Meter, NoProgress, Stage};
use larql_edit::{
    BatchEdit, Carried, ComposeOptions, Composer, DEFAULT_LAMBDA, LayerStatistics, Wording, editing_layer,
    target_probabilities,
};
use larql_eval::EditSet;
use larql_knowledge::{LanguageModel, calibration_texts};
use larql_vindex::FeatureEdits;

/// Facts that are written.
const FACTS: usize = 30;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas");
    let language = LanguageModel::open(&path, Arc::new(Pool::for_this_machine()))?;
    let (model, tokenizer) = (language.model(), language.tokenizer());
    let layer = editing_layer(model, tokenizer, &NoProgress)?;
    let ordinary = calibration_texts(tokenizer)?;
    let statistics = LayerStatistics::measure(model, layer, &ordinary)?;
    let edges = EditSet::shipped()?.edits;
    let statements = edges
        .iter()
        .take(FACTS)
        .map(|edge| {
            Wording::of(&edge.entity, &edge.relation).statement(tokenizer, &edge.entity, &edge.target)
        })
        .collect::<Result<Vec<_>, _>>()?;

    let (before, options) = (FeatureEdits::default(), ComposeOptions::default());
    let composer = Composer { model, edits: &before, statistics: &[&statistics], options };
    let mut meter = Meter::new(&NoProgress, Stage::Inserting, FACTS as u64);
    let written = composer.write(&statements, &BTreeSet::new(), &mut meter)?;
    let mut features = FeatureEdits::default();
    written.iter().for_each(|written| written.lay_over(&mut features));
    let with = model.edited(&features)?;

    let batch = BatchEdit {
        with: &with,
        without: model,
        layers: &[layer],
        statements: &statements,
        kept: &[],
        background: &ordinary,
        lambda: DEFAULT_LAMBDA,
    };
    let solved = batch.solve(&CancelToken::never())?;
    let mut update = FeatureEdits::default();
    for layer in &solved {
        println!(
            "layer {}: the down projection changes by {:.2} % of its norm",
            layer.layer,
            100.0 * layer.change
        );
        layer.lay_over(&mut update);
    }
    let after = model.edited(&update)?;
    let asked: Vec<Carried> = statements
        .into_iter()
        .map(|statement| Carried {
            prompt: statement.prompts[0].clone(),
            target: statement.target,
            features: Vec::new(),
        })
        .collect();
    println!("mean probability of the targets of {FACTS} facts:");
    for (state, model) in [("before", model), ("with their features", &with), ("after the update", &after)] {
        let probabilities = target_probabilities(model, &asked)?;
        let mean = probabilities.iter().sum::<f32>() / probabilities.len() as f32;
        println!("  {state:20} {:5.1} %", 100.0 * mean);
    }
    Ok(())
}
