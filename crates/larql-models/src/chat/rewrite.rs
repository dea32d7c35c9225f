//! Templates in words that the engine here understands: it has no `%` between texts, no `varargs` in macros, and no
//! `generation` blocks. What a template means does not change.

use std::collections::HashMap;

/// A template in words of this engine.
pub(super) fn for_this_engine(source: &str) -> String {
    let mut parts = parts(source);
    for part in &mut parts {
        if let Part::Block(tag) = part {
            *tag = with_formats(&without_generation(tag));
        }
    }
    declare_varargs(&mut parts);
    let texts = parts.into_iter().map(|part| match part {
        Part::Text(text) => text.to_owned(),
        Part::Block(tag) => tag,
    });
    texts.collect()
}

/// A stretch of a template.
enum Part<'a> {
    /// Text, a comment or what stands in a `raw` block.
    Text(&'a str),
    /// `{{ ... }}` or `{% ... %}`.
    Block(String),
}

fn parts(source: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let (before, tag) = rest.split_at(start);
        parts.push(Part::Text(before));
        let (tag, after) = tag.split_at(end_of_block(tag));
        rest = after;
        match word_of(tag) {
            "raw" => {
                let end = ["{% endraw", "{%- endraw", "{%endraw", "{%-endraw"]
                    .iter()
                    .filter_map(|end| rest.find(end))
                    .min();
                let (raw, after) = rest.split_at(end.unwrap_or(rest.len()));
                parts.extend([Part::Block(tag.to_owned()), Part::Text(raw)]);
                rest = after;
            }
            _ if tag.starts_with("{#") => parts.push(Part::Text(tag)),
            _ => parts.push(Part::Block(tag.to_owned())),
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// End of the block that a text begins with.
fn end_of_block(text: &str) -> usize {
    let end = match &text[..2] {
        "{{" => "}}",
        "{%" => "%}",
        _ => return text.find("#}").map_or(text.len(), |end| end + 2),
    };
    let mut at = 2;
    while at < text.len() {
        if text[at..].starts_with(end) {
            return at + end.len();
        }
        at = next(text, at);
    }
    text.len()
}

/// The place after the string literal or the character at a place.
fn next(text: &str, at: usize) -> usize {
    let Some(first) = text[at..].chars().next() else { return text.len() };
    if !matches!(first, '\'' | '"') {
        return at + first.len_utf8();
    }
    let mut is_escaped = false;
    for (place, character) in text[at + 1..].char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == first => return at + 1 + place + 1,
            _ => {}
        }
    }
    text.len()
}

/// The first word of a statement.
fn word_of(tag: &str) -> &str {
    let inner = tag.strip_prefix("{%").unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
    let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
    &inner[..end]
}

/// `generation` blocks mark the model's words for training; here they are blocks that do nothing.
fn without_generation(tag: &str) -> String {
    match word_of(tag) {
        "generation" => tag.replacen("generation", "if true", 1),
        "endgeneration" => tag.replacen("endgeneration", "endif", 1),
        _ => tag.to_owned(),
    }
}

/// `'text' % value` as `'text'|format(value)`.
fn with_formats(tag: &str) -> String {
    let inner_end = tag.len().saturating_sub(2);
    let mut out = String::with_capacity(tag.len());
    let mut at = 0;
    while at < tag.len() {
        let end = next(tag, at);
        out.push_str(&tag[at..end]);
        let is_literal = tag[at..].starts_with(['\'', '"']);
        at = end;
        let operator = skip_spaces(tag, at);
        if !is_literal || operator >= inner_end || !tag[operator..].starts_with('%') {
            continue;
        }
        let operand = skip_spaces(tag, operator + 1);
        let end = end_of_operand(tag, operand);
        let value = &tag[operand..end];
        let is_tuple = value.starts_with('(') && end_of_brackets(value, 0) == value.len();
        let arguments = if is_tuple { value[1..value.len() - 1].trim().trim_end_matches(',') } else { value };
        out.push_str(&format!("|format({})", with_formats(arguments)));
        at = end;
    }
    out
}

