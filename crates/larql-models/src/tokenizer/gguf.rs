//! A tokenizer made from the vocabulary of a GGUF file.
//!
//! Building the general one of the `tokenizers` library takes over a second for 262,144 tokens, more than loading
//! a whole model. This one keeps what the file has: a table of token texts and, for byte-level BPE, the merges.

use rustc_hash::FxHashMap;

use super::alphabet;
use super::merge::{Merge, Symbol, Word};
use super::split::{Scheme, Splitter};
use super::trie::{Segment, Trie};
use super::vocabulary::{GgufVocabulary, TokenTable, TokenType};
use super::{SpecialTokens, TokenizerError};

/// What SentencePiece writes for a space.
pub(super) const SPACE: &str = "\u{2581}";
const SPACE_CHAR: char = '\u{2581}';

/// The order of tokens that are not made by joining.
const NEVER: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct GgufTokenizer {
    pub(super) tokens: TokenTable,
    pub(super) types: Vec<TokenType>,
    /// Tokens that are matched before anything else.
    whole: Trie,
    pub(super) model: Model,
    pub(super) unknown: Option<u32>,
    pub(super) add_bos: Option<u32>,
    pub(super) add_eos: Option<u32>,
}

#[derive(Debug)]
pub(super) enum Model {
    ByteLevel(ByteLevel),
    SentencePiece(SentencePiece),
}

/// Byte-level BPE: pieces of text become bytes, and pairs of tokens are joined in the order of a list.
#[derive(Debug)]
pub(super) struct ByteLevel {
    pub(super) scheme: &'static Scheme,
    splitter: Splitter,
    /// The token of each byte.
    bytes: [Option<u32>; 256],
    /// By the two tokens that are joined.
    pub(super) merges: FxHashMap<(u32, u32), Merge>,
}

/// SentencePiece BPE: any two neighbours whose joined text is a token are joined, the highest score first.
#[derive(Debug)]
pub(super) struct SentencePiece {
    /// Place of each token in the order of joining, the same for equal scores; [`NEVER`] for what is not.
    order: Vec<u32>,
    /// The token of each byte, for characters without a token.
    bytes: [Option<u32>; 256],
    /// Characters with a space after them in some token. After all others, text can be cut before a space and
    /// merged piece by piece: no token spans the cut.
    before_space: Vec<char>,
    /// Whether text gets a space in front.
    pub(super) space_prefix: bool,
}

impl GgufTokenizer {
    pub(super) fn new(vocabulary: &GgufVocabulary<'_>) -> Result<(Self, SpecialTokens), TokenizerError> {
        let count = vocabulary.tokens.len();
        let array = |array, found| match found {
            found if found == count => Ok(()),
            found => Err(TokenizerError::Length { array, expected: count, found }),
        };
        if !vocabulary.token_types.is_empty() {
            array("token_type", vocabulary.token_types.len())?;
        }
        let mut types: Vec<_> =
            vocabulary.token_types.iter().map(|&kind| TokenType::from_gguf(kind)).collect();
        types.resize(count, TokenType::Normal);

        let special = |key, id: Option<u32>| match id {
            Some(id) if id as usize >= count => Err(TokenizerError::SpecialToken { key, id, count }),
            id => Ok(id),
        };
        let bos = special("bos_token_id", vocabulary.bos)?;
        let eos = special("eos_token_id", vocabulary.eos)?;
        let unknown = special("unknown_token_id", vocabulary.unknown)?;
        let padding = special("padding_token_id", vocabulary.padding)?;
        for id in [bos, eos, unknown, padding].into_iter().flatten() {
            if types[id as usize] != TokenType::Unknown {
                types[id as usize] = TokenType::Control;
            }
        }

        let (tokens, model, default_bos) = match vocabulary.model {
            "gpt2" => {
                let scheme = Scheme::named(vocabulary.pre)?;
                let tokens = TokenTable::new(vocabulary.tokens.iter())?;
                let model = ByteLevel::new(scheme, &tokens, &vocabulary.merges)?;
                (tokens, Model::ByteLevel(model), scheme.add_bos)
            }
            "llama" => {
                array("scores", vocabulary.scores.len())?;
                // Files write user-defined runs of spaces as such; merging sees them as SentencePiece does.
                let spelled = vocabulary.tokens.iter().map(|token| {
                    if is_spaces(token) { SPACE.repeat(token.len()).into() } else { (*token).into() }
                });
                let tokens = TokenTable::new::<std::borrow::Cow<'_, str>>(spelled)?;
                let model = SentencePiece::new(vocabulary, &tokens, &types)?;
                (tokens, Model::SentencePiece(model), true)
            }
            other => return Err(TokenizerError::UnknownModel { name: other.into() }),
        };

        let whole = Trie::new(tokens.iter().filter(|&(id, text)| is_whole(types[id as usize], text, &model)));
        let tokenizer = Self {
            add_bos: bos.filter(|_| vocabulary.add_bos.unwrap_or(default_bos)),
            add_eos: eos.filter(|_| vocabulary.add_eos.unwrap_or(false)),
            tokens,
            types,
            whole,
            model,
            unknown,
        };
        Ok((tokenizer, SpecialTokens { bos, eos: eos.into_iter().collect() }))
    }

