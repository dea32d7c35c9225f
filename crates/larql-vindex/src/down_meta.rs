//! `down_meta.bin`: the tokens that each feature's down vector pushes most.
//!
//! | Bytes | What |
//! |---|---|
//! | 16 | u32 magic `0x444D4554`, u32 version 1, u32 layers, u32 k |
//! | then for each layer: 4 | u32 features |
//! | and for each feature: 8 | u32 strongest token, f32 its score |
//! | 8 k | k times u32 token, f32 score, strongest first |
//!
//! All numbers are little-endian. Version 1 of the container had lines of JSON instead; they are turned into
//! the same records when they are read.

use std::slice;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Damage;

const MAGIC: u32 = 0x444D_4554;
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
/// A token and its score.
const PAIR_BYTES: usize = 8;
/// More output tokens than this are never kept for a feature; a file that says so is damaged.
const MAX_TOP_K: usize = 1 << 16;

/// A token with its score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    /// Token id.
    pub token: u32,
    /// For a feature: its down vector times the token's row of the output head.
    pub score: f32,
}

/// The tokens that a feature writes most, strongest first, read during iteration.
#[derive(Clone, Debug)]
pub struct TopTokens<'a>(Tokens<'a>);

#[derive(Clone, Debug)]
enum Tokens<'a> {
    /// Records of the file. Only a damaged file has tokens beyond the vocabulary.
    Encoded {
        pairs: slice::Iter<'a, [u8; PAIR_BYTES]>,
        vocab_size: u32,
    },
    Listed(slice::Iter<'a, TokenScore>),
}

impl<'a> TopTokens<'a> {
    /// Wraps a list of tokens.
    pub fn listed(tokens: &'a [TokenScore]) -> TopTokens<'a> {
        TopTokens(Tokens::Listed(tokens.iter()))
    }

    /// Leaves out tokens beyond a vocabulary of `size` tokens.
    pub(crate) fn of_vocabulary(mut self, size: usize) -> TopTokens<'a> {
        if let Tokens::Encoded { vocab_size, .. } = &mut self.0 {
            *vocab_size = u32::try_from(size).unwrap_or(u32::MAX);
        }
        self
    }
}

impl Iterator for TopTokens<'_> {
    type Item = TokenScore;

    fn next(&mut self) -> Option<TokenScore> {
        match &mut self.0 {
            Tokens::Listed(tokens) => tokens.next().copied(),
            Tokens::Encoded { pairs, vocab_size } => pairs
                .map(|[t0, t1, t2, t3, s0, s1, s2, s3]| TokenScore {
                    token: u32::from_le_bytes([*t0, *t1, *t2, *t3]),
                    score: f32::from_le_bytes([*s0, *s1, *s2, *s3]),
                })
                // Old writers fill unused places with zeros.
                .find(|pair| pair.token < *vocab_size && (pair.token, pair.score) != (0, 0.0)),
        }
    }
}

/// The output tokens of every feature, in the bytes of the file.
#[derive(Clone, Debug)]
pub struct DownMeta {
    top_k: usize,
    /// First byte and number of records of each layer.
    layers: Vec<(usize, usize)>,
    bytes: Bytes,
}

impl DownMeta {
    /// Validates the bytes of a `down_meta.bin`.
    ///
    /// # Errors
    /// If the header is not of this format, or the layers do not fill the file exactly.
    pub fn parse(bytes: Bytes) -> Result<DownMeta, Damage> {
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let field = |at: usize, name: &str| {
            word(at).ok_or_else(|| {
                Damage::new(name, "four bytes", format!("end of file at byte {}", bytes.len()))
            })
        };
        let magic = field(0, "magic")?;
        if magic != MAGIC {
            return Err(Damage::new("magic", format_args!("{MAGIC:#x}"), format_args!("{magic:#x}")));
        }
        let version = field(4, "version")?;
        if version != VERSION {
            return Err(Damage::new("version", VERSION, version));
        }
        let (layer_count, top_k) = (field(8, "layers")? as usize, field(12, "tokens a feature")? as usize);
        if top_k > MAX_TOP_K {
            return Err(Damage::new("tokens a feature", format_args!("at most {MAX_TOP_K}"), top_k));
        }
        let mut layers = Vec::new();
        let mut at = HEADER_BYTES;
        for layer in 0..layer_count {
            let part = format!("features of layer {layer}");
            let features = field(at, &part)? as usize;
            at += 4;
            let room = (bytes.len() - at) / record_bytes(top_k);
            if features > room {
                return Err(Damage::new(
                    part,
                    format_args!("at most {room}, for which there are bytes"),
                    features,
                ));
            }
            layers.push((at, features));
            at += features * record_bytes(top_k);
        }
        if at != bytes.len() {
            return Err(Damage::new("length", format_args!("{at} bytes"), bytes.len()));
        }
        Ok(DownMeta { top_k, layers, bytes })
    }

