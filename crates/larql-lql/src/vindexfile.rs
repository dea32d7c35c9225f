//! Vindexfiles: what a vindex is built by, one instruction a line.
//!
//! A session's `build` carries out what one says.

use std::fmt::{self, Display, Formatter};

use larql_vindex_spec::ExtractLevel;
use miette::{Diagnostic, LabeledSpan};

use crate::ParseError;
use crate::ast::{Delete, Insert, Span, Spanned};
use crate::parser::{Parsed, Parser, either, nearest, parse_part};
use crate::token::Quote;

/// Instructions of a Vindexfile. `Display` prints it in the canonical form, which parses to an equal one.
///
/// ```
/// let text = "from atlas   # the bundled model\ninsert ('Atlantis', 'capital', 'Poseidon')\nexpose browse inference";
/// let vindexfile = larql_lql::vindexfile::Vindexfile::parse(text)?;
/// let canonical = "FROM atlas\nINSERT (\"Atlantis\", \"capital\", \"Poseidon\")\nEXPOSE browse inference\n";
/// assert_eq!(vindexfile.to_string(), canonical);
/// # Ok::<(), larql_lql::vindexfile::VindexfileError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vindexfile {
    /// Instructions before all stages, which belong to each.
    pub shared: Vec<Step>,
    /// The stages, of different names.
    pub stages: Vec<Stage>,
}

/// A stage of a Vindexfile.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Its name, as `--stage` takes it.
    pub name: String,
    /// Instructions of this stage alone.
    pub steps: Vec<Step>,
}

/// A line of a Vindexfile.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number, from 1.
    pub line: usize,
    /// Its instruction.
    pub instruction: Instruction,
}

/// Two are equal when they say the same, on whatever line.
impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.instruction == other.instruction
    }
}

/// Instruction of a Vindexfile.
#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// `FROM vindex`: what to begin with.
    From(Spanned<String>),
    /// `PATCH file`: lay a patch over it.
    Patch(Spanned<String>),
    /// `INSERT edge`: as in LQL, without what is always the same.
    Insert(Insert),
    /// `DELETE condition`: as in LQL, without what is always the same.
    Delete(Delete),
    /// `LABELS file`: name features.
    Labels(Spanned<String>),
    /// `EXPOSE browse [inference] [compile]`: hold no more than that.
    Expose(ExtractLevel),
}

/// Error of a text that is no Vindexfile.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct VindexfileError {
    line: usize,
    span: Span,
    kind: VindexfileErrorKind,
}

/// The kinds of mistake.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VindexfileErrorKind {
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// The words that were expected.
        expected: String,
        /// The word that was found.
        found: String,
    },
    /// INSERT or DELETE is not as in LQL.
    #[error(transparent)]
    Statement(ParseError),
    /// An instruction that may stand once stands twice.
    #[error("{what} is given again, after line {first}")]
    Repeated {
        /// The instruction, or the stage's name.
        what: String,
        /// Its first line.
        first: usize,
    },
}

/// No such stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[error("there is no stage {}; {}", stage.as_deref().unwrap_or("without a name"), known(stages))]
pub struct NoSuchStage {
    /// The stage that was asked for; none for the instructions before all stages, if they build nothing.
    pub stage: Option<String>,
    /// The stages that exist.
    pub stages: Vec<String>,
}

fn known(stages: &[String]) -> String {
    match stages {
        [] => "the Vindexfile has none".to_owned(),
        stages => format!("the Vindexfile has {}", stages.join(", ")),
    }
}

const INSTRUCTIONS: [&str; 7] = ["FROM", "PATCH", "INSERT", "DELETE", "LABELS", "EXPOSE", "STAGE"];

/// The words of EXPOSE, each with the level that it stands for.
const EXPOSED: [(&str, ExtractLevel); 3] = [
    ("browse", ExtractLevel::Browse),
    ("inference", ExtractLevel::Inference),
    ("compile", ExtractLevel::All),
];

