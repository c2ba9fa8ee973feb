//! The executable as its users call it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

#[cfg(test)]
mod admin;
mod bench;
mod duplicates;
#[cfg(test)]
mod failures;
mod logs;
#[cfg(test)]
mod store;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const OXMQ: &str = env!("CARGO_BIN_EXE_oxmq");

/// Any free port, on the loopback.
const LOCAL: &str = "bindAddress=127.0.0.1\nlistenPort=0\n";

/// A server that is killed when the test ends early.
struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(program: &Path, args: &[&str]) -> Server {
        let mut process = command(program, args).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Server { process, stdout }
    }

    /// The first line it prints that contains this.
    fn line_with(&mut self, part: &str) -> String {
        let line = self
            .stdout
            .by_ref()
            .lines()
            .map(Result::unwrap)
            .find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("it ended without \"{part}\""))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_remove("NAMESRV_ADDR")
        .env_remove("OXMQ_LOG")
        .env_remove("OXMQ_LOG_DIR");
    command
}

fn run(program: &Path, args: &[&str]) -> Output {
    command(program, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The executable under another name, as packages install it.
fn link(folder: &Path, name: &str) -> PathBuf {
    let link = folder.join(name);
    std::os::unix::fs::symlink(OXMQ, &link).unwrap();
    link
}

fn file(folder: &Path, name: &str, contents: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, contents).unwrap();
    path.to_string_lossy().into_owned()
}

fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A name server and the address that it says it serves.
fn start_namesrv(folder: &Path, program: &Path, args: &[&str]) -> (Server, String) {
    let conf = format!("{LOCAL}kvConfigPath={}/kvConfig.json\n", folder.display());
    let conf = file(folder, "namesrv.conf", &conf);
    let mut server = Server::start(program, &[args, &["-c", &conf]].concat());
    let line = server.line_with("boot success");
    let addr = line.strip_prefix("The Name Server boot success. serializeType=JSON, address ");
    (server, addr.unwrap().to_owned())
}

#[test]
fn a_name_server_serves_until_it_is_told_to_end() {
    let folder = folder();
    let (mut server, addr) = start_namesrv(folder.path(), &link(folder.path(), "mqnamesrv"), &[]);
    TcpStream::connect(&addr).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
    assert!(TcpStream::connect(&addr).is_err());
}

#[test]
fn a_broker_says_where_it_serves_and_leaves_no_abort_file() {
    let folder = folder();
    let (_namesrv, namesrv_addr) = start_namesrv(folder.path(), Path::new(OXMQ), &["namesrv"]);
    let store = folder.path().join("store");
    let conf = format!(
        "{LOCAL}brokerName=broker-x\nbrokerIP1=127.0.0.1\nnamesrvAddr=127.0.0.1:1\nstorePathRootDir={}\n\
         mappedFileSizeCommitLog=1048576\n",
        store.display()
    );
    let conf = file(folder.path(), "broker.conf", &conf);
    let mut broker = Server::start(&link(folder.path(), "mqbroker"), &["-c", &conf, "-n", &namesrv_addr]);
    let line = broker.line_with("boot success");
    assert!(line.starts_with("The broker[broker-x, 127.0.0.1:"), "{line}");
    let end = format!("] boot success. serializeType=JSON and name server is {namesrv_addr}");
    assert!(line.ends_with(&end), "{line}");
    assert!(store.join("abort").exists());
    broker.signal(Signal::TERM);
    assert_eq!(broker.exit_code(), Some(0));
    assert!(!store.join("abort").exists());
}

#[test]
fn standalone_serves_both_from_one_folder() {
    let folder = folder();
    let store = folder.path().join("data/store");
    fs::create_dir(folder.path().join("data")).unwrap();
    file(folder.path(), "data/namesrv.conf", "listenPort=0");
    file(
        folder.path(),
        "data/broker.conf",
        "listenPort=0\nmappedFileSizeCommitLog=1048576",
    );
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let mut server = Server::start(Path::new(OXMQ), &["--data", &data]);
    for part in ["name server", "broker"] {
        let line = server.line_with(part);
        let addr = line
            .split_whitespace()
            .find(|word| word.starts_with("127.0.0.1:"))
            .unwrap();
        TcpStream::connect(addr).unwrap();
    }
    assert!(store.join("abort").exists());
    server.signal(Signal::INT);
    assert_eq!(server.exit_code(), Some(0));
    assert!(!store.join("abort").exists());
}

#[test]
fn mqshutdown_ends_the_servers_of_its_own_executable_only() {
    let folder = folder();
    // Another file than the other tests run, so that their servers are none of its business.
    let executable = folder.path().join("oxmq");
    fs::hard_link(OXMQ, &executable).unwrap();
    let executable = executable.as_path();
    let (mut other, _) = start_namesrv(folder.path(), Path::new(OXMQ), &["namesrv"]);
    let (mut own, _) = start_namesrv(folder.path(), executable, &["namesrv"]);

    let none = run(executable, &["shutdown", "broker"]);
    assert_eq!(
        (none.status.code(), text(&none.stdout).as_str()),
        (Some(1), "No mqbroker running.\n")
    );
    let pid = own.process.id();
    let ended = run(executable, &["shutdown", "namesrv"]);
    let expected = format!("The mqnamesrv({pid}) is running...\nSend shutdown request to mqnamesrv({pid}) OK\n");
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), expected));
    assert_eq!(own.exit_code(), Some(0));
    assert_eq!(other.process.try_wait().unwrap(), None);
}

#[test]
fn settings_are_printed_and_mistakes_are_explained() {
    let folder = folder();
    let conf = file(folder.path(), "broker.conf", "brokerName=broker-x\nuseABSLock=true\n");
    let all = run(Path::new(OXMQ), &["broker", "-c", &conf, "-p"]);
    assert_eq!(all.status.code(), Some(0));
    assert!(text(&all.stdout).contains("\nbrokerName=broker-x\n"));
    assert!(text(&all.stderr).contains("broker.conf:2: useABSLock has no effect: requests are served by a thread for each core and wait in no queue for a pool"));
    let important = run(Path::new(OXMQ), &["broker", "-c", &conf, "-m"]);
    assert!(important.stdout.len() < all.stdout.len() && text(&important.stdout).contains("brokerName=broker-x\n"));

    let conf = file(folder.path(), "bad.conf", "brokerName=broker-x\n\nlistenPort=many\n");
    let bad = run(Path::new(OXMQ), &["broker", "-c", &conf]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stderr).ends_with("bad.conf:3: listenPort: \"many\" is not a whole number\n"));
    assert_eq!(
        run(Path::new(OXMQ), &["broker", "-n", "nowhere"]).status.code(),
        Some(253)
    );
    assert_eq!(run(Path::new(OXMQ), &["namesrv", "--what"]).status.code(), Some(1));
}

#[test]
fn quickstart_shows_messages_and_ends() {
    let shown = run(Path::new(OXMQ), &["quickstart"]);
    let (out, err) = (text(&shown.stdout), text(&shown.stderr));
    assert_eq!(shown.status.code(), Some(0), "{out}{err}");
    for part in ["hello 1", "hello 10", "A burst of", "a second", "What to try next"] {
        assert!(out.contains(part), "{out}");
    }
    assert_eq!(err, "", "nothing worth a warning happens");
}
