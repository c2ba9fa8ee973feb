//! Peers that send anything but what they should.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use oxmq_protocol::requests::{PullMessageHeader, SendMessageHeaderV2, request};
use oxmq_protocol::{RemotingCommand, SerializeType};

use crate::harness::*;

const ABSURD: [&str; 8] = [
    "-1",
    "2147483647",
    "-2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "1e9",
    "",
    "x",
];

#[tokio::test]
async fn absurd_numbers_in_any_field_are_answered() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    sent(&client.send(&message("orders", 0), "x").await);
    let requests = [
        RemotingCommand::request::<request::SendMessageV2>(&message("orders", 0), "x".into()),
        RemotingCommand::request::<request::SendBatchMessage>(&message("orders", 0), "x".into()),
        RemotingCommand::request::<request::PullMessage>(&pull("orders", 0, 0), bytes::Bytes::new()),
    ];
    for request in requests {
        let names: Vec<_> = request
            .header
            .ext_fields
            .iter()
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in names {
            for value in ABSURD {
                let mut command = request.clone();
                command.header.ext_fields.set(name.as_str(), value);
                // Whatever the answer: there is one, for a wait of any length has been cut off by the flag.
                client.invoke(command).await;
            }
        }
    }
    sent(&client.send(&message("orders", 0), "x").await);
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    let broker = Node::start();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 8, 0, 0, 0, 4, b'{', b'}', b'}', b'}'],
        &[0, 0, 0, 8, 1, 0, 0, 4, 0, 0, 0, 0],
    ] {
        let mut stream = TcpStream::connect(broker.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(garbage).unwrap();
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
}

/// A consumer that asks and never reads: its socket is not read any more, and the others do not notice.
#[tokio::test]
async fn a_consumer_that_never_reads_is_left_alone() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    let body = "x".repeat(8 * 1024);
    let body: &'static str = Box::leak(body.into_boxed_str());
    for _ in 0..32 {
        sent(&client.send(&message("orders", 0), body).await);
    }
    let mut asked = BytesMut::new();
    for _ in 0..20_000 {
        let command = RemotingCommand::request::<request::PullMessage>(&pull("orders", 0, 0), bytes::Bytes::new());
        command.encode(SerializeType::Json, &mut asked);
    }
    let mut deaf = TcpStream::connect(broker.addr()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(
        deaf.write_all(&asked).is_err(),
        "the broker took all of {} requests",
        20_000
    );
    for _ in 0..100 {
        sent(&client.send(&message("orders", 0), "x").await);
    }
}

/// Every combination of frames cut in pieces arrives whole.
#[test]
fn frames_cut_anywhere_are_put_together() {
    let broker = Node::start();
    let mut frames = BytesMut::new();
    for opaque in 0..3 {
        let mut command = RemotingCommand::request::<request::SendMessageV2>(&message("orders", 0), "x".into());
        command.header.opaque = opaque;
        command.encode(SerializeType::Json, &mut frames);
    }
    let mut stream = TcpStream::connect(broker.addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for piece in frames.chunks(97) {
        stream.write_all(piece).unwrap();
    }
    let mut answers = BytesMut::new();
    // In any order: the send that creates the topic is answered when the topic is saved.
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        let mut piece = [0; 512];
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0);
        answers.put_slice(&piece[..count]);
        while let Some((frame, taken)) = oxmq_protocol::Frame::peek(&answers).unwrap() {
            let answer = RemotingCommand::decode(frame).unwrap();
            assert_eq!(answer.header.code, 0);
            assert!(seen.insert(answer.header.opaque));
            let _ = answers.split_to(taken);
        }
    }
}

#[tokio::test]
async fn thousands_of_sends_in_flight_are_all_answered() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 4, false).await;
    let sends: Vec<_> = (0..10_000)
        .map(|index| {
            let client = client.clone();
            tokio::spawn(async move {
                let header = SendMessageHeaderV2 {
                    ..message("orders", index % 4)
                };
                sent(&client.send(&header, "x").await)
            })
        })
        .collect();
    let mut next = [0; 4];
    for send in sends {
        let reply = send.await.unwrap();
        next[reply.queue_id as usize] += 1;
    }
    assert_eq!(next, [2_500; 4]);
    for queue_id in 0..4 {
        let header = PullMessageHeader {
            max_msg_nums: 1,
            ..pull("orders", queue_id, 2_499)
        };
        assert_eq!(records(&client.pull(&header).await).len(), 1);
    }
}