    /// Reads version 1's lines, `{"l": layer, "f": feature, "i": token, "c": score, "k": [{"i", "s"}, ...]}`,
    /// of a model with `layer_count` layers.
    ///
    /// # Errors
    /// If a line is not of this form, or names a layer that the model does not have.
    pub fn parse_lines(text: &[u8], layer_count: usize) -> Result<DownMeta, Damage> {
        #[derive(Deserialize)]
        struct Line {
            l: usize,
            f: usize,
            i: u32,
            c: f32,
            k: Vec<Pair>,
        }
        #[derive(Deserialize)]
        struct Pair {
            i: u32,
            s: f32,
        }

        let mut layers: Vec<Vec<Vec<TokenScore>>> = vec![Vec::new(); layer_count];
        let mut feature_count = 0_usize;
        let lines = text.split(|byte| *byte == b'\n').enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
            let part = || format!("line {}", number + 1);
            let line: Line = serde_json::from_slice(line).map_err(|e| Damage::new(part(), "a feature", e))?;
            let Some(features) = layers.get_mut(line.l) else {
                return Err(Damage::new(part(), format_args!("a layer below {layer_count}"), line.l));
            };
            if line.f >= features.len() {
                // A feature takes many bytes of text, so a file with more features than bytes is damaged, and
                // no memory is set aside for it.
                feature_count = feature_count.saturating_add(line.f - features.len() + 1);
                if feature_count >= text.len() {
                    return Err(Damage::new(part(), "a feature near the one before", line.f));
                }
                features.resize(line.f + 1, Vec::new());
            }
            features[line.f] = match line.k.is_empty() {
                true => vec![TokenScore { token: line.i, score: line.c }],
                false => line.k.iter().map(|pair| TokenScore { token: pair.i, score: pair.s }).collect(),
            };
        }
        let top_k = layers.iter().flatten().map(Vec::len).max().unwrap_or(0);
        if top_k > MAX_TOP_K {
            return Err(Damage::new("tokens a feature", format_args!("at most {MAX_TOP_K}"), top_k));
        }
        let mut bytes = header(layer_count, top_k).to_vec();
        for features in &layers {
            encode_layer(features, top_k, &mut bytes);
        }
        DownMeta::parse(bytes.into())
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Greatest number of output tokens of a feature.
    pub fn top_k(&self) -> usize {
        self.top_k
    }

    /// Features of a layer; none beyond the last layer.
    pub fn features(&self, layer: usize) -> usize {
        self.layers.get(layer).map_or(0, |(_, features)| *features)
    }

    /// The output tokens of a feature, strongest first; none if there is no such feature.
    pub fn tokens(&self, layer: usize, feature: usize) -> TopTokens<'_> {
        let record = self.layers.get(layer).filter(|(_, features)| feature < *features).map(|(start, _)| {
            &self.bytes[start + feature * record_bytes(self.top_k)..][..record_bytes(self.top_k)]
        });
        let (pairs, _) = record.map_or(&[] as &[u8], |record| &record[PAIR_BYTES..]).as_chunks();
        TopTokens(Tokens::Encoded { pairs: pairs.iter(), vocab_size: u32::MAX })
    }
}

impl DownMeta {
    /// The bytes of a file in which the tokens of some features, by layer and number, are replaced.
    pub(crate) fn rewritten(&self, tokens: &[((usize, usize), Vec<TokenScore>)]) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        for ((layer, feature), tokens) in tokens {
            let Some((start, _)) = self.layers.get(*layer).filter(|(_, features)| feature < features) else {
                continue;
            };
            let length = record_bytes(self.top_k);
            let mut record = Vec::new();
            encode_record(tokens, self.top_k, &mut record);
            bytes[start + feature * length..][..length].copy_from_slice(&record);
        }
        bytes
    }
}

/// Bytes of the record of one feature.
fn record_bytes(top_k: usize) -> usize {
    PAIR_BYTES * (1 + top_k)
}

