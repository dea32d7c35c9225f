//! Model files of SentencePiece: `tokenizer.model`, a message of `sentencepiece_model.proto`.
//!
//! A message is a list of fields, each with its number and its kind of encoding (Protocol Buffers). Fields that bear on
//! no id are passed over.

use super::{GgufVocabulary, TokenizerError};

/// The part of a model file that tokenizing needs.
#[derive(Debug)]
pub(super) struct PieceModel {
    pieces: Vec<Piece>,
    add_prefix: bool,
    unknown: Option<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    padding: Option<u32>,
}

#[derive(Debug)]
struct Piece {
    text: String,
    score: f32,
    /// Numbered as in [`GgufVocabulary::token_types`].
    kind: i32,
}

/// More tokens than any vocabulary has.
const MOST_PIECES: usize = 1 << 24;

impl PieceModel {
    /// Reads a model file.
    ///
    /// # Errors
    /// [`TokenizerError::PieceModel`] if it is damaged, is not a model of byte-pair encoding, or changes text before that.
    pub(super) fn parse(bytes: &[u8]) -> Result<PieceModel, TokenizerError> {
        const BYTE_PAIRS: u64 = 2;
        // Absent fields mean these.
        let mut model = PieceModel {
            pieces: Vec::new(),
            add_prefix: true,
            unknown: Some(0),
            bos: Some(1),
            eos: Some(2),
            padding: None,
        };
        let (mut kind, mut drops_spaces) = (1, true);
        for field in fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) if model.pieces.len() < MOST_PIECES => {
                    model.pieces.push(Piece::parse(piece, model.pieces.len())?);
                }
                (2, Value::Bytes(trainer)) => {
                    for field in fields(trainer) {
                        match field? {
                            (3, Value::Number(number)) => kind = number,
                            (40, Value::Number(number)) => model.unknown = id(number),
                            (41, Value::Number(number)) => model.bos = id(number),
                            (42, Value::Number(number)) => model.eos = id(number),
                            (43, Value::Number(number)) => model.padding = id(number),
                            _ => {}
                        }
                    }
                }
                (3, Value::Bytes(normalizer)) => {
                    for field in fields(normalizer) {
                        match field? {
                            (2, Value::Bytes(table)) if !table.is_empty() => {
                                return Err(problem("text that a table normalises, which is not supported"));
                            }
                            (3, Value::Number(flag)) => model.add_prefix = flag != 0,
                            (4, Value::Number(flag)) => drops_spaces = flag != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match kind {
            _ if model.pieces.is_empty() => Err(problem("no pieces")),
            BYTE_PAIRS if drops_spaces => {
                Err(problem("text whose repeated spaces are dropped, which is not supported"))
            }
            BYTE_PAIRS => Ok(model),
            1 => Err(problem("a unigram model, of which only byte-pair encoding is supported")),
            other => Err(problem(format!(
                "a model of kind {other}, of which only byte-pair encoding is supported"
            ))),
        }
    }

    /// Adds a token that another file names; ids between that nothing names get tokens that are never made. A piece of that
    /// text keeps its kind unless it is a normal one.
    pub(super) fn add(&mut self, id: u32, text: String, is_special: bool) {
        /// Beyond the pieces no file adds more tokens than this.
        const MOST_ADDED: usize = 1 << 16;
        let index = id as usize;
        if index >= self.pieces.len() + MOST_ADDED {
            return;
        }
        while self.pieces.len() <= index {
            let text = format!("<unused {}>", self.pieces.len());
            self.pieces.push(Piece { text, score: 0.0, kind: 5 });
        }
        let kind = if is_special { 3 } else { 4 };
        if self.pieces[index].text == text && self.pieces[index].kind != 1 {
            return;
        }
        self.pieces[index] = Piece { text, kind, score: self.pieces[index].score };
    }

    /// The id of a text.
    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        self.pieces.iter().position(|piece| piece.text == text).and_then(|index| u32::try_from(index).ok())
    }

    /// The vocabulary as a GGUF file has it.
    pub(super) fn vocabulary(&self) -> GgufVocabulary<'_> {
        GgufVocabulary {
            model: "llama",
            tokens: self.pieces.iter().map(|piece| &*piece.text).collect(),
            scores: self.pieces.iter().map(|piece| piece.score).collect(),
            token_types: self.pieces.iter().map(|piece| piece.kind).collect(),
            bos: self.bos,
            eos: self.eos,
            unknown: self.unknown,
            padding: self.padding,
            add_space_prefix: Some(self.add_prefix),
            ..GgufVocabulary::default()
        }
    }
}

impl Piece {
    fn parse(bytes: &[u8], index: usize) -> Result<Piece, TokenizerError> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
        for field in fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) => {
                    let text = std::str::from_utf8(text);
                    let text = text.map_err(|_| problem(format!("piece {index}, which is not UTF-8")))?;
                    text.clone_into(&mut piece.text);
                }
                (2, Value::Bits(bits)) => piece.score = f32::from_bits(bits),
                (3, Value::Number(kind)) => piece.kind = i32::try_from(kind).unwrap_or(1),
                _ => {}
            }
        }
        Ok(piece)
    }
}

