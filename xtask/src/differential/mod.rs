//! The differential test: random scripts of requests, done by OxMQ and by the Java broker, every answer compared.
//!
//! A seed makes one script for each of many actors. An actor does its script step by step on both servers and stops at
//! the first difference that `tests/differential/known.txt` does not explain. The table of what can happen is in
//! [`operations`].

mod actor;
mod answer;
mod known;
mod learn;
mod operations;
mod pushes;
mod script;
mod shrink;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::interop::oxmq_binary;
use crate::servers::{Cluster, Options, Server, target_dir};
use actor::{Actor, Addresses, Failure, Servers};
use known::KnownDifferences;
use script::Step;
use shrink::Shrinker;
use tokio::task::LocalSet;

const JAVA_SERVER: &str = "5.5.0";
const FIRST_PORT: u16 = 21_000;
/// Of the run that every change has to pass.
const OPERATIONS: usize = 20_000;
const SEED: u64 = 1;
/// Scripts done at the same time.
const ACTORS: usize = 40;
/// Operations on the same names that are shown before one that failed.
const CONTEXT: usize = 8;
/// Failures that are made as short as possible.
const SHRUNK_MAX: usize = 4;
const SHRUNK_SHOWN_MAX: usize = 20;
/// Characters of one line of a report.
const SHOWN_MAX: usize = 1_500;
const USAGE: &str = "usage: cargo xtask differential [--operations N] [--seed S] [--actors N] [--only OPERATION] [--replay FILE] \
                     [--no-shrink] [--debug] [--port N]";

/// The same for both servers. Levels of delay are short and few, so that the tests need not wait.
const BROKER_PROPERTIES: [(&str, &str); 12] = [
    ("enableLmq", "true"),
    ("enableMultiDispatch", "true"),
    ("registerNameServerPeriod", "10000"),
    ("brokerFastFailureEnable", "false"),
    ("enablePropertyFilter", "true"),
    ("recallMessageEnable", "true"),
    ("messageDelayLevel", "1s 2s 3s"),
    ("mappedFileSizeCommitLog", "268435456"),
    ("mappedFileSizeConsumeQueue", "60000"),
    ("maxIndexNum", "400000"),
    ("maxHashSlotNum", "100000"),
    ("diskMaxUsedSpaceRatio", "95"),
];

struct Arguments {
    operations: usize,
    seed: u64,
    actors: usize,
    only: Option<String>,
    replay: Option<PathBuf>,
    shrink: bool,
    debug: bool,
    port: u16,
}

impl Arguments {
    /// Whether every known difference comes up.
    fn is_usual(&self) -> bool {
        let is_restricted = self.replay.is_some() || self.only.is_some();
        !is_restricted && (self.operations, self.seed, self.actors) == (OPERATIONS, SEED, ACTORS)
    }
}

/// A script that did not go as it should.
struct Failed {
    actor: usize,
    script: Vec<Step>,
    failure: Failure,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let arguments = parse(args)?;
    let known_path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("tests/differential/known.txt");
    let known = Arc::new(KnownDifferences::load(&known_path)?);
    let scripts: Vec<_> = scripts(&arguments)?.into_iter().enumerate().collect();
    let operations: usize = scripts.iter().map(|(_, script)| script.len()).sum();

    let java = start(Server::Java(JAVA_SERVER), arguments.port, "java")?;
    let binary = oxmq_binary(arguments.debug)?;
    let oxmq = start(Server::Oxmq { binary }, arguments.port + 100, "oxmq")?;
    let addresses = |cluster: &Cluster| Addresses {
        broker: cluster.broker_addr(),
        name_server: cluster.namesrv_addr(),
    };
    let servers = Servers {
        java: addresses(&java),
        oxmq: addresses(&oxmq),
    };

    println!(
        "{operations} operations of {} actors, seed {}",
        scripts.len(),
        arguments.seed
    );
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = runtime.block_on(run_all(&servers, &known, 0, scripts));
    println!("done in {} s", started.elapsed().as_secs());
    // Java has races: of two topics registered at the same moment a name server keeps one.
    if !failed.is_empty() {
        for failed in &failed {
            println!(
                "actor {} saw a difference and tries once more: {}",
                failed.actor,
                failed.kind()
            );
        }
        let scripts = failed.into_iter().map(|failed| (failed.actor, failed.script)).collect();
        failed = runtime.block_on(run_all(&servers, &known, 1, scripts));
    }
    let mut shrinker = Shrinker::new(&servers, &known);
    let count = runtime.block_on(report(&arguments, &mut shrinker, failed))?;
    if count > 0 {
        drop((java, oxmq));
        std::process::exit(1);
    }
    java.discard()?;
    oxmq.discard()?;
    let unused = known.unused();
    if arguments.is_usual() && !unused.is_empty() {
        println!(
            "lines {unused:?} of {} explained nothing in this run",
            known_path.display()
        );
    }
    Ok(())
}

