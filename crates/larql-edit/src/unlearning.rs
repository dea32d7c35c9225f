//! Reappearances of a target that was unlearned: after the prompts an edited model avoids it, and may state it a few tokens
//! later ("The official language of Syria is" → " the Arabic language").

use larql_inference::{Model, greedy_continuations};

use crate::error::EditError;
use crate::statement::{Goal, Statement};

/// Rounds in which reappearances are looked for and unlearned too.
pub(crate) const ROUNDS: usize = 3;

/// Tokens after a prompt in which the target is not to occur.
const CONTINUED: usize = 8;

/// Greatest number of prompts that one round adds to a statement: each is optimised.
const ADDED: usize = 4;

/// Neighbourhood prompts that are continued like an added prompt.
const OTHERS_CONTINUED: usize = 20;

/// Continues the prompts of statements to unlearn with `edited`, the model that has their features. Where the target
/// occurs, the text before it becomes a further prompt of the statement, and is added to the neighbourhood prompts as well.
/// Returns whether any was added.
///
/// # Errors
/// If a pass is cancelled or fails.
pub(crate) fn add_reappearances(edited: &Model, statements: &mut [Statement]) -> Result<bool, EditError> {
    let mut prompts = Vec::new();
    for statement in statements.iter().filter(|statement| statement.goal != Goal::Learn) {
        prompts.extend(statement.prompts.iter().map(|prompt| (&prompt[..], CONTINUED)));
    }
    let mut continuations = greedy_continuations(edited, &prompts)?.into_iter();
    let mut any = false;
    for Statement { prompts, target, others, goal } in statements {
        let Goal::Unlearn { stand_ins } = goal else { continue };
        let mut added: Vec<Vec<u32>> = Vec::new();
        let mut beginnings: Vec<Vec<u32>> = Vec::new();
        for (prompt, continuation) in prompts.iter().zip(continuations.by_ref()) {
            let Some(begin) = continuation.windows(target.len()).position(|window| window == target) else {
                continue;
            };
            let text = [&prompt[..], &continuation[..begin]].concat();
            if added.len() < ADDED && !prompts.contains(&text) && !added.contains(&text) {
                added.push(text);
                let beginning = continuation[..begin].to_vec();
                if !beginnings.contains(&beginning) {
                    beginnings.push(beginning);
                }
            }
        }
        any |= !added.is_empty();
        let neighbours: Vec<Vec<u32>> = others.iter().take(OTHERS_CONTINUED).cloned().collect();
        for beginning in beginnings {
            others.extend(neighbours.iter().map(|other| [&other[..], &beginning[..]].concat()));
        }
        // The prediction after the text itself without the target is what the model is to predict.
        stand_ins.splice(..0, added.iter().map(|text| vec![text.clone()]));
        prompts.splice(..0, added);
    }
    Ok(any)
}
