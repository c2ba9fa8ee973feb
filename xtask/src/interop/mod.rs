//! Unchanged programs on the stock clients, run against OxMQ and against the Java broker.
//!
//! The programs live in `tests/interop/`. The Java broker proves that a case itself is right, and what a case
//! observed there ("facts") is what it has to observe on OxMQ.

mod acl;
mod cluster_run;
mod diagnosis;
mod mqadmin;
mod pair;
pub(crate) mod peer;
mod programs;
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{bail, ensure};

use crate::servers::{Cluster, Options, Server, run as run_command, target_dir};
use programs::Client;

/// All cases in the order of the table; a client skips those that it has no means for.
const CASES: &[&str] = &[
    "send-sync",
    "send-async",
    "send-oneway",
    "send-batch",
    "message-roundtrip",
    "send-limits",
    "topic-auto",
    "topic-admin",
    "consume-concurrent",
    "consume-orderly",
    "consume-broadcast",
    "filter-tags",
    "filter-sql",
    "filter-sql-push",
    "filter-sql-refused",
    "docs-filtering",
    "consume-from-where",
    "rebalance",
    "consumer-restart",
    "retry",
    "dead-letter",
    "dead-letter-orderly",
    "pull",
    "pull-schedule",
    "lite-pull",
    "consume-stream",
    "pop-push",
    "pop-simple",
    "inspect",
    "reset-offset",
    "query",
    "retry-corners",
    "request-reply",
    "request-reply-rust",
    "docs-request-reply",
    "docs-consuming",
    "docs-order",
    "docs-pull",
    "docs-queries",
    "send-auto-batch",
    "inner-batch",
    "lmq",
    "topic-permissions",
    "queue-counts",
    "order-topic",
    "topic-attributes",
    "compaction",
    "static-topic",
    "delay-level",
    "delay-timer",
    "delay-timer-many",
    "delay-recall",
    "docs-delay",
    "docs-topics",
    "docs-batches",
    "metrics",
    "transaction",
    "transaction-other-producer",
    "transaction-check-max",
    "transaction-wrong-end",
    "docs-transaction",
    "docs-pop",
    "pop-ack",
    "pop-again",
    "pop-order",
    "pop-poll",
    "pop-filter",
    "pop-wrong",
    "priority",
    "pop-assignment",
    "pop-push-retry",
    "namespaces",
    "namespaces-rust",
    "docs-namespaces",
    "trace",
    "docs-trace",
    "docs-retries",
    "compression-rust",
    "docs-compression",
    "duplicates",
    "docs-duplicates",
    "quotas",
    "docs-quotas",
    RETENTION,
    COLD_DATA,
    ADMIN_EXT,
    "admin-ext-messages",
    "tls",
    "tls-certificates",
    "docs-tls",
    "docs-access-control",
    "acl",
    "acl-files",
    "diagnosis",
    "broker-restart",
];
/// With a broker with small files, where it waits for the first time that the original cleans.
const RETENTION: &str = "retention";
/// With a broker for which every message is old.
const COLD_DATA: &str = "cold-data";
/// With a broker without topics of others.
const ADMIN_EXT: &str = "admin-ext";
/// Cases that have such a broker for themselves.
const OWN_CLUSTER_CASES: &[&str] = &[RETENTION, COLD_DATA, ADMIN_EXT];
/// Left out by `--quick`: they wait for delays that clients or servers fix.
const SLOW_CASES: &[&str] = &[
    "rebalance",
    "retry",
    "dead-letter",
    "dead-letter-orderly",
    "reset-offset",
    "queue-counts",
    "static-topic",
    "docs-consuming",
    "pop-push-retry",
    RETENTION,
    COLD_DATA,
    "broker-restart",
];
/// Enough to see that the parts of a mixed cluster understand each other.
const MIXED_CASES: [&str; 1] = ["consume-concurrent"];
const OXMQ_BESIDE_JAVA: &str = "oxmq beside java";
/// For a broker that does what the original does not: it stores a message once that is sent twice, and has quotas.
const OWN_CASES: [&str; 4] = ["duplicates", "docs-duplicates", "quotas", "docs-quotas"];
/// Messages a second of a topic and of a group of that broker. The programs know it too.
const QUOTA: u32 = 100;
const MQADMIN: &str = "mqadmin";
/// The same scenario with OxMQ's own commands.
const OWN_MQADMIN: &str = "mqadmin-oxmq";
const JAVA_SERVER: &str = "5.5.0";
const OLD_JAVA_SERVER: &str = "4.9.7";
const FIRST_PORT: u16 = 20_000;
/// From the name server's port to that of the metrics. MetricsCase.java knows it too.
const METRICS_PORT_STEP: u16 = 12;
/// From the port of the cluster that cases share to those of the clusters that cases have for themselves, two at a time.
const ALONE_PORT_STEPS: [u16; 2] = [30, 65];
const TRIES: u16 = 3;
/// Cases that fail on the original in every try show nothing of OxMQ, but are not to become many.
const NOT_ON_ORIGINAL_MAX: usize = 5;

