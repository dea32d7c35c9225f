//! Methods, filters and tests that templates expect of Python's Jinja and the engine here lacks.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::filters;

/// Adds all of them.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("wordcount", filters::wordcount);
    environment.add_filter("wordwrap", filters::wordwrap);
    environment.add_filter("striptags", filters::striptags);
    environment.add_filter("filesizeformat", filters::filesizeformat);
    environment.add_filter("center", |text: String, width: Option<usize>| {
        padded(&text, width.unwrap_or(80), Side::Both, ' ')
    });
    environment.add_filter("xmlattr", xml_attributes);
    environment.add_test("callable", is_callable);
    // `none` is no iterable; what is not there is an empty one.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
}

/// The number of elements; of what is not there, none.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() { Ok(0) } else { minijinja::filters::length(value) }
}

/// Functions and macros are objects that are neither lists nor maps.
fn is_callable(value: &Value) -> bool {
    value.kind() == ValueKind::Plain && value.as_object().is_some()
}

/// A map as attributes of an element, without those that have no value.
fn xml_attributes(value: &Value, with_space: Option<bool>) -> Result<String, Error> {
    let mut out = String::new();
    for key in value.try_iter()? {
        let item = value.get_item(&key)?;
        if item.is_none() || item.is_undefined() {
            continue;
        }
        let text = item.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let text = text.replace('\'', "&#39;").replace('"', "&#34;");
        if with_space != Some(false) || !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&format!("{key}=\"{text}\""));
    }
    Ok(out)
}

/// Side on which a text is padded.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Both,
}

fn padded(text: &str, width: usize, side: Side, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // As Python rounds: an odd blank goes left where the width is odd.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| fill.to_string().repeat(count);
    format!("{}{text}{}", fill(left), fill(missing - left))
}

/// A method of Python's texts, lists and dicts.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => match value.as_str() {
            Some(text) => text_method(text, name, arguments)?,
            None => None,
        },
        ValueKind::Seq => list_method(value, name, arguments)?,
        ValueKind::Map if name == "copy" => Some(value.clone()),
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

fn list_method(list: &Value, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    match name {
        "copy" => Ok(Some(list.clone())),
        "index" => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            let place = list.try_iter()?.position(|item| item == *wanted);
            place
                .map(|place| Some(place.into()))
                .ok_or_else(|| missing(&format!("{wanted} is not in the list")))
        }
        _ => Ok(None),
    }
}

fn list_of(texts: &[&str]) -> Value {
    texts.iter().map(|text| Value::from(*text)).collect::<Vec<Value>>().into()
}

fn missing(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_owned())
}

fn text_method<'a>(text: &'a str, name: &str, arguments: &'a [Value]) -> Result<Option<Value>, Error> {
    let pad = |side| -> Result<Value, Error> {
        let (width, fill): (usize, Option<&str>) = from_args(arguments)?;
        let fill = fill.and_then(|fill| fill.chars().next()).unwrap_or(' ');
        Ok(padded(text, width, side, fill).into())
    };
    let one = || -> Result<&'a str, Error> { from_args(arguments).map(|(one,): (&str,)| one) };
    let in_characters = |byte: usize| Value::from(text[..byte].chars().count());
    let found = |place: Option<usize>, wanted: &str| {
        place.map(in_characters).ok_or_else(|| missing(&format!("substring `{wanted}` not found")))
    };
    let parts = |split: Option<(&'a str, &'a str)>, separator: &'a str, other: [&'a str; 3]| {
        list_of(&split.map_or(other, |(left, right)| [left, separator, right]))
    };
    Ok(Some(match name {
        "rsplit" => return rsplit(text, arguments).map(Some),
        "partition" => one().map(|by| parts(text.split_once(by), by, [text, "", ""]))?,
        "rpartition" => one().map(|by| parts(text.rsplit_once(by), by, ["", "", text]))?,
        "removeprefix" => one().map(|start| text.strip_prefix(start).unwrap_or(text))?.into(),
        "removesuffix" => one().map(|end| text.strip_suffix(end).unwrap_or(text))?.into(),
        "index" => one().and_then(|wanted| found(text.find(wanted), wanted))?,
        "rindex" => one().and_then(|wanted| found(text.rfind(wanted), wanted))?,
        "ljust" => pad(Side::Right)?,
        "rjust" => pad(Side::Left)?,
        "center" => pad(Side::Both)?,
        "zfill" => {
            let (width,): (usize,) = from_args(arguments)?;
            let digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..(text.len() - digits.len()).min(1)];
            let width = width.saturating_sub(sign.len());
            format!("{sign}{}", padded(&text[sign.len()..], width, Side::Left, '0')).into()
        }
        "swapcase" => text.chars().map(swapped).collect::<String>().into(),
        "casefold" => text.replace('ß', "ss").to_lowercase().into(),
        "isdecimal" => (!text.is_empty() && text.chars().all(char::is_numeric)).into(),
        "expandtabs" => {
            let (width,): (Option<usize>,) = from_args(arguments)?;
            expanded(text, width.unwrap_or(8)).into()
        }
        _ => return Ok(None),
    }))
}

