//! `mqshutdown broker|namesrv`: ends the processes of this user that run this executable in that role.
//!
//! A process counts when its executable is this very file and its command line starts the role. Everything else on
//! the machine, servers of the original among it, is left alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use rustix::process::{Pid, Signal, getuid, kill_process};

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let role: &String = matches.get_one("role").expect("clap requires it");
    let executable = std::env::current_exe()?;
    let pids = processes(Path::new("/proc"), &executable, role);
    if pids.is_empty() {
        say!("No mq{role} running.");
        return Ok(ExitCode::FAILURE);
    }
    for pid in pids {
        say!("The mq{role}({pid}) is running...");
        kill_process(pid, Signal::TERM)?;
        say!("Send shutdown request to mq{role}({pid}) OK");
    }
    Ok(ExitCode::SUCCESS)
}

fn processes(proc: &Path, executable: &Path, role: &str) -> Vec<Pid> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let process = entry.path();
        let is_mine = entry.metadata().ok()?.uid() == getuid().as_raw();
        let same = pid != own && is_mine && program_of(&process)? == executable;
        let command_line = fs::read(process.join("cmdline")).ok()?;
        (same && has_role(&command_line, role))
            .then(|| Pid::from_raw(pid))
            .flatten()
    });
    pids.collect()
}

/// The executable of a process. The mark is there when the file was replaced since, as by an upgrade.
fn program_of(process: &Path) -> Option<PathBuf> {
    let link = fs::read_link(process.join("exe")).ok()?;
    let name = link.as_os_str().as_bytes();
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    Some(OsStr::from_bytes(name).into())
}

/// `mqbroker …` or `oxmq broker …`.
fn has_role(command_line: &[u8], role: &str) -> bool {
    let mut args = command_line.split(|byte| *byte == 0);
    let called = args.next().and_then(|arg| arg.rsplit(|byte| *byte == b'/').next());
    let by_name = called.and_then(|name| name.strip_prefix(b"mq")) == Some(role.as_bytes());
    by_name || args.next() == Some(role.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_seen_in_the_name_or_the_first_argument() {
        assert!(has_role(b"/opt/bin/mqbroker\0-c\0x\0", "broker"));
        assert!(has_role(b"oxmq\0broker\0-n\0x\0", "broker"));
        assert!(!has_role(b"oxmq\0", "broker"));
        assert!(!has_role(b"oxmq\0namesrv\0-c\0broker\0", "broker"));
        assert!(!has_role(b"mqshutdown\0broker-x\0", "broker"));
        assert!(!has_role(b"", "broker"));
    }

    #[test]
    fn only_processes_of_this_executable_are_found() {
        // This test process is excluded by its id, and no other process runs this test binary in the role.
        let executable = std::env::current_exe().unwrap();
        assert_eq!(processes(Path::new("/proc"), &executable, "broker"), []);
        assert_eq!(processes(Path::new("/nowhere"), &executable, "broker"), []);
    }
}
