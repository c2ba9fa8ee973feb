//! The command line. The name under which the executable is called decides as a subcommand would, so that links named
//! `mqnamesrv`, `mqbroker`, `mqshutdown` and `mqadmin` serve existing scripts (spec: config.md §2).

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::{config_command, store_command};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Quickstart,
    Namesrv,
    Broker,
    Shutdown,
    Store,
    Config,
    Admin,
    Completion,
    Explain,
    Doctor,
    Bench,
}

const MQADMIN: &str = "mqadmin";
const ADMIN_ARGS: &str = "args";

/// Every subcommand, with the name of the executable that stands for it where there is one.
const ROLES: [(Role, &str, Option<&str>); 11] = [
    (Role::Quickstart, "quickstart", None),
    (Role::Namesrv, "namesrv", Some("mqnamesrv")),
    (Role::Broker, "broker", Some("mqbroker")),
    (Role::Shutdown, "shutdown", Some("mqshutdown")),
    (Role::Store, "store", None),
    (Role::Config, "config", None),
    (Role::Admin, "admin", Some(MQADMIN)),
    (Role::Completion, "completion", None),
    (Role::Explain, "explain", None),
    (Role::Doctor, "doctor", None),
    (Role::Bench, "bench", None),
];

/// The role, if one is chosen, and its options; or what to end with: after help 0, after a mistake 1.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Option<Role>, ArgMatches), ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let called = args.first().map(file_name).unwrap_or_default();
    let alone = |(role, _, alias): (Role, _, Option<&'static str>)| {
        alias.filter(|alias| *alias == called).map(|alias| (role, alias))
    };
    if let Some((role, alias)) = ROLES.into_iter().find_map(alone) {
        let matches = matches_of(role_command(role, alias), args)?;
        return Ok((Some(role), matches));
    }
    let mut matches = matches_of(command(), args)?;
    let Some((name, matches_of_role)) = matches.remove_subcommand() else {
        return Ok((None, matches));
    };
    let role = ROLES.into_iter().find(|(_, role_name, _)| *role_name == name);
    let (role, ..) = role.expect("every subcommand is a role");
    Ok((Some(role), matches_of_role))
}

/// What the executable was called, for messages.
pub(crate) fn program_name() -> String {
    std::env::args_os()
        .next()
        .map_or_else(|| "oxmq".into(), |name| file_name(&name))
}

/// Runs a command of mqadmin, which reads its own options.
pub(crate) fn run_admin(matches: &ArgMatches) -> ExitCode {
    let program = match &*program_name() {
        MQADMIN => MQADMIN.to_owned(),
        other => format!("{other} admin"),
    };
    let args = matches.get_many::<OsString>(ADMIN_ARGS).unwrap_or_default();
    oxmq_admin::run(&program, args.cloned())
}

/// Prints what lets a shell complete this command line.
pub(crate) fn print_completion(matches: &ArgMatches) -> ExitCode {
    let shell: &Shell = matches.get_one("shell").expect("the shell is required");
    let whole = command().mut_subcommand("admin", |_| oxmq_admin::command("admin"));
    oxmq_admin::print(&oxmq_admin::completion(*shell, whole, "oxmq"));
    ExitCode::SUCCESS
}