/// An id, of which negative numbers say that there is none.
fn id(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

fn problem(found: impl Into<String>) -> TokenizerError {
    TokenizerError::PieceModel { found: found.into() }
}

/// Value of a field.
enum Value<'a> {
    Number(u64),
    Bits(u32),
    Bytes(&'a [u8]),
    /// Eight bytes that no field of interest has.
    Other,
}

/// The fields of a message, with their numbers; nothing after the first error.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), TokenizerError>> {
    let whole = bytes.len();
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let at = whole - bytes.len();
        let Some(field) = field(&mut bytes) else {
            bytes = &[];
            return Some(Err(problem(format!("a damaged field at byte {at} of {whole}"))));
        };
        Some(Ok(field))
    })
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = number(bytes)?;
    let value = match tag & 7 {
        0 => Value::Number(number(bytes)?),
        1 => {
            take(bytes, 8)?;
            Value::Other
        }
        2 => {
            let len = usize::try_from(number(bytes)?).ok()?;
            Value::Bytes(take(bytes, len)?)
        }
        5 => Value::Bits(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((tag >> 3, value))
}

/// A number of 7 bits a byte, the lowest first; the highest bit of a byte says that another follows.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::super::Tokenizer;
    use super::*;

    fn message(number: u64, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128 && number < 16);
        [&[(number << 3 | 2) as u8, content.len() as u8], content].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let score = [&[0x15][..], &score.to_le_bytes()].concat();
        message(1, &[message(1, text.as_bytes()), score, vec![0x18, kind]].concat())
    }

    fn file(kind: u8, normalizer: &[u8]) -> Vec<u8> {
        let pieces = [
            piece("<unk>", 0.0, 2),
            piece("<s>", 0.0, 3),
            piece("</s>", 0.0, 3),
            piece("<0x21>", 0.0, 6),
            piece("▁hi", -1.0, 1),
            piece("▁", -2.0, 1),
            piece("h", -3.0, 1),
            piece("i", -4.0, 1),
            piece("hi", -0.5, 1),
        ];
        // The padding token is -1, in ten bytes.
        let padding = [0xd8, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let trainer = message(2, &[&[0x18, kind][..], &padding].concat());
        // Repeated spaces are kept.
        let normalizer = [normalizer, &[0x20, 0]].concat();
        [pieces.concat(), trainer, message(3, &normalizer)].concat()
    }

    #[test]
    fn a_model_of_byte_pairs_tokenizes() {
        let model = PieceModel::parse(&file(2, &[])).unwrap();
        let tokenizer = Tokenizer::from_gguf(&model.vocabulary()).unwrap();
        assert_eq!(tokenizer.encode("hi hi!", true).unwrap(), [1, 4, 4, 3]);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), &[2][..]));
        let model = PieceModel::parse(&file(2, &[0x18, 0])).unwrap();
        let tokenizer = Tokenizer::from_gguf(&model.vocabulary()).unwrap();
        assert_eq!(tokenizer.encode("hi hi!", false).unwrap(), [8, 4, 3]);
    }

    #[test]
    fn other_files_add_tokens() {
        let mut model = PieceModel::parse(&file(2, &[])).unwrap();
        model.add(11, "<|end|>".into(), true);
        model.add(u32::MAX, "<far>".into(), true);
        let tokenizer = Tokenizer::from_gguf(&model.vocabulary()).unwrap();
        assert_eq!(tokenizer.encode("hi<|end|>", false).unwrap(), [4, 11]);
        assert_eq!(tokenizer.vocab_size(), 12);
        assert!(tokenizer.is_special(10) && tokenizer.is_special(11));
    }

    #[test]
    fn files_that_are_no_such_models_are_refused() {
        let whole = file(2, &[]);
        let refused = [
            PieceModel::parse(&[]),
            PieceModel::parse(&whole[..whole.len() - 3]),
            PieceModel::parse(b"version https://git-lfs"),
            PieceModel::parse(&file(1, &[])),
            PieceModel::parse(&file(2, &message(2, b"table"))),
            PieceModel::parse(&[piece("a", 0.0, 1), message(2, &[0x18, 2])].concat()),
            PieceModel::parse(&message(1, &message(1, &[0xff]))),
        ];
        let messages: Vec<String> = refused.map(|model| model.unwrap_err().to_string()).into();
        insta::assert_snapshot!(messages.join("\n"), @r"
        expected SentencePiece's byte-pair encoding without changes of the text before, found no pieces; put the model's `tokenizer.json` beside it
        expected SentencePiece's byte-pair encoding without changes of the text before, found a damaged field at byte 145 of 146; put the model's `tokenizer.json` beside it
        expected SentencePiece's byte-pair encoding without changes of the text before, found a damaged field at byte 0 of 23; put the model's `tokenizer.json` beside it
        expected SentencePiece's byte-pair encoding without changes of the text before, found a unigram model, of which only byte-pair encoding is supported; put the model's `tokenizer.json` beside it
        expected SentencePiece's byte-pair encoding without changes of the text before, found text that a table normalises, which is not supported; put the model's `tokenizer.json` beside it
        expected SentencePiece's byte-pair encoding without changes of the text before, found text whose repeated spaces are dropped, which is not supported; put the model's `tokenizer.json` beside it
        expected SentencePiece's byte-pair encoding without changes of the text before, found piece 0, which is not UTF-8; put the model's `tokenizer.json` beside it
        ");
        for end in 0..whole.len() {
            // Some beginnings are whole messages, and none is a panic.
            let _ = PieceModel::parse(&whole[..end]);
        }
    }
}
