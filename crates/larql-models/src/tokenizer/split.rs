//! The ways in which byte-level BPE splits text before merging, by the names that GGUF files give them.
//!
//! A name stands for the `pre_tokenizer` of the `tokenizer.json` that a file was converted from; which name
//! means which is fixed by llama.cpp's converter.

use fancy_regex::Regex;

use super::TokenizerError;

/// One way of splitting, under all its names.
#[derive(Debug)]
pub(super) struct Scheme {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces that the last one left.
    pub(super) patterns: &'static [&'static str],
    /// A piece that is a token is taken as it is, without merging (`ignore_merges` in `tokenizer.json`).
    pub(super) whole_pieces: bool,
    /// True if files that do not say want the begin-of-text token in front.
    pub(super) add_bos: bool,
}

impl Scheme {
    const fn new(names: &'static [&'static str], patterns: &'static [&'static str]) -> Self {
        Self { names, patterns, whole_pieces: false, add_bos: false }
    }

    const fn with_whole_pieces(self) -> Self {
        Self { whole_pieces: true, ..self }
    }

    const fn with_bos(self) -> Self {
        Self { add_bos: true, ..self }
    }
}

/// The end of most patterns: a run of whitespace leaves its last character to the word that follows.
const WHITESPACE: &str = r"|\s+(?!\S)|\s+";

pub(super) const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN_2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN_3_5: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const SEED_CODER: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}",
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT_4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const DEEPSEEK_3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Letters of scripts with two cases, a blank before them. Some are escapes, since they would not survive where text is
/// normalised.
const DEEPSEEK_LLM: &str = concat!(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-",
    r"ὅὈ-Ὅὐ-ὗὙὛὝὟ-",
    "\u{1F7D}",
    r"ᾀ-ᾴᾶ-ᾼ",
    "\u{1FBE}",
    r"ῂ-ῄῆ-ῌῐ-",
    "\u{1FD3}",
    r"ῖ-",
    "\u{1FDB}",
    r"ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ",
    "\u{2126}",
    r"ℨ",
    "\u{212A}",
    r"-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
);
const KIMI_K2: &str = concat!(
    r"\p{Han}+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
);
/// Words up to punctuation; so written, the brackets and the bar are among what ends them.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

const SCHEMES: &[Scheme] = &[
    Scheme::new(
        &[
            "gpt-2",
            "default",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "trillion",
            "granite-docling",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "roberta-bpe",
        ],
        &[GPT_2],
    ),
    Scheme::new(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[r"\p{N}", GPT_2],
    ),
    Scheme::new(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        &[LLAMA_3],
    )
    .with_whole_pieces()
    .with_bos(),
    Scheme::new(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[LLAMA_3]),
    Scheme::new(
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "grok-2", "kormo", "f2llmv2"],
        &[QWEN_2],
    ),
    Scheme::new(&["qwen35"], &[QWEN_3_5]),
    Scheme::new(&["seed-coder"], &[SEED_CODER]),
    Scheme::new(&["tekken"], &[TEKKEN]).with_whole_pieces().with_bos(),
    Scheme::new(&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[GPT_4O]),
    Scheme::new(&["deepseek-v3", "hunyuan-dense"], &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_3]),
    Scheme::new(
        &["deepseek-llm"],
        &[r"[\r\n]", DEEPSEEK_LLM, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+", r"\p{N}+"],
    ),
    Scheme::new(&["kimi-k2"], &[KIMI_K2]),
    Scheme::new(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    // Digits in threes from the right.
    Scheme::new(&["superbpe"], &[r"\p{N}+", r"\d{1,3}(?=(?:\d{3})*(?!\d))"]),
    Scheme::new(&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    Scheme::new(&["viking"], &[BLOOM, r"\p{N}"]),
    Scheme::new(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"]),
];

impl Scheme {
    /// The name by which files are given it.
    pub(super) fn name(&self) -> &'static str {
        self.names[0]
    }

    /// The way of splitting by these patterns, one after the other, if it has a name.
    pub(super) fn of_patterns(patterns: &[String], whole_pieces: bool) -> Option<&'static Self> {
        let mut schemes = SCHEMES.iter().filter(|scheme| scheme.whole_pieces == whole_pieces);
        schemes.find(|scheme| scheme.patterns == patterns)
    }

    /// The way of splitting that a file names; files from before there were names mean GPT-2's.
    pub(super) fn named(name: Option<&str>) -> Result<&'static Self, TokenizerError> {
        let name = name.unwrap_or("default");
        SCHEMES.iter().find(|scheme| scheme.names.contains(&name)).ok_or_else(|| {
            let mut known: Vec<_> = SCHEMES.iter().flat_map(|scheme| scheme.names).copied().collect();
            known.sort_unstable();
            TokenizerError::UnknownSplit { name: name.into(), known: known.join(", ") }
        })
    }
}

