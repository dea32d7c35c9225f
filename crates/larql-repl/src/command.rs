//! The commands of the prompt itself, which begin with a dot.

use larql_lql::assist::nearest;
use larql_lql::render::{Format, UnknownFormat};

/// A command of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Explain everything in a line each, or one thing in full.
    Help(Option<String>),
    /// Render results in this format, or say which one it is.
    Mode(Option<Format>),
    /// Write results to this file, or to standard output again.
    Output(Option<String>),
    /// Run the commands and statements in a file.
    Read(String),
    /// Open a vindex or a model.
    Open(String),
    /// Insert the facts in a file as edges.
    Import(String),
    /// List the tables.
    Tables,
    /// List the columns of all tables or of one.
    Schema(Option<&'static str>),
    /// Print the time that each statement takes, or no longer.
    Timer(bool),
    /// Walk that many features in INFER, or all.
    WalkK(Option<usize>),
    /// Leave.
    Quit,
}

/// Help on a command.
pub(crate) struct CommandHelp {
    pub(crate) name: &'static str,
    pub(crate) syntax: &'static str,
    pub(crate) meaning: &'static str,
    /// Arguments that may follow the name, for completion.
    pub(crate) arguments: &'static [&'static str],
}

pub(crate) const COMMANDS: [CommandHelp; 12] = [
    CommandHelp {
        name: ".help",
        syntax: ".help [statement]",
        meaning: "this list, or the grammar of a statement with an example",
        arguments: &[],
    },
    CommandHelp {
        name: ".mode",
        syntax: ".mode [FORMAT]",
        meaning: "show or set the format: table, box, markdown, line, json or csv",
        arguments: &["table", "box", "markdown", "line", "json", "csv"],
    },
    CommandHelp {
        name: ".output",
        syntax: ".output [FILE]",
        meaning: "write results to a file, or to the terminal again",
        arguments: &[],
    },
    CommandHelp { name: ".open", syntax: ".open MODEL", meaning: "open a vindex or a model", arguments: &[] },
    CommandHelp {
        name: ".read",
        syntax: ".read FILE",
        meaning: "run the commands and statements in a file",
        arguments: &[],
    },
    CommandHelp {
        name: ".import",
        syntax: ".import FILE",
        meaning: "insert the facts in a .tsv or .json file as edges",
        arguments: &[],
    },
    CommandHelp { name: ".tables", syntax: ".tables", meaning: "list the tables", arguments: &[] },
    CommandHelp {
        name: ".schema",
        syntax: ".schema [TABLE]",
        meaning: "list the columns of the tables",
        arguments: &["EDGES", "FEATURES", "ENTITIES"],
    },
    CommandHelp {
        name: ".timer",
        syntax: ".timer on|off",
        meaning: "print the time that each statement takes",
        arguments: &["on", "off"],
    },
    CommandHelp {
        name: ".walk-k",
        syntax: ".walk-k N|all",
        meaning: "how many features of each layer INFER walks",
        arguments: &["all"],
    },
    CommandHelp { name: ".exit", syntax: ".exit", meaning: "leave; so does Ctrl-D", arguments: &[] },
    CommandHelp { name: ".quit", syntax: ".quit", meaning: "the same as .exit", arguments: &[] },
];

