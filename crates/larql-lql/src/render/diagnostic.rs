//! Errors, with the line that they are about.

use std::fmt::{self, Display};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
    ThemeCharacters, ThemeStyles,
};

/// A longer text is not shown under an error: nobody finds the place in it.
const LONGEST_EXCERPT: usize = 10_000;

/// The message of `error`, the part of `source` that it points at with a line under the place, and the help.
///
/// `name` says what the source is: the script's file, or the prompt. Causes that the message leaves out follow it.
pub fn diagnostic(error: &dyn Diagnostic, name: &str, source: &str, color: bool) -> String {
    let shown = source.len() <= LONGEST_EXCERPT;
    let source = shown.then(|| NamedSource::new(name, excerpt(error, source)));
    let error = Told { message: with_causes(error), error, source };
    text(&error, color, |handler| handler.with_width(100))
}

/// An error that is about no text of its own, as [`diagnostic`] shows it, in lines of any length: paths are copied from
/// messages.
pub fn report(error: &dyn Diagnostic, color: bool) -> String {
    text(&Told { message: with_causes(error), error, source: None }, color, |handler| {
        handler.with_wrap_lines(false)
    })
}

fn text(
    error: &Told<'_>,
    color: bool,
    shape: impl FnOnce(GraphicalReportHandler) -> GraphicalReportHandler,
) -> String {
    let styles = if color { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let theme = GraphicalTheme { characters: ThemeCharacters::unicode(), styles };
    let mut text = String::new();
    match shape(GraphicalReportHandler::new_themed(theme).with_links(false)).render_report(&mut text, error) {
        Ok(()) => text,
        // A label that does not fit the text; the message alone still says what is wrong.
        Err(fmt::Error) => format!("{error}\n"),
    }
}

/// The message of an error, with the causes that it leaves out.
fn with_causes(error: &dyn Diagnostic) -> String {
    let mut message = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            message += &format!(": {cause}");
        }
    }
    message
}

/// The source without blank lines at its end, but with a place to point at for what is missing there.
fn excerpt(error: &dyn Diagnostic, source: &str) -> String {
    let mut text = source.trim_end().to_owned();
    if error.labels().into_iter().flatten().any(|label| label.offset() >= text.len()) {
        text.push(' ');
    }
    text
}

/// A diagnostic whose message tells its causes, and the text that its labels point into.
#[derive(Debug)]
struct Told<'a> {
    message: String,
    error: &'a dyn Diagnostic,
    /// Text in place of the diagnostic's own.
    source: Option<NamedSource<String>>,
}

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Without causes, as the message has them.
impl std::error::Error for Told<'_> {}

impl Diagnostic for Told<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.error.code()
    }

    fn severity(&self) -> Option<Severity> {
        self.error.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.error.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        let own = self.source.as_ref().map(|source| source as &dyn SourceCode);
        own.or_else(|| self.error.source_code())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.error.labels()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error, Diagnostic)]
    #[error("the file cannot be read{0}")]
    struct Outer(&'static str, #[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("it is a folder")]
    struct Inner;

    #[test]
    fn a_cause_is_told_once() {
        let told = |message| report(&Outer(message, Inner), false);
        assert_eq!(told(""), "  × the file cannot be read: it is a folder\n");
        assert_eq!(told(": it is a folder"), told(""));
        let statement = diagnostic(&Outer(": it is a folder", Inner), "lql", "STATS", false);
        assert_eq!(statement.matches("it is a folder").count(), 1);
    }
}