/// The start of a file for so many layers and tokens a feature.
pub(crate) fn header(layers: usize, top_k: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    for (bytes, word) in header.chunks_exact_mut(4).zip([MAGIC, VERSION, layers as u32, top_k as u32]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// Appends a layer: the tokens of each feature, strongest first, at most `top_k` of them.
pub(crate) fn encode_layer(features: &[Vec<TokenScore>], top_k: usize, out: &mut Vec<u8>) {
    out.extend((features.len() as u32).to_le_bytes());
    features.iter().for_each(|tokens| encode_record(tokens, top_k, out));
}

fn encode_record(tokens: &[TokenScore], top_k: usize, out: &mut Vec<u8>) {
    let unused = TokenScore { token: 0, score: 0.0 };
    let strongest = tokens.first().copied().unwrap_or(unused);
    let places = tokens.iter().copied().chain(std::iter::repeat(unused)).take(top_k);
    for TokenScore { token, score } in std::iter::once(strongest).chain(places) {
        out.extend(token.to_le_bytes());
        out.extend(score.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(layers: &[Vec<Vec<TokenScore>>], top_k: usize) -> Vec<u8> {
        let mut bytes = header(layers.len(), top_k).to_vec();
        layers.iter().for_each(|features| encode_layer(features, top_k, &mut bytes));
        bytes
    }

    fn pair(token: u32, score: f32) -> TokenScore {
        TokenScore { token, score }
    }

    #[test]
    fn what_is_written_is_read() {
        let layers = [
            vec![vec![pair(7, 0.5), pair(0, 0.25)], vec![]],
            vec![],
            vec![vec![pair(1, -1.0), pair(2, -2.0)]],
        ];
        let meta = DownMeta::parse(encode(&layers, 2).into()).unwrap();
        assert_eq!((meta.layers(), meta.top_k()), (3, 2));
        for (layer, features) in layers.iter().enumerate() {
            assert_eq!(meta.features(layer), features.len());
            for (feature, tokens) in features.iter().enumerate() {
                assert!(meta.tokens(layer, feature).eq(tokens.iter().copied()));
            }
        }
        assert_eq!((meta.tokens(1, 0).next(), meta.tokens(9, 0).next()), (None, None));
        assert_eq!(meta.tokens(0, 0).of_vocabulary(7).collect::<Vec<_>>(), [pair(0, 0.25)]);
    }

    #[test]
    fn lines_of_json_become_records() {
        let text = br#"
            {"l":0,"f":1,"t":" Paris","i":12,"c":0.5,"k":[{"t":" Paris","i":12,"s":0.5},{"t":"x","i":3,"s":0.25}]}

            {"l":1,"f":0,"t":"a","i":4,"c":0.125,"k":[]}"#;
        let meta = DownMeta::parse_lines(text, 2).unwrap();
        let tokens = |layer, feature| meta.tokens(layer, feature).collect::<Vec<_>>();
        assert_eq!(tokens(0, 1), [pair(12, 0.5), pair(3, 0.25)]);
        assert_eq!(tokens(1, 0), [pair(4, 0.125)]);
        assert!(tokens(0, 0).is_empty());
        let error = DownMeta::parse_lines(text, 1).unwrap_err().to_string();
        assert_eq!(error, "line 4: expected a layer below 1, found 1");
        let far = br#"{"l":0,"f":60000000,"i":4,"c":0.125,"k":[]}"#;
        assert!(DownMeta::parse_lines(far, 1).is_err());
    }

    #[test]
    fn wrong_counts_are_errors_that_name_the_field() {
        let sound = encode(&[vec![vec![pair(7, 0.5)]]], 1);
        let with = |at: usize, word: u32| {
            let mut bytes = sound.clone();
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            DownMeta::parse(bytes.into()).unwrap_err().to_string()
        };
        assert_eq!(with(0, 0x4C59_5257), "magic: expected 0x444d4554, found 0x4c595257");
        assert_eq!(with(4, 2), "version: expected 1, found 2");
        assert_eq!(with(8, 2), "features of layer 1: expected four bytes, found end of file at byte 36");
        assert_eq!(with(8, 0), "length: expected 16 bytes, found 36");
        assert_eq!(with(12, u32::MAX), "tokens a feature: expected at most 65536, found 4294967295");
        let said = with(16, u32::MAX);
        assert_eq!(
            said,
            "features of layer 0: expected at most 1, for which there are bytes, found 4294967295"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_records_or_an_error(mut bytes: Vec<u8>, position: usize, byte: u8) {
            let _ = DownMeta::parse(bytes.clone().into());
            let mut sound = encode(&[vec![vec![pair(7, 0.5)]; 3], vec![vec![]]], 2);
            let position = position % sound.len();
            sound[position] = byte;
            sound.append(&mut bytes);
            if let Ok(meta) = DownMeta::parse(sound.into()) {
                for layer in 0..meta.layers() {
                    for feature in 0..meta.features(layer) {
                        prop_assert!(meta.tokens(layer, feature).count() <= meta.top_k());
                    }
                }
            }
        }

        #[test]
        fn any_lines_are_features_or_an_error(text in "(\\{\"l\":[0-9]{1,2},\"f\":[0-9]{1,9},\"i\":1,\"c\":1,\"k\":\\[\\]\\}\n){0,4}.{0,4}") {
            let _ = DownMeta::parse_lines(text.as_bytes(), 12);
        }
    }
}
