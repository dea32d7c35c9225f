//! A finding from beginning to end: where the bundled model keeps the country of "The capital of France is", and how the answer
//! follows from it: `cargo run -p larql-session --example mech_interp_demo`.

mod shared;

use std::error::Error;

use larql_inference::{KeyValueCache, predictions};
use larql_knowledge::LanguageModel;
use larql_trace::{AnswerTrajectory, Declaration};
use serde_json::{Value, json};

const PROMPT: &str = "The capital of France is";
const DONOR: &str = "The capital of Italy is";

fn main() -> Result<(), Box<dyn Error>> {
    let atlas = shared::Atlas::open()?;
    let language = atlas.session.language()?;
    let model = language.model();
    let layers = model.spec().layers.len();
    let (tokens, donor) = (language.encode(PROMPT, true)?, language.encode(DONOR, true)?);
    let entity = tokens.iter().zip(&donor).position(|(a, b)| a != b).ok_or("the prompts are equal")?;
    let text = |token| language.tokenizer().token_text(token).unwrap_or_default();
    let (paris, rome) = (answer(language, &tokens, &json!([]))?, answer(language, &donor, &json!([]))?);
    println!("{PROMPT}{}\n{DONOR}{}", text(paris.0), text(rome.0));
    println!("the prompts differ at position {entity}, {:?}\n", text(tokens[entity]));

    println!("1. Logit lens: the answer at the last token, layer by layer");
    let trajectory = AnswerTrajectory::follow(model, &tokens, &[paris.0], false)?;
    for (waypoint, figures) in trajectory.deciding_waypoints().iter().enumerate() {
        let at = if waypoint == 0 { "embedding".to_owned() } else { format!("layer {}", waypoint - 1) };
        println!("   {at:<10} rank {:>4}, probability {:.4}", figures.rank, figures.probability);
    }

    let probability = |interventions: Value| answer_probability(language, &tokens, &interventions, paris.0);
    println!(
        "\n2. Ablate: {:.4} without an intervention; attention of one layer set to 0:",
        probability(json!([]))?
    );
    for layer in 0..layers {
        let ablated = json!([{ "at": { "layer": layer, "stage": "attention_output" }, "zero": true }]);
        println!("   layer {layer}: {:.4}", probability(ablated)?);
    }

    println!("\n3. Patch: the residual at the entity from the run with Italy; which answer comes out?");
    for layer in 0..layers {
        let patched = json!([{ "at": { "layer": layer, "stage": "layer_output", "positions": [entity] },
            "patch": { "prompt": DONOR, "positions": [entity] } }]);
        let (token, share) = answer(language, &tokens, &patched)?;
        println!("   after layer {layer}: {:?} {share:.4}", text(token));
    }

    println!("\n4. Keys and values: those of the entity from the run with Italy, from one layer on");
    for first in 0..layers {
        let of_layer = |layer: usize, stage: &str| {
            json!({ "at": { "layer": layer, "stage": stage, "positions": [entity] },
                "patch": { "prompt": DONOR, "positions": [entity] } })
        };
        let parts = (first..layers).flat_map(|layer| [of_layer(layer, "keys"), of_layer(layer, "values")]);
        let (token, share) = answer(language, &tokens, &Value::Array(parts.collect()))?;
        println!("   layers {first} to {}: {:?} {share:.4}", layers - 1, text(token));
    }

    println!("\n5. Steer: add the difference of both prompts after one layer at the last token");
    for layer in 0..layers {
        let steered = json!([{ "at": { "layer": layer, "stage": "layer_output" },
            "add": { "prompt": DONOR, "minus": PROMPT, "factor": 1.0 } }]);
        let (token, share) = answer(language, &tokens, &steered)?;
        println!("   after layer {layer}: {:?} {share:.4}", text(token));
    }
    Ok(())
}

/// The likeliest next token with interventions, and its probability.
fn answer(
    language: &LanguageModel,
    tokens: &[u32],
    interventions: &Value,
) -> Result<(u32, f32), Box<dyn Error>> {
    let best = predictions(&logits(language, tokens, interventions)?, 1);
    let best = best.first().ok_or("the model has no vocabulary")?;
    Ok((best.token, best.probability))
}

/// The probability of one next token with interventions.
fn answer_probability(
    language: &LanguageModel,
    tokens: &[u32],
    interventions: &Value,
    token: u32,
) -> Result<f32, Box<dyn Error>> {
    let logits = logits(language, tokens, interventions)?;
    let all = predictions(&logits, logits.len());
    Ok(all.iter().find(|prediction| prediction.token == token).map_or(0.0, |found| found.probability))
}

fn logits(
    language: &LanguageModel,
    tokens: &[u32],
    interventions: &Value,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let declaration = Declaration::from_json(&json!({ "interventions": interventions }).to_string())?;
    let encode = |prompt: &str| language.encode(prompt, true).map_err(|error| error.to_string());
    let mut intervention = declaration.resolve(language.model(), &encode)?;
    let mut state = KeyValueCache::new(language.model().spec());
    Ok(language.model().pass().with_hook(&mut intervention).last_logits(&mut state, tokens)?)
}