impl Vindexfile {
    /// Reads the text of a Vindexfile.
    ///
    /// # Errors
    /// The line, what was expected there and what was found.
    pub fn parse(text: &str) -> Result<Vindexfile, VindexfileError> {
        let mut file = Vindexfile::default();
        let mut stage_lines = Vec::new();
        let lines = Line::all(text);
        for line in &lines {
            let word = line.word();
            let keyword = INSTRUCTIONS.into_iter().find(|name| word.value.eq_ignore_ascii_case(name));
            let instruction = match keyword {
                Some("FROM") => Instruction::From(line.argument("the path or name of a vindex")?),
                Some("PATCH") => Instruction::Patch(line.argument("the path of a patch")?),
                Some("LABELS") => Instruction::Labels(line.argument("the path of a file of labels")?),
                Some("EXPOSE") => Instruction::Expose(line.exposed()?),
                Some("INSERT") => Instruction::Insert(line.part_of_statement(Insert::parse_values)?),
                Some("DELETE") => Instruction::Delete(line.part_of_statement(Delete::parse_conditions)?),
                Some("STAGE") => {
                    let name = line.argument("the name of a stage")?;
                    if let Some(first) = file.stages.iter().position(|stage| stage.name == name.value) {
                        let what = format!("stage {}", name.value);
                        return Err(line.error(name.span, repeated(what, stage_lines[first])));
                    }
                    stage_lines.push(line.number);
                    file.stages.push(Stage { name: name.value, steps: Vec::new() });
                    continue;
                }
                _ => return Err(line.error(word.span, unknown(word.value))),
            };
            let stage = file.stages.last_mut();
            let earlier = file.shared.iter().chain(stage.iter().flat_map(|stage| &stage.steps));
            line.check_order(&instruction, earlier)?;
            let steps = stage.map_or(&mut file.shared, |stage| &mut stage.steps);
            steps.push(Step { line: line.number, instruction });
        }
        if lines.is_empty() {
            let line = Line { text, number: 1, part: Span::new(0, 0) };
            return Err(line.error(line.part, unexpected("FROM and the path of a vindex", "nothing")));
        }
        Ok(file)
    }

    /// The steps of a stage, those that belong to all included; without a stage only those.
    ///
    /// # Errors
    /// If there is no such stage, or none was asked for and there is nothing but stages.
    pub fn steps(&self, stage: Option<&str>) -> Result<Vec<&Step>, NoSuchStage> {
        let no_such_stage = || NoSuchStage {
            stage: stage.map(str::to_owned),
            stages: self.stages.iter().map(|stage| stage.name.clone()).collect(),
        };
        let own = match stage {
            Some(name) => {
                &*self.stages.iter().find(|stage| stage.name == name).ok_or_else(no_such_stage)?.steps
            }
            None => &[],
        };
        let steps: Vec<&Step> = self.shared.iter().chain(own).collect();
        if steps.is_empty() { Err(no_such_stage()) } else { Ok(steps) }
    }
}

/// A line that says something.
struct Line<'a> {
    /// The whole text.
    text: &'a str,
    number: usize,
    /// The line in it, without what surrounds it and without its comment.
    part: Span,
}

