//! Patterns of `tokenizer.json` as the engine here understands them.
//!
//! They are written for Oniguruma, with which the `tokenizers` package runs them. Where its words mean something else
//! here, or nothing, they are put in other words; a pattern without such words stays as it is.

use serde_json::Value;

/// Characters of words.
const WORD: &str = r"\p{L}\p{M}\p{N}\p{Pc}";
/// A line's end.
const LINE_END: &str = r"(?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}])";
/// An extended grapheme cluster (UAX #29).
const CLUSTER: &str = concat!(
    r"(?>\r\n|\p{gcb=Control}|\r|\n|\p{gcb=Prepend}*",
    r"(?:\p{gcb=L}*(?:\p{gcb=V}+|\p{gcb=LV}\p{gcb=V}*|\p{gcb=LVT})\p{gcb=T}*|\p{gcb=L}+|\p{gcb=T}+",
    r"|\p{RI}\p{RI}|\p{ExtPict}(?:\p{gcb=Extend}*\p{gcb=ZWJ}\p{ExtPict})*|[^\p{gcb=Control}\r\n])",
    r"[\p{gcb=Extend}\p{gcb=ZWJ}\p{gcb=SpacingMark}]*)"
);

/// Content of a class of characters, by its name in `[:name:]` or `\p{name}`.
fn class(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "alnum" => r"\p{Alphabetic}\p{Nd}",
        "alpha" => r"\p{Alphabetic}",
        "ascii" => r"\x00-\x7F",
        "blank" => r"\p{Zs}\t",
        "cntrl" => r"\p{Cc}",
        "digit" => r"\p{Nd}",
        "lower" => r"\p{Lowercase}",
        "punct" => r"\p{P}$+<=>\^`|~",
        "space" => r"\s",
        "upper" => r"\p{Uppercase}",
        "word" => WORD,
        "xdigit" => r"0-9A-Fa-f",
        _ => return None,
    })
}

/// Puts every pattern in a part of a `tokenizer.json` in words of this engine. Returns whether any changed.
pub(super) fn translate_all(part: &mut Value) -> bool {
    match part {
        Value::Array(parts) => parts.iter_mut().fold(false, |changed, part| translate_all(part) | changed),
        Value::Object(fields) => fields.iter_mut().fold(false, |changed, (name, value)| match value {
            Value::String(pattern) if name == "Regex" => {
                let translated = translated(pattern);
                let differs = translated != *pattern;
                *pattern = translated;
                differs | changed
            }
            value => translate_all(value) | changed,
        }),
        _ => false,
    }
}

/// A pattern in words of this engine.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    // Brackets of character classes that are open.
    let mut depth = 0;
    while let Some(first) = rest.chars().next() {
        let (piece, length) = match first {
            '\\' => escape(rest, depth > 0),
            '[' if depth > 0 && rest.starts_with("[:") => bracket(rest),
            '[' => {
                depth += 1;
                // A closing bracket in the first place stands for itself.
                let start =
                    ["[^]", "[]", "[^"].into_iter().find(|start| rest.starts_with(start)).unwrap_or("[");
                (start.replace(']', r"\]"), start.len())
            }
            ']' if depth > 0 => {
                depth -= 1;
                ("]".into(), 1)
            }
            '^' | '$' if depth == 0 => (format!("(?m:{first})"), 1),
            '(' if depth == 0 && rest.starts_with("(?") => flags(rest),
            other => (other.to_string(), other.len_utf8()),
        };
        out.push_str(&piece);
        rest = &rest[length..];
    }
    out
}

/// An escape that the rest begins with, and its length.
fn escape(rest: &str, in_class: bool) -> (String, usize) {
    let Some(letter) = rest[1..].chars().next() else { return (rest.into(), rest.len()) };
    let same = || (rest[..1 + letter.len_utf8()].to_owned(), 1 + letter.len_utf8());
    let of_words = |is_not: bool| if is_not { format!("[^{WORD}]") } else { format!("[{WORD}]") };
    let (word, other) = (format!("[{WORD}]"), 2);
    match letter {
        'w' | 'W' => (of_words(letter == 'W'), other),
        'b' if !in_class => (format!("(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"), other),
        'B' if !in_class => (format!("(?:(?<={word})(?={word})|(?<!{word})(?!{word}))"), other),
        'R' if !in_class => (LINE_END.into(), other),
        'N' if !in_class => (r"[^\n]".into(), other),
        'X' if !in_class => (CLUSTER.into(), other),
        'p' | 'P' => {
            let Some((name, _)) = rest[2..].strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                return same();
            };
            let length = 2 + name.len() + 2;
            let plain = name.trim_start_matches('^');
            let is_not = (letter == 'P') != name.starts_with('^');
            match class(plain) {
                Some(class) if is_not => (format!("[^{class}]"), length),
                Some(class) => (format!("[{class}]"), length),
                None if name.starts_with('^') => {
                    (format!("\\{}{{{plain}}}", if is_not { 'P' } else { 'p' }), length)
                }
                None => (rest[..length].into(), length),
            }
        }
        _ => same(),
    }
}

