//! The commands of the prompt itself, which begin with a dot.

use larql_lql::assist::nearest;
use larql_lql::render::{Format, UnknownFormat};

/// A command of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Explain everything in a line each, or one thing in full.
    Help(Option<String>),
    /// Render results in this format.
    Mode(Format),
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

pub(crate) const COMMANDS: [CommandHelp; 5] = [
    CommandHelp {
        name: ".help",
        syntax: ".help [statement]",
        meaning: "this list, or the grammar of a statement with an example",
        arguments: &[],
    },
    CommandHelp {
        name: ".mode",
        syntax: ".mode table|json|csv",
        meaning: "how results are rendered",
        arguments: &["table", "json", "csv"],
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
    CommandHelp { name: ".quit", syntax: ".quit", meaning: "leave; so does Ctrl-D", arguments: &[] },
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
        match (command.name, argument) {
            (".help", "") => return Ok(Self::Help(None)),
            (".help", topic) => return Ok(Self::Help(Some(topic.to_owned()))),
            (".mode", format) if !format.is_empty() => return Ok(Self::Mode(format.parse()?)),
            (".timer", "on") => return Ok(Self::Timer(true)),
            (".timer", "off") => return Ok(Self::Timer(false)),
            (".walk-k", "all") => return Ok(Self::WalkK(None)),
            (".walk-k", number) => {
                if let Some(k) = number.parse().ok().filter(|k| *k > 0) {
                    return Ok(Self::WalkK(Some(k)));
                }
            }
            (".quit", "") => return Ok(Self::Quit),
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
        assert_eq!(parsed(".mode JSON"), Ok(Command::Mode(Format::Json)));
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
        assert_eq!(told(".mode xml"), "there is no format `xml`; the formats are table, json and csv");
        assert_eq!(told(".mode"), "expected .mode table|json|csv, found nothing after it");
        assert_eq!(told(".timer maybe"), "expected .timer on|off, found `maybe`");
        assert_eq!(told(".walk-k 0"), "expected .walk-k N|all, found `0`");
        assert_eq!(told(".quit now"), "expected .quit, found `now`");
    }
}