impl<'a> Line<'a> {
    fn all(text: &'a str) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        let mut start = 0;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let said = without_comment(line);
            let trimmed = said.trim_start_matches(is_blank);
            let first = start + said.len() - trimmed.len();
            let part = Span::new(first, first + trimmed.trim_end_matches(is_blank).len());
            start += line.len();
            if part.start < part.end {
                lines.push(Line { text, number: index + 1, part });
            }
        }
        lines
    }

    fn written(&self) -> &'a str {
        self.part.of(self.text)
    }

    /// The word that the line begins with.
    fn word(&self) -> Spanned<&'a str> {
        let written = self.written();
        let word = written.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        // A line that begins with something else is wrong as a whole.
        let word = if word.is_empty() { written } else { word };
        Spanned::new(word, self.span_of(word))
    }

    /// The rest of the line after the first word.
    fn rest(&self) -> Span {
        let after = self.word().span.end;
        let rest = Span::new(after, self.part.end).of(self.text);
        Span::new(self.part.end - rest.trim_start_matches(is_blank).len(), self.part.end)
    }

    /// The one argument, bare or in quotes.
    fn argument(&self, expected: &str) -> Result<Spanned<String>, VindexfileError> {
        let rest = self.rest();
        let written = rest.of(self.text);
        if written.starts_with(['"', '\'']) {
            return self.part_as(rest, |parser| parser.text());
        }
        let bare = written.split(is_blank).next().unwrap_or_default();
        let more = written[bare.len()..].trim_start_matches(is_blank);
        if bare.is_empty() || bare.contains(['"', '\'']) {
            return Err(self.error(rest, unexpected(expected, found(bare))));
        }
        if !more.is_empty() {
            let problem = unexpected("the end of the line, or quotes around what has blanks", found(more));
            return Err(self.error(self.span_of(more), problem));
        }
        Ok(Spanned::new(bare.to_owned(), rest))
    }

    /// The level that the words of EXPOSE name. They come in order, the first one always.
    fn exposed(&self) -> Result<ExtractLevel, VindexfileError> {
        let mut allowed = &EXPOSED[..1];
        let mut level = None;
        for word in self.rest().of(self.text).split(is_blank).filter(|word| !word.is_empty()) {
            let place = allowed.iter().position(|(name, _)| word.eq_ignore_ascii_case(name));
            let Some(place) = place else {
                let names = allowed.iter().map(|(name, _)| *name);
                let expected: Vec<&str> = names.chain(level.map(|_| "the end of the line")).collect();
                return Err(self.error(self.span_of(word), unexpected(&either(&expected), found(word))));
            };
            let rest = if level.is_none() { &EXPOSED[1..] } else { &allowed[place + 1..] };
            (level, allowed) = (Some(allowed[place].1), rest);
        }
        level.ok_or_else(|| self.error(self.rest(), unexpected("browse", found(""))))
    }

    /// The rest of the line after the first word, by the grammar of a statement.
    fn part_of_statement<T>(
        &self,
        parse: impl FnOnce(&mut Parser) -> Parsed<T>,
    ) -> Result<T, VindexfileError> {
        self.part_as(self.rest(), parse)
    }

    fn part_as<T>(
        &self,
        part: Span,
        parse: impl FnOnce(&mut Parser) -> Parsed<T>,
    ) -> Result<T, VindexfileError> {
        parse_part(self.text, part, parse)
            .map_err(|error| self.error(error.span(), VindexfileErrorKind::Statement(error)))
    }

    /// FROM stands first and once; EXPOSE once.
    fn check_order<'s>(
        &self,
        instruction: &Instruction,
        mut earlier: impl Iterator<Item = &'s Step>,
    ) -> Result<(), VindexfileError> {
        let word = self.word();
        let first = earlier.next();
        if first.is_none() && !matches!(instruction, Instruction::From(_)) {
            return Err(self.error(word.span, unexpected("FROM before all else", found(word.value))));
        }
        let is_same = |step: &&Step| match instruction {
            Instruction::From(_) => matches!(step.instruction, Instruction::From(_)),
            Instruction::Expose(_) => matches!(step.instruction, Instruction::Expose(_)),
            _ => false,
        };
        match first.into_iter().chain(earlier).find(is_same) {
            Some(step) => Err(self.error(word.span, repeated(word.value.to_uppercase(), step.line))),
            None => Ok(()),
        }
    }

    /// Place of a part of the text.
    fn span_of(&self, part: &str) -> Span {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        Span::new(start, start + part.len())
    }

    fn error(&self, span: Span, kind: VindexfileErrorKind) -> VindexfileError {
        VindexfileError { line: self.number, span, kind }
    }
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}

/// A line up to the `#` that begins a comment: one at its start or after a blank, and not in a string.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped, mut before) = (None, false, ' ');
    for (at, character) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '#' && is_blank(before) => return &line[..at],
            None if matches!(character, '"' | '\'') => quote = Some(character),
            None => {}
        }
        before = character;
    }
    line
}

fn unexpected(expected: &str, found: impl Into<String>) -> VindexfileErrorKind {
    VindexfileErrorKind::Unexpected { expected: expected.to_owned(), found: found.into() }
}

