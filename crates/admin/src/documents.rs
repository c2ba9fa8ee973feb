//! `docs/commands.md`.

use crate::commands::GROUPS;
use crate::declare::{Command, Opt};

/// A table for each group of commands and the options of each command.
pub fn markdown() -> String {
    let mut text = String::new();
    for (title, commands) in GROUPS {
        text.push_str(&format!("## {title}\n\n"));
        for command in *commands {
            describe(command, &mut text);
        }
    }
    text
}

fn describe(command: &Command, text: &mut String) {
    text.push_str(&format!("### {}\n\n{}.", command.name, command.about));
    if let Some(alias) = command.alias {
        text.push_str(&format!(" Also called `{alias}`."));
    }
    text.push_str(&format!("\n\n```sh\nmqadmin {}\n```\n\n", command.example));
    if command.options.is_empty() {
        return;
    }
    text.push_str("| Option | | Meaning |\n|---|---|---|\n");
    for option in command.options {
        let short = match option.short {
            "" => String::new(),
            short => format!("`-{short}`, "),
        };
        let value = option.value.map(|value| format!(" {value}")).unwrap_or_default();
        let help = option.help.replace('|', "\\|");
        text.push_str(&format!(
            "| {short}`--{}{value}` | {} | {help} |\n",
            option.long,
            need(command, option)
        ));
    }
    text.push('\n');
}

fn need(command: &Command, option: &Opt) -> String {
    match option.default {
        Some(default) => format!("`{default}`"),
        None if option.is_required => "required".to_owned(),
        None if command.one_of.contains(&option.long) => "one of these".to_owned(),
        None => String::new(),
    }
}