/// What became of one case of one client on one cluster.
enum Outcome {
    /// With the facts that the case observed.
    Passed(serde_json::Value),
    Failed(String),
    Skipped,
}

impl Outcome {
    fn is_failed(&self) -> bool {
        matches!(self, Outcome::Failed(_))
    }
}

/// Client and case.
type Key = (String, String);
type Outcomes = BTreeMap<Key, Outcome>;

/// One cluster to run against.
#[derive(Clone)]
struct Setup {
    name: &'static str,
    namesrv: Server,
    broker: Server,
    /// The second broker of cases that need one.
    partner: Server,
    cases: Vec<&'static str>,
    /// Cases of [`mqadmin`].
    mqadmin: Vec<&'static str>,
    /// The broker has a `duplicateSendWindow` and quotas.
    own: bool,
}

#[derive(Clone)]
struct Arguments {
    java: bool,
    oxmq: bool,
    clients: Vec<Client>,
    mqadmin: Vec<&'static str>,
    case: Option<String>,
    port: u16,
    debug: bool,
    quick: bool,
    bless: bool,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let arguments = parse(args)?;
    let started = Instant::now();
    for client in &arguments.clients {
        client.build()?;
    }
    if !arguments.mqadmin.is_empty() {
        mqadmin::build()?;
    }
    let setups = setups(&arguments)?;
    let mut results: Vec<(Setup, Outcomes)> = Vec::new();
    for (port, setup) in (arguments.port..).step_by(100).zip(setups) {
        let began = Instant::now();
        let mut outcomes = run_or_repeat(&setup, port, &arguments)?;
        for _ in 1..TRIES {
            let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_failed());
            let failed: Vec<Key> = failed.map(|(key, _)| key.clone()).collect();
            try_again(&setup, &mut outcomes, &failed, port + 50, &arguments)?;
        }
        println!(
            "== {}: {} cases, {} s",
            setup.name,
            outcomes.len(),
            began.elapsed().as_secs()
        );
        results.push((setup, outcomes));
    }
    for again in 1..TRIES {
        let differing: Vec<Key> = differences(&results).into_iter().map(|(_, key, _)| key).collect();
        let compared = results.iter_mut().filter(|(setup, _)| is_compared(setup));
        for (port, (setup, outcomes)) in (arguments.port + 1000 * again..).step_by(100).zip(compared) {
            try_again(setup, outcomes, &differing, port, &arguments)?;
        }
    }
    fail_differing(&mut results);
    report(&results);
    let of_original = |setup: &Setup| matches!((&setup.namesrv, &setup.broker), (Server::Java(_), Server::Java(_)));
    let (mut passed, mut failed, mut not_on_original) = (0, 0, 0);
    for (setup, outcomes) in &results {
        for ((client, case), outcome) in outcomes {
            match outcome {
                Outcome::Passed(_) => passed += 1,
                Outcome::Skipped => {}
                Outcome::Failed(reason) if of_original(setup) => {
                    not_on_original += 1;
                    println!("{}: no {case} with {client} on the original: {reason}", setup.name);
                }
                Outcome::Failed(reason) => {
                    failed += 1;
                    println!("{}: FAIL {case} with {client}: {reason}", setup.name);
                }
            }
        }
    }
    println!(
        "\n{passed} passed, {failed} failed, {not_on_original} did not pass on the original, in {} s",
        started.elapsed().as_secs()
    );
    if failed > 0 || not_on_original > NOT_ON_ORIGINAL_MAX {
        std::process::exit(1);
    }
    Ok(())
}