fn repeated(what: String, first: usize) -> VindexfileErrorKind {
    VindexfileErrorKind::Repeated { what, first }
}

fn unknown(word: &str) -> VindexfileErrorKind {
    let all = INSTRUCTIONS.join(", ");
    let meant =
        nearest(word, INSTRUCTIONS).map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
    unexpected(&format!("one of {all}{meant}"), found(word))
}

fn found(word: &str) -> String {
    if word.is_empty() { "the end of the line".to_owned() } else { format!("{}", Quote(word)) }
}

impl VindexfileError {
    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Kind of the mistake.
    pub fn kind(&self) -> &VindexfileErrorKind {
        &self.kind
    }
}

impl Diagnostic for VindexfileError {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        match &self.kind {
            VindexfileErrorKind::Statement(error) => Diagnostic::help(error),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".to_owned()), self.span))))
    }
}

impl Display for Vindexfile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let steps = |f: &mut Formatter<'_>, steps: &[Step]| {
            steps.iter().try_for_each(|step| writeln!(f, "{}", step.instruction))
        };
        steps(f, &self.shared)?;
        self.stages.iter().try_for_each(|stage| {
            writeln!(f, "STAGE {}", Argument(&stage.name))?;
            steps(f, &stage.steps)
        })
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(path) => write!(f, "FROM {}", Argument(path)),
            Self::Patch(path) => write!(f, "PATCH {}", Argument(path)),
            Self::Labels(path) => write!(f, "LABELS {}", Argument(path)),
            Self::Insert(insert) => {
                f.write_str("INSERT ")?;
                insert.print_values(f)
            }
            Self::Delete(delete) => {
                f.write_str("DELETE ")?;
                delete.print_conditions(f)
            }
            Self::Expose(level) => {
                f.write_str("EXPOSE")?;
                let words = EXPOSED.iter().filter(|(_, exposed)| exposed <= level);
                words.into_iter().try_for_each(|(word, _)| write!(f, " {word}"))
            }
        }
    }
}

/// An argument, in quotes where it would not be read back without.
struct Argument<'a>(&'a str);

