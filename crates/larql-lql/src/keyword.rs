//! The words of the language, in one table.

use std::cmp::Ordering;
use std::fmt;

macro_rules! keywords {
    ($($name:ident $text:literal)+) => {
        /// A word that the grammar knows. None is reserved: where a value is expected, every word is just a word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the text of each says it")]
        pub enum Keyword {
            $($name,)+
        }

        impl Keyword {
            /// Every keyword, in alphabetical order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The canonical spelling, in upper case.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

// In ASCII order, which `Keyword::from_word` searches by.
keywords! {
    All "ALL"
    Alpha "ALPHA"
    Also "ALSO"
    And "AND"
    Apply "APPLY"
    Asc "ASC"
    At "AT"
    Attention "ATTENTION"
    AttnOv "ATTN_OV"
    AttnQk "ATTN_QK"
    AutoExtract "AUTO_EXTRACT"
    Begin "BEGIN"
    Boundary "BOUNDARY"
    Brief "BRIEF"
    Browse "BROWSE"
    By "BY"
    Ceiling "CEILING"
    Chain "CHAIN"
    Compact "COMPACT"
    Compare "COMPARE"
    Compile "COMPILE"
    Components "COMPONENTS"
    Compose "COMPOSE"
    Confidence "CONFIDENCE"
    Conflict "CONFLICT"
    Context "CONTEXT"
    Converged "CONVERGED"
    Count "COUNT"
    Current "CURRENT"
    Decompose "DECOMPOSE"
    Delete "DELETE"
    Dense "DENSE"
    Desc "DESC"
    Describe "DESCRIBE"
    Diff "DIFF"
    Distance "DISTANCE"
    Distinct "DISTINCT"
    Edges "EDGES"
    Embeddings "EMBEDDINGS"
    Entities "ENTITIES"
    Entity "ENTITY"
    Evidence "EVIDENCE"
    Examples "EXAMPLES"
    Explain "EXPLAIN"
    Extract "EXTRACT"
    F32 "F32"
    Fail "FAIL"
    Feature "FEATURE"
    Features "FEATURES"
    FfnDown "FFN_DOWN"
    FfnGate "FFN_GATE"
    FfnUp "FFN_UP"
    Floor "FLOOR"
    For "FOR"
    Format "FORMAT"
    From "FROM"
    Full "FULL"
    Gate "GATE"
    Gguf "GGUF"
    Graph "GRAPH"
    Group "GROUP"
    HighestConfidence "HIGHEST_CONFIDENCE"
    Hybrid "HYBRID"
    In "IN"
    Infer "INFER"
    Inference "INFERENCE"
    Insert "INSERT"
    Intervention "INTERVENTION"
    Into "INTO"
    KeepSource "KEEP_SOURCE"
    KeepTarget "KEEP_TARGET"
    Knn "KNN"
    Knowledge "KNOWLEDGE"
    Label "LABEL"
    Lambda "LAMBDA"
    Last "LAST"
    LastWins "LAST_WINS"
    Layer "LAYER"
    Layers "LAYERS"
    LayerMax "LAYER_MAX"
    Like "LIKE"
    Limit "LIMIT"
    Major "MAJOR"
    Max "MAX"
    Merge "MERGE"
    Minor "MINOR"
    Mode "MODE"
    Model "MODEL"
    Models "MODELS"
    Nearest "NEAREST"
    None "NONE"
    Offset "OFFSET"
    On "ON"
    Only "ONLY"
    Or "OR"
    Order "ORDER"
    Output "OUTPUT"
    Patch "PATCH"
    Patches "PATCHES"
    Positions "POSITIONS"
    Pure "PURE"
    Q4k "Q4K"
    Quant "QUANT"
    Range "RANGE"
    Raw "RAW"
    Rebalance "REBALANCE"
    Relation "RELATION"
    Relations "RELATIONS"
    Remote "REMOTE"
    Remove "REMOVE"
    Safetensors "SAFETENSORS"
    Save "SAVE"
    Score "SCORE"
    Select "SELECT"
    Set "SET"
    Show "SHOW"
    Snapshot "SNAPSHOT"
    Source "SOURCE"
    Stats "STATS"
    Status "STATUS"
    Stream "STREAM"
    Syntax "SYNTAX"
    Target "TARGET"
    Tier "TIER"
    To "TO"
    Tokens "TOKENS"
    Top "TOP"
    Trace "TRACE"
    Undo "UNDO"
    Until "UNTIL"
    Update "UPDATE"
    Use "USE"
    Values "VALUES"
    Verbose "VERBOSE"
    Via "VIA"
    Vindex "VINDEX"
    Walk "WALK"
    Where "WHERE"
    Window "WINDOW"
    With "WITH"
}

impl Keyword {
    /// The keyword that `word` spells, in whatever case.
    pub fn from_word(word: &str) -> Option<Self> {
        let found = Self::ALL.binary_search_by(|keyword| compare_ignoring_case(keyword.text(), word));
        found.ok().map(|index| Self::ALL[index])
    }
}

fn compare_ignoring_case(upper: &str, word: &str) -> Ordering {
    upper.bytes().cmp(word.bytes().map(|byte| byte.to_ascii_uppercase()))
}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Keywords that follow one another and act as one: `AT LAYER`.
pub(crate) type Phrase = &'static [Keyword];

/// A set of keywords, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeywordSet([u64; 3]);

const _: () = assert!(Keyword::ALL.len() <= 3 * 64, "KeywordSet has a bit for every keyword");

impl KeywordSet {
    pub(crate) fn insert(&mut self, keyword: Keyword) {
        self.0[keyword as usize / 64] |= 1 << (keyword as usize % 64);
    }

    pub(crate) fn contains(&self, keyword: Keyword) -> bool {
        self.0[keyword as usize / 64] >> (keyword as usize % 64) & 1 == 1
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Keyword> {
        Keyword::ALL.iter().copied().filter(move |keyword| self.contains(*keyword))
    }
}

/// A closed set of alternatives, each spelled by a phrase of keywords.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// The alternatives, in the order that help shows them in.
    const ALL: &'static [Self];

    /// Spelling of one.
    fn phrase(self) -> Phrase;
}

/// Declares an enum with the phrase of each variant beside it.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$doc:meta])* $variant:ident = $($keyword:ident)+,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $crate::keyword::Choice for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn phrase(self) -> $crate::keyword::Phrase {
                match self {
                    $(Self::$variant => &[$($crate::keyword::Keyword::$keyword),+],)+
                }
            }
        }
    };
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted() {
        assert!(Keyword::ALL.is_sorted_by(|a, b| a.text() < b.text()));
    }

    #[test]
    fn every_keyword_is_found_in_any_case() {
        for keyword in Keyword::ALL {
            assert_eq!(Keyword::from_word(keyword.text()), Some(*keyword));
            assert_eq!(Keyword::from_word(&keyword.text().to_lowercase()), Some(*keyword));
        }
        for word in ["", "LAYE", "LAYERSS", "zebra", "größe"] {
            assert_eq!(Keyword::from_word(word), None, "{word}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = KeywordSet::default();
        set.insert(Keyword::Walk);
        set.insert(Keyword::All);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Keyword::All, Keyword::Walk]);
    }
}