/// Runs the cases of one cluster, and once more if its servers did not start or stop in time.
fn run_or_repeat(setup: &Setup, port: u16, arguments: &Arguments) -> anyhow::Result<Outcomes> {
    run_setup(setup, port, arguments).or_else(|error| {
        println!("== {}: once more, as: {error:#}", setup.name);
        run_setup(setup, port, arguments)
    })
}

/// Runs these cases again: stock clients have races of their own, on the original as well, and a busy machine makes
/// them worse. What goes wrong in every try is broken.
fn try_again(
    setup: &Setup,
    outcomes: &mut Outcomes,
    keys: &[Key],
    port: u16,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let keys: Vec<&Key> = keys.iter().filter(|key| outcomes.contains_key(*key)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut setup = setup.clone();
    setup.cases.retain(|case| keys.iter().any(|(_, failed)| failed == case));
    setup
        .mqadmin
        .retain(|case| keys.iter().any(|(_, failed)| failed == case));
    let mut arguments = arguments.clone();
    let clients = &mut arguments.clients;
    clients.retain(|client| keys.iter().any(|(failed, _)| failed == client.name()));
    let mut again = run_or_repeat(&setup, port, &arguments)?;
    for key in keys {
        let Some(second) = again.remove(key) else { continue };
        let (client, case) = key;
        let first = match &outcomes[key] {
            Outcome::Failed(reason) => reason,
            _ => "differs",
        };
        println!("  another try of {case} with {client}; the one before: {first}");
        outcomes.insert(key.clone(), second);
    }
    Ok(())
}

fn parse(args: &[String]) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments {
        java: true,
        oxmq: true,
        clients: Client::ALL.to_vec(),
        mqadmin: vec![MQADMIN, OWN_MQADMIN],
        case: None,
        port: FIRST_PORT,
        debug: false,
        quick: false,
        bless: false,
    };
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg {
            "--debug" => arguments.debug = true,
            "--quick" => arguments.quick = true,
            "--bless" => arguments.bless = true,
            "--server" => {
                let server = args.next().unwrap_or_default();
                ensure!(
                    ["java", "oxmq", "both"].contains(&server),
                    "no server is called {server:?}"
                );
                arguments.java = server != "oxmq";
                arguments.oxmq = server != "java";
            }
            "--client" => {
                let name = args.next().unwrap_or_default();
                arguments
                    .clients
                    .retain(|client| name == "all" || client.name() == name);
                arguments.mqadmin.retain(|_| name == "all" || name == MQADMIN);
                ensure!(
                    !arguments.mqadmin.is_empty() || !arguments.clients.is_empty(),
                    "no client is called {name:?}"
                );
            }
            "--case" => {
                let name = args.next().unwrap_or_default();
                let named: Vec<&str> = name.split(',').collect();
                for name in &named {
                    let is_known = CASES.contains(name) || arguments.mqadmin.contains(name);
                    ensure!(is_known, "no case is called {name:?}");
                }
                arguments.mqadmin.retain(|case| named.contains(case));
                arguments.case = Some(name.to_owned());
            }
            "--port" => arguments.port = args.next().unwrap_or_default().parse()?,
            MQADMIN => arguments.clients.clear(),
            _ => bail!(
                "usage: cargo xtask interop [--server oxmq|java|both] [--client NAME|all] [--case NAME[,NAME…]] [--debug] \
                 [--quick] [--bless] [--port N] [mqadmin]"
            ),
        }
    }
    Ok(arguments)
}

