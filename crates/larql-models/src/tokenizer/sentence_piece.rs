//! SentencePiece BPE: any two neighbours whose joined text is a token are joined, the highest score first; or those
//! of a list, in its order.

use rustc_hash::FxHashMap;

use super::TokenizerError;
use super::merge::{self, Merge, Output, Symbol, Word};
use super::vocabulary::{TokenTable, TokenType, Vocabulary};

/// Character for a space.
pub(super) const SPACE: &str = "\u{2581}";
const SPACE_CHAR: char = '\u{2581}';

/// The order of tokens that are not made by joining.
const NEVER: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct SentencePiece {
    joins: Joins,
    /// The token of each byte, for characters without a token.
    bytes: [Option<u32>; 256],
    /// Characters with a space after them in some token. After all others, text can be cut before a space and
    /// merged piece by piece: no token spans the cut.
    before_space: Vec<char>,
    /// Places at which text gets a space in front.
    pub(super) prefix: Prefix,
}

/// Rule for joining neighbours.
#[derive(Debug)]
enum Joins {
    /// Merges that make a token: for each token its place in the order, the same for equal scores; [`NEVER`] for what
    /// is not made.
    Scores(Vec<u32>),
    /// Merges of a list, by the two tokens that are joined.
    Listed(FxHashMap<(u32, u32), Merge>),
}

/// Places at which a space is put before text; tokenizers differ in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Nowhere.
    Never,
    /// Before a text that begins with none.
    Start,
    /// Before every stretch of text between special tokens (`Prepend` in `tokenizer.json`).
    Stretches,
}

/// True if a token is a run of spaces. Files may give those as user-defined, but they are merged like tokens that were
/// learnt, not matched whole.
pub(super) fn is_spaces(token: &str) -> bool {
    !token.is_empty() && token.chars().all(|character| character == SPACE_CHAR)
}

/// A character as SentencePiece writes it.
fn spell(character: char) -> char {
    if character == ' ' { SPACE_CHAR } else { character }
}

/// The byte of a token such as `<0x0A>`.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

impl SentencePiece {
    /// One that joins by the scores of tokens.
    pub(super) fn by_scores(
        vocabulary: &Vocabulary,
        scores: &[f32],
        prefix: Prefix,
    ) -> Result<Self, TokenizerError> {
        let tokens = &vocabulary.tokens;
        if scores.len() != tokens.len() {
            let (expected, found) = (tokens.len(), scores.len());
            return Err(TokenizerError::Length { array: "scores", expected, found });
        }
        if let Some((id, token)) = tokens.iter().find(|&(id, _)| scores[id as usize].is_nan()) {
            return Err(TokenizerError::Score { id, token: token.to_owned() });
        }
        Ok(Self::new(vocabulary, Joins::Scores(order(vocabulary, scores)), prefix))
    }

    /// One that joins by a list of merges.
    pub(super) fn by_merges(
        vocabulary: &Vocabulary,
        list: &[&str],
        prefix: Prefix,
    ) -> Result<Self, TokenizerError> {
        let joins = Joins::Listed(merge::of_list(&vocabulary.tokens, list)?);
        Ok(Self::new(vocabulary, joins, prefix))
    }

    fn new(vocabulary: &Vocabulary, joins: Joins, prefix: Prefix) -> Self {
        let tokens = &vocabulary.tokens;
        let mut bytes = [None; 256];
        let mut before_space = Vec::new();
        for (id, text) in tokens.iter() {
            if vocabulary.kind(id) == Some(TokenType::Byte) {
                if let Some(byte) = byte_of(text) {
                    bytes[usize::from(byte)] = Some(id);
                }
                continue;
            }
            let pairs = text.chars().zip(text.chars().skip(1));
            before_space.extend(pairs.filter(|&(_, next)| next == SPACE_CHAR).map(|(before, _)| before));
        }
        before_space.sort_unstable();
        before_space.dedup();
        Self { joins, bytes, before_space, prefix }
    }