fn parse(args: &[String]) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments {
        operations: OPERATIONS,
        seed: SEED,
        actors: ACTORS,
        only: None,
        replay: None,
        shrink: true,
        debug: false,
        port: FIRST_PORT,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--operations" => arguments.operations = value()?.parse()?,
            "--seed" => arguments.seed = value()?.parse()?,
            "--actors" => arguments.actors = value()?.parse()?,
            "--only" => arguments.only = Some(value()?.clone()),
            "--replay" => arguments.replay = Some(value()?.into()),
            "--no-shrink" => arguments.shrink = false,
            "--debug" => arguments.debug = true,
            "--port" => arguments.port = value()?.parse()?,
            _ => bail!("unknown option {arg}\n{USAGE}"),
        }
    }
    ensure!((1..1000).contains(&arguments.actors), "between 1 and 999 actors");
    Ok(arguments)
}

/// The recorded script, or those of all actors.
fn scripts(arguments: &Arguments) -> anyhow::Result<Vec<Vec<Step>>> {
    if let Some(path) = &arguments.replay {
        // Twice: actors differ in how they write headers.
        let script = script::load(path)?;
        return Ok(vec![script.clone(), script]);
    }
    let each = arguments.operations.div_ceil(arguments.actors);
    (0..arguments.actors)
        .map(|actor| operations::script(arguments.seed, actor, each, arguments.only.as_deref()))
        .collect()
}

fn start(server: Server, port: u16, name: &str) -> anyhow::Result<Cluster> {
    let mut options = Options::new(server, port, target_dir().join("differential").join(name));
    // Otherwise exceptions that come often lose their text.
    options.jvm_flags.push("-XX:-OmitStackTraceInFastThrow".to_owned());
    for (key, value) in BROKER_PROPERTIES {
        options = options.broker_property(key, value);
    }
    Cluster::start(options)
}

/// Does the scripts of these actors side by side; the failures, by actor.
async fn run_all(
    servers: &Servers,
    known: &Arc<KnownDifferences>,
    run: u32,
    scripts: Vec<(usize, Vec<Step>)>,
) -> Vec<Failed> {
    let tasks = LocalSet::new();
    let running: Vec<_> = scripts
        .into_iter()
        .map(|(number, script)| {
            let mut actor = Actor::new(servers, Arc::clone(known), run, number);
            tasks.spawn_local(async move {
                let failure = actor.run(&script).await.err()?;
                Some(Failed {
                    actor: number,
                    script,
                    failure,
                })
            })
        })
        .collect();
    tasks
        .run_until(async {
            let mut failed = Vec::new();
            for task in running {
                failed.extend(task.await.expect("an actor does not panic"));
            }
            failed
        })
        .await
}

/// Shows what failed, the shortest of each kind at length. How many scripts that were.
async fn report(arguments: &Arguments, shrinker: &mut Shrinker<'_>, failed: Vec<Failed>) -> anyhow::Result<usize> {
    let mut kinds: BTreeMap<String, Vec<Failed>> = BTreeMap::new();
    for failed in failed {
        kinds.entry(failed.kind()).or_default().push(failed);
    }
    let count: usize = kinds.values().map(Vec::len).sum();
    for (index, (kind, failed)) in kinds.iter().enumerate() {
        println!("\n== {kind}: {} actors", failed.len());
        let Some(shortest) = failed.iter().min_by_key(|failed| failed.failure.at) else {
            continue;
        };
        shortest.print();
        let path = target_dir().join(format!("differential/failed-{}.jsonl", shortest.actor));
        script::save(&path, &shortest.script[..=shortest.failure.at])?;
        if arguments.shrink && index < SHRUNK_MAX {
            let script = shrinker
                .shrink(shortest.actor, &shortest.script, &shortest.failure)
                .await;
            script::save(&path, &script)?;
            println!("  {} operations are enough, the last of them:", script.len());
            for step in &script[script.len().saturating_sub(SHRUNK_SHOWN_MAX)..] {
                println!("    {}", shortened(&serde_json::to_string(step)?));
            }
        }
        println!("  again: cargo xtask differential --replay {}", path.display());
    }
    if count > 0 {
        println!("\n{count} actors saw a difference; seed {}", arguments.seed);
    }
    Ok(count)
}

impl Failed {
    /// Operation and place of the first difference: failures of one kind have one cause, most of the time.
    fn kind(&self) -> String {
        kind(&self.script, &self.failure)
    }

    fn print(&self) {
        let Failure { at, java, oxmq, .. } = &self.failure;
        let step = &self.script[*at];
        println!("  actor {}, operation {at}", self.actor);
        let names: Vec<_> = step.names().collect();
        let related = |step: &&Step| step.names().any(|name| names.contains(&name));
        let before: Vec<_> = self.script[..*at].iter().filter(related).collect();
        for step in &before[before.len().saturating_sub(CONTEXT)..] {
            println!("    {}", shortened(&serde_json::to_string(step).unwrap_or_default()));
        }
        println!("  > {}", shortened(&serde_json::to_string(step).unwrap_or_default()));
        for difference in &self.failure.differences {
            println!("  {}", difference.path);
            println!("    java: {}", shortened(&known::cell(&difference.java)));
            println!("    oxmq: {}", shortened(&known::cell(&difference.oxmq)));
        }
        println!("  java: {}", shortened(&java.to_string()));
        println!("  oxmq: {}", shortened(&oxmq.to_string()));
    }
}

fn kind(script: &[Step], failure: &Failure) -> String {
    let step = &script[failure.at];
    let path = failure.differences.first().map_or("", |difference| &difference.path);
    let path: Vec<_> = path
        .split('.')
        .filter(|part| !part.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    format!("{} ({}) {}", step.operation, step.code, path.join("."))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{} ... ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}