fn setups(arguments: &Arguments) -> anyhow::Result<Vec<Setup>> {
    let wanted = |case: &&str| match &arguments.case {
        Some(names) => names.split(',').any(|name| name == *case),
        None => !(arguments.quick && SLOW_CASES.contains(case)),
    };
    let (own_cases, cases) = CASES
        .iter()
        .copied()
        .filter(wanted)
        .partition::<Vec<&str>, _>(|case| OWN_CASES.contains(case));
    let mixed_cases: Vec<&str> = MIXED_CASES.iter().copied().filter(wanted).collect();
    let pure = |name, server: &Server| Setup {
        name,
        namesrv: server.clone(),
        broker: server.clone(),
        partner: server.clone(),
        cases: cases.clone(),
        mqadmin: arguments.mqadmin.clone(),
        own: false,
    };
    let mixed = |name, namesrv: &Server, broker: &Server| Setup {
        name,
        namesrv: namesrv.clone(),
        broker: broker.clone(),
        partner: broker.clone(),
        cases: mixed_cases.clone(),
        mqadmin: Vec::new(),
        own: false,
    };
    let java = Server::Java(JAVA_SERVER);
    let old_java = Server::Java(OLD_JAVA_SERVER);
    let mut setups = Vec::new();
    if arguments.java {
        setups.push(pure("java", &java));
        setups.push(mixed("java, old name server", &old_java, &java));
    }
    if arguments.oxmq {
        let oxmq = Server::Oxmq {
            binary: oxmq_binary(arguments.debug)?,
        };
        setups.push(pure("oxmq", &oxmq));
        setups.push(Setup {
            name: OXMQ_BESIDE_JAVA,
            namesrv: oxmq.clone(),
            broker: oxmq.clone(),
            partner: java.clone(),
            cases: cases
                .iter()
                .copied()
                .filter(|case| pair::CASES.contains(case))
                .collect(),
            mqadmin: Vec::new(),
            own: false,
        });
        setups.push(Setup {
            cases: own_cases,
            mqadmin: Vec::new(),
            own: true,
            ..pure("oxmq, duplicate window and quotas", &oxmq)
        });
        setups.push(mixed("oxmq name server, java broker", &oxmq, &java));
        setups.push(mixed("oxmq name server, java 4.9.7 broker", &oxmq, &old_java));
        setups.push(mixed("java name server, oxmq broker", &java, &oxmq));
        setups.push(mixed("java 4.9.7 name server, oxmq broker", &old_java, &oxmq));
    }
    setups.retain(|setup| !setup.mqadmin.is_empty() || (!setup.cases.is_empty() && !arguments.clients.is_empty()));
    Ok(setups)
}

pub(crate) fn oxmq_binary(debug: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "oxmq"]);
    if !debug {
        cargo.arg("--release");
    }
    run_command(&mut cargo)?;
    Ok(target_dir().join(if debug { "debug" } else { "release" }).join("oxmq"))
}

/// A stock client sends and consumes while the cluster's broker stops and the next one starts.
pub(crate) fn outlive_a_restart(cluster: &mut Cluster) -> anyhow::Result<()> {
    let client = Client::Java {
        version: JAVA_SERVER,
        binary_header: false,
    };
    client.build()?;
    let outcomes = cluster_run::run(cluster, &[client], &["broker-restart"])?;
    match outcomes.into_values().next() {
        Some(Outcome::Passed(_)) => Ok(()),
        Some(Outcome::Failed(why)) => bail!(why),
        _ => bail!("the client has said nothing"),
    }
}

