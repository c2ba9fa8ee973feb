//! `docs/commands.md`.

use crate::commands::GROUPS;
use crate::declare::{Command, Opt};

/// Every command with its state, then its options. `compared` is a session of the original's tool with which this one is
/// compared.
pub fn markdown(compared: &str) -> String {
    let mut text = String::from("| Command | | State |\n|---|---|---|\n");
    for command in GROUPS.iter().flat_map(|(_, commands)| *commands) {
        let link = command.name.to_lowercase();
        let (name, about) = (command.name, command.about);
        text.push_str(&format!(
            "| [{name}](#{link}) | {about} | {} |\n",
            state(command, compared)
        ));
    }
    for (title, commands) in GROUPS {
        text.push_str(&format!("\n## {title}\n"));
        for command in *commands {
            describe(command, &mut text);
        }
    }
    text
}

fn state(command: &Command, compared: &str) -> String {
    let call = format!("$ mqadmin {}", command.name);
    let is_compared = compared
        .lines()
        .any(|line| line == call || line.starts_with(&format!("{call} ")));
    match (command.answered_by, is_compared) {
        (Some(servers), _) => format!("answered by {servers}"),
        (None, true) => "compared".to_owned(),
        (None, false) => "not compared".to_owned(),
    }
}

fn describe(command: &Command, text: &mut String) {
    text.push_str(&format!("\n### {}\n\n{}.", command.name, command.about));
    if let Some(alias) = command.alias {
        text.push_str(&format!(" Also called `{alias}`."));
    }
    if let Some(servers) = command.answered_by {
        text.push_str(&format!(
            " Only {servers} answer; brokers and name servers of OxMQ refuse."
        ));
    }
    if let Some(seconds) = command.every {
        text.push_str(&format!(" Runs again every {seconds} seconds until Ctrl-C."));
    }
    text.push_str(&format!("\n\n```sh\nmqadmin {}\n```\n", quoted(&command.example())));
    if command.options.is_empty() {
        return;
    }
    text.push_str("\n| Option | | Meaning |\n|---|---|---|\n");
    for option in command.options {
        let short = match option.short {
            "" => String::new(),
            short => format!("`-{short}`, "),
        };
        let value = option
            .value
            .map(|value| format!(" {}", value.replace('|', "\\|")))
            .unwrap_or_default();
        let help = option.help.replace('|', "\\|");
        text.push_str(&format!(
            "| {short}`--{}{value}` | {} | {help} |\n",
            option.long,
            need(command, option)
        ));
    }
}

/// As a shell takes it.
pub(crate) fn quoted(line: &str) -> String {
    let words = line
        .split(' ')
        .map(|word| match word.contains([';', '#', '|', '*', '&']) {
            true => format!("'{word}'"),
            false => word.to_owned(),
        });
    words.collect::<Vec<_>>().join(" ")
}

fn need(command: &Command, option: &Opt) -> String {
    match option.default {
        Some(default) => format!("`{default}`"),
        None if option.is_required => "required".to_owned(),
        None if command.one_of().contains(&option.long) => "one of these".to_owned(),
        None => String::new(),
    }
}
