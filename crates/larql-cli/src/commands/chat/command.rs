//! Commands of the chat, which begin with a slash.

use larql_lql::assist::nearest;

/// A command of the chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// List the commands.
    Help,
    /// Forget the conversation.
    Clear,
    /// Show the system message, or replace it.
    System(Option<String>),
    /// Show the settings, or change one.
    Set(Option<(String, String)>),
    /// Write the conversation to a file.
    Save(String),
    /// Read a conversation from a file.
    Load(String),
    /// Leave.
    Bye,
}

/// Name, syntax and meaning of each command.
pub(super) const COMMANDS: [(&str, &str, &str); 7] = [
    ("/help", "/help, /?", "this list"),
    ("/clear", "/clear", "forget the conversation; the system message stays"),
    ("/system", "/system [TEXT]", "show the system message, or replace it"),
    ("/set", "/set [NAME VALUE]", "show the settings, or change one"),
    ("/save", "/save FILE", "write the conversation to a file"),
    ("/load", "/load FILE", "go on with the conversation in a file"),
    ("/bye", "/bye", "end the chat; so does Ctrl-D"),
];

impl Command {
    /// The command that `text` is; none if it is a message, as `/etc/passwd` is.
    pub(super) fn parse(text: &str) -> Option<Result<Command, String>> {
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let word = name.strip_prefix('/')?;
        let is_name = word == "?" || (!word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic()));
        is_name.then(|| Command::named(&name.to_ascii_lowercase(), argument.trim()))
    }

    fn named(name: &str, argument: &str) -> Result<Command, String> {
        let given = (!argument.is_empty()).then(|| argument.to_owned());
        let syntax = COMMANDS.iter().find(|command| command.0 == name).map_or("", |command| command.1);
        match (name, given) {
            ("/help" | "/?", _) => Ok(Command::Help),
            ("/clear", None) => Ok(Command::Clear),
            ("/system", text) => Ok(Command::System(text)),
            ("/set", None) => Ok(Command::Set(None)),
            ("/set", Some(text)) => match text.split_once(char::is_whitespace) {
                Some((name, value)) => Ok(Command::Set(Some((name.to_owned(), value.trim().to_owned())))),
                None => Ok(Command::Set(Some((text, String::new())))),
            },
            ("/save", Some(file)) => Ok(Command::Save(file)),
            ("/load", Some(file)) => Ok(Command::Load(file)),
            ("/bye" | "/exit" | "/quit", None) => Ok(Command::Bye),
            _ if !syntax.is_empty() => Err(format!("expected {syntax}, found `{name} {argument}`")),
            _ => {
                let meant = nearest(name, COMMANDS.map(|command| command.0));
                let meant = meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default();
                Err(format!("there is no command {name}{meant}; /help lists them"))
            }
        }
    }
}

/// A line for each command.
pub(super) fn help() -> String {
    let width = COMMANDS.iter().map(|(_, syntax, _)| syntax.len()).max().unwrap_or(0);
    let mut text: String =
        COMMANDS.iter().map(|(_, syntax, meaning)| format!("  {syntax:width$}  {meaning}\n")).collect();
    text += "A message of several lines stands between \"\"\" and \"\"\". Ctrl-C stops an answer.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Command, String> {
        Command::parse(text).expect("a command")
    }

    #[test]
    fn commands_are_told_from_messages() {
        assert_eq!(parsed("/?"), Ok(Command::Help));
        assert_eq!(parsed("/CLEAR"), Ok(Command::Clear));
        assert_eq!(parsed("/system"), Ok(Command::System(None)));
        assert_eq!(parsed("/system  Be brief. "), Ok(Command::System(Some("Be brief.".into()))));
        assert_eq!(parsed("/set seed  7"), Ok(Command::Set(Some(("seed".into(), "7".into())))));
        assert_eq!(parsed("/save a b.json"), Ok(Command::Save("a b.json".into())));
        assert_eq!(parsed("/quit"), Ok(Command::Bye));
        for message in ["Hello", "/etc/passwd holds what?", "/ is a slash", "1/2"] {
            assert_eq!(Command::parse(message), None, "{message}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        assert_eq!(
            parsed("/hlep").unwrap_err(),
            "there is no command /hlep, did you mean /help?; /help lists them"
        );
        assert_eq!(parsed("/show info").unwrap_err(), "there is no command /show; /help lists them");
        assert_eq!(parsed("/save").unwrap_err(), "expected /save FILE, found `/save `");
    }
}
