//! The executable: everything in one process, the roles alone, and the names that scripts of RocketMQ call.

/// `println!` that does not mind a reader who has seen enough.
macro_rules! say {
    ($($text:tt)*) => { oxmq_admin::print(&format!("{}\n", format_args!($($text)*))) };
}

mod broker;
mod cli;
mod config_command;
#[cfg(test)]
mod documents;
mod log_files;
mod logging;
mod namesrv;
mod quickstart;
mod settings_file;
mod shutdown;
mod signals;
mod standalone;
mod store_command;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (role, matches) = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(exit_code) => return exit_code,
    };
    let administered_by_others = role != Some(cli::Role::Quickstart);
    let _logs = logging::init(administered_by_others);
    let result = match role {
        None => standalone::run(&matches),
        Some(cli::Role::Quickstart) => quickstart::run(&matches),
        Some(cli::Role::Broker) => broker::run(&matches),
        Some(cli::Role::Namesrv) => namesrv::run(&matches),
        Some(cli::Role::Shutdown) => shutdown::run(&matches),
        Some(cli::Role::Store) => store_command::run(&matches),
        Some(cli::Role::Config) => config_command::run(&matches),
        Some(cli::Role::Admin) => Ok(cli::run_admin(&matches)),
        Some(cli::Role::Completion) => Ok(cli::print_completion(&matches)),
        Some(cli::Role::Bench) => oxmq_admin::bench::run(&matches).map_err(anyhow::Error::msg),
        Some(cli::Role::Explain) => oxmq_admin::explain::run(&matches).map_err(anyhow::Error::msg),
        Some(cli::Role::Doctor) => {
            oxmq_admin::doctor::run(&matches, config_command::broker_problems).map_err(anyhow::Error::msg)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", cli::program_name());
        ExitCode::FAILURE
    })
}
