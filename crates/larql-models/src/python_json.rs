//! JSON as Python's `json` module writes and reads it.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Numbers that Python writes and JSON does not have.
const NO_NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// Parses JSON in which `NaN`, `Infinity` and `-Infinity` may stand for values: here they are `null`.
///
/// # Errors
/// If it is not JSON beyond that.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(&without_infinities(bytes))
}

/// An error of parsing in a sentence that goes after "found".
pub(crate) fn problem(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.strip_prefix("expected value") {
        Some(place) => format!("something that is no value{place}"),
        None => message,
    }
}

/// The bytes with `null` for numbers that JSON does not have, wherever they stand outside of strings.
fn without_infinities(bytes: &[u8]) -> Cow<'_, [u8]> {
    let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    if !holds(b"Infinity") && !holds(b"NaN") {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut in_string = false;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            b'\\' if in_string => 2.min(rest.len()),
            b'"' => {
                in_string = !in_string;
                1
            }
            _ if in_string => 1,
            _ => match NO_NUMBERS.iter().find(|word| rest.starts_with(word)) {
                Some(word) => {
                    plain.extend(b"null");
                    rest = &rest[word.len()..];
                    continue;
                }
                None => 1,
            },
        };
        plain.extend(&rest[..length]);
        rest = &rest[length..];
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn infinities_are_null_and_words_in_strings_stay() {
        let value: Value =
            parse(br#"{"a": [0.0, Infinity, -Infinity], "b": NaN, "c": "NaN \" Infinity", "NaN": 1}"#)
                .unwrap();
        let expected = json!({"a": [0.0, null, null], "b": null, "c": "NaN \" Infinity", "NaN": 1});
        assert_eq!(value, expected);
        assert!(parse::<Value>(b"{\"a\": Infinitely}").is_err());
        assert!(parse::<Value>(b"{\"a\": nan}").is_err());
    }
}