    /// Appends the tokens of a text, and before it those of a space where one belongs there.
    pub(super) fn encode<'t>(
        &self,
        text: &'t str,
        at_start: bool,
        vocabulary: &Vocabulary,
        out: &mut Output<'t>,
    ) -> Result<(), TokenizerError> {
        let mut rest = text;
        let has_prefix = match self.prefix {
            Prefix::Never => false,
            Prefix::Start => at_start && !text.starts_with([' ', SPACE_CHAR]),
            Prefix::Stretches => true,
        };
        if has_prefix {
            // A prefix and a space after it may make a token, so both are in one word.
            let word = text.len() - text.trim_start_matches([' ', SPACE_CHAR]).len();
            let first = word + self.split_word(&text[word..]).0.len();
            let (first, others) = text.split_at(first);
            let spelled = format!("{SPACE}{}", first.replace(' ', SPACE));
            self.encode_word(&spelled, vocabulary, &mut Word::default(), &mut out.ids)?;
            rest = others;
        }
        let mut spelled = String::new();
        while !rest.is_empty() {
            let (piece, others) = self.split_word(rest);
            out.push_piece(piece, |word, ids| {
                spelled.clear();
                spelled.extend(piece.chars().map(spell));
                self.encode_word(&spelled, vocabulary, word, ids)
            })?;
            rest = others;
        }
        Ok(())
    }

    /// Cuts a text at the first place that no token spans.
    fn split_word<'t>(&self, text: &'t str) -> (&'t str, &'t str) {
        let pairs = text.char_indices().zip(text.char_indices().skip(1));
        let mut cuts = pairs.filter(|&((_, before), (_, character))| {
            spell(character) == SPACE_CHAR && self.before_space.binary_search(&spell(before)).is_err()
        });
        text.split_at(cuts.next().map_or(text.len(), |(_, (at, _))| at))
    }

    fn encode_word(
        &self,
        text: &str,
        vocabulary: &Vocabulary,
        word: &mut Word,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        word.clear();
        for (start, character) in text.char_indices() {
            let end = start + character.len_utf8();
            word.push(vocabulary.tokens.id(&text[start..end]), start, end);
        }
        word.merge(|left, right| self.merge_of(text, &vocabulary.tokens, left, right));

        let mut after_unknown = false;
        for symbol in word.symbols() {
            let start = ids.len();
            let character = &text.as_bytes()[symbol.start as usize..symbol.end as usize];
            ids.extend(symbol.token);
            if symbol.token.is_none() {
                ids.extend(character.iter().map_while(|&byte| self.bytes[usize::from(byte)]));
            }
            let is_known = symbol.token.is_some() || ids.len() - start == character.len();
            if !is_known {
                // Neighbouring unknown characters share one token.
                ids.truncate(start);
                if !after_unknown {
                    ids.push(vocabulary.unknown_for(character[0])?);
                }
            }
            after_unknown = !is_known;
        }
        Ok(())
    }

    fn merge_of(&self, text: &str, tokens: &TokenTable, left: &Symbol, right: &Symbol) -> Option<Merge> {
        let (left_token, right_token) = (left.token?, right.token?);
        match &self.joins {
            Joins::Listed(merges) => merges.get(&(left_token, right_token)).copied(),
            Joins::Scores(order) => {
                let token = tokens.id(&text[left.start as usize..right.end as usize])?;
                scored(order, token, left.chars, right.chars)
            }
        }
    }

    /// Every merge that there is, in order, with the texts of its two sides.
    pub(super) fn merges<'a>(&self, tokens: &'a TokenTable) -> Vec<(&'a str, &'a str)> {
        let mut merges = Vec::new();
        match &self.joins {
            Joins::Listed(listed) => {
                let side = |id| tokens.text(id).unwrap_or_default();
                merges.extend(listed.iter().map(|(&(left, right), merge)| (*merge, side(left), side(right))));
            }
            Joins::Scores(order) => {
                // Every way in which a token falls into two others.
                for (id, text) in tokens.iter().filter(|&(id, text)| tokens.id(text) == Some(id)) {
                    let chars = text.chars().count() as u32;
                    for (left_chars, (at, _)) in (0..).zip(text.char_indices()).skip(1) {
                        let (left, right) = text.split_at(at);
                        let sides = tokens.id(left).and(tokens.id(right));
                        let merge = sides.and_then(|_| scored(order, id, left_chars, chars - left_chars));
                        merges.extend(merge.map(|merge| (merge, left, right)));
                    }
                }
            }
        }
        merges.sort_unstable_by_key(|&(merge, _, _)| merge);
        merges.into_iter().map(|(_, left, right)| (left, right)).collect()
    }
}

/// The making of `token` from a left and a right side of these numbers of characters, if it is ever made.
///
/// Scores decide; of equal ones the pair with the longest left, then the longest right side goes first, which
/// is how `transformers` orders the merges that it derives from a list of scores.
fn scored(order: &[u32], token: u32, left: u32, right: u32) -> Option<Merge> {
    let order = order[token as usize];
    let shortness = |chars: u32| u64::from(u16::MAX - chars.min(u32::from(u16::MAX)) as u16);
    let rank = u64::from(order) << 32 | shortness(left) << 16 | shortness(right);
    (order != NEVER).then_some(Merge { rank, token })
}

/// The order in which tokens are joined: user-defined ones (runs of spaces; the others are matched whole) in the
/// order of the file, then those that were learnt, by score.
fn order(vocabulary: &Vocabulary, scores: &[f32]) -> Vec<u32> {
    let is_given = |id: u32| vocabulary.kind(id) == Some(TokenType::UserDefined);
    let score = |id: u32| scores[id as usize];
    let mut ids: Vec<u32> = (0..scores.len() as u32)
        .filter(|&id| !matches!(vocabulary.kind(id), Some(TokenType::Byte | TokenType::Control)))
        .collect();
    ids.sort_by(|&a, &b| match (is_given(a), is_given(b)) {
        (true, true) => a.cmp(&b),
        (false, false) => score(b).total_cmp(&score(a)),
        (a, b) => b.cmp(&a),
    });
    let mut order = vec![NEVER; scores.len()];
    let same_place = |a: &u32, b: &u32| !is_given(*a) && !is_given(*b) && score(*a) == score(*b);
    for (place, ids) in (0..).zip(ids.chunk_by(same_place)) {
        for &id in ids {
            order[id as usize] = place;
        }
    }
    order
}
