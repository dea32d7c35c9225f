//! The pieces that statements print themselves with. Each brings its leading blank, so that they follow one another
//! without care.

use std::fmt::{self, Display, Formatter};

use super::span::Spanned;
use crate::keyword::{Choice, Phrase};
use crate::token::Quote;

pub(crate) trait Print {
    /// ` AT LAYER`
    fn words(&mut self, phrase: Phrase) -> fmt::Result;

    /// ` STREAM`, where it was given.
    fn flag(&mut self, phrase: Phrase, given: bool) -> fmt::Result;

    /// ` TOP 5`, where there is a value.
    fn clause<T: Display>(&mut self, phrase: Phrase, value: Option<T>) -> fmt::Result;

    /// ` VERBOSE`, where one was chosen.
    fn choice<C: Choice>(&mut self, choice: Option<C>) -> fmt::Result;
}

impl Print for Formatter<'_> {
    fn words(&mut self, phrase: Phrase) -> fmt::Result {
        phrase.iter().try_for_each(|keyword| write!(self, " {keyword}"))
    }

    fn flag(&mut self, phrase: Phrase, given: bool) -> fmt::Result {
        if given { self.words(phrase) } else { Ok(()) }
    }

    fn clause<T: Display>(&mut self, phrase: Phrase, value: Option<T>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        self.words(phrase)?;
        write!(self, " {value}")
    }

    fn choice<C: Choice>(&mut self, choice: Option<C>) -> fmt::Result {
        choice.map_or(Ok(()), |choice| self.words(choice.phrase()))
    }
}

/// A choice, spelled.
pub(crate) struct Spelled<C>(pub(crate) C);

impl<C: Choice> Display for Spelled<C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        separated(self.0.phrase(), " ").fmt(f)
    }
}

/// A text in quotes, where there is one.
pub(crate) fn quoted(text: &Option<Spanned<String>>) -> Option<Quote<'_>> {
    text.as_ref().map(|text| Quote(text))
}

/// The items with `separator` between.
pub(crate) fn separated<'a, T: Display>(
    items: &'a [T],
    separator: &'static str,
) -> impl Display + use<'a, T> {
    Separated { items, separator }
}

struct Separated<'a, T> {
    items: &'a [T],
    separator: &'static str,
}

impl<T: Display> Display for Separated<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                f.write_str(self.separator)?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}
