//! Probabilities of tokens, as completions and chats write them.

use larql_inference::Prediction;
use larql_models::Tokenizer;
use serde_json::{Map, Value, json};

use crate::engine::{PromptToken, Token};

/// Returns the tokens of a chat's text with their probabilities.
pub(crate) fn of_chat<'a>(tokenizer: &Tokenizer, tokens: impl IntoIterator<Item = &'a Token>) -> Value {
    let content = tokens.into_iter().map(|Token { token, .. }| {
        let mut entry = chat_entry(tokenizer, token.id, token.logprob.unwrap_or(f32::NEG_INFINITY));
        let alternatives = token.alternatives.iter();
        entry["top_logprobs"] =
            alternatives.map(|p| chat_entry(tokenizer, p.token, p.probability.ln())).collect();
        entry
    });
    json!({"content": content.collect::<Vec<_>>(), "refusal": null})
}

fn chat_entry(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Value {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    json!({"token": text(tokenizer, id), "logprob": finite(logprob), "bytes": bytes})
}

/// A token of a completion: of the prompt or of the text.
pub(crate) struct Scored<'a> {
    id: u32,
    logprob: Option<f32>,
    alternatives: &'a [Prediction],
}

impl<'a> Scored<'a> {
    /// Returns the tokens of a prompt.
    pub(crate) fn of_prompt(ids: &'a [u32], tokens: &'a [PromptToken]) -> impl Iterator<Item = Scored<'a>> {
        let scored = |(id, token): (&u32, &'a PromptToken)| Scored {
            id: *id,
            logprob: token.logprob,
            alternatives: &token.alternatives,
        };
        ids.iter().zip(tokens).map(scored)
    }

    /// Returns a token of a text.
    pub(crate) fn of_text(token: &'a Token) -> Scored<'a> {
        let Token { token, .. } = token;
        Scored { id: token.id, logprob: token.logprob, alternatives: &token.alternatives }
    }
}

/// Returns tokens of a completion with their probabilities. `offset` is the place of the first one in the text, in characters.
pub(crate) fn of_completion<'a>(
    tokenizer: &Tokenizer,
    tokens: impl Iterator<Item = Scored<'a>>,
    mut offset: usize,
) -> Value {
    let (mut texts, mut logprobs, mut alternatives, mut offsets) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for token in tokens {
        let text = text(tokenizer, token.id);
        offsets.push(offset);
        offset += text.chars().count();
        texts.push(text);
        logprobs.push(token.logprob.map(finite));
        let top = token
            .alternatives
            .iter()
            .map(|p| (self::text(tokenizer, p.token), finite(p.probability.ln()).into()));
        alternatives.push(token.logprob.map(|_| Value::Object(top.collect::<Map<_, _>>())));
    }
    json!({"tokens": texts, "token_logprobs": logprobs, "top_logprobs": alternatives, "text_offset": offsets})
}

fn text(tokenizer: &Tokenizer, id: u32) -> String {
    tokenizer.token_text(id).unwrap_or_default()
}

/// JSON has no infinity; OpenAI writes -9999 for what cannot come.
fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}
