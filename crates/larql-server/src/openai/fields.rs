//! Fields that several requests share.

use std::collections::HashMap;

use larql_inference::SamplingOptions;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Finish;
use crate::error::ApiError;

/// Choice of the tokens. Absent fields have OpenAI's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct SamplingFields {
    temperature: Option<f32>,
    top_p: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<HashMap<String, f32>>,
    seed: Option<i64>,
    /// Not in OpenAI's interface, as the next two.
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

impl SamplingFields {
    /// Returns the options for the choice of this number among several.
    ///
    /// # Errors
    /// If a bias is not for a token.
    pub(crate) fn options(&self, choice: usize) -> Result<SamplingOptions, ApiError> {
        let bias = |(token, bias): (&String, &f32)| match token.parse() {
            Ok(token) => Ok((token, *bias)),
            Err(_) => Err(ApiError::field(
                "logit_bias",
                format!("logit_bias names {token:?}; expected the number of a token"),
            )),
        };
        let mut logit_bias: Vec<(u32, f32)> =
            self.logit_bias.iter().flatten().map(bias).collect::<Result<_, _>>()?;
        logit_bias.sort_by_key(|(token, _)| *token);
        let seed = self.seed.map_or_else(rand::random, |seed| seed as u64);
        Ok(SamplingOptions {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            logit_bias,
            seed: seed.wrapping_add(choice as u64),
        })
    }
}

/// One text or several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub(crate) enum Texts {
    /// None.
    #[default]
    None,
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Texts {
    /// Returns the texts.
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Texts::None => Vec::new(),
            Texts::One(text) => vec![text],
            Texts::Several(texts) => texts,
        }
    }
}

/// Texts or tokens, one or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Prompts {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// One list of tokens.
    Tokens(Vec<u32>),
    /// Several lists of tokens.
    TokenLists(Vec<Vec<u32>>),
}

/// A text, or tokens.
#[derive(Clone, Debug)]
pub(crate) enum Prompt {
    /// A text, which the tokenizer turns into tokens.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

impl Prompt {
    /// Returns true if there is neither a character nor a token.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Prompt::Text(text) => text.is_empty(),
            Prompt::Tokens(tokens) => tokens.is_empty(),
        }
    }
}

impl Prompts {
    /// Returns the prompts.
    pub(crate) fn into_vec(self) -> Vec<Prompt> {
        match self {
            Prompts::Text(text) => vec![Prompt::Text(text)],
            Prompts::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Prompts::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Prompts::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

/// Options of a streamed answer.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct StreamOptions {
    /// End with the number of tokens.
    #[serde(default)]
    pub(crate) include_usage: bool,
}

/// Numbers of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    prompt: usize,
    cached: usize,
    tokens: usize,
}

impl Usage {
    /// Adds a text. The prompt counts once for all choices.
    pub(crate) fn add(&mut self, finish: &Finish, first_choice: bool) {
        if first_choice {
            self.prompt += finish.prompt;
            self.cached += finish.cached;
        }
        self.tokens += finish.tokens;
    }

    /// Returns the numbers as completions and chats report them.
    pub(crate) fn json(self) -> Value {
        let Usage { prompt, cached, tokens } = self;
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        })
    }

    /// Returns the numbers as responses report them.
    pub(crate) fn response_json(self) -> Value {
        let Usage { prompt, cached, tokens } = self;
        json!({
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + tokens,
        })
    }
}

/// Checks the number of choices that a request asks for.
///
/// # Errors
/// If it is 0, or more than the server allows.
pub(crate) fn choices(n: Option<usize>, most: usize) -> Result<usize, ApiError> {
    match n.unwrap_or(1) {
        n if (1..=most).contains(&n) => Ok(n),
        n => Err(ApiError::field("n", format!("n is {n}; expected 1 to {most}"))),
    }
}
