//! The page with the help of every command.

use crate::Failure;

use super::Shell;

/// A section for each command, and for each command of a command.
pub(super) fn render(shell: &Shell) -> Result<String, Failure> {
    let mut text = String::new();
    add(shell, "larql", &mut text)?;
    Ok(format!("{}\n", text.trim_end()))
}

fn add(shell: &Shell, command: &str, text: &mut String) -> Result<(), Failure> {
    let help = shell.run(&format!("{command} --help"), "")?;
    *text += &format!("## {command}\n\n```text\n{help}```\n\n");
    for name in commands(&help) {
        add(shell, &format!("{command} {name}"), text)?;
    }
    Ok(())
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<&str> {
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Names are indented by two columns; their descriptions, where they go on, by more.
    let names = list.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn commands_are_those_of_the_list() {
        let help = "A program\n\nCommands:\n  one   first\n        goes on\n  help  this\n\nOptions:\n  -h\n";
        assert_eq!(super::commands(help), ["one"]);
    }
}
