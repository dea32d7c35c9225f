//! A tokenizer made from the vocabulary of a GGUF file.
//!
//! Building the general one of the `tokenizers` library takes over a second for 262,144 tokens, more than loading
//! a whole model. This one keeps what the file has: a table of token texts and, for byte-level BPE, the merges.

use std::borrow::Cow;

use super::byte_level::ByteLevel;
use super::merge::Output;
use super::sentence_piece::{self, Prefix, SPACE, SentencePiece};
use super::split::Scheme;
use super::trie::{Segment, Trie};
use super::vocabulary::{GgufVocabulary, TokenTable, TokenType, Vocabulary};
use super::{SpecialTokens, TokenizerError, alphabet};

#[derive(Debug)]
pub(super) struct GgufTokenizer {
    pub(super) vocabulary: Vocabulary,
    /// Tokens that are matched whole before anything else.
    whole: Trie,
    pub(super) model: Model,
    /// Tokens before a text.
    pub(super) bos: Option<u32>,
    /// Tokens after a text.
    pub(super) eos: Option<u32>,
    /// True if special tokens take the blanks after them; see [`GgufVocabulary::strips_after_special`].
    strips_after_special: bool,
}

#[derive(Debug)]
pub(super) enum Model {
    ByteLevel(ByteLevel),
    SentencePiece(SentencePiece),
}

impl GgufTokenizer {
    pub(super) fn new(file: &GgufVocabulary<'_>) -> Result<(Self, SpecialTokens), TokenizerError> {
        let (vocabulary, model, default_bos) = match file.model {
            "gpt2" => {
                let scheme = Scheme::named(file.pre)?;
                let vocabulary = Vocabulary::new(TokenTable::new(file.tokens.iter())?, file)?;
                let model = ByteLevel::new(scheme, &vocabulary, &file.merges)?;
                (vocabulary, Model::ByteLevel(model), scheme.add_bos)
            }
            "llama" | "gemma4" => {
                // Files have user-defined runs of spaces as such; merging sees them as SentencePiece does.
                let spelled = file.tokens.iter().map(|token| match token.bytes().all(|byte| byte == b' ') {
                    true => Cow::Owned(SPACE.repeat(token.len())),
                    false => Cow::Borrowed(*token),
                });
                let vocabulary = Vocabulary::new(TokenTable::new(spelled)?, file)?;
                let model = match file.model {
                    "llama" => {
                        SentencePiece::by_scores(&vocabulary, &file.scores, prefix(file, &vocabulary))?
                    }
                    _ => SentencePiece::by_merges(&vocabulary, &file.merges, Prefix::Never)?,
                };
                (vocabulary, Model::SentencePiece(model), true)
            }
            other => return Err(TokenizerError::UnknownModel { name: other.into() }),
        };
        let is_token = |id: &u32| (*id as usize) < vocabulary.tokens.len();
        let (bos, eos) = (file.bos.filter(is_token), file.eos.filter(is_token));
        let tokenizer = Self {
            whole: Trie::new(vocabulary.tokens.iter().filter(|&(id, _)| is_whole(&vocabulary, &model, id))),
            bos: bos.filter(|_| file.add_bos.unwrap_or(default_bos)),
            eos: eos.filter(|_| file.add_eos.unwrap_or(false)),
            strips_after_special: file.strips_after_special,
            vocabulary,
            model,
        };
        Ok((tokenizer, SpecialTokens { bos, eos: eos.into_iter().collect() }))
    }