fn swapped(character: char) -> String {
    match character.is_uppercase() {
        true => character.to_lowercase().collect(),
        false => character.to_uppercase().collect(),
    }
}

fn expanded(text: &str, width: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for character in text.chars() {
        match character {
            '\t' => {
                let blanks = if width == 0 { 0 } else { width - column % width };
                out.push_str(&" ".repeat(blanks));
                column += blanks;
            }
            '\n' | '\r' => {
                out.push(character);
                column = 0;
            }
            _ => {
                out.push(character);
                column += 1;
            }
        }
    }
    out
}

/// The pieces of a text, cut from its end.
fn rsplit(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (positional, named): (Rest<Value>, Kwargs) = from_args(arguments)?;
    let by = positional.first().cloned().or(named.get::<Option<Value>>("sep")?);
    let most = positional.get(1).cloned().or(named.get::<Option<Value>>("maxsplit")?);
    named.assert_all_used()?;
    let most =
        most.and_then(|most| usize::try_from(i64::try_from(most).ok()?).ok()).unwrap_or(usize::MAX - 1);
    let mut pieces: Vec<&str> = match by.as_ref().and_then(Value::as_str) {
        Some(by) => text.rsplitn(most + 1, by).collect(),
        None => {
            let (mut pieces, mut rest) = (Vec::new(), text.trim_end());
            while pieces.len() < most
                && let Some(place) = rest.rfind(char::is_whitespace)
            {
                pieces.push(rest[place..].trim_start());
                rest = rest[..place].trim_end();
            }
            pieces.extend((!rest.is_empty()).then_some(rest));
            pieces
        }
    };
    pieces.reverse();
    Ok(list_of(&pieces))
}

#[cfg(test)]
mod tests {
    use crate::{ChatOptions, ChatTemplate, Message};

    #[test]
    fn templates_may_use_what_python_gives_them() {
        let cases = [
            ("'%s' % 'a'", "a"),
            ("'%d/%s' % (5, 'b')", "5/b"),
            ("undefined_thing | length", "0"),
            ("messages[0].tool_calls | length", "0"),
            ("'a-b-c'.rsplit('-', 1)[0]", "a-b"),
            ("'a b  c '.rsplit(None, 1) | join('|')", "a b|c"),
            ("'k=v'.partition('=')[2]", "v"),
            ("'k=v=w'.rpartition('=') | join('|')", "k=v|=|w"),
            ("'k'.partition('=') | join('|')", "k||"),
            ("'xxy'.removeprefix('x')", "xy"),
            ("'yxx'.removesuffix('x')", "yx"),
            ("'éabc'.index('b')", "2"),
            ("'abcb'.rindex('b')", "3"),
            ("'7'.zfill(3)", "007"),
            ("'-7'.zfill(4)", "-007"),
            ("'a'.ljust(3) ~ '|'", "a  |"),
            ("'a'.rjust(3, '.')", "..a"),
            ("'ab'.center(5, '.')", "..ab."),
            ("'abc'.center(6, '.')", ".abc.."),
            ("'aB'.swapcase()", "Ab"),
            ("'Straße'.casefold()", "strasse"),
            ("'a\\tb'.expandtabs(4)", "a   b"),
            ("1 if raise_exception is callable else 0", "1"),
            ("1 if messages is callable or 'a' is callable else 0", "0"),
            ("'a b c' | wordcount", "3"),
            ("'x' | center(3) ~ '|'", " x |"),
            ("'<b>a</b>' | striptags", "a"),
            ("'a b&c' | urlencode", "a%20b%26c"),
            ("{'a': 1, 'b': none} | xmlattr", " a=\"1\""),
            ("[1, 2].index(2)", "1"),
            ("{'a': 1}.copy().a", "1"),
            ("[1].copy() | length", "1"),
            ("1e20", "1e+20"),
            ("0.5", "0.5"),
            ("{'a': 1e20} | tojson", "{\"a\": 1e+20}"),
        ];
        for (source, expected) in cases {
            let template = ChatTemplate::new(format!("{{{{ {source} }}}}")).unwrap();
            let text = template.render(&[Message::new("user", "Hi")], &ChatOptions::default());
            assert_eq!(text.unwrap(), expected, "{source}");
        }
        let source = "{% macro m(a) %}{{ a }}{{ varargs | length }}{% endmacro %}{{ m(1, 2) }}{{ m(1) }}";
        let text =
            ChatTemplate::new(source).unwrap().render(&[Message::new("user", "Hi")], &ChatOptions::default());
        assert_eq!(text.unwrap(), "1110");
    }

    #[test]
    fn dates_are_those_of_the_place() {
        let template = ChatTemplate::new("{{ strftime_now('%d %b %Y %H:%M') }}").unwrap();
        let at = |utc_offset: i32| {
            let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_707_465_903);
            let options = ChatOptions { now, utc_offset, ..ChatOptions::default() };
            template.render(&[Message::new("user", "Hi")], &options).unwrap()
        };
        assert_eq!(at(0), "09 Feb 2024 08:05");
        assert_eq!(at(14 * 3600), "09 Feb 2024 22:05");
        assert_eq!(at(-11 * 3600), "08 Feb 2024 21:05");
    }
}