    pub(super) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        // Spaces may take three times as much when they are spelled.
        if text.len() > (u32::MAX / 4) as usize {
            return Err(TokenizerError::TooLong { bytes: text.len() });
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        ids.extend(self.add_bos.filter(|_| add_special));
        let mut word = Word::default();
        self.whole.split(text, |segment| match (segment, &self.model) {
            (Segment::Token(id), _) => {
                ids.push(id);
                Ok(())
            }
            (Segment::Text(_, text), Model::ByteLevel(model)) => {
                model.encode(text, &self.tokens, self.unknown, &mut word, &mut ids)
            }
            (Segment::Text(offset, text), Model::SentencePiece(model)) => {
                let text = model.spell(text, offset == 0);
                model.encode(&text, &self.tokens, self.unknown, &mut word, &mut ids)
            }
        })?;
        ids.extend(self.add_eos.filter(|_| add_special));
        Ok(ids)
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

    /// The bytes that a token writes in the middle of a text; none for an id that there is not.
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

    /// Removes the space that encoding put in front of a text.
    fn drop_prefix(&self, text: &mut Vec<u8>) {
        if let Model::SentencePiece(SentencePiece { space_prefix: true, .. }) = self.model
            && text.first() == Some(&b' ')
        {
            text.remove(0);
        }
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        matches!(
            self.types.get(id as usize),
            Some(TokenType::Control | TokenType::Unknown | TokenType::Unused)
        )
    }

    /// Appends what a token writes. Returns whether there is such a token.
    fn write_token(&self, id: u32, out: &mut Vec<u8>) -> bool {
        let (Some(text), Some(&kind)) = (self.tokens.text(id), self.types.get(id as usize)) else {
            return false;
        };
        match (&self.model, kind) {
            (Model::ByteLevel(_), TokenType::Normal | TokenType::Byte | TokenType::Unused) => {
                match alphabet::bytes_of(text) {
                    Some(bytes) => out.extend(bytes),
                    None => out.extend(text.as_bytes()),
                }
            }
            (Model::SentencePiece(_), TokenType::Byte) => match byte_of_token(text) {
                Some(byte) => out.push(byte),
                None => out.extend(text.as_bytes()),
            },
            (Model::SentencePiece(_), _) => out.extend(text.replace(SPACE, " ").as_bytes()),
            (Model::ByteLevel(_), _) => out.extend(text.as_bytes()),
        }
        true
    }
}

/// Whether a token is matched whole in a text, before splitting and merging.
///
/// Runs of spaces are not: SentencePiece models learn them as ordinary tokens that merging arrives at.
pub(super) fn is_whole(kind: TokenType, text: &str, model: &Model) -> bool {
    let merged = matches!(model, Model::SentencePiece(_)) && text.chars().all(|c| c == SPACE_CHAR);
    matches!(kind, TokenType::Control | TokenType::Unknown | TokenType::UserDefined) && !merged
}

fn is_spaces(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte == b' ')
}

