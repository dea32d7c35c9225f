//! Growth of the closed form with the edges that it solves for: `cargo bench -p larql-eval --bench memit_solve`. The
//! model is the bundled one, the edges are those of `data/edits/test.json`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use larql_compute::Pool;
use larql_core::progress::{CancelToken, Meter, NoProgress, Stage};
use larql_edit::{
    BatchEdit, ComposeOptions, Composer, DEFAULT_LAMBDA, LayerStatistics, Wording, editing_layer,
};
use larql_eval::EditSet;
use larql_knowledge::{LanguageModel, calibration_texts};
use larql_testing::Table;
use larql_vindex::FeatureEdits;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larql-assets/data/atlas");
    let language = LanguageModel::open(&path, Arc::new(Pool::for_this_machine()))?;
    let (model, tokenizer) = (language.model(), language.tokenizer());
    let layers = [editing_layer(model, tokenizer, &NoProgress)?];
    let ordinary = calibration_texts(tokenizer)?;
    let statistics = LayerStatistics::measure(model, layers[0], &ordinary)?;
    let statements = EditSet::shipped()?
        .edits
        .iter()
        .take(100)
        .map(|edge| {
            Wording::of(&edge.entity, &edge.relation).statement(tokenizer, &edge.entity, &edge.target)
        })
        .collect::<Result<Vec<_>, _>>()?;
    println!("atlas, {} threads\n", model.pool().threads());
    let mut times = Vec::new();
    for count in [10, 30, 100] {
        let statements = &statements[..count];
        let mut meter = Meter::new(&NoProgress, Stage::Inserting, count as u64);
        let (before, options) = (FeatureEdits::default(), ComposeOptions::default());
        let composer = Composer { model, edits: &before, statistics: &[&statistics], options };
        let started = Instant::now();
        let written = composer.write(statements, &BTreeSet::new(), &mut meter)?;
        let searched = started.elapsed();
        let mut edits = FeatureEdits::default();
        written.iter().for_each(|written| written.lay_over(&mut edits));
        let with = model.edited(&edits)?;
        let (without, kept) = (model, &[][..]);
        let batch = BatchEdit {
            with: &with,
            without,
            layers: &layers,
            statements,
            kept,
            background: &ordinary,
            lambda: DEFAULT_LAMBDA,
        };
        let started = Instant::now();
        batch.solve(&CancelToken::never())?;
        times.push((count, searched, started.elapsed()));
    }
    let mut table = Table::of_growth("features for so many edges");
    for (count, searched, _) in &times {
        table.grown(&count.to_string(), *count, searched.as_secs_f64());
    }
    println!();
    let mut table = Table::of_growth("one change of the layer for the same");
    for (count, _, solved) in &times {
        table.grown(&count.to_string(), *count, solved.as_secs_f64());
    }
    Ok(())
}
