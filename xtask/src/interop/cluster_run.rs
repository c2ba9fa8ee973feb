//! Running the client programs side by side against one cluster.
//!
//! A program prints a line `RESULT {json}` per case. When only its broker-restart case is left it prints
//! `WAITING …`; once all programs are there, the broker is restarted and each gets a line on its standard input.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::programs::Client;
use super::{Outcome, Outcomes};
use crate::servers::Cluster;

/// For everything that one program has to do.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(600);

enum Event {
    Result(Client, Value),
    Waiting,
    Ended,
}

/// Kills its program when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It has usually ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn run(cluster: &mut Cluster, clients: &[Client], cases: &[&str]) -> anyhow::Result<Outcomes> {
    let (sender, events) = channel();
    let mut programs = Vec::new();
    for client in clients {
        programs.push(start(cluster, *client, cases, sender.clone())?);
    }
    drop(sender);
    let mut outcomes = Outcomes::new();
    for client in clients {
        for case in cases.iter().filter(|case| client.takes(case)) {
            let missing = Outcome::Failed(format!("no result, see {}", cluster.home(client.name()).display()));
            outcomes.insert((client.name().to_owned(), (*case).to_owned()), missing);
        }
    }
    collect(cluster, &mut programs, &events, &mut outcomes)?;
    Ok(outcomes)
}

fn start(cluster: &Cluster, client: Client, cases: &[&str], events: Sender<Event>) -> anyhow::Result<Program> {
    let home = cluster.home(client.name());
    fs::create_dir_all(&home)?;
    let label = client.name().replace('.', "_");
    let mut command = client.command(&home);
    command
        .arg(cluster.namesrv_addr())
        .arg(label)
        .args(cases.iter().filter(|case| client.takes(case)))
        .env("OXMQ_PEER", std::env::current_exe()?)
        .env("OXMQ_ACL", cluster.home("conf"))
        .current_dir(&home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(home.join("stderr.log"))?);
    if let Some(tls) = cluster.tls() {
        let properties = tls.of_clients.iter().map(|(key, value)| format!("-D{key}={value}"));
        command.env("JAVA_TOOL_OPTIONS", properties.collect::<Vec<_>>().join(" "));
        command.env("OXMQ_TLS", &tls.folder);
    }
    if let Some(tools) = cluster.tools() {
        command.env("OXMQ", tools);
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
    thread::spawn(move || {
        // A closed channel means that nobody waits any more.
        for line in output.lines().map_while(Result::ok) {
            let event = match line.strip_prefix("RESULT ").map(serde_json::from_str) {
                Some(Ok(result)) => Event::Result(client, result),
                None if line.starts_with("WAITING ") => Event::Waiting,
                _ => continue,
            };
            let _ = events.send(event);
        }
        let _ = events.send(Event::Ended);
    });
    Ok(Program(child))
}

fn collect(
    cluster: &mut Cluster,
    programs: &mut [Program],
    events: &Receiver<Event>,
    outcomes: &mut Outcomes,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (mut running, mut waiting) = (programs.len(), 0);
    while running > 0 {
        let Ok(event) = events.recv_timeout(TIME_LIMIT.saturating_sub(started.elapsed())) else {
            break;
        };
        match event {
            Event::Waiting => waiting += 1,
            Event::Ended => running -= 1,
            Event::Result(client, result) => {
                let case = result["case"].as_str().unwrap_or_default().to_owned();
                let outcome = outcome(&result);
                if let Outcome::Failed(reason) = &outcome {
                    let seconds = started.elapsed().as_secs();
                    println!("  {case} with {} went wrong after {seconds} s: {reason}", client.name());
                }
                outcomes.insert((client.name().to_owned(), case), outcome);
            }
        }
        if waiting > 0 && waiting == running {
            waiting = 0;
            cluster.stop_broker()?;
            cluster.start_broker()?;
            for stdin in programs.iter_mut().filter_map(|program| program.0.stdin.as_mut()) {
                // A program that has ended cannot read it.
                let _ = stdin.write_all(b"restarted\n");
            }
        }
    }
    Ok(())
}

fn outcome(result: &Value) -> Outcome {
    if result["skipped"] == true {
        Outcome::Skipped
    } else if let Some(error) = result["error"].as_str() {
        Outcome::Failed(error.to_owned())
    } else {
        Outcome::Passed(result["facts"].clone())
    }
}
