//! Every program in `examples/` does what it is there for: run side by side against one broker, each has to end well.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::servers::Servers;

/// Said by examples that run until they are interrupted.
const UNTIL_INTERRUPTED: &str = "Ctrl-C";

#[tokio::test]
async fn examples_run() {
    let servers = Servers::start_with(|config| {
        config.enable_property_filter = true;
        config.duplicate_send_window_ms = 60_000;
    });
    let producer = servers.producer(&["TopicTest"]).await;
    let running: Vec<_> = examples()
        .into_iter()
        .map(|(name, program)| (name, thread::spawn(run(&program, &servers.name_server()))))
        .collect();
    let mut failed = Vec::new();
    for (name, thread) in running {
        if let Err(why) = thread.join().unwrap() {
            failed.push(format!("{name}: {why}"));
        }
    }
    producer.shutdown().await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Names and programs. `cargo test` builds them beside the tests.
fn examples() -> Vec<(String, PathBuf)> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let built = std::env::current_exe().unwrap();
    let built = built.parent().unwrap().with_file_name("examples");
    let mut examples: Vec<_> = sources
        .read_dir()
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .map(|name| (name.clone(), built.join(name)))
        .collect();
    examples.sort();
    for (name, program) in &examples {
        assert!(
            program.exists(),
            "{name} is not built: cargo build -p oxmq-client --examples"
        );
    }
    examples
}

/// Starts the program at once; what comes back waits for its end.
fn run(program: &Path, name_server: &str) -> impl FnOnce() -> Result<(), String> + Send + 'static {
    let mut child = Command::new(program)
        .arg(name_server)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    move || {
        let mut errors = child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut text = String::new();
            // What cannot be read is not shown.
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut printed = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.contains(UNTIL_INTERRUPTED) {
                interrupt(&child);
            }
            printed += &line;
            printed.push('\n');
        }
        let status = child.wait().unwrap();
        match status.success() {
            true => Ok(()),
            false => Err(format!("{status}\n{printed}{}", errors.join().unwrap())),
        }
    }
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}
