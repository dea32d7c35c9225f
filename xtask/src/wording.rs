//! Wording of documentation comments, as `CONTRIBUTING.md` describes it.

use std::path::Path;

/// First words that no summary has: they open a clause, where a noun phrase or a verb in the third person belongs.
const OPENINGS: [&str; 13] = [
    "What", "Whether", "That", "Of", "How", "Which", "Who", "Whom", "Whose", "Where", "When", "Why", "Those",
];

/// Phrases that no comment has, each with the field's words for it.
const PHRASES: [(&str, &str); 14] = [
    ("the way back", "backward pass, gradient"),
    ("beside the weights", "edge memory"),
    ("in the place of", "in place of, replaces"),
    ("otherwise than", "differently from"),
    ("told from", "distinguished from"),
    ("ordinary text", "background text, calibration text"),
    ("centred and white ", "centred and whitened"),
    ("whoever", "a noun: the caller, the reader"),
    ("brings about", "causes"),
    ("amount to", "are, combine to"),
    ("amounts to", "is, combines to"),
    ("came about", "a noun: origin, history"),
    ("not to be had", "not found, not available"),
    ("counts for nothing", "is ignored, has weight zero"),
];

/// The problems of one source file.
pub(crate) fn problems(path: &Path, source: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut in_comment = false;
    for (number, line) in source.lines().enumerate() {
        let place = || format!("{}:{}", path.display(), number + 1);
        let text = line.trim_start();
        let documentation = text.strip_prefix("///").or_else(|| text.strip_prefix("//!"));
        if let Some(documentation) = documentation {
            let first = first_word(documentation);
            if !in_comment && OPENINGS.contains(&first) {
                problems.push(format!("{}: a summary does not begin with `{first}`", place()));
            }
        }
        in_comment = documentation.is_some();
        let Some(comment) = text.strip_prefix("//") else { continue };
        let comment = format!("{} ", comment.to_lowercase());
        let found = PHRASES.into_iter().filter(|(phrase, _)| comment.contains(phrase));
        problems.extend(found.map(|(phrase, instead)| format!("{}: `{phrase}`: say {instead}", place())));
    }
    problems
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(source: &str) -> usize {
        problems(Path::new("crates/larql-vindex/src/open.rs"), source).len()
    }

    #[test]
    fn a_summary_that_opens_with_a_clause_is_a_problem() {
        assert_eq!(count("/// What a vindex holds.\nfn f() {}"), 1);
        assert_eq!(count("/// The content of a vindex.\n/// What is absent is optional.\nfn f() {}"), 0);
        assert_eq!(count("/// Whatever.\n"), 0);
    }

    #[test]
    fn a_private_phrase_is_a_problem_in_any_comment() {
        assert_eq!(count("    // Edges beside the weights.\n"), 1);
        assert_eq!(count("let text = \"beside the weights\";"), 0);
    }
}
