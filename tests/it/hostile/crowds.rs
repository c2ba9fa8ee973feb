//! Too many of something that is harmless by itself.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oxmq_protocol::SerializeType;
use oxmq_protocol::requests::{PullMessageHeader, request as row};

use crate::support::*;

/// Tells a child process of this test where to connect to and how often.
const HOLD: &str = "OXMQ_TEST_HOLD";

#[test]
fn ten_thousand_sends_in_flight_on_one_connection() {
    let system = System::start();
    system.create_topic("Flight", 4);
    for serialize in BOTH {
        let mut client = system.connect();
        let mut writer = client.socket.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            let mut request = send("Flight", &[b'x'; 100]);
            let mut frames = bytes::BytesMut::new();
            for opaque in 0..10_000 {
                request.header.opaque = opaque;
                request.encode(serialize, &mut frames);
            }
            writer.write_all(&frames).unwrap();
        });
        let mut answered = HashSet::new();
        while answered.len() < 10_000 {
            let response = client.receive();
            assert!(is_success(&response), "{:?}", response.header.remark);
            assert!(answered.insert(response.header.opaque));
        }
        writing.join().unwrap();
    }
    system.assert_serves("Flight");
}

#[test]
fn a_consumer_that_never_reads_costs_bounded_memory_and_others_nothing() {
    let system = System::start();
    system.create_topic("Lazy", 1);
    let mut client = system.connect();
    for _ in 0..100 {
        assert!(is_success(&client.call(&send("Lazy", &[7; 8000]))));
    }
    let pull = PullMessageHeader {
        consumer_group: "lazy".into(),
        topic: "Lazy".into(),
        max_msg_nums: 32,
        sys_flag: 4,
        subscription: Some("*".into()),
        ..PullMessageHeader::default()
    };
    let frame = encode(&command::<row::PullMessage>(&pull, b""), SerializeType::Json);
    let before = anonymous_bytes();
    let lazy: Vec<RawClient> = (0..20)
        .map(|_| {
            let mut client = system.connect();
            client
                .socket
                .set_write_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            // 4,000 pulls ask for 1 GB.
            let _ = client.socket.write_all(&frame.repeat(4000));
            client
        })
        .collect();
    let started = Instant::now();
    for _ in 0..100 {
        assert!(is_success(&client.call(&send("Lazy", b"another"))));
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "others wait: {:?}",
        started.elapsed()
    );
    let grown = anonymous_bytes().saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes for {} lazy consumers", lazy.len());
    system.assert_serves("Lazy");
}

#[test]
fn pulls_that_wait_for_a_consumer_that_never_reads_cost_bounded_memory() {
    let system = System::start();
    system.create_topic("LazyWait", 1);
    let mut client = system.connect();
    assert!(is_success(&client.call(&send("LazyWait", b"first"))));
    let pull = PullMessageHeader {
        consumer_group: "lazy-wait".into(),
        topic: "LazyWait".into(),
        queue_offset: 1,
        max_msg_nums: 32,
        // Wait, and the subscription is in the request.
        sys_flag: 2 + 4,
        suspend_timeout_millis: 2000,
        subscription: Some("*".into()),
        ..PullMessageHeader::default()
    };
    let mut frame = encode(&command::<row::PullMessage>(&pull, b""), SerializeType::Json).to_vec();
    frame = frame.repeat(8000);
    let mut lazy = system.connect();
    lazy.socket.write_all(&frame).unwrap();
    // Answered behind the pulls: they all wait now.
    lazy.call(&command::<row::GetAllTopicConfig>(&Default::default(), b""));
    let before = anonymous_bytes();
    let started = Instant::now();
    let mut most = 0;
    while started.elapsed() < Duration::from_secs(4) {
        for _ in 0..10 {
            assert!(is_success(&client.call(&send("LazyWait", &[7; 8000]))));
        }
        most = most.max(anonymous_bytes().saturating_sub(before));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Full answers to all would be 2 GB.
    let answered: usize = (0..8000).map(|_| lazy.receive().body.len()).sum();
    assert!(most < 128 << 20, "{most} bytes more, {answered} bytes of messages");
    system.assert_serves("LazyWait");
}

/// The other half of the next test, in a process with a limit of open files of its own.
#[test]
#[ignore = "runs as a child process of ten_thousand_idle_connections"]
fn hold_connections() {
    let Ok(task) = std::env::var(HOLD) else { return };
    let (addr, count) = task.split_once(' ').unwrap();
    raise_files_limit();
    let held: Vec<RawClient> = (0..count.parse().unwrap())
        .map(|_| RawClient::connect(addr.parse().unwrap()))
        .collect();
    println!("held");
    // Until the parent closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(held);
}

#[test]
fn ten_thousand_idle_connections() {
    let system = System::start();
    let count = 10_000.min(raise_files_limit().saturating_sub(1000));
    let before = anonymous_bytes();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "hostile::crowds::hold_connections",
            "--ignored",
            "--nocapture",
        ])
        .env(HOLD, format!("{} {count}", system.broker_addr()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let open = || system.broker().connections() >= count;
    wait_for("all connections", open);
    let each = anonymous_bytes().saturating_sub(before) / count;
    assert!(each < 20_000, "{each} bytes for each idle connection");
    system.assert_serves("Idle");
    drop(child.stdin.take());
    child.wait().unwrap();
    wait_for("none of them", || system.broker().connections() < 10);
    system.assert_serves("Idle");
}