fn skip_spaces(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start().len()
}

/// The place after the bracket that closes the one at a place.
fn end_of_brackets(text: &str, at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at < text.len() {
        let end = next(text, at);
        match &text[at..end] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at = end;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The place after a value with its attributes, calls and filters, which bind closer than `%`.
fn end_of_operand(text: &str, start: usize) -> usize {
    let word = |at: usize| {
        let is_other = |c: char| !(c.is_alphanumeric() || c == '_');
        text[at..].find(is_other).map_or(text.len(), |end| at + end)
    };
    let mut at = match text[start..].chars().next() {
        Some('(' | '[' | '{') => end_of_brackets(text, start),
        Some('\'' | '"') => next(text, start),
        Some('-' | '+') => word(start + 1),
        _ => word(start),
    };
    loop {
        let after = skip_spaces(text, at);
        at = match text[after..].chars().next() {
            Some('(' | '[') => end_of_brackets(text, after),
            Some('.' | '|') => word(skip_spaces(text, after + 1)),
            _ => return at,
        };
    }
}

/// Declares `varargs` and `kwargs` as parameters of macros that use them, and passes them in calls.
fn declare_varargs(parts: &mut [Part<'_>]) {
    let mut macros: HashMap<String, Vec<String>> = HashMap::new();
    for start in 0..parts.len() {
        let Part::Block(tag) = &parts[start] else { continue };
        if word_of(tag) != "macro" {
            continue;
        }
        let body = parts[start + 1..].iter().map_while(|part| match part {
            Part::Block(tag) if word_of(tag) == "endmacro" => None,
            Part::Block(tag) => Some(tag.as_str()),
            Part::Text(_) => Some(""),
        });
        let body: String = body.collect();
        let (takes_list, takes_map) = (body.contains("varargs"), body.contains("kwargs"));
        let Some((open, close)) = tag.find('(').map(|open| (open, end_of_brackets(tag, open))) else {
            continue;
        };
        if !takes_list && !takes_map {
            continue;
        }
        let name = tag[..open].split_whitespace().next_back().unwrap_or_default().to_owned();
        let mut parameters: Vec<String> = arguments(&tag[open + 1..close - 1]).map(str::to_owned).collect();
        let names = parameters
            .iter()
            .map(|parameter| parameter.split('=').next().unwrap_or_default().trim().to_owned());
        macros.insert(name, names.collect());
        parameters.extend(["varargs=[]".to_owned(), "kwargs={}".to_owned()]);
        let declared = format!("{}({}){}", &tag[..open], parameters.join(", "), &tag[close..]);
        parts[start] = Part::Block(declared);
    }
    if macros.is_empty() {
        return;
    }
    for part in parts.iter_mut() {
        if let Part::Block(tag) = part
            && word_of(tag) != "macro"
        {
            *tag = with_passed(tag, &macros);
        }
    }
}

/// Calls of macros, by name with their parameters, with what goes into `varargs` and `kwargs`.
fn with_passed(text: &str, macros: &HashMap<String, Vec<String>>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let end = next(text, at);
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let starts_word =
            text[at..].starts_with(is_word) && !text[..at].ends_with(|c| is_word(c) || c == '.');
        let word = text[at..].find(|c| !is_word(c)).map_or("", |length| &text[at..at + length]);
        let open = at + word.len();
        match macros.get(word).filter(|_| starts_word && text[open..].starts_with('(')) {
            None => {
                out.push_str(&text[at..end]);
                at = end;
            }
            Some(parameters) => {
                let close = end_of_brackets(text, open);
                let passed = passed(&with_passed(&text[open + 1..close - 1], macros), parameters);
                out.push_str(&format!("{word}({passed})"));
                at = close;
            }
        }
    }
    out
}

/// The arguments of a call, those without a parameter gathered.
fn passed(given: &str, parameters: &[String]) -> String {
    let (mut plain, mut list, mut map) = (Vec::new(), Vec::new(), Vec::new());
    for argument in arguments(given) {
        let name = argument
            .split_once('=')
            .filter(|(_, value)| !value.starts_with('='))
            .map(|(name, _)| name.trim());
        match name.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')) {
            Some(name) if parameters.iter().any(|parameter| parameter == name) => {
                plain.push(argument.to_owned())
            }
            Some(name) => map.push(format!("'{name}': {}", &argument[argument.find('=').unwrap_or(0) + 1..])),
            None if plain.len() < parameters.len() => plain.push(argument.to_owned()),
            None => list.push(argument.to_owned()),
        }
    }
    if !list.is_empty() {
        plain.push(format!("varargs=[{}]", list.join(", ")));
    }
    if !map.is_empty() {
        plain.push(format!("kwargs={{{}}}", map.join(", ")));
    }
    plain.join(", ")
}

/// The pieces between commas that are in no brackets.
fn arguments(text: &str) -> impl Iterator<Item = &str> {
    let (mut pieces, mut start, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        if text[at..].starts_with(['(', '[', '{']) {
            at = end_of_brackets(text, at);
            continue;
        }
        if text[at..].starts_with(',') {
            pieces.push(&text[start..at]);
            start = at + 1;
        }
        at = next(text, at);
    }
    pieces.push(&text[start..]);
    pieces.into_iter().map(str::trim).filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use super::for_this_engine;

    #[test]
    fn what_this_engine_knows_stays() {
        for source in [
            "{{ a % b }} {% if x is divisibleby(3) %}{{ '%s' }}{% endif %}{# '%s' % x #}",
            "{% raw %}{{ '%s' % x }}{% endraw %}{{ \"%\" ~ '%}' }}",
            "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1) }}",
            "{{ 'unfinished",
            "{% 'a' %}",
            "{{",
        ] {
            assert_eq!(for_this_engine(source), source);
        }
    }

    #[test]
    fn texts_are_formatted_by_a_filter() {
        let cases = [
            ("{{ '%s' % x }}", "{{ '%s'|format(x) }}"),
            ("{{ '%d/%s' % (5, 'b') }}", "{{ '%d/%s'|format(5, 'b') }}"),
            ("{{ '%s' % (x,) }}", "{{ '%s'|format(x) }}"),
            ("{{ '%s' % m.a['b'](1)|upper ~ y }}", "{{ '%s'|format(m.a['b'](1)|upper) ~ y }}"),
            ("{%- set t = \"%s\"%x -%}", "{%- set t = \"%s\"|format(x) -%}"),
            ("{{ '%s' % ('%s' % x) }}", "{{ '%s'|format('%s'|format(x)) }}"),
        ];
        for (source, expected) in cases {
            assert_eq!(for_this_engine(source), expected);
        }
    }

    #[test]
    fn generation_marks_do_nothing() {
        let source =
            "{%- generation -%} a {%+ endgeneration %}{% generation %}b{% endgeneration %}{{ '{%' }}{% ";
        assert_eq!(
            for_this_engine(source),
            "{%- if true -%} a {%+ endif %}{% if true %}b{% endif %}{{ '{%' }}{% "
        );
    }

    #[test]
    fn more_arguments_than_parameters_are_gathered() {
        assert_eq!(
            for_this_engine(
                "{% macro m(a, b=1) %}{{ varargs }}{% endmacro %}{{ m(1, 2, f(3), [4, 5], c=6) }}"
            ),
            "{% macro m(a, b=1, varargs=[], kwargs={}) %}{{ varargs }}{% endmacro %}\
             {{ m(1, 2, varargs=[f(3), [4, 5]], kwargs={'c': 6}) }}"
        );
    }
}
