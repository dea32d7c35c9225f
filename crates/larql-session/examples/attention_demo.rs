//! Attention heads of one prompt: where each looks from the last token, and what it adds to the logit of the answer:
//! `cargo run -p larql-session --example attention_demo`.

mod shared;

use std::error::Error;

use larql_inference::{Hook, HookError, KeyValueCache, Point, PointSet, Rows, Stage, predictions};
use larql_trace::head_contributions;

const PROMPT: &str = "The capital of France is";

/// Attention weights of the last token in each layer, `[layers][heads][positions]`.
struct LastPatterns {
    heads: usize,
    layers: Vec<Vec<Vec<f32>>>,
}

impl Hook for LastPatterns {
    fn points(&self) -> PointSet {
        PointSet::stages([Stage::AttentionPattern])
    }

    fn at(&mut self, _point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        // Of the one sequence: `[tokens, heads, positions]`.
        let Some(pattern) = rows.patterns(self.heads).next() else { return Ok(()) };
        let positions = pattern.len() / (rows.len() * self.heads);
        let last = &values[pattern.end - self.heads * positions..pattern.end];
        self.layers.push(last.chunks(positions).map(<[f32]>::to_vec).collect());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let atlas = shared::Atlas::open()?;
    let language = atlas.session.language()?;
    let model = language.model();
    let tokens = language.encode(PROMPT, true)?;
    let heads = model.spec().layers[0].attention.heads;
    let mut hook = LastPatterns { heads, layers: Vec::new() };
    let mut state = KeyValueCache::new(model.spec());
    let logits = model.pass().with_hook(&mut hook).last_logits(&mut state, &tokens)?;
    let answer = predictions(&logits, 1)[0].token;
    let text = |token| language.tokenizer().token_text(token).unwrap_or_default();
    let contributions = head_contributions(model, &tokens, answer)?;

    println!("{PROMPT} ->{}", text(answer));
    println!("{:>5} {:>4}  {:>12}  looks at", "layer", "head", "logit");
    for (layer, heads) in hook.layers.iter().enumerate() {
        for (head, weights) in heads.iter().enumerate() {
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
            let places = order
                .iter()
                .take(2)
                .map(|position| format!("{:?} {:.0} %", text(tokens[*position]), 100.0 * weights[*position]));
            let places = places.collect::<Vec<_>>().join(", ");
            println!("{layer:>5} {head:>4}  {:>+12.3}  {places}", contributions[layer][head]);
        }
    }
    Ok(())
}
