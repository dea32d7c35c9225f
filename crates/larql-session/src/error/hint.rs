//! Next steps after an error.

use std::fmt::{self, Display, Formatter};

/// Next step after an error, as data. `Display` words it for a person who types statements; other surfaces have words of their
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// Open a vindex.
    OpenVindex,
    /// Make a vindex of a checkpoint.
    Extract {
        /// The checkpoint.
        path: String,
    },
    /// Look the statements of this version up.
    ListStatements,
    /// Name the model otherwise.
    NameModel {
        /// Advice of whatever resolves names.
        advice: String,
    },
    /// Ask for a target or an entity, or label the vindex.
    AskOtherwise,
    /// Name an entity, or ask for features.
    NameEntity,
    /// Leave the entity or prompt out, so that each piped row is one.
    LeaveSubjectOut,
    /// Separate the statements by a semicolon.
    EndStatementBefore,
    /// Pipe fewer rows.
    LimitRows {
        /// The greatest number.
        most: usize,
    },
    /// Give a shorter prompt.
    ShortenPrompt,
    /// Save or remove the patch that is open, before another begins.
    FinishPatch {
        /// Its name.
        patch: String,
        /// True if it has no file.
        automatic: bool,
    },
    /// Give the path of a patch file.
    FindPatchFile,
    /// Add the tokenizer to the model, and extract it again.
    AddTokenizer,
    /// Edit something, or begin a patch.
    BeginPatch,
    /// Name the file of the patch.
    NamePatchFile,
    /// Choose another file, or apply this patch.
    UseOtherPatchFile {
        /// The file.
        path: String,
    },
    /// Take a patch off.
    RemovePatch {
        /// Its name.
        path: String,
    },
    /// Look the applied patches up.
    ListPatches,
    /// Set one of the fields that can be set.
    AssignableFields,
    /// Merge into a patch file, or into what is open.
    MergeIntoPatch,
    /// Compile with the edge memory as it is.
    CarryEntries,
    /// Write under a name of the same format.
    OtherName,
    /// Take a whole patch off instead of an edit.
    UndoOtherwise,
    /// Name an entity, or single features.
    NameEntityOrFeatures {
        /// DELETE or UPDATE.
        statement: &'static str,
    },
    /// Change features by a statement of their own.
    EditFeatures {
        /// DELETE or UPDATE.
        statement: &'static str,
    },
    /// Delete the edge and insert another one.
    InsertAnother,
}

impl Display for Hint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Hint::OpenVindex => f.write_str("open one first, for instance: USE \"model.vindex\";"),
            Hint::Extract { path } => write!(
                f,
                "extract it first: EXTRACT MODEL \"{path}\" INTO \"{path}.vindex\" WITH ALL; or USE MODEL \"{path}\" \
                 AUTO_EXTRACT;"
            ),
            Hint::ListStatements => f.write_str("the statements of this version are listed by .help"),
            Hint::NameModel { advice } => f.write_str(advice),
            Hint::AskOtherwise => {
                f.write_str("ask for a target or an entity instead; `larql probe` finds relations")
            }
            Hint::NameEntity => f.write_str(
                "add WHERE entity = \"France\", or ask FROM FEATURES; `larql probe` finds edges of many entities",
            ),
            Hint::LeaveSubjectOut => f.write_str(
                "leave its entity or prompt out, so that each row is one in turn; or separate the two statements by ;",
            ),
            Hint::EndStatementBefore => f.write_str("separate the two statements by ;"),
            Hint::LimitRows { most } => write!(f, "end the statement before it with LIMIT {most}"),
            Hint::AddTokenizer => f.write_str("put the model's tokenizer.json there and extract it again"),
            Hint::ShortenPrompt => {
                f.write_str("shorten the prompt; `larql tokenize` shows its tokens, `larql run` takes --context")
            }
            Hint::FinishPatch { automatic: true, .. } => f.write_str(
                "keep them first: SAVE PATCH \"edits.vlp\"; or take them back: REMOVE PATCH \"automatic\";",
            ),
            Hint::FinishPatch { patch, automatic: false } => {
                write!(f, "keep them first: SAVE PATCH; or take them back: REMOVE PATCH \"{patch}\";")
            }
            Hint::FindPatchFile => f.write_str(
                "give the path of a file that SAVE PATCH wrote, from the folder in which LARQL runs",
            ),
            Hint::BeginPatch => {
                f.write_str("an edit opens one by itself, and so does: BEGIN PATCH \"facts.vlp\";")
            }
            Hint::NamePatchFile => f.write_str("say where it is to go: SAVE PATCH \"edits.vlp\";"),
            Hint::UseOtherPatchFile { path } => {
                write!(f, "choose another name, or lay it over the vindex: APPLY PATCH \"{path}\";")
            }
            Hint::RemovePatch { path } => write!(f, "take it off first: REMOVE PATCH \"{path}\";"),
            Hint::ListPatches => f.write_str("SHOW PATCHES; lists those that do"),
            Hint::AssignableFields => {
                f.write_str("entity, relation, target and confidence of edges can be set")
            }
            Hint::MergeIntoPatch => {
                f.write_str("merge into a file that ends in .vlp, or into what is open and then COMPILE it")
            }
            Hint::CarryEntries => f.write_str("carry them along: COMPILE … INTO VINDEX … SNAPSHOT"),
            Hint::OtherName => f.write_str("give a name that ends in .vindex, .gguf or .safetensors as the format is, or has another ending"),
            Hint::UndoOtherwise => {
                f.write_str("SHOW PATCHES; lists the patches, and REMOVE PATCH takes a whole one off")
            }
            Hint::NameEntityOrFeatures { statement } => {
                write!(f, "add entity = \"France\", or name features: ")?;
                Hint::EditFeatures { statement }.fmt(f)
            }
            Hint::EditFeatures { statement: "DELETE" } => {
                f.write_str("DELETE FROM FEATURES WHERE layer = 24 AND feature = 103;")
            }
            Hint::EditFeatures { .. } => {
                f.write_str("UPDATE FEATURES SET label = \"capital\" WHERE layer = 24 AND feature = 103;")
            }
            Hint::InsertAnother => f.write_str("DELETE the edge, and INSERT the other one"),
        }
    }
}
