//! `oxmq admin` and `mqadmin` against a broker of the same executable.

use std::process::Stdio;

use serde_json::Value;

use super::*;

struct Standalone {
    _server: Server,
    namesrv: String,
    broker: String,
    folder: TempDir,
}

impl Standalone {
    fn start() -> Standalone {
        let folder = folder();
        fs::create_dir(folder.path().join("data")).unwrap();
        file(folder.path(), "data/namesrv.conf", "listenPort=0");
        let conf = "listenPort=0\nmappedFileSizeCommitLog=1048576\nbrokerName=broker-a";
        file(folder.path(), "data/broker.conf", conf);
        let data = folder.path().join("data").to_string_lossy().into_owned();
        let mut server = Server::start(Path::new(OXMQ), &["--data", &data]);
        let addr = |line: String| {
            line.split_whitespace()
                .find(|word| word.starts_with("127.0.0.1:"))
                .unwrap()
                .to_owned()
        };
        Standalone {
            namesrv: addr(server.line_with("name server")),
            broker: addr(server.line_with("broker")),
            _server: server,
            folder,
        }
    }

    fn output(&self, line: &str) -> Output {
        let line = line.replace("BROKER", &self.broker);
        let args: Vec<&str> = ["admin"]
            .into_iter()
            .chain(line.split(' '))
            .chain(["-n", &self.namesrv])
            .collect();
        run(Path::new(OXMQ), &args)
    }

    fn done(&self, line: &str) -> String {
        let output = self.output(line);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{line}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{line} --json"))).unwrap()
    }
}

#[test]
fn what_was_done_is_told_to_people_and_to_programs() {
    let servers = Standalone::start();
    assert!(
        servers
            .done("UPDATETOPIC -b BROKER -t orders -r 2 -w 2")
            .starts_with("create topic to 127.0.0.1:")
    );
    let sent = servers.json("sendMessage -t orders -p hello -k ORD-1 -b broker-a -i 1");
    assert_eq!(sent["sent"][0]["sendResult"], "SEND_OK");
    let id = sent["sent"][0]["msgId"].as_str().unwrap();
    let queues = &servers.json("topicStatus -t orders")["queues"];
    assert_eq!(
        (queues[0]["maxOffset"].as_i64(), queues[1]["maxOffset"].as_i64()),
        (Some(0), Some(1))
    );
    let found = servers.json(&format!("queryMsgById -t orders -i {id}"));
    assert_eq!(found["messages"][0]["body"], "hello");
    assert_eq!(found["messages"][0]["properties"]["KEYS"], "ORD-1");
    let exported = servers.folder.path().join("export").display().to_string();
    servers.done(&format!("exportMetadata -c DefaultCluster -f {exported}"));
    let metadata: Value = serde_json::from_slice(&fs::read(format!("{exported}/metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["topicConfigTable"]["orders"]["writeQueueNums"], 2);
    assert!(metadata["topicConfigTable"].get("TBW102").is_none());

    let mqadmin = run(
        &link(servers.folder.path(), "mqadmin"),
        &["topiclist", "-n", &servers.namesrv],
    );
    assert!(text(&mqadmin.stdout).lines().any(|line| line == "orders"));
}

#[test]
fn static_topics_grow() {
    let servers = Standalone::start();
    servers.done("updateStaticTopic -t fixed -b broker-a -qn 2");
    let route = servers.json("topicRoute -t fixed");
    assert_eq!(route["topicQueueMappingByBroker"]["broker-a"]["totalQueues"], 2);
    let changed = servers.json("updateStaticTopic -t fixed -c DefaultCluster -qn 3");
    assert_eq!(changed["done"][0], "broker-a");
    let again = servers.output("updateStaticTopic -t fixed -c DefaultCluster -qn 3");
    assert!(
        text(&again.stderr).contains("can only get more queues"),
        "{}",
        text(&again.stderr)
    );
    servers.done("remappingStaticTopic -t fixed -c DefaultCluster");
    assert_eq!(
        servers.json("topicRoute -t fixed")["topicQueueMappingByBroker"]["broker-a"]["totalQueues"],
        3
    );
}

#[test]
fn failures_are_a_line_and_an_exit_code() {
    let servers = Standalone::start();
    let output = servers.output("topicStatus -t missing --json");
    let expected = "oxmq admin topicStatus: CODE: 17 DESC: No topic route info in name server for the topic: missing\n";
    assert_eq!(
        (text(&output.stderr), text(&output.stdout)),
        (expected.to_owned(), String::new())
    );
    assert_eq!(output.status.code(), Some(1));
    for wrong in [
        "nonsense",
        "topicStatus",
        "updateTopic -t x",
        "resetOffsetByTime -g g -t t -s soon",
    ] {
        assert_eq!(servers.output(wrong).status.code(), Some(1), "{wrong}");
    }
    let nobody = run(Path::new(OXMQ), &["admin", "topicList", "-n", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert_eq!(text(&nobody.stderr).lines().count(), 1, "{}", text(&nobody.stderr));

    let list = run(Path::new(OXMQ), &["admin"]);
    assert!(text(&list.stdout).contains("   topicRoute                          Show where a topic is\n"));
    let script = run(Path::new(OXMQ), &["completion", "bash"]);
    assert!(text(&script.stdout).contains("consumerProgress"));
}

/// As `| head` leaves it. The script for a shell is longer than a pipe holds.
#[test]
fn output_that_nobody_reads_is_no_failure() {
    for args in [&["admin"][..], &["completion", "bash"], &["broker", "-p"]] {
        let mut process = command(Path::new(OXMQ), args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(process.stdout.take());
        let output = process.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stderr)),
            (Some(0), String::new()),
            "{args:?}"
        );
    }
}
