//! `oxmq bench` against a broker: what it says it has sent and consumed is what was.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use oxmq_protocol::json;
use serde::Deserialize;

use super::{LOCAL, OXMQ, Server, file, folder, run, start_namesrv, text};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    what: String,
    messages: u64,
    bytes: u64,
    latency_ms: BTreeMap<String, BTreeMap<String, f64>>,
    errors: BTreeMap<String, u64>,
}

fn bench(namesrv_addr: &str, args: &str) -> Output {
    let mut words: Vec<&str> = args.split(' ').collect();
    words.insert(0, "bench");
    words.extend(["-n", namesrv_addr, "-t", "Bench"]);
    run(Path::new(OXMQ), &words)
}

fn report(output: &Output) -> Report {
    let failure = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{failure}");
    json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {failure}"))
}

#[test]
fn what_is_produced_is_consumed_and_counted() {
    let folder = folder();
    let (_namesrv, namesrv_addr) = start_namesrv(folder.path(), Path::new(OXMQ), &["namesrv"]);
    let conf = format!(
        "{LOCAL}brokerName=broker-x\nbrokerIP1=127.0.0.1\nnamesrvAddr={namesrv_addr}\nstorePathRootDir={}\n\
         mappedFileSizeCommitLog=16777216\n",
        folder.path().join("store").display()
    );
    let conf = file(folder.path(), "broker.conf", &conf);
    let mut broker = Server::start(Path::new(OXMQ), &["broker", "-c", &conf]);
    broker.line_with("boot success");
    let deadline = Instant::now() + Duration::from_secs(60);
    // The broker may not have registered yet. The first message makes the topic.
    while bench(&namesrv_addr, "produce --count 1 --size 100").status.code() != Some(0) {
        assert!(Instant::now() < deadline);
    }

    let sent = report(&bench(
        &namesrv_addr,
        "produce --count 301 --size 100 --batch 3 --keys 7 --json",
    ));
    assert_eq!(
        (sent.what.as_str(), sent.messages, sent.bytes),
        ("produce", 301, 30_100)
    );
    assert!(sent.errors.is_empty());
    assert!(sent.latency_ms["send"]["p50"] <= sent.latency_ms["send"]["max"]);
    let lingering = "produce --count 200 --size 100 --tags A,B --linger 2ms --json";
    assert_eq!(report(&bench(&namesrv_addr, lingering)).messages, 200);

    // 1, 301 and 200, for two groups; of the last one half has the tag.
    let all = report(&bench(
        &namesrv_addr,
        "consume --from first --count 1004 --group g1,g2 --duration 1m --json",
    ));
    assert_eq!((all.what.as_str(), all.messages, all.bytes), ("consume", 1004, 100_400));
    let ages: Vec<&str> = all.latency_ms.keys().map(String::as_str).collect();
    assert_eq!(ages, ["since born", "since stored"]);
    let tagged = "consume --from first --count 100 --group g3 --tags A --duration 1m --json";
    assert_eq!(report(&bench(&namesrv_addr, tagged)).messages, 100);

    let started = Instant::now();
    let paced = bench(&namesrv_addr, "produce --count 60 --rate 100");
    assert!(started.elapsed() >= Duration::from_millis(590));
    let shown = text(&paced.stdout);
    assert!(
        shown.starts_with("produce: 60 messages, 0.06 MB in ") && shown.contains("p99.9"),
        "{shown}"
    );
}

#[test]
fn failures_are_counted_and_mistakes_explained() {
    let failed = bench("127.0.0.1:1", "produce --count 1");
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        text(&failed.stdout).contains("failed: 1 times "),
        "{}",
        text(&failed.stdout)
    );
    let mistaken = bench("127.0.0.1:1", "produce --duration soon");
    assert_eq!(mistaken.status.code(), Some(1));
    assert!(
        text(&mistaken.stderr).contains("a time is a number"),
        "{}",
        text(&mistaken.stderr)
    );
}
