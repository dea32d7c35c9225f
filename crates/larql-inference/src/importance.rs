//! Importance of the columns of a model's matrices, recorded on texts.

use std::collections::HashMap;

use larql_core::progress::{Meter, Progress, Stage as Work};
use larql_models::{ColumnImportance, LayerRole, Role, StepRoles};

use crate::{Hook, HookError, KeyValueCache, Model, PassError, Point, PointSet, Rows, Sequence, Stage};

/// Sequences of one pass.
const BATCH: usize = 16;
/// Tokens of a sequence at most.
const LONGEST: usize = 512;

/// Records what the matrices of every layer are multiplied with on `texts`, of which long ones are split. The head, embeddings, and matrices whose input
/// is no point of a pass have none.
///
/// # Errors
/// If a text is empty or has tokens of another model, or the work is cancelled.
pub fn column_importance(
    model: &Model,
    texts: &[Vec<u32>],
    progress: &dyn Progress,
) -> Result<ColumnImportance, PassError> {
    let longest = model.spec().context_length.min(LONGEST);
    let texts: Vec<&[u32]> = texts.iter().flat_map(|text| text.chunks(longest)).collect();
    let mut meter = Meter::new(progress, Work::Statistics, texts.len() as u64);
    let mut squares = Squares::default();
    for texts in texts.chunks(BATCH) {
        let mut states: Vec<_> = texts.iter().map(|_| KeyValueCache::new(model.spec())).collect();
        let mut sequences: Vec<Sequence<'_>> =
            texts.iter().zip(&mut states).map(|(tokens, state)| Sequence::new(state, tokens)).collect();
        model.pass().with_hook(&mut squares).residual(&mut sequences)?;
        meter.advance(texts.len() as u64)?;
    }
    Ok(squares.importance(model))
}

/// Hook that adds up squares of the inputs of matrices, over all rows of all passes.
#[derive(Default)]
struct Squares {
    /// By layer and stage, `[width]`.
    sums: HashMap<(usize, Stage), Vec<f64>>,
}

impl Squares {
    const STAGES: [Stage; 4] =
        [Stage::AttentionInput, Stage::HeadOutputs, Stage::FeedForwardInput, Stage::FeatureActivations];

    fn importance(&self, model: &Model) -> ColumnImportance {
        use LayerRole::{AttentionOutput, Key, KeyValueDown, Query, QueryDown, Value};
        let mut importance = ColumnImportance::default();
        for (layer, spec) in model.spec().layers.iter().enumerate() {
            let squares = |stage| -> Vec<f32> {
                self.sums.get(&(layer, stage)).into_iter().flatten().map(|sum| *sum as f32).collect()
            };
            let role = |role| Role::Layer(layer, role);
            let projections = [Query, QueryDown, Key, Value, KeyValueDown].map(role);
            importance.insert(projections, &squares(Stage::AttentionInput));
            importance.insert([role(AttentionOutput)], &squares(Stage::HeadOutputs));
            let (inputs, activations) =
                (squares(Stage::FeedForwardInput), squares(Stage::FeatureActivations));
            let mut first = 0;
            for (step, features) in StepRoles::of_layer(&spec.feed_forward) {
                let reading =
                    std::iter::once(step.gate).chain(step.up).map(|projection| role(projection.weight));
                importance.insert(reading, &inputs);
                let own = activations.get(first..first + features).unwrap_or_default();
                importance.insert([role(step.down.weight)], own);
                first += features;
            }
        }
        importance
    }
}

impl Hook for Squares {
    fn points(&self) -> PointSet {
        PointSet::stages(Squares::STAGES)
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let Point::Layer { layer, stage } = point else { return Ok(()) };
        let width = values.len() / rows.len().max(1);
        if width == 0 {
            return Ok(());
        }
        let sums = self.sums.entry((layer, stage)).or_insert_with(|| vec![0.0; width]);
        for row in values.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value).powi(2));
        }
        Ok(())
    }
}
