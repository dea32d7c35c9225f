//! BEGIN, SAVE, APPLY, REMOVE and SHOW PATCH, and UNDO: edits that lie over the base and can be taken off again.

use std::fmt::{self, Display, Formatter};

use super::Help;
use super::print::{Print, quoted};
use super::span::Spanned;
use crate::keyword::Keyword;
use crate::parser::{Parsed, Parser};
use crate::token::Quote;

/// `BEGIN PATCH …`: edits go into this patch from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginPatch {
    /// The file that SAVE PATCH will write.
    pub path: Spanned<String>,
}

/// `SAVE PATCH`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavePatch {
    /// The file; the one that BEGIN PATCH named when absent.
    pub path: Option<Spanned<String>>,
}

/// `APPLY PATCH …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyPatch {
    /// The file.
    pub path: Spanned<String>,
}

/// `REMOVE PATCH …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovePatch {
    /// The file that was applied.
    pub path: Spanned<String>,
}

pub(super) const HELP: [Help; 6] = [
    Help {
        name: "BEGIN PATCH",
        syntax: "BEGIN PATCH str",
        example: r#"BEGIN PATCH "facts.vlp";"#,
        meaning: "start a patch that takes the edits from now on",
    },
    Help {
        name: "SAVE PATCH",
        syntax: "SAVE PATCH [str]",
        example: "SAVE PATCH;",
        meaning: "write the open patch to its file, or to another",
    },
    Help {
        name: "APPLY PATCH",
        syntax: "APPLY PATCH str",
        example: r#"APPLY PATCH "facts.vlp";"#,
        meaning: "lay a saved patch over the vindex",
    },
    Help {
        name: "REMOVE PATCH",
        syntax: "REMOVE PATCH str",
        example: r#"REMOVE PATCH "facts.vlp";"#,
        meaning: "take a patch off again, whatever was applied after it",
    },
    Help {
        name: "UNDO",
        syntax: "UNDO",
        example: "UNDO;",
        meaning: "take back the last edit of the open patch",
    },
    Help {
        name: "SHOW PATCHES",
        syntax: "SHOW PATCHES",
        example: "SHOW PATCHES;",
        meaning: "list the patches that lie over the vindex",
    },
];

impl BeginPatch {
    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.expect(&[Keyword::Patch])?;
        Ok(Self { path: parser.text()? })
    }
}

impl SavePatch {
    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.expect(&[Keyword::Patch])?;
        Ok(Self { path: parser.optional_text()? })
    }
}

impl ApplyPatch {
    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.expect(&[Keyword::Patch])?;
        Ok(Self { path: parser.text()? })
    }
}

impl RemovePatch {
    pub(super) fn parse(parser: &mut Parser) -> Parsed<Self> {
        parser.expect(&[Keyword::Patch])?;
        Ok(Self { path: parser.text()? })
    }
}

impl Display for BeginPatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "BEGIN PATCH {}", Quote(&self.path))
    }
}

impl Display for SavePatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SAVE PATCH")?;
        f.clause(&[], quoted(&self.path))
    }
}

impl Display for ApplyPatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "APPLY PATCH {}", Quote(&self.path))
    }
}

impl Display for RemovePatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "REMOVE PATCH {}", Quote(&self.path))
    }
}
