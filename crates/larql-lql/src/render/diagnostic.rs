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
/// `name` says what the source is: the script's file, or the prompt.
pub fn diagnostic(error: &dyn Diagnostic, name: &str, source: &str, color: bool) -> String {
    let styles = if color { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let theme = GraphicalTheme { characters: ThemeCharacters::unicode(), styles };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100);
    let shown = source.len() <= LONGEST_EXCERPT;
    let source = shown.then(|| NamedSource::new(name, excerpt(error, source)));
    let mut text = String::new();
    match handler.render_report(&mut text, &WithSource { error, source }) {
        Ok(()) => text,
        // A label that does not fit the text; the message alone still says what is wrong.
        Err(fmt::Error) => format!("{error}\n"),
    }
}

/// The source without blank lines at its end, but with a place to point at for what is missing there.
fn excerpt(error: &dyn Diagnostic, source: &str) -> String {
    let mut text = source.trim_end().to_owned();
    if error.labels().into_iter().flatten().any(|label| label.offset() >= text.len()) {
        text.push(' ');
    }
    text
}

/// A diagnostic and the text that its labels point into.
#[derive(Debug)]
struct WithSource<'a> {
    error: &'a dyn Diagnostic,
    source: Option<NamedSource<String>>,
}

impl Display for WithSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self.error, f)
    }
}

impl std::error::Error for WithSource<'_> {
    /// The first cause that the message does not tell already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let message = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(told) = cause.filter(|cause| message.contains(&cause.to_string())) {
            cause = told.source();
        }
        cause
    }
}

impl Diagnostic for WithSource<'_> {
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
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.error.labels()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error, Diagnostic)]
    enum Sample {
        #[error("a.vlp: {0}")]
        Told(#[source] io::Error),
        #[error("a.vlp cannot be read")]
        Untold(#[source] io::Error),
    }

    #[test]
    fn a_cause_is_told_once() {
        let missing = || io::Error::other("no such file");
        assert_eq!(diagnostic(&Sample::Told(missing()), "lql", "", false).matches("no such file").count(), 1);
        assert_eq!(
            diagnostic(&Sample::Untold(missing()), "lql", "", false).matches("no such file").count(),
            1
        );
    }
}