fn run_setup(setup: &Setup, port: u16, arguments: &Arguments) -> anyhow::Result<Outcomes> {
    println!("== {}", setup.name);
    let dir = target_dir()
        .join("interop/run")
        .join(setup.name.replace([' ', ','], "-"));
    let mut options = Options::new(setup.broker.clone(), port, dir);
    options.namesrv = setup.namesrv.clone();
    // The machine is small and busy: waiting in the send queue is no reason to refuse a message here.
    let options = options
        .broker_property("brokerFastFailureEnable", false)
        .broker_property("enablePropertyFilter", true)
        .broker_property("enableLmq", true)
        .broker_property("enableMultiDispatch", true)
        .broker_property("compactionScheduleInternal", 1000);
    // Producers are asked about transactions after seconds instead of minutes, and not for long.
    let options = options
        .broker_property("transactionTimeOut", 2000)
        .broker_property("transactionCheckInterval", 1000)
        .broker_property("transactionCheckMax", 3)
        .broker_property("transactionOpBatchInterval", 100);
    let options = options
        .broker_property("timerMaxDelaySec", 259_200)
        .broker_property("recallMessageEnable", true)
        .broker_property("metricsExporterType", 2)
        .broker_property("metricsPromExporterPort", port + METRICS_PORT_STEP);
    let options = match setup.own {
        true => options
            .broker_property("duplicateSendWindow", 60_000)
            .broker_property("quotaTopicMessagesPerSecond", QUOTA)
            .broker_property("quotaGroupMessagesPerSecond", QUOTA),
        false => options,
    };
    // The cases that have a cluster for themselves mostly wait for it. At first everything starts at once, which the scenario
    // of mqadmin does not like.
    let alone = setup.cases.iter().copied().filter(|case| is_alone(case));
    let alone = Mutex::new(alone.chain(setup.mqadmin.iter().copied()));
    thread::scope(|scope| {
        let lanes = ALONE_PORT_STEPS.map(|port_step| {
            let mut options = options.clone();
            options.port += port_step;
            let alone = &alone;
            scope.spawn(move || {
                let mut outcomes = Outcomes::new();
                while let Some(case) = next(alone) {
                    let began = Instant::now();
                    outcomes.extend(run_alone(setup, beside(&options, case), arguments, case)?);
                    println!("  {}: {case}, {} s", setup.name, began.elapsed().as_secs());
                }
                anyhow::Ok(outcomes)
            })
        });
        let mut outcomes = run_together(setup, &options, arguments);
        for lane in lanes {
            let alone = lane.join().expect("a case that has a cluster for itself panicked");
            outcomes = outcomes.and_then(|mut all| {
                all.extend(alone?);
                Ok(all)
            });
        }
        outcomes
    })
}

fn next<T>(cases: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    cases.lock().expect("nobody panics with it").next()
}

/// The cases that share a cluster.
fn run_together(setup: &Setup, options: &Options, arguments: &Arguments) -> anyhow::Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    let cases: Vec<&str> = setup.cases.iter().copied().filter(|case| !is_alone(case)).collect();
    if cases.is_empty() {
        return Ok(outcomes);
    }
    let mut cluster = Cluster::start(options.clone())?;
    // A 4.x name server loses a topic when two are registered at the same moment (with one data version).
    let side_by_side = !matches!(setup.namesrv, Server::Java(OLD_JAVA_SERVER));
    for clients in arguments
        .clients
        .chunks(if side_by_side { Client::ALL.len() } else { 1 })
    {
        outcomes.extend(cluster_run::run(&mut cluster, clients, &cases)?);
    }
    cluster.discard()?;
    Ok(outcomes)
}

fn is_alone(case: &str) -> bool {
    let alone = [
        &pair::CASES[..],
        &tls::CASES,
        &acl::CASES,
        &diagnosis::CASES,
        OWN_CLUSTER_CASES,
    ];
    alone.concat().contains(&case)
}