impl Display for Argument<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let needs_quotes = |c: char| is_blank(c) || c.is_control() || matches!(c, '"' | '\'');
        match self.0.is_empty() || self.0.starts_with('#') || self.0.contains(needs_quotes) {
            true => Quote(self.0).fmt(f),
            false => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
# What the atlas lacks.
FROM ../atlas.vindex      # relative to this file
patch "my patches/sea.vlp"
INSERT ("Atlantis", "capital", "Poseidon #1") AT LAYER 2 MODE COMPOSE
DELETE entity = "Atlantis" AND relation = currency
LABELS labels#1.json

STAGE small
EXPOSE browse
STAGE large
INSERT ("Lemuria", "capital", "Mu")
EXPOSE browse inference compile
"#;

    fn error(text: &str) -> String {
        Vindexfile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn instructions_are_read_and_printed_in_canonical_form() {
        let file = Vindexfile::parse(WHOLE).unwrap();
        insta::assert_snapshot!(file, @r#"
        FROM ../atlas.vindex
        PATCH "my patches/sea.vlp"
        INSERT ("Atlantis", "capital", "Poseidon #1") AT LAYER 2 MODE COMPOSE
        DELETE entity = "Atlantis" AND relation = "currency"
        LABELS labels#1.json
        STAGE small
        EXPOSE browse
        STAGE large
        INSERT ("Lemuria", "capital", "Mu")
        EXPOSE browse inference compile
        "#);
        assert_eq!(Vindexfile::parse(&file.to_string()).unwrap(), file);
        let lines = |stage| file.steps(stage).unwrap().iter().map(|step| step.line).collect::<Vec<_>>();
        assert_eq!(lines(None), [3, 4, 5, 6, 7]);
        assert_eq!(lines(Some("small")), [3, 4, 5, 6, 7, 10]);
        assert_eq!(lines(Some("large")), [3, 4, 5, 6, 7, 12, 13]);
    }

    #[test]
    fn stages_that_are_not_there_are_named_with_those_that_are() {
        let file = Vindexfile::parse("STAGE a\nFROM x\nSTAGE b\nFROM y").unwrap();
        assert_eq!(file.steps(Some("b")).unwrap()[0].line, 4);
        assert_eq!(
            file.steps(Some("c")).unwrap_err().to_string(),
            "there is no stage c; the Vindexfile has a, b"
        );
        let error = file.steps(None).unwrap_err().to_string();
        assert_eq!(error, "there is no stage without a name; the Vindexfile has a, b");
    }

    #[test]
    fn mistakes_are_told_with_line_expectation_and_finding() {
        let cases = [
            ("", "line 1: expected FROM and the path of a vindex, found nothing"),
            ("# nothing", "line 1: expected FROM and the path of a vindex, found nothing"),
            (
                "FRMO x",
                "line 1: expected one of FROM, PATCH, INSERT, DELETE, LABELS, EXPOSE, STAGE (did you mean FROM?), \
                 found \"FRMO\"",
            ),
            (
                "\n!",
                "line 2: expected one of FROM, PATCH, INSERT, DELETE, LABELS, EXPOSE, STAGE, found \"!\"",
            ),
            ("FROM", "line 1: expected the path or name of a vindex, found the end of the line"),
            (
                "FROM a b",
                "line 1: expected the end of the line, or quotes around what has blanks, found \"b\"",
            ),
            ("FROM \"a\" b", "line 1: expected the end of the statement, found `b`"),
            ("FROM \"a", "line 1: this string has no closing \""),
            ("FROM x\nFROM y", "line 2: FROM is given again, after line 1"),
            ("PATCH x", r#"line 1: expected FROM before all else, found "PATCH""#),
            ("FROM x\nSTAGE a\nSTAGE a", "line 3: stage a is given again, after line 2"),
            ("FROM x\nEXPOSE", "line 2: expected browse, found the end of the line"),
            ("FROM x\nEXPOSE compile", r#"line 2: expected browse, found "compile""#),
            (
                "FROM x\nEXPOSE browse compile inference",
                r#"line 2: expected the end of the line, found "inference""#,
            ),
            ("FROM x\nEXPOSE browse\nSTAGE a\nEXPOSE browse", "line 4: EXPOSE is given again, after line 2"),
            ("FROM x\nINSERT (\"a\", \"b\")", "line 2: expected a comma, found `)`"),
            (
                "FROM x\nDELETE target",
                "line 2: expected IN, LIKE or =, !=, <, >, <= or >=, found the end of the text",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        fn argument() -> impl Strategy<Value = String> {
            prop_oneof!["[a-z./:#@ -]{0,12}", any::<String>()]
        }

        proptest! {
            #[test]
            fn what_is_printed_reads_back(
                paths in prop::collection::vec((0..3_usize, argument()), 0..6),
                base in argument(),
                stage in prop::option::of(argument()),
            ) {
                let step = |instruction| Step { line: 1, instruction };
                let others = paths.into_iter().map(|(kind, path)| match kind {
                    0 => step(Instruction::Patch(path.into())),
                    1 => step(Instruction::Labels(path.into())),
                    _ => step(Instruction::Insert(Insert {
                        edges: vec![crate::ast::NewEdge {
                            entity: path.clone().into(),
                            relation: "r".to_owned().into(),
                            target: path.into(),
                        }],
                        layer: None,
                        confidence: None,
                        alpha: None,
                        mode: None,
                    })),
                });
                let shared = std::iter::once(step(Instruction::From(base.into()))).chain(others).collect();
                let stages = stage.into_iter().map(|name| Stage { name, steps: Vec::new() }).collect();
                let file = Vindexfile { shared, stages };
                prop_assert_eq!(Vindexfile::parse(&file.to_string()).unwrap(), file);
            }

            #[test]
            fn no_text_panics(text: String, cut in 0..WHOLE.len(), character: char) {
                let _ = Vindexfile::parse(&text);
                let mut changed: String = WHOLE.chars().take(cut).collect();
                changed.push(character);
                if let Ok(file) = Vindexfile::parse(&changed) {
                    prop_assert_eq!(Vindexfile::parse(&file.to_string()).unwrap(), file);
                }
            }
        }
    }
}
