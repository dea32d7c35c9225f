//! Text in HTML and XML.

/// Text as HTML or XML.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// JSON as it may stand inside a script element: nothing in it ends the element.
pub(super) fn json_in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}
