//! Words, figures and colours as people read them.

use nu_ansi_term::{Color, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::RenderOptions;

/// Page that text is written on: its width and colours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Page {
    pub(super) width: Option<usize>,
    pub(super) color: bool,
    pub(super) edits_are_saved: bool,
}

impl Page {
    pub(super) fn new(options: &RenderOptions) -> Self {
        let RenderOptions { width, color, edits_are_saved, .. } = *options;
        Self { width, color, edits_are_saved }
    }

    /// The line that says how to keep edits which are in no file yet, and how to take them back.
    pub(super) fn how_to_keep(&self) -> String {
        self.dim(match self.edits_are_saved {
            true => "Undo it: UNDO;",
            false => "Not saved yet. Keep it: SAVE PATCH \"edits.vlp\";  Undo it: UNDO;",
        })
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    pub(super) fn dim(&self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    pub(super) fn accent(&self, text: &str) -> String {
        self.paint(Color::Cyan.normal(), text)
    }

    /// A text on a background that is the darker the smaller `share`, 0 to 1, is; without colour the text alone.
    pub(super) fn shaded(&self, text: &str, share: f32) -> String {
        let level = |full: u8| (f32::from(full) * share.clamp(0.0, 1.0).sqrt()) as u8;
        let style = Style::new().on(Color::Rgb(level(20), level(110), level(160)));
        self.paint(if share > 0.001 { style } else { Style::new().dimmed() }, text)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.color { style.paint(text).to_string() } else { text.to_owned() }
    }
}

/// A token or name that cannot disturb the page: no blanks around it, whitespace alone made visible, control
/// characters and those that turn the direction of writing spelled out.
pub(super) fn visible(token: &str) -> String {
    if token.is_empty() {
        return "\"\"".into();
    }
    let trimmed = token.trim();
    let text = if trimmed.is_empty() { token } else { trimmed };
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' if trimmed.is_empty() => shown.push('␣'),
            '\n' => shown.push('⏎'),
            '\t' => shown.push('⇥'),
            '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                shown.extend(character.escape_unicode());
            }
            _ if character.is_control() || trimmed.is_empty() => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

/// A token as [`visible`] shows it, but for the blanks that it begins with, which tell two tokens apart: `␣Paris`.
pub(super) fn exact(token: &str) -> String {
    let word = token.trim_start_matches(' ');
    if word.trim().is_empty() {
        return visible(token);
    }
    "␣".repeat(token.len() - word.len()) + &visible(word)
}

/// `text`, cut to `width` columns with a mark where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        cut.push(character);
    }
    cut + "…"
}

/// `text` and blanks up to `width` columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// `L14`, or `L14-27`.
pub(super) fn layer_span(first: usize, last: usize) -> String {
    if first == last { format!("L{first}") } else { format!("L{first}-{last}") }
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `count` of something, in the singular where it is one.
pub(super) fn counted(count: usize, singular: &str, plural: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { singular } else { plural })
}

/// `20 of 560 rows; LIMIT n shows more`, if some were left out.
pub(super) fn counted_rows(shown: usize, left_out: usize, page: &Page) -> Option<String> {
    let all = shown + left_out;
    let note = format!("{} of {}; LIMIT n shows more", grouped(shown), counted(all, "row", "rows"));
    (left_out > 0).then(|| page.dim(&note))
}

/// A size in decimal units: `512 B`, `1.4 GB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // A value that would round up to 1000.0 belongs to the next unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.000_05 { "<0.01%".into() } else { format!("{:.2}%", share * 100.0) }
}

/// Returns a duration in the unit that suits it.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_cannot_disturb_the_page() {
        for (token, shown) in [
            (" Paris", "Paris"),
            (" ", "␣"),
            ("  \n\t", "␣␣⏎⇥"),
            ("", "\"\""),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{a0}", "\\u{a0}"),
            ("two words", "two words"),
            ("e\u{301}", "e\u{301}"),
        ] {
            assert_eq!(visible(token), shown);
        }
    }

    #[test]
    fn blanks_before_a_word_tell_tokens_apart() {
        for (token, shown) in [
            (" Paris", "␣Paris"),
            ("Paris", "Paris"),
            ("  x\n", "␣␣x"),
            (" ", "␣"),
            ("\n", "⏎"),
            ("", "\"\""),
        ] {
            assert_eq!(exact(token), shown);
        }
    }

    #[test]
    fn cuts_by_columns_and_says_so() {
        assert_eq!(cut("Paris", 5), "Paris");
        assert_eq!(cut("Paris", 4), "Par…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(pad("日本", 6), "日本  ");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999, 1000, 999_949, 999_950, u64::MAX].map(size),
            ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "18446.7 PB"]
        );
        assert_eq!([0.000_02, 0.0123, 1.25, 75.0].map(duration), ["20 µs", "12.3 ms", "1.2 s", "1 min 15 s"]);
        assert_eq!([0.0, 0.000_01, 0.9791].map(percent), ["0.00%", "<0.01%", "97.91%"]);
    }
}