/// A case that needs a cluster of another kind, or one without the topics of others.
fn run_alone(setup: &Setup, options: Options, arguments: &Arguments, case: &str) -> anyhow::Result<Outcomes> {
    if setup.mqadmin.contains(&case) {
        let cluster = Cluster::start(acl::with_providers(options))?;
        let own = match case {
            OWN_MQADMIN => Some(oxmq_binary(arguments.debug)?),
            _ => None,
        };
        let outcome = mqadmin::run(&cluster, own.as_deref(), arguments.bless && setup.name == "java")?;
        cluster.discard()?;
        return Ok(Outcomes::from([((MQADMIN.to_owned(), case.to_owned()), outcome)]));
    }
    let takes = |client: &Client| client.takes(case);
    let clients: Vec<Client> = arguments.clients.iter().copied().filter(takes).collect();
    if clients.is_empty() {
        Ok(Outcomes::new())
    } else if pair::CASES.contains(&case) {
        pair::run(options, setup.partner.clone(), &clients, case)
    } else if tls::CASES.contains(&case) {
        tls::run(options, &clients, case)
    } else if acl::CASES.contains(&case) {
        acl::run(options, &clients, case)
    } else if diagnosis::CASES.contains(&case) {
        diagnosis::run(options, &clients, case, oxmq_binary(arguments.debug)?)
    } else {
        let mut cluster = Cluster::start(match case {
            RETENTION => with_small_files(options),
            COLD_DATA => options
                .broker_property("coldDataFlowControlEnable", true)
                .broker_property("accessMessageInMemoryHotRatio", 0),
            _ => acl::with_providers(options),
        })?;
        let outcomes = cluster_run::run(&mut cluster, &clients, &[case])?;
        cluster.discard()?;
        Ok(outcomes)
    }
}

/// The cluster that a case has for itself while the shared one runs.
fn beside(options: &Options, case: &str) -> Options {
    let mut options = options.clone();
    options.dir.set_extension(case);
    let metrics_port = options.port + METRICS_PORT_STEP;
    options.broker_property("metricsPromExporterPort", metrics_port)
}

/// Every file is old, but none goes unless it is asked for.
fn with_small_files(options: Options) -> Options {
    options
        .broker_property("mappedFileSizeCommitLog", 65_536)
        .broker_property("mappedFileSizeConsumeQueue", 400)
        .broker_property("fileReservedTime", 0)
        .broker_property("deleteWhen", 99)
        .broker_property("cleanResourceInterval", 200)
}

fn is_compared(setup: &Setup) -> bool {
    ["java", "oxmq", OXMQ_BESIDE_JAVA].contains(&setup.name)
}

/// What a case saw on the original and on OxMQ, where that is not the same.
fn differences(results: &[(Setup, Outcomes)]) -> Vec<(usize, Key, String)> {
    let Some(((Setup { name: "java", .. }, java), others)) = results.split_first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, (setup, outcomes)) in others.iter().enumerate() {
        for (key, outcome) in outcomes.iter().filter(|_| is_compared(setup)) {
            if let (Some(Outcome::Passed(expected)), Outcome::Passed(actual)) = (java.get(key), outcome)
                && expected != actual
            {
                let why = format!("differs from java\n    java: {expected}\n    oxmq: {actual}");
                found.push((index + 1, key.clone(), why));
            }
        }
    }
    found
}

/// A case has to see on OxMQ what it saw on the original, when both have run.
fn fail_differing(results: &mut [(Setup, Outcomes)]) {
    for (index, key, why) in differences(results) {
        results[index].1.insert(key, Outcome::Failed(why));
    }
}

/// Prints a table for each cluster.
fn report(results: &[(Setup, Outcomes)]) {
    for (setup, outcomes) in results {
        let clients: Vec<&str> = Client::ALL
            .iter()
            .map(Client::name)
            .chain([MQADMIN])
            .filter(|name| outcomes.keys().any(|(client, _)| client == name))
            .collect();
        println!("\n{}", setup.name);
        println!(
            "  {:20}{}",
            "",
            clients.iter().map(|name| format!("{name:19}")).collect::<String>()
        );
        for case in setup.cases.iter().copied().chain(setup.mqadmin.iter().copied()) {
            if !outcomes.keys().any(|(_, name)| name == case) {
                continue;
            }
            print!("  {case:20}");
            for client in &clients {
                let cell = match outcomes.get(&((*client).to_owned(), case.to_owned())) {
                    Some(Outcome::Passed(_)) => "ok",
                    Some(Outcome::Failed(_)) => "no",
                    Some(Outcome::Skipped) | None => "-",
                };
                print!("{cell:19}");
            }
            println!();
        }
    }
}
