//! The command line: every command there is, and which one is meant.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, ValueEnum};
use clap_complete::Shell;

use crate::command::print;
use crate::declare::{Command, Opt};
use crate::documents::quoted;
use crate::{
    access, brokers, clients, export, groups, ha, lite, messages, namesrv, offsets, reading, sending, static_topics,
    stats, topics, traces,
};

/// Every command, under the headings of `docs/commands.md`.
pub(crate) const GROUPS: &[(&str, &[Command])] = &[
    ("Topics", topics::COMMANDS),
    ("Static topics", static_topics::COMMANDS),
    ("Light topics", lite::COMMANDS),
    ("Consumer groups", groups::COMMANDS),
    ("Offsets of groups", offsets::COMMANDS),
    ("Clients", clients::COMMANDS),
    ("Finding messages", messages::COMMANDS),
    ("Traces", traces::COMMANDS),
    ("Reading queues and files", reading::COMMANDS),
    ("Sending", sending::COMMANDS),
    ("Brokers", brokers::COMMANDS),
    ("Name servers", namesrv::COMMANDS),
    ("Users and access", access::COMMANDS),
    ("Statistics", stats::COMMANDS),
    ("Export", export::COMMANDS),
    ("Replication, controllers, containers", ha::COMMANDS),
];

const NAME_SERVER: Opt = crate::declare::opt(
    "n",
    "namesrvAddr",
    "HOST:PORT;…",
    "Name servers (default: NAMESRV_ADDR, else 127.0.0.1:9876)",
);
const JSON: Opt = crate::declare::flag("", "json", "Print the answer as JSON");

pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|(_, commands)| *commands)
}

/// The whole command line, for completion and for the help of what contains it.
pub fn command(name: &'static str) -> clap::Command {
    clap::Command::new(name)
        .about("The commands of mqadmin")
        .disable_help_subcommand(true)
        .subcommands(all().map(clap_command))
}

/// The command that is meant and its options; or what to end with, after help 0 and after a mistake 1.
pub(crate) fn choose(program: &str, args: Vec<String>) -> Result<(&'static Command, ArgMatches), ExitCode> {
    let mut args = args.into_iter();
    let name = args.next().unwrap_or_default();
    match &*name {
        "" | "-h" | "--help" => Err(print_list(program)),
        "help" => Err(match args.next() {
            Some(name) => print_help(program, &name),
            None => print_list(program),
        }),
        "completion" => Err(print_completion(program, args.next())),
        _ => {
            let command = all()
                .find(|command| command.is_called(&name))
                .ok_or_else(|| unknown(program, &name))?;
            let args = std::iter::once(command.name.to_owned()).chain(args.map(|arg| spelled_out(command, arg)));
            let parsed = shown_command(program, command).try_get_matches_from(args);
            parsed
                .map(|matches| (command, matches))
                .map_err(|error| refuse(program, command, &error))
        }
    }
}

/// Java takes short names of two letters and long names after one dash; clap does not.
fn spelled_out(command: &Command, arg: String) -> String {
    let (name, value) = match arg.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (&*arg, None),
    };
    let Some(name) = name
        .strip_prefix('-')
        .filter(|name| name.len() > 1 && !name.starts_with('-'))
    else {
        return arg;
    };
    let is_meant = |option: &&Opt| option.short == name || option.long == name;
    match (
        command.options.iter().chain([&NAME_SERVER, &JSON]).find(is_meant),
        value,
    ) {
        (Some(option), Some(value)) => format!("--{}={value}", option.long),
        (Some(option), None) => format!("--{}", option.long),
        (None, _) => arg,
    }
}

fn clap_command(command: &'static Command) -> clap::Command {
    let mut result = clap::Command::new(command.name)
        .about(command.about)
        .args(command.options.iter().map(arg))
        .args([arg(&NAME_SERVER), arg(&JSON)]);
    if let Some(alias) = command.alias {
        result = result.alias(alias);
    }
    if !command.one_of().is_empty() {
        let group = ArgGroup::new("one of")
            .args(command.one_of())
            .multiple(true)
            .required(true);
        result = result.group(group);
    }
    result
}

fn arg(option: &'static Opt) -> Arg {
    let mut arg = Arg::new(option.long).long(option.long).help(option.help);
    let mut letters = option.short.chars();
    arg = match (letters.next(), letters.next()) {
        (Some(letter), None) => arg.short(letter),
        (None, _) => arg,
        _ => arg.help(format!("{} [also: -{}]", option.help, option.short)),
    };
    if let Some(default) = option.default {
        arg = arg.default_value(default);
    }
    match option.value {
        Some(value) => arg
            .value_name(value)
            .required(option.is_required)
            .allow_negative_numbers(true)
            .overrides_with(option.long),
        None => arg.action(ArgAction::SetTrue),
    }
}

/// With what people are shown beside the options.
fn shown_command(program: &str, command: &'static Command) -> clap::Command {
    clap_command(command)
        .bin_name(format!("{program} {}", command.name))
        .after_help(format!("Example:\n  {program} {}", quoted(&command.example())))
}