/// Splits text as a [`Scheme`] says.
#[derive(Debug)]
pub(super) struct Splitter(Vec<Stage>);

/// One pattern of a scheme. Both its matches and the text between them are pieces.
#[derive(Debug)]
struct Stage {
    /// The pattern without its look-ahead, which would cost the speed of the plain regular expression engine.
    regex: Regex,
    whitespace: Whitespace,
}

/// The part of a match of whitespace that is left to the next match.
#[derive(Clone, Copy, Debug)]
enum Whitespace {
    /// Nothing: the pattern says so itself.
    Kept,
    /// Its last character, unless the text ends there.
    Shared,
    /// The same, but a run that reaches to a line's end is kept.
    SharedWithinLine,
}

impl Splitter {
    pub(super) fn new(scheme: &Scheme) -> Result<Self, TokenizerError> {
        scheme.patterns.iter().map(|pattern| Stage::new(pattern)).collect::<Result<_, _>>().map(Self)
    }

    /// Calls `visit` for each piece of `text` in turn; together they are the text.
    pub(super) fn split<'t>(
        &self,
        text: &'t str,
        visit: &mut impl FnMut(&'t str) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        split_with(&self.0, text, visit)
    }
}

fn split_with<'t>(
    stages: &[Stage],
    text: &'t str,
    visit: &mut impl FnMut(&'t str) -> Result<(), TokenizerError>,
) -> Result<(), TokenizerError> {
    let Some((stage, rest)) = stages.split_first() else { return visit(text) };
    let mut at = 0;
    while at < text.len() {
        // No match, or an empty one: what is left is one piece.
        let (start, end) = stage.find(text, at)?.unwrap_or((text.len(), text.len()));
        if at < start {
            split_with(rest, &text[at..start], visit)?;
        }
        if start < end {
            split_with(rest, &text[start..end], visit)?;
        }
        at = end;
    }
    Ok(())
}

impl Stage {
    fn new(pattern: &str) -> Result<Self, TokenizerError> {
        let (pattern, whitespace) = match pattern.strip_suffix(WHITESPACE) {
            None => (pattern.to_owned(), Whitespace::Kept),
            Some(start) => {
                let within_line = [r"|\s*[\r\n]+", r"|\s*[\r\n]"].iter().any(|line| start.ends_with(line));
                let whitespace = if within_line { Whitespace::SharedWithinLine } else { Whitespace::Shared };
                (format!(r"{start}|\s+"), whitespace)
            }
        };
        Ok(Self { regex: Regex::new(&pattern).map_err(Box::new)?, whitespace })
    }

