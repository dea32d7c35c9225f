//! Recording of feed-forward inputs: the residual after the feed-forward norm, over texts.

use larql_core::progress::Meter;

use crate::{Hook, HookError, KeyValueCache, Model, PassError, Point, PointSet, Rows, Sequence, Stage};

/// Sequences of one pass.
const BATCH: usize = 16;

/// Feed-forward inputs of a layer for all tokens of each text, `[tokens, hidden]`.
///
/// # Errors
/// If a text is empty or has tokens of another model.
pub fn layer_inputs(model: &Model, layer: usize, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, PassError> {
    Ok(inputs_of_layers(model, &[layer], texts)?.pop().unwrap_or_default())
}

/// Feed-forward inputs of several layers, by layer, then by text: `[tokens, hidden]`.
///
/// # Errors
/// As [`layer_inputs`].
pub fn inputs_of_layers(
    model: &Model,
    layers: &[usize],
    texts: &[Vec<u32>],
) -> Result<Vec<Vec<Vec<f32>>>, PassError> {
    let hidden = model.spec().hidden_size;
    let end = layers.iter().max().map_or(0, |last| last + 1);
    let mut all = vec![Vec::with_capacity(texts.len()); layers.len()];
    for texts in texts.chunks(BATCH) {
        let mut states: Vec<_> = texts.iter().map(|_| KeyValueCache::new(model.spec())).collect();
        let mut sequences: Vec<Sequence<'_>> =
            texts.iter().zip(&mut states).map(|(tokens, state)| Sequence::new(state, tokens)).collect();
        let mut record = InputRecord::new(layers);
        model.pass().with_hook(&mut record).residual_below(end, &mut sequences)?;
        for (all, values) in all.iter_mut().zip(&record.values) {
            let mut rest = &values[..];
            for text in texts {
                let (own, others) = rest.split_at(text.len() * hidden);
                all.push(own.to_vec());
                rest = others;
            }
        }
    }
    Ok(all)
}

/// Feed-forward inputs of a layer for the last token of each text, `[texts, hidden]`. `meter` counts the texts.
///
/// # Errors
/// As [`layer_inputs`], and [`PassError::Cancelled`] if the work is cancelled.
pub fn last_inputs(
    model: &Model,
    layer: usize,
    texts: &[Vec<u32>],
    meter: &mut Meter<'_>,
) -> Result<Vec<f32>, PassError> {
    let hidden = model.spec().hidden_size;
    let mut last = Vec::with_capacity(texts.len() * hidden);
    for texts in texts.chunks(BATCH) {
        last.extend(layer_inputs(model, layer, texts)?.iter().flat_map(|x| &x[x.len() - hidden..]));
        meter.advance(texts.len() as u64)?;
    }
    Ok(last)
}

/// Hook that keeps the feed-forward inputs of some layers, of all tokens of the last pass.
#[derive(Clone, Debug)]
pub struct InputRecord<'a> {
    layers: &'a [usize],
    /// By layer, `[tokens, hidden]`.
    values: Vec<Vec<f32>>,
}

impl InputRecord<'_> {
    /// Creates an empty record of `layers`.
    pub fn new(layers: &[usize]) -> InputRecord<'_> {
        InputRecord { layers, values: vec![Vec::new(); layers.len()] }
    }

    /// Returns the inputs of all layers at one row of the last pass, `[layers, hidden]`.
    pub fn row(&self, row: usize, hidden: usize) -> Box<[f32]> {
        self.values.iter().flat_map(|of_layer| &of_layer[row * hidden..][..hidden]).copied().collect()
    }
}

impl Hook for InputRecord<'_> {
    fn points(&self) -> PointSet {
        let point = |layer: &usize| Point::Layer { layer: *layer, stage: Stage::FeedForwardInput };
        self.layers.iter().map(point).collect()
    }

    fn at(&mut self, point: Point, _: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let own = self.layers.iter().zip(&mut self.values);
        let own = own.filter(|(layer, _)| Some(**layer) == point.layer());
        own.for_each(|(_, kept)| *kept = values.to_vec());
        Ok(())
    }
}