/// A class by name, such as `[:alpha:]`, that the rest begins with, and its length.
fn bracket(rest: &str) -> (String, usize) {
    let name = rest[2..].split_once(":]").map(|(name, _)| name);
    let known = name.and_then(|name| Some((name, class(name.trim_start_matches('^'))?)));
    match known {
        Some((name, class)) => {
            let is_not = if name.starts_with('^') { "^" } else { "" };
            (format!("[{is_not}{class}]"), name.len() + 4)
        }
        None => ("[".into(), 1),
    }
}

/// The start of a group with flags, of which `m` lets a dot match the end of a line, and its length.
fn flags(rest: &str) -> (String, usize) {
    let letters =
        rest[2..].find(|c: char| !matches!(c, 'i' | 'm' | 'x' | '-')).map_or("", |end| &rest[2..2 + end]);
    let is_group = rest[2 + letters.len()..].starts_with([':', ')']);
    match is_group && letters.contains('m') {
        true => (format!("(?{}", letters.replace('m', "s")), 2 + letters.len()),
        false => ("(".into(), 1),
    }
}

#[cfg(test)]
mod tests {
    use fancy_regex::Regex;

    use super::translated;

    /// The matches of a pattern, and what stands between them.
    fn pieces<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        let (mut pieces, mut at) = (Vec::new(), 0);
        for found in Regex::new(&translated(pattern)).unwrap().find_iter(text) {
            let found = found.unwrap();
            pieces.extend([&text[at..found.start()], found.as_str()]);
            at = found.end();
        }
        pieces.push(&text[at..]);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    #[test]
    fn patterns_mean_what_oniguruma_makes_of_them() {
        let cases: [(&str, &str, &[&str]); 22] = [
            ("[[:alpha:]]+", "éa1", &["éa", "1"]),
            ("[[:^alpha:]]+", "éa12", &["éa", "12"]),
            ("[[:upper:]]", "ÉaB", &["É", "a", "B"]),
            (r"\w+", "a²b c", &["a²b", " ", "c"]),
            (r"\w+", "a\u{200D}b", &["a", "\u{200D}", "b"]),
            (r"[\w-]+", "a-½ b", &["a-½", " ", "b"]),
            (r"\W+", "a² b", &["a²", " ", "b"]),
            (r"\b", "a² b", &["a²", " ", "b"]),
            ("[[:digit:]]+", "x١٢", &["x", "١٢"]),
            ("[[:space:]]+", "x\u{2003}y", &["x", "\u{2003}", "y"]),
            ("[[:word:]]+", "é²-x", &["é²", "-", "x"]),
            (r"\R", "a\r\nb\nc", &["a", "\r\n", "b", "\n", "c"]),
            (r"\N+", "a\nb", &["a", "\n", "b"]),
            (r"\X", "e\u{301}x", &["e\u{301}", "x"]),
            (r"\X", "한국\u{1F468}\u{200D}\u{1F469}!", &["한", "국", "\u{1F468}\u{200D}\u{1F469}", "!"]),
            (r"\p{Alnum}+", "a1-", &["a1", "-"]),
            (r"\p{^L}+", "a12b", &["a", "12", "b"]),
            (r"\P{^L}+", "1ab2", &["1", "ab", "2"]),
            ("(?m:.)+", "a\nb", &["a\nb"]),
            ("(?im).+", "a\nb", &["a\nb"]),
            ("^a|b$", "b\nc", &["b", "\nc"]),
            ("^c", "b\nc", &["b\n", "c"]),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(pieces(pattern, text), expected, "{pattern} on {text:?}");
        }
    }

    #[test]
    fn published_patterns_stay_as_they_are() {
        for pattern in [
            super::super::split::GPT_2,
            r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
            r" ?[^(\s|.,!?…。，、।۔،)]+",
        ] {
            assert_eq!(translated(pattern), pattern);
        }
    }
}
