//! Log files of a server.

use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use super::{OXMQ, Server, command, file, folder, run, text};

#[test]
fn what_happens_is_found_in_the_files_of_rocketmq() {
    let folder = folder();
    let logs = folder.path().join("logs");
    fs::create_dir(folder.path().join("data")).unwrap();
    file(folder.path(), "data/namesrv.conf", "listenPort=0");
    let conf = "listenPort=0\nmappedFileSizeCommitLog=1048576";
    file(folder.path(), "data/broker.conf", conf);
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let mut process = command(Path::new(OXMQ), &["--data", &data])
        .env("OXMQ_LOG_DIR", &logs)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(process.stdout.take().unwrap());
    let mut server = Server { process, stdout };
    let mut addr = |part| {
        let line = server.line_with(part);
        let addr = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
        addr.unwrap().to_owned()
    };
    let (namesrv, broker) = (addr("name server"), addr("broker"));
    let update = ["admin", "updateTopic", "-n", &namesrv, "-b", &broker, "-t", "Logged"];
    let updated = run(Path::new(OXMQ), &update);
    assert_eq!(updated.status.code(), Some(0), "{}", text(&updated.stderr));
    let put = [
        "admin",
        "updateKvConfig",
        "-n",
        &namesrv,
        "-s",
        "space",
        "-k",
        "key",
        "-v",
        "logged-value",
    ];
    assert_eq!(run(Path::new(OXMQ), &put).status.code(), Some(0));
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
    let audit = fs::read_to_string(logs.join("auth_audit.log")).unwrap();
    assert!(audit.contains("Logged"), "of the broker: {audit}");
    assert!(
        audit.contains("PutKvConfig") && audit.contains("logged-value"),
        "of the name server: {audit}"
    );
    assert!(logs.join("broker.log").exists());
}
