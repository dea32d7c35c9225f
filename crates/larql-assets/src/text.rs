//! Fact tables and calibration texts that are part of the program.

/// Fact tables, as file name and content. `data/facts/README.md` describes their format.
pub const FACT_TABLES: [(&str, &str); 7] = [
    ("cities.tsv", include_str!("../data/facts/cities.tsv")),
    ("countries.tsv", include_str!("../data/facts/countries.tsv")),
    ("elements.tsv", include_str!("../data/facts/elements.tsv")),
    ("numbers.tsv", include_str!("../data/facts/numbers.tsv")),
    ("records.tsv", include_str!("../data/facts/records.tsv")),
    ("sequences.tsv", include_str!("../data/facts/sequences.tsv")),
    ("words.tsv", include_str!("../data/facts/words.tsv")),
];

/// `relations.json`: the relations of the fact tables with their wordings.
pub const RELATIONS: &str = include_str!("../data/facts/relations.json");

/// Calibration texts, each a sequence of passages separated by empty lines: paragraphs on many subjects, statements
/// worded as facts are asked for, and facts.
pub const CALIBRATION_TEXTS: [&str; 3] = [
    include_str!("../data/calibration/ordinary.txt"),
    include_str!("../data/calibration/statements.txt"),
    include_str!("../data/calibration/facts.txt"),
];

/// Text of the same kind as the first calibration text, reserved for evaluation.
pub const HELD_OUT_TEXT: &str = include_str!("../data/calibration/held-out.txt");

/// Wordings and a belief for models that were never probed. `data/unprobed/README.md` says how they were learnt.
pub const UNPROBED: &str = include_str!("../data/unprobed/reading.json");
