//! Tokenizers in the files that came before `tokenizer.json`: `tokenizer.model`, or `vocab.json` with `merges.txt`, and the
//! files beside them that add tokens.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::hub::{MOST_TOKENS, TokenName, read};
use super::piece_model::PieceModel;
use super::{GgufVocabulary, Tokenizer, TokenizerError};
use crate::config::shorten;
use crate::python_json;

/// The token that GPT-2's vocabulary has for the start and the end of a text.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The part of `tokenizer_config.json` that bears on ids.
#[derive(Default, Deserialize)]
struct Settings {
    tokenizer_class: Option<String>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, Added>,
}

/// A token that is matched whole.
#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    special: bool,
}

/// The part of `special_tokens_map.json` that bears on ids.
#[derive(Default, Deserialize)]
struct Special {
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    unk_token: Option<TokenName>,
    pad_token: Option<TokenName>,
    #[serde(default)]
    additional_special_tokens: Vec<TokenName>,
}

/// Additions to a vocabulary by the files beside it.
struct Beside {
    settings: Settings,
    special: Special,
    /// Text of each added token, and true for those that write nothing.
    added: BTreeMap<u32, (String, bool)>,
}

impl Beside {
    fn read(directory: &Path) -> Result<Beside, TokenizerError> {
        let mut settings: Settings = optional(&directory.join("tokenizer_config.json"))?;
        let special: Special = optional(&directory.join("special_tokens_map.json"))?;
        let by_text: BTreeMap<String, u32> = optional(&directory.join("added_tokens.json"))?;
        let mut beside = Beside { special, added: BTreeMap::new(), settings: Settings::default() };
        for (text, id) in by_text {
            let is_special = beside.is_special(&text);
            beside.added.insert(id, (text, is_special));
        }
        for (id, token) in std::mem::take(&mut settings.added_tokens_decoder) {
            beside.added.insert(id, (token.content, token.special));
        }
        if let Some(id) = beside.added.keys().find(|id| **id as usize >= MOST_TOKENS) {
            let path = directory.join("tokenizer_config.json");
            return Err(TokenizerError::File { path, message: format!("it adds a token with the id {id}") });
        }
        Ok(Beside { settings, ..beside })
    }

    fn is_special(&self, text: &str) -> bool {
        let Special { bos_token, eos_token, unk_token, pad_token, additional_special_tokens } = &self.special;
        let named = [bos_token, eos_token, unk_token, pad_token].into_iter().flatten();
        named.chain(additional_special_tokens).any(|token| token.text() == text)
    }

    /// Texts of the tokens that start and end a text.
    fn ends(&self) -> [Option<&str>; 2] {
        let bos = self.settings.bos_token.as_ref().or(self.special.bos_token.as_ref());
        let eos = self.settings.eos_token.as_ref().or(self.special.eos_token.as_ref());
        [bos, eos].map(|token| token.map(TokenName::text))
    }
}

/// The tokenizer of a model file of SentencePiece.
pub(super) fn of_pieces(path: &Path) -> Result<Tokenizer, TokenizerError> {
    let mut model = PieceModel::parse(&read(path)?)?;
    let beside = Beside::read(path.parent().unwrap_or(Path::new(".")))?;
    for (id, (text, is_special)) in &beside.added {
        model.add(*id, text.clone(), *is_special);
    }
    let [bos, eos] = beside.ends().map(|text| text.and_then(|text| model.id_of(text)));
    let vocabulary = model.vocabulary();
    Tokenizer::from_gguf(&GgufVocabulary {
        bos: bos.or(vocabulary.bos),
        eos: eos.or(vocabulary.eos),
        add_bos: beside.settings.add_bos_token,
        add_eos: beside.settings.add_eos_token,
        ..vocabulary
    })
}

/// The tokenizer of a byte-level vocabulary, `vocab.json`, with `merges.txt` beside it.
pub(super) fn of_merges(path: &Path) -> Result<Tokenizer, TokenizerError> {
    let file = |message: String| TokenizerError::File { path: path.into(), message };
    let merges_path = path.with_file_name("merges.txt");
    let merges = String::from_utf8(read(&merges_path)?)
        .map_err(|_| TokenizerError::File { path: merges_path.clone(), message: "it is not UTF-8".into() })?;
    let vocabulary: BTreeMap<String, u32> =
        python_json::parse(&read(path)?).map_err(|error| file(python_json::problem(&error)))?;
    let beside = Beside::read(path.parent().unwrap_or(Path::new(".")))?;
    let pre = match beside.settings.tokenizer_class.as_deref().map(|class| class.trim_end_matches("Fast")) {
        None | Some("GPT2Tokenizer" | "RobertaTokenizer" | "CodeGenTokenizer") => "gpt-2",
        Some("Qwen2Tokenizer") => "qwen2",
        Some(other) => {
            return Err(file(format!(
                "its `tokenizer_class` is {}, of which the way to split text is not known; \
                 put the model's `tokenizer.json` beside it",
                shorten(other)
            )));
        }
    };
    let highest = vocabulary.values().chain(beside.added.keys()).max().copied().unwrap_or(0) as usize;
    if highest >= MOST_TOKENS {
        return Err(file(format!("its highest token id is {highest}")));
    }
    // Ids that nothing names are tokens that are never made.
    let mut tokens: Vec<String> = (0..=highest).map(|id| format!("<unused {id}>")).collect();
    let mut kinds = vec![5; tokens.len()];
    let [bos, eos] = beside.ends();
    for (text, id) in &vocabulary {
        let is_end = [bos, eos].contains(&Some(text.as_str())) || text == END_OF_TEXT;
        kinds[*id as usize] = if is_end || beside.is_special(text) { 3 } else { 1 };
        tokens[*id as usize].clone_from(text);
    }
    for (id, (text, is_special)) in &beside.added {
        kinds[*id as usize] = if *is_special { 3 } else { 4 };
        tokens[*id as usize].clone_from(text);
    }
    let id_of = |text: &str| {
        let place = tokens.iter().position(|token| token == text);
        place.and_then(|place| u32::try_from(place).ok())
    };
    let end = |text: Option<&str>| id_of(text.unwrap_or(END_OF_TEXT));
    Tokenizer::from_gguf(&GgufVocabulary {
        model: "gpt2",
        pre: Some(pre),
        merges: merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect(),
        bos: end(bos),
        eos: end(eos),
        add_bos: Some(beside.settings.add_bos_token.unwrap_or(false)),
        add_eos: beside.settings.add_eos_token,
        tokens: tokens.iter().map(String::as_str).collect(),
        token_types: kinds,
        ..GgufVocabulary::default()
    })
}

/// The content of a JSON file, or nothing where there is no such file.
fn optional<T: Default + DeserializeOwned>(path: &Path) -> Result<T, TokenizerError> {
    match read(path) {
        Ok(bytes) => python_json::parse(&bytes).map_err(|error| TokenizerError::File {
            path: path.into(),
            message: python_json::problem(&error),
        }),
        Err(TokenizerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error),
    }
}
