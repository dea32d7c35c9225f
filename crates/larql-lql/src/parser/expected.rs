//! Keywords and literals that the grammar allows at one place.

use std::fmt;

use crate::keyword::{Keyword, KeywordSet};

macro_rules! items {
    ($($name:ident $text:literal)+) => {
        /// Parts of the grammar that are no keywords.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Item {
            $($name,)+
        }

        impl Item {
            const ALL: &'static [Self] = &[$(Self::$name,)+];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

items! {
    Statement "a statement"
    Text "a string in quotes"
    WholeNumber "a whole number"
    Number "a number"
    Range "a range such as 14-27"
    Value "a string, number or word"
    Field "a field"
    Comparison "=, !=, <, >, <= or >="
    Star "*"
    Open "("
    Close ")"
    Comma "a comma"
    Dash "-"
    Equal "="
    Pipe "|>"
    End "the end of the statement"
}

/// Everything that the grammar would have accepted at the place of an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    keywords: KeywordSet,
    items: u16,
}

const _: () = assert!(Item::ALL.len() <= 16, "Expected has a bit for every item");

impl Expected {
    /// The keywords among it, in alphabetical order.
    pub fn keywords(&self) -> impl Iterator<Item = Keyword> + use<> {
        self.keywords.iter()
    }

    pub(crate) fn keyword(&mut self, keyword: Keyword) {
        self.keywords.insert(keyword);
    }

    pub(crate) fn item(&mut self, item: Item) {
        self.items |= 1 << item as u16;
    }

    pub(crate) fn allows(&self, item: Item) -> bool {
        self.items >> item as u16 & 1 == 1
    }
}

/// `LAYERS, TOP or the end of the statement`. Where a whole class of keywords fits, the class is named instead.
impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classed = self.allows(Item::Statement) || self.allows(Item::Field);
        let keywords = self.keywords().filter(|_| !classed).map(Keyword::text);
        let items = Item::ALL.iter().filter(|item| self.allows(**item)).map(|item| item.text());
        let names: Vec<&str> = keywords.chain(items).collect();
        f.write_str(&either(&names))
    }
}

/// `a, b or c`.
pub(crate) fn either(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