/// The byte of a token such as `<0x0A>`.
pub(super) fn byte_of_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

impl ByteLevel {
    fn new(scheme: &'static Scheme, tokens: &TokenTable, merges: &[&str]) -> Result<Self, TokenizerError> {
        let mut by_pair = FxHashMap::with_capacity_and_hasher(merges.len(), Default::default());
        let mut joined = String::new();
        for (rank, text) in (0..).zip(merges) {
            // The left side may itself start with a space in files that do not spell bytes out.
            let space = text.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(index, _)| index);
            let sides = space.map(|space| (&text[..space], &text[space + 1..]));
            let merge = sides.and_then(|(left, right)| {
                joined.clear();
                joined.extend([left, right]);
                Some(((tokens.id(left)?, tokens.id(right)?), Merge { rank, token: tokens.id(&joined)? }))
            });
            let (pair, merge) = merge
                .ok_or_else(|| TokenizerError::Merge { index: rank as usize, merge: (*text).to_owned() })?;
            by_pair.insert(pair, merge);
        }
        let bytes =
            std::array::from_fn(|byte| tokens.id(alphabet::char_of(byte as u8).encode_utf8(&mut [0; 4])));
        Ok(Self { scheme, splitter: Splitter::new(scheme)?, bytes, merges: by_pair })
    }

    fn encode(
        &self,
        text: &str,
        tokens: &TokenTable,
        unknown: Option<u32>,
        word: &mut Word,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut spelled = String::new();
        self.splitter.split(text, &mut |piece| {
            if self.scheme.whole_pieces {
                spelled.clear();
                spelled.extend(piece.bytes().map(alphabet::char_of));
                if let Some(id) = tokens.id(&spelled) {
                    ids.push(id);
                    return Ok(());
                }
            }
            word.clear();
            for (index, byte) in piece.bytes().enumerate() {
                word.push(self.bytes[usize::from(byte)], index, index + 1);
            }
            word.merge(|left, right| self.merges.get(&(left.token?, right.token?)).copied());
            for symbol in word.symbols() {
                let byte = piece.as_bytes()[symbol.start as usize];
                ids.push(symbol.token.or(unknown).ok_or(TokenizerError::NoToken { byte })?);
            }
            Ok(())
        })
    }
}

