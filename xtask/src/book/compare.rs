//! Comparison of two outputs that tolerates rounding, durations, dates and digests.

/// Share by which two numbers may differ.
const TOLERANCE: f64 = 0.02;

/// Tests two outputs for the same words, and the same numbers within [`TOLERANCE`] and 1.5 units of their last decimal.
/// Blanks, lines of tables, durations, times of day and digests are not compared.
pub(super) fn alike(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (tokens(expected), tokens(printed));
    expected.len() == printed.len() && expected.iter().zip(&printed).all(|(a, b)| matches(a, b))
}

/// The first line that differs, as it is printed now.
pub(super) fn first_difference(expected: &str, printed: &str) -> String {
    let mut expected = expected.lines();
    let differs = |line: &&str| !expected.next().is_some_and(|expected| alike(expected, line));
    let line = printed.lines().find(differs).unwrap_or("(fewer lines)");
    format!("now: {line}")
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Number(String),
    Duration,
    Moment,
    Digest,
}

/// Length of the digest that a text begins with: 12 hexadecimal digits or more.
fn digest(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    (end >= 12).then_some(end)
}

/// Length of the time that a text begins with, such as `2026-01-31T12:00:00Z`.
fn moment(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !"-:TZ.+".contains(c)).unwrap_or(text.len());
    let (date, _) = text[..end].split_once('T')?;
    (date.len() == "2026-01-31".len() && date.matches('-').count() == 2).then_some(end)
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(end) = moment(rest) {
            tokens.push(Token::Moment);
            rest = &rest[end..];
            continue;
        }
        if let Some(end) = digest(rest) {
            tokens.push(Token::Digest);
            rest = &rest[end..];
            continue;
        }
        let numeric = |c: char| c.is_ascii_digit() || c == '.' || c == ',';
        let end = if first.is_ascii_digit() {
            rest.find(|c| !numeric(c)).unwrap_or(rest.len())
        } else if first.is_alphabetic() {
            rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        if first.is_ascii_digit() {
            tokens.push(Token::Number(token.replace(',', "").trim_end_matches('.').to_owned()));
        } else if !first.is_whitespace() && first != '─' {
            let unit = matches!(token, "ms" | "s" | "µs" | "min");
            match tokens.last_mut() {
                Some(last @ Token::Number(_)) if unit => *last = Token::Duration,
                _ => tokens.push(Token::Word(token.to_owned())),
            }
        }
    }
    tokens
}

fn matches(a: &Token, b: &Token) -> bool {
    let (Token::Number(a), Token::Number(b)) = (a, b) else { return a == b };
    let decimals = |number: &str| number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => {
            let last = match decimals(a).min(decimals(b)) {
                0 => 0.0,
                decimals => 1.5 * 0.1f64.powi(i32::try_from(decimals).unwrap_or(i32::MAX)),
            };
            (x - y).abs() <= last + TOLERANCE * x.abs().max(y.abs())
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_differ_in_the_last_decimal() {
        assert!(alike("1. Paris  99.74%", "1. Paris  99.73%"));
        assert!(alike("0.03%", "0.02%"));
        assert!(!alike("99.74%", "90.74%"));
    }

    #[test]
    fn small_counts_are_exact() {
        assert!(!alike("5 of 10 edges", "6 of 10 edges"));
    }

    #[test]
    fn durations_and_the_width_of_tables_are_not_compared() {
        assert!(alike("walk (6.9 ms)\n────", "walk  (12.4 ms)\n──────"));
    }

    #[test]
    fn times_of_day_are_not_compared() {
        assert!(alike("created 2026-11-29T11:13:12Z", "created 2027-01-01T00:00:00Z"));
        assert!(!alike("created 2026-11-29T11:13:12Z", "created never"));
    }

    #[test]
    fn digests_are_not_compared() {
        assert!(alike("models/atlas-318952c9beaa/", "models/atlas-7ef7bc351dbd/"));
        assert!(!alike("decade", "facade"));
    }

    #[test]
    fn words_are_exact() {
        assert!(!alike("␣Paris", "␣Lyon"));
        assert!(!alike("a", "a b"));
    }
}