fn file_name(path: &OsString) -> String {
    Path::new(path)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn matches_of(command: Command, args: Vec<OsString>) -> Result<ArgMatches, ExitCode> {
    let mut shown = command.clone();
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    command.try_get_matches_from(args).map_err(|error| {
        shown.build();
        let mut meant = &mut shown;
        // The subcommand in which the mistake is.
        for word in words.iter().skip(1) {
            match meant.find_subcommand(word).is_some() {
                true => meant = meant.find_subcommand_mut(word).expect("it was found"),
                false => break,
            }
        }
        oxmq_admin::explain_mistake(&error, meant)
    })
}

fn command() -> Command {
    let roles = ROLES.into_iter().map(|(role, name, _)| role_command(role, name));
    Command::new("oxmq")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Apache RocketMQ, rebuilt. Without a command: name server and broker in this process")
        .after_help(
            "Examples:\n  oxmq                          serve on 127.0.0.1:9876, with the data in ./oxmq-data\n  \
             oxmq --bind 0.0.0.0           the same for other machines\n  \
             oxmq broker -c broker.conf    a broker alone, with the file of an existing RocketMQ broker\n  \
             oxmq admin                    the commands of mqadmin\n  \
             oxmq COMMAND --help           options and examples of a command",
        )
        .arg(
            Arg::new("data")
                .long("data")
                .value_name("FOLDER")
                .default_value("./oxmq-data")
                .value_parser(value_parser!(PathBuf))
                .help("Folder of all files"),
        )
        .arg(
            Arg::new("bind")
                .long("bind")
                .value_name("ADDRESS")
                .default_value("127.0.0.1")
                .value_parser(value_parser!(Ipv4Addr))
                .help("IPv4 address to listen on; 0.0.0.0 makes both servers reachable from other machines"),
        )
        .args_conflicts_with_subcommands(true)
        .subcommands(roles)
}

fn role_command(role: Role, name: &'static str) -> Command {
    let command = Command::new(name).disable_version_flag(true);
    match role {
        Role::Quickstart => command
            .about("Show messages going through servers on free ports and in a temporary folder")
            .after_help("Examples:\n  oxmq quickstart\n  oxmq quickstart --keep")
            .arg(
                Arg::new("keep")
                    .long("keep")
                    .action(ArgAction::SetTrue)
                    .help("Let the servers run until Ctrl-C"),
            ),
        Role::Broker => command
            .about("Run a broker")
            .after_help(
                "Examples:\n  oxmq broker -c broker.conf\n  oxmq broker -n '10.0.0.1:9876;10.0.0.2:9876'\n  \
                 oxmq broker -c broker.conf -p",
            )
            .arg(config_file("Properties file of the broker"))
            .arg(namesrv_addr("Name servers to register with"))
            .arg(print_config())
            .arg(
                Arg::new("printImportantConfig")
                    .short('m')
                    .long("printImportantConfig")
                    .action(ArgAction::SetTrue)
                    .help("Print the important settings and end"),
            ),
        Role::Namesrv => command
            .about("Run a name server")
            .after_help("Examples:\n  oxmq namesrv\n  oxmq namesrv -c namesrv.conf")
            .arg(config_file("Properties file of the name server"))
            .arg(namesrv_addr(
                "Accepted for compatibility; name servers do not know each other",
            ))
            .arg(print_config()),
        Role::Store => store_command::command(name),
        Role::Config => config_command::command(name),
        Role::Admin => command
            .about("The commands of mqadmin: 'admin' alone lists them")
            .disable_help_flag(true)
            .arg(
                Arg::new(ADMIN_ARGS)
                    .value_name("COMMAND")
                    .num_args(0..)
                    .trailing_var_arg(true)
                    .allow_hyphen_values(true)
                    .value_parser(value_parser!(OsString)),
            ),
        Role::Completion => command
            .about("Print what lets a shell complete this command line")
            .after_help("Example:\n  oxmq completion bash > /etc/bash_completion.d/oxmq")
            .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell))),
        Role::Explain => oxmq_admin::explain::command(name),
        Role::Doctor => oxmq_admin::doctor::command(name),
        Role::Bench => oxmq_admin::bench::command(name),
        Role::Shutdown => command
            .about("Stop the brokers or name servers of this user that run this executable")
            .after_help("Example:\n  oxmq shutdown broker")
            .arg(Arg::new("role").required(true).value_parser(["broker", "namesrv"])),
    }
}

fn config_file(help: &'static str) -> Arg {
    Arg::new("configFile")
        .short('c')
        .long("configFile")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

fn namesrv_addr(help: &'static str) -> Arg {
    Arg::new("namesrvAddr")
        .short('n')
        .long("namesrvAddr")
        .value_name("HOST:PORT;…")
        .help(help)
}

fn print_config() -> Arg {
    Arg::new("printConfigItem")
        .short('p')
        .long("printConfigItem")
        .action(ArgAction::SetTrue)
        .help("Print all settings and end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(line: &str) -> Result<Option<Role>, ExitCode> {
        parse(line.split(' ').map(OsString::from)).map(|(role, _)| role)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    /// Those of `admin` are checked where they are declared.
    #[test]
    fn every_help_has_an_example() {
        fn check(command: &Command) {
            let mut subcommands = command.get_subcommands().peekable();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_shown = subcommands.peek().is_some() || command.get_name() == "admin";
            assert!(
                is_shown || help.starts_with("Example"),
                "{}: {help}",
                command.get_name()
            );
            subcommands.for_each(check);
        }
        check(&command());
    }

    #[test]
    fn the_name_of_the_executable_chooses_the_role() {
        assert_eq!(role("/opt/oxmq namesrv -c x"), Ok(Some(Role::Namesrv)));
        assert_eq!(role("/opt/mqnamesrv -n 127.0.0.1:9876"), Ok(Some(Role::Namesrv)));
        assert_eq!(role("/opt/mqbroker -m"), Ok(Some(Role::Broker)));
        assert_eq!(role("mqshutdown broker"), Ok(Some(Role::Shutdown)));
        assert_eq!(role("oxmq --data /tmp/x"), Ok(None));
        assert_eq!(role("oxmq admin topicList -h"), Ok(Some(Role::Admin)));
        assert_eq!(role("mqadmin -h"), Ok(Some(Role::Admin)));
    }

    #[test]
    fn mistakes_end_with_one_and_help_with_zero() {
        assert_eq!(role("mqnamesrv -x"), Err(ExitCode::FAILURE));
        assert_eq!(role("mqshutdown everything"), Err(ExitCode::FAILURE));
        assert_eq!(role("oxmq nonsense"), Err(ExitCode::FAILURE));
        assert_eq!(role("oxmq --data /tmp/x broker"), Err(ExitCode::FAILURE));
        assert_eq!(role("oxmq namesrv -h"), Err(ExitCode::SUCCESS));
    }
}
