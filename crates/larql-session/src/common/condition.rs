//! Conditions: which rows pass them, and whether they make sense.

use larql_lql::ast::{Comparison, Condition, Filter, Spanned, Test, Value};
use larql_lql::output::Datum;

use crate::QueryError;
use crate::common::table::Row;

/// Returns true if a row passes a filter, or there is none.
pub(crate) fn passes_filter(row: &dyn Row, filter: Option<&Filter>) -> Result<bool, QueryError> {
    match filter {
        None => Ok(true),
        Some(Filter::Test(condition)) => meets(row, condition),
        Some(Filter::All(parts)) => all(parts.iter().map(|part| passes_filter(row, Some(part)))),
        Some(Filter::Any(parts)) => {
            let none = all(parts.iter().map(|part| passes_filter(row, Some(part)).map(|passes| !passes)))?;
            Ok(!none)
        }
    }
}

/// Returns true if a row passes every condition.
pub(crate) fn passes(row: &dyn Row, conditions: &[Condition]) -> Result<bool, QueryError> {
    all(conditions.iter().map(|condition| meets(row, condition)))
}

/// The first that is false or an error decides.
fn all(results: impl Iterator<Item = Result<bool, QueryError>>) -> Result<bool, QueryError> {
    let mut results = results;
    let decided = results.find(|result| !matches!(result, Ok(true)));
    decided.unwrap_or(Ok(true))
}

fn meets(row: &dyn Row, condition: &Condition) -> Result<bool, QueryError> {
    check_types(condition)?;
    let cell = row.cell(condition.field.value);
    let cell = cell.as_ref();
    Ok(match &condition.test {
        Test::In(values) => values.iter().any(|value| equals(cell, value)),
        Test::Compare(Comparison::Equal, value) => equals(cell, value),
        Test::Compare(Comparison::NotEqual, value) => cell.is_some() && !equals(cell, value),
        Test::Compare(Comparison::Like, value) => like_any(cell, value),
        Test::Compare(comparison, value) => match (numeric(cell), number_of(value)) {
            (Some(found), Some(wanted)) => match comparison {
                Comparison::Less => found < wanted,
                Comparison::Greater => found > wanted,
                Comparison::LessEqual => found <= wanted,
                _ => found >= wanted,
            },
            _ => false,
        },
    })
}

/// Refuses a condition that no value can pass, because a number is compared with a text.
pub(crate) fn check_types(condition: &Condition) -> Result<(), QueryError> {
    let field = condition.field.value;
    let refused = |found: &'static str, value: &Spanned<Value>| {
        Err(QueryError::NotComparable { field: field.name(), found, at: value.span })
    };
    let check = |value: &Spanned<Value>| match (field.is_numeric(), number_of(value)) {
        (true, None) => refused("a number, and the value a text", value),
        _ => Ok(()),
    };
    match &condition.test {
        Test::In(values) => values.iter().try_for_each(check),
        Test::Compare(Comparison::Like, value) if field.is_numeric() => {
            refused("a number, which LIKE does not compare", value)
        }
        Test::Compare(Comparison::Equal | Comparison::NotEqual, value) => check(value),
        Test::Compare(Comparison::Like, _) => Ok(()),
        Test::Compare(_, value) if !field.is_numeric() => {
            refused("a text, which cannot be compared this way", value)
        }
        Test::Compare(_, value) => check(value),
    }
}

/// The texts of a cell; a list passes if one of its texts does.
pub(crate) fn texts(cell: Option<&Datum>) -> &[String] {
    match cell {
        Some(Datum::Text(text)) => std::slice::from_ref(text),
        Some(Datum::List(texts)) => texts,
        Some(Datum::Integer(_) | Datum::Number(_)) | None => &[],
    }
}

pub(crate) fn numeric(cell: Option<&Datum>) -> Option<f64> {
    match cell? {
        Datum::Integer(number) => Some(*number as f64),
        Datum::Number(number) => Some((*number).into()),
        Datum::Text(_) | Datum::List(_) => None,
    }
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::Text(_) => None,
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        number => number.to_string(),
    }
}

/// Numbers by value; texts without regard to case and surrounding white space.
fn equals(cell: Option<&Datum>, value: &Value) -> bool {
    match (numeric(cell), number_of(value)) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => {
            let wanted = text_of(value).trim().to_lowercase();
            texts(cell).iter().any(|text| text.trim().to_lowercase() == wanted)
        }
    }
}

fn like_any(cell: Option<&Datum>, value: &Value) -> bool {
    let pattern: Vec<char> = text_of(value).to_lowercase().chars().collect();
    texts(cell).iter().any(|text| {
        let text: Vec<char> = text.trim().to_lowercase().chars().collect();
        like(&text, &pattern)
    })
}

/// SQL's LIKE: `%` is any text, `_` any one character.
fn like(text: &[char], pattern: &[char]) -> bool {
    let (mut t, mut p) = (0, 0);
    // Where to go on if the text after the last `%` does not match: one character further.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('%') => {
                retry = Some((t, p));
                p += 1;
            }
            Some(c) if *c == '_' || *c == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match &mut retry {
                Some((start, percent)) => {
                    *start += 1;
                    (t, p) = (*start, *percent + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_like(text: &str, pattern: &str) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        like(&chars(text), &chars(pattern))
    }

    #[test]
    fn like_knows_its_two_signs() {
        for (text, pattern) in
            [("paris", "par%"), ("paris", "%is"), ("paris", "p_r_s"), ("", "%"), ("aXbXc", "a%X%c")]
        {
            assert!(is_like(text, pattern), "{text} LIKE {pattern}");
        }
        for (text, pattern) in [("paris", "par"), ("paris", "_"), ("paris", "%z%"), ("", "_"), ("ab", "%ba")]
        {
            assert!(!is_like(text, pattern), "{text} LIKE {pattern}");
        }
    }
}