    pub(super) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        // Spaces may take three times as much when they are spelled.
        if text.len() > (u32::MAX / 4) as usize {
            return Err(TokenizerError::TooLong { bytes: text.len() });
        }
        let mut out = Output::default();
        out.ids.extend(self.bos.filter(|_| add_special));
        let mut strips = false;
        self.whole.split(text, |segment| {
            let (offset, text) = match segment {
                Segment::Token(id) => {
                    strips = self.strips_after(id);
                    out.ids.push(id);
                    return Ok(());
                }
                Segment::Text(offset, text) => (offset, if strips { text.trim_start() } else { text }),
            };
            match &self.model {
                _ if text.is_empty() => Ok(()),
                Model::ByteLevel(model) => model.encode(text, &self.vocabulary, &mut out),
                Model::SentencePiece(model) => model.encode(text, offset == 0, &self.vocabulary, &mut out),
            }
        })?;
        out.ids.extend(self.eos.filter(|_| add_special));
        Ok(out.ids)
    }

    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if !(skip_special && self.is_special(id)) {
                self.write_token(id, &mut bytes);
            }
        }
        self.drop_prefix(&mut bytes);
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    pub(super) fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_token(id, &mut bytes).then_some(bytes)
    }

    pub(super) fn bytes_after(&self, previous: Option<u32>, id: u32) -> Vec<u8> {
        let mut bytes = self.token_bytes(id).unwrap_or_default();
        if previous.is_none() {
            self.drop_prefix(&mut bytes);
        }
        bytes
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        matches!(self.vocabulary.kind(id), Some(TokenType::Control | TokenType::Unknown | TokenType::Unused))
    }

    /// True if a token is matched whole in a text, before splitting and merging.
    pub(super) fn is_whole(&self, id: u32) -> bool {
        is_whole(&self.vocabulary, &self.model, id)
    }

    /// Returns true if a token takes the blanks after it.
    pub(super) fn strips_after(&self, id: u32) -> bool {
        const OTHERS: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];
        let is_other = || self.vocabulary.tokens.text(id).is_some_and(|text| OTHERS.contains(&text));
        self.strips_after_special && self.is_whole(id) && !is_other()
    }

    /// Removes the space that encoding put in front of a text.
    fn drop_prefix(&self, text: &mut Vec<u8>) {
        if let Model::SentencePiece(SentencePiece { prefix: Prefix::Start | Prefix::Stretches, .. }) =
            self.model
            && text.first() == Some(&b' ')
        {
            text.remove(0);
        }
    }

    /// Appends what a token writes in the middle of a text. Returns whether there is such a token.
    fn write_token(&self, id: u32, out: &mut Vec<u8>) -> bool {
        let (Some(text), Some(kind)) = (self.vocabulary.tokens.text(id), self.vocabulary.kind(id)) else {
            return false;
        };
        let is_plain = matches!(kind, TokenType::Control | TokenType::Unknown | TokenType::UserDefined);
        match &self.model {
            Model::ByteLevel(_) => match alphabet::bytes_of(text).filter(|_| !is_plain) {
                Some(bytes) => out.extend(bytes),
                None => out.extend(text.as_bytes()),
            },
            Model::SentencePiece(_) => match sentence_piece::byte_of(text) {
                Some(byte) if kind == TokenType::Byte => out.push(byte),
                _ => out.extend(text.replace(SPACE, " ").as_bytes()),
            },
        }
        true
    }
}

/// Places at which a file's tokenizer puts a space before text. Files say whether, not where: as `transformers` and llama.cpp agree,
/// before every stretch of text, but with the vocabularies of Mistral's later tokenizers before the whole text.
fn prefix(file: &GgufVocabulary<'_>, vocabulary: &Vocabulary) -> Prefix {
    let is_later = || vocabulary.tokens.id("[INST]").is_some();
    match file.add_space_prefix.unwrap_or(true) {
        false => Prefix::Never,
        true if is_later() => Prefix::Start,
        true => Prefix::Stretches,
    }
}

fn is_whole(vocabulary: &Vocabulary, model: &Model, id: u32) -> bool {
    let is_merged = || {
        let is_spaces = vocabulary.tokens.text(id).is_some_and(sentence_piece::is_spaces);
        matches!(model, Model::SentencePiece(_)) && is_spaces
    };
    let kind = vocabulary.kind(id);
    matches!(kind, Some(TokenType::Control | TokenType::Unknown | TokenType::UserDefined)) && !is_merged()
}