/// Failure to obey a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("there is no command {name}{}; .help lists them", did_you_mean(.meant))]
    Unknown { name: String, meant: Option<&'static str> },
    #[error("expected {syntax}, found {found}")]
    Argument { syntax: &'static str, found: String },
    #[error(transparent)]
    Format(#[from] UnknownFormat),
}

/// The tables, with what their rows are.
pub(crate) const TABLES: [(&str, &str); 4] = [
    ("EDGES", "what the model associates: entity, relation, target"),
    ("FEATURES", "the features of each layer, with what they write"),
    ("EVIDENCE", "the answers of a probe, on which labels of features rest"),
    ("ENTITIES", "the names that features know"),
];

/// An argument without the quotes around it.
fn unquoted(argument: &str) -> &str {
    let within = |quote: char| argument.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(argument)
}

fn did_you_mean(meant: &Option<&str>) -> String {
    meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default()
}

impl Command {
    /// The command that `text` is; nothing if it is no command but statements.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, CommandError>> {
        let text = text.trim().trim_end_matches(';').trim_end();
        // The words that people try first.
        match text.to_ascii_lowercase().as_str() {
            "quit" | "exit" => return Some(Ok(Self::Quit)),
            "help" => return Some(Ok(Self::Help(None))),
            _ => {}
        }
        text.starts_with('.').then(|| Self::parse_dotted(text))
    }

    fn parse_dotted(text: &str) -> Result<Self, CommandError> {
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let argument = argument.trim();
        let found = COMMANDS.iter().find(|command| command.name.eq_ignore_ascii_case(name));
        let Some(command) = found else {
            let meant = nearest(name, COMMANDS.iter().map(|command| command.name));
            return Err(CommandError::Unknown { name: name.to_owned(), meant });
        };
        let given = (!argument.is_empty()).then(|| unquoted(argument).to_owned());
        match (command.name, given) {
            (".help", topic) => return Ok(Self::Help(topic)),
            (".mode", format) => return Ok(Self::Mode(format.map(|format| format.parse()).transpose()?)),
            (".output", file) => return Ok(Self::Output(file)),
            (".read", Some(file)) => return Ok(Self::Read(file)),
            (".open", Some(model)) => return Ok(Self::Open(model)),
            (".import", Some(file)) => return Ok(Self::Import(file)),
            (".tables", None) => return Ok(Self::Tables),
            (".schema", None) => return Ok(Self::Schema(None)),
            (".schema", Some(name)) => {
                let named = |table: &&str| table.eq_ignore_ascii_case(&name);
                if let Some(table) = TABLES.iter().map(|(table, _)| *table).find(named) {
                    return Ok(Self::Schema(Some(table)));
                }
            }
            (".timer", Some(on)) if on == "on" || on == "off" => return Ok(Self::Timer(on == "on")),
            (".walk-k", Some(all)) if all == "all" => return Ok(Self::WalkK(None)),
            (".walk-k", Some(number)) => {
                if let Some(k) = number.parse().ok().filter(|k| *k > 0) {
                    return Ok(Self::WalkK(Some(k)));
                }
            }
            (".exit" | ".quit", None) => return Ok(Self::Quit),
            _ => {}
        }
        let found = if argument.is_empty() { "nothing after it".to_owned() } else { format!("`{argument}`") };
        Err(CommandError::Argument { syntax: command.syntax, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Command, String> {
        Command::parse(text).expect("a command").map_err(|error| error.to_string())
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(parsed(".help"), Ok(Command::Help(None)));
        assert_eq!(parsed(" .HELP  show layers; "), Ok(Command::Help(Some("show layers".into()))));
        assert_eq!(parsed(".mode JSON"), Ok(Command::Mode(Some(Format::Json))));
        assert_eq!(parsed(".mode"), Ok(Command::Mode(None)));
        assert_eq!(parsed(".open 'my model.vindex'"), Ok(Command::Open("my model.vindex".into())));
        assert_eq!(parsed(".output"), Ok(Command::Output(None)));
        assert_eq!(parsed(".schema edges"), Ok(Command::Schema(Some("EDGES"))));
        assert_eq!(parsed(".exit"), Ok(Command::Quit));
        assert_eq!(parsed(".timer on"), Ok(Command::Timer(true)));
        assert_eq!(parsed(".walk-k 50"), Ok(Command::WalkK(Some(50))));
        assert_eq!(parsed(".walk-k all"), Ok(Command::WalkK(None)));
        assert_eq!(parsed("exit;"), Ok(Command::Quit));
        assert_eq!(Command::parse("STATS;"), None);
    }

    #[test]
    fn mistakes_are_explained() {
        let told = |text| parsed(text).unwrap_err();
        assert_eq!(told(".hepl"), "there is no command .hepl, did you mean .help?; .help lists them");
        assert_eq!(told(".zzz"), "there is no command .zzz; .help lists them");
        assert_eq!(
            told(".mode xml"),
            "there is no format `xml`; the formats are table, box, markdown, line, json and csv"
        );
        assert_eq!(told(".read"), "expected .read FILE, found nothing after it");
        assert_eq!(told(".schema cats"), "expected .schema [TABLE], found `cats`");
        assert_eq!(told(".timer maybe"), "expected .timer on|off, found `maybe`");
        assert_eq!(told(".walk-k 0"), "expected .walk-k N|all, found `0`");
        assert_eq!(told(".quit now"), "expected .quit, found `now`");
    }
}
