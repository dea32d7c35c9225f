//! Grammars: texts that have to be JSON, or meet a schema.

use std::sync::Arc;

use larql_inference::{Constraint, ConstraintError};
use larql_models::Tokenizer;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::error::ApiError;

/// A model's vocabulary, prepared for grammars.
pub(crate) struct Vocabulary {
    factory: ParserFactory,
}

/// A grammar that a text has to meet, at its start.
pub(crate) struct Grammar {
    matcher: Matcher,
}

impl Vocabulary {
    /// Prepares the vocabulary of a model whose logits are `vocab_size` numbers.
    ///
    /// # Errors
    /// If the model has no token that ends a text.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        stop_tokens: &[u32],
        vocab_size: usize,
    ) -> Result<Vocabulary, ApiError> {
        let end = stop_tokens.iter().chain(tokenizer.eos()).find(|token| (**token as usize) < vocab_size);
        let Some(&end) = end else {
            return Err(ApiError::invalid("the model has no token that ends a text, which a grammar needs"));
        };
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            match tokenizer.is_special(id) || stop_tokens.contains(&id) {
                true => [&[TokTrie::SPECIAL_TOKEN_MARKER][..], &bytes].concat(),
                false => bytes,
            }
        };
        let words: Vec<Vec<u8>> = (0..vocab_size as u32).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|error| ApiError::internal(error.to_string()))?;
        factory.quiet();
        Ok(Vocabulary { factory })
    }

    /// Returns the grammar of texts that meet a JSON Schema. Between values stand no more blanks than one.
    ///
    /// # Errors
    /// If the schema is not valid, uses a keyword that is not supported, or cannot be met.
    pub(crate) fn json_schema(&self, schema: &Value, field: &str) -> Result<Grammar, ApiError> {
        let mut schema = schema.clone();
        if let Value::Object(object) = &mut schema {
            let style = serde_json::json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
            object.insert("x-guidance".into(), style);
        }
        self.grammar(TopLevelGrammar::from_grammar(GrammarWithLexer::from_json_schema(schema)), field)
    }

    fn grammar(&self, grammar: TopLevelGrammar, field: &str) -> Result<Grammar, ApiError> {
        let parser = self.factory.create_parser(grammar);
        let parser =
            parser.map_err(|error| ApiError::field(field, format!("the schema cannot be used: {error}")))?;
        Ok(Grammar { matcher: Matcher::new(Ok(parser)) })
    }
}

impl Constraint for Grammar {
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), ConstraintError> {
        let allowed = self.matcher.compute_mask_or_eos()?;
        for (token, logit) in logits.iter_mut().enumerate() {
            if !allowed.is_allowed(token as u32) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        Ok(self.matcher.consume_token(token)?)
    }

    fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}