fn refuse(program: &str, command: &'static Command, error: &clap::Error) -> ExitCode {
    explain_mistake(error, &mut shown_command(program, command))
}

/// Help as it was asked for, ends with 0; or what is wrong and how it is meant, ends with 1.
pub fn explain_mistake(error: &clap::Error, command: &mut clap::Command) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nothing can be done when the terminal is gone.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let said = error.render().to_string();
    let what = said.split("\n\nUsage:").next().unwrap_or(&said);
    eprintln!("{what}\n\n{}", command.render_help().to_string().trim_end());
    ExitCode::FAILURE
}

fn print_list(program: &str) -> ExitCode {
    let mut list = format!("The most commonly used {program} commands are:\n");
    for command in all() {
        list += &format!("   {:<35} {}\n", command.name, command.about);
    }
    list += &format!("\nSee '{program} help <command>' for more information on a specific command.\n");
    print(&list);
    ExitCode::SUCCESS
}

fn print_help(program: &str, name: &str) -> ExitCode {
    match all().find(|command| command.is_called(name)) {
        Some(command) => {
            print(&format!("{}\n", shown_command(program, command).render_help()));
            ExitCode::SUCCESS
        }
        None => unknown(program, name),
    }
}

fn unknown(program: &str, name: &str) -> ExitCode {
    eprintln!("{program}: The sub command {name} not exist.");
    ExitCode::FAILURE
}

fn print_completion(program: &str, shell: Option<String>) -> ExitCode {
    let Some(shell) = shell.and_then(|shell| Shell::from_str(&shell, true).ok()) else {
        eprintln!("usage: {program} completion bash|elvish|fish|powershell|zsh");
        return ExitCode::FAILURE;
    };
    print(&completion(shell, command("mqadmin"), "mqadmin"));
    ExitCode::SUCCESS
}

/// What lets a shell complete a command line.
pub fn completion(shell: Shell, mut command: clap::Command, name: &str) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn chosen(line: &str) -> Result<(&'static Command, ArgMatches), ExitCode> {
        choose("mqadmin", line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn the_table_is_consistent() {
        command("admin").debug_assert();
        let mut names = BTreeSet::new();
        for command in all() {
            assert!(names.insert(command.name.to_lowercase()), "{} twice", command.name);
            assert!(
                chosen(&command.example()).is_ok(),
                "the example of {}: {}",
                command.name,
                command.example()
            );
            assert!(!command.about.ends_with('.'), "{}", command.about);
            assert!(
                command.one_of().iter().all(|name| command.has_option(name)),
                "{}",
                command.name
            );
        }
    }

    /// `testdata/options.txt` is what mqadmin 5.5.0 declares, with `-` for blanks in names.
    #[test]
    fn options_are_those_of_mqadmin() {
        // Local RocksDB files are not read.
        const NOT_HERE: [&str; 1] = ["exportMetadataInRocksDB"];
        let mut own: Option<&Command> = None;
        for line in include_str!("../testdata/options.txt").lines() {
            let Some(option) = line.strip_prefix("  ") else {
                own = all().find(|command| command.name == line);
                assert_eq!(own.is_none(), NOT_HERE.contains(&line), "{line}");
                continue;
            };
            let Some(own) = own else { continue };
            let words: Vec<&str> = option.split_whitespace().collect();
            let long = words.iter().find_map(|word| word.strip_prefix("--")).unwrap();
            if ["namesrvAddr", "nameserverAddr"].contains(&long) {
                continue;
            }
            let declared = own.options.iter().find(|option| option.long == long);
            let declared = declared.unwrap_or_else(|| panic!("{} has no --{long}", own.name));
            let short = words[0].strip_prefix('-').filter(|short| !short.starts_with('-'));
            assert_eq!(declared.short, short.unwrap_or(""), "{} --{long}", own.name);
            assert_eq!(
                declared.value.is_some(),
                words.contains(&"VALUE"),
                "{} --{long}",
                own.name
            );
            assert!(
                declared.is_required || !words.contains(&"required"),
                "{} --{long}",
                own.name
            );
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(chosen("TOPICLIST").unwrap().0.name, "topicList");
        assert_eq!(chosen("nonsense").err(), Some(ExitCode::FAILURE));
        assert_eq!(chosen("topicRoute").err(), Some(ExitCode::FAILURE));
        assert_eq!(chosen("topicRoute -h").err(), Some(ExitCode::SUCCESS));
    }

    #[test]
    fn options_are_taken_as_java_takes_them() {
        let (_, matches) = chosen("updateTopic -topic x --readQueueNums=3 -w=4 -b h:1 -n a:1;b:2").unwrap();
        let text = |long| matches.get_one::<String>(long).map(String::as_str);
        assert_eq!(text("topic"), Some("x"));
        assert_eq!(text("readQueueNums"), Some("3"));
        assert_eq!(text("writeQueueNums"), Some("4"));
        assert_eq!(text("namesrvAddr"), Some("a:1;b:2"));
    }
}