    /// The first match from `at` on that is not empty, as byte offsets.
    fn find(&self, text: &str, at: usize) -> Result<Option<(usize, usize)>, TokenizerError> {
        let Some(found) = self.regex.find_from_pos(text, at).map_err(Box::new)? else { return Ok(None) };
        let (start, end) = (found.start(), found.end());
        let shared = match self.whitespace {
            Whitespace::Kept => false,
            Whitespace::Shared => true,
            Whitespace::SharedWithinLine => !found.as_str().ends_with(['\r', '\n']),
        };
        if shared && end < text.len() && found.as_str().chars().all(char::is_whitespace) {
            let last = found.as_str().chars().next_back().map_or(0, char::len_utf8);
            if start < end - last {
                return Ok(Some((start, end - last)));
            }
        }
        Ok((start < end).then_some((start, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Splitter {
        Splitter::new(Scheme::named(Some(name)).unwrap()).unwrap()
    }

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        pieces_of(&named(name), text)
    }

    fn pieces_of<'t>(splitter: &Splitter, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        splitter
            .split(text, &mut |piece| {
                pieces.push(piece);
                Ok(())
            })
            .unwrap();
        pieces
    }

    #[test]
    fn names_split_as_they_were_trained() {
        let text = "It's 12345  x = 'S'\n\n  y\t\t";
        insta::assert_debug_snapshot!(
            ["gpt-2", "smollm", "llama-bpe", "qwen2"].map(|name| pieces(name, text).join("|")),
            @r#"
        [
            "It|'s| 12345| | x| =| '|S|'|\n\n | y|\t\t",
            "It|'s| |1|2|3|4|5| | x| =| '|S|'|\n\n | y|\t\t",
            "It|'s| |123|45| | x| =| '|S|'\n\n| | y|\t\t",
            "It|'s| |1|2|3|4|5| | x| =| '|S|'\n\n| | y|\t\t",
        ]
        "#
        );
    }

    #[test]
    fn pieces_are_those_of_the_python_package() {
        #[derive(serde::Deserialize)]
        struct Expected {
            texts: Vec<String>,
            /// By name and text, of the pieces in characters.
            lengths: std::collections::HashMap<String, Vec<Vec<usize>>>,
        }
        let expected = include_bytes!("../../tests/data/tokenizer/splits.json");
        let Expected { texts, lengths } = serde_json::from_slice(expected).unwrap();
        for (name, lengths) in &lengths {
            assert_eq!(lengths.len(), texts.len());
            // A pattern takes milliseconds to compile, and there are 174 texts.
            let splitter = named(name);
            for (text, lengths) in texts.iter().zip(lengths) {
                let pieces = pieces_of(&splitter, text);
                let got: Vec<_> = pieces.iter().map(|piece| piece.chars().count()).collect();
                assert_eq!(got, *lengths, "{name} splits {text:?} into {pieces:?}");
            }
        }
    }

    #[test]
    fn names_of_rarer_families_split_as_their_tokenizers_do() {
        let cases: [(&str, &str, &[&str]); 8] = [
            ("deepseek-llm", "Hi you, a1 23\nx", &["Hi", " you", ",", " a", "1", " ", "23", "\n", "x"]),
            ("superbpe", "in 1234567 days", &["in ", "1", "234", "567", " days"]),
            ("superbpe", "12", &["12"]),
            ("poro-chat", "on se, a 12", &["on", " se", ",", " a", " 12"]),
            ("viking", "on se, a 12", &["on", " se", ",", " a", " ", "1", "2"]),
            ("roberta-bpe", "it's ok 12", &["it", "'s", " ok", " 12"]),
            ("kimi-k2", "Hello漢字 don't 1234", &["Hello", "漢字", " don't", " ", "123", "4"]),
            ("bailingmoe", "It's 12\n\nok", &["It", "'s", " ", "1", "2", "\n\n", "ok"]),
        ];
        for (name, text, expected) in cases {
            assert_eq!(pieces(name, text), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = Scheme::named(Some("klingon")).err().unwrap().to_string();
        assert!(
            message.contains("`klingon`") && message.contains("llama-bpe, llama-v3, llama3"),
            "{message}"
        );
    }

    #[test]
    fn every_pattern_is_plain_without_its_look_ahead() {
        let patterns = SCHEMES.iter().flat_map(|scheme| scheme.patterns);
        for pattern in patterns.filter(|pattern| pattern.ends_with(WHITESPACE)) {
            assert!(!Stage::new(pattern).unwrap().regex.as_str().contains("(?!"), "{pattern}");
        }
    }
}