impl SentencePiece {
    fn new(
        vocabulary: &GgufVocabulary<'_>,
        tokens: &TokenTable,
        types: &[TokenType],
    ) -> Result<Self, TokenizerError> {
        let scores = &vocabulary.scores;
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(TokenizerError::Score { id, token: vocabulary.tokens[id].to_owned() });
        }
        // User-defined tokens (runs of spaces, the others are matched whole) go before all that were learnt.
        let is_learnt = |id: u32| types[id as usize] != TokenType::UserDefined;
        let mut ids: Vec<u32> = (0..tokens.len() as u32)
            .filter(|&id| !matches!(types[id as usize], TokenType::Byte | TokenType::Control))
            .collect();
        let key = |id: u32| (is_learnt(id), if is_learnt(id) { scores[id as usize] } else { -(id as f32) });
        ids.sort_by(|&a, &b| {
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))
        });
        let mut order = vec![NEVER; tokens.len()];
        let mut place = 0;
        for pair in ids.windows(2) {
            order[pair[0] as usize] = place;
            place += u32::from(key(pair[0]) != key(pair[1]));
        }
        if let Some(&last) = ids.last() {
            order[last as usize] = place;
        }

        let mut bytes = [None; 256];
        for (id, text) in tokens.iter().filter(|(id, _)| types[*id as usize] == TokenType::Byte) {
            if let Some(byte) = byte_of_token(text) {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        let mut before_space: Vec<char> = ids
            .iter()
            .flat_map(|&id| {
                let text = tokens.text(id).unwrap_or_default();
                text.chars().zip(text.chars().skip(1)).filter(|&(_, next)| next == SPACE_CHAR).map(|(c, _)| c)
            })
            .collect();
        before_space.sort_unstable();
        before_space.dedup();
        Ok(Self { order, bytes, before_space, space_prefix: vocabulary.add_space_prefix.unwrap_or(true) })
    }

    /// The text with its spaces as SentencePiece writes them, and one in front if it stands at the very start.
    fn spell(&self, text: &str, at_start: bool) -> String {
        let prefix = self.space_prefix && at_start && !text.starts_with([' ', SPACE_CHAR]);
        let mut spelled = String::with_capacity(text.len() + text.len() / 2 + SPACE.len());
        if prefix {
            spelled.push_str(SPACE);
        }
        for (index, part) in text.split(' ').enumerate() {
            if index > 0 {
                spelled.push_str(SPACE);
            }
            spelled.push_str(part);
        }
        spelled
    }

    fn encode(
        &self,
        text: &str,
        tokens: &TokenTable,
        unknown: Option<u32>,
        word: &mut Word,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut from = 0;
        let mut before = None;
        for (at, character) in text.char_indices() {
            let may_cut = character == SPACE_CHAR
                && before.is_some_and(|before| self.before_space.binary_search(&before).is_err());
            if may_cut {
                self.encode_word(&text[from..at], tokens, unknown, word, ids)?;
                from = at;
            }
            before = Some(character);
        }
        self.encode_word(&text[from..], tokens, unknown, word, ids)
    }

    fn encode_word(
        &self,
        text: &str,
        tokens: &TokenTable,
        unknown: Option<u32>,
        word: &mut Word,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        word.clear();
        for (start, character) in text.char_indices() {
            let end = start + character.len_utf8();
            word.push(tokens.id(&text[start..end]), start, end);
        }
        word.merge(|left, right| self.merge_of(text, tokens, left, right));
        let mut after_unknown = false;
        for symbol in word.symbols() {
            if let Some(token) = symbol.token {
                ids.push(token);
                after_unknown = false;
                continue;
            }
            let character = &text.as_bytes()[symbol.start as usize..symbol.end as usize];
            let start = ids.len();
            ids.extend(character.iter().map_while(|&byte| self.bytes[usize::from(byte)]));
            if ids.len() - start == character.len() {
                after_unknown = false;
                continue;
            }
            // Neighbouring unknown characters share one token.
            ids.truncate(start);
            if !after_unknown {
                ids.push(unknown.ok_or(TokenizerError::NoToken { byte: character[0] })?);
            }
            after_unknown = true;
        }
        Ok(())
    }

    fn merge_of(&self, text: &str, tokens: &TokenTable, left: &Symbol, right: &Symbol) -> Option<Merge> {
        left.token.and(right.token)?;
        self.merge(tokens.id(&text[left.start as usize..right.end as usize])?, left.chars, right.chars)
    }

    /// The making of `token` from a left and a right side of so many characters, if it is ever made.
    ///
    /// Scores decide; of equal ones the pair with the longest left, then the longest right side goes first, which
    /// is how `transformers` orders the merges that it derives from a list of scores.
    pub(super) fn merge(&self, token: u32, left: u32, right: u32) -> Option<Merge> {
        let order = self.order[token as usize];
        let shortness = |chars: u32| u64::from(u16::MAX - chars.min(u32::from(u16::MAX)) as u16);
        let rank = u64::from(order) << 32 | shortness(left) << 16 | shortness(right);
        (order != NEVER).then_some(Merge { rank, token })
    }
}
