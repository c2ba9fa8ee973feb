//! Negative, absurd and unreadable values in every header field of every request, and absurd bodies.

use std::io::Write;

use oxmq_protocol::{RemotingCommand, RequestCode};

use crate::support::*;

const ABSURD: [&str; 17] = [
    "",
    "-1",
    "0",
    "1",
    "2147483647",
    "-2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999999",
    "NaN",
    "1e9",
    "true",
    "../../x",
    "%RETRY%../../x",
    "a\u{0}b\u{1}c\u{2}d",
    "||&&**",
    "\u{1F980}",
];

/// A believable value for each field, so that the absurd one gets as far as it can.
pub(super) fn believable(name: &str) -> &'static str {
    match name {
        "topic" | "b" => "Fields",
        "defaultTopic" | "c" => "TBW102",
        "producerGroup" | "consumerGroup" | "group" | "groupName" | "a" | "srcGroup" | "destGroup" | "compareGroup" => {
            "fields-group"
        }
        "defaultTopicQueueNums" | "d" | "readQueueNums" | "writeQueueNums" => "4",
        "perm" => "6",
        "topicFilterType" => "SINGLE_TAG",
        "maxMsgNums" | "maxNum" | "count" => "32",
        "endTimestamp" => "9000000000000",
        "subscription" => "*",
        "expressionType" => "TAG",
        "clientId" | "clientID" => "fields-client",
        "brokerName" | "n" | "bname" => "broker-a",
        "brokerAddr" | "haServerAddr" => "127.0.0.1:1",
        "clusterName" | "cluster" => "DefaultCluster",
        "key" | "namespace" | "value" | "statsName" | "statsKey" => "fields-key",
        // 4: the subscription is in the request.
        "sysFlag" => "4",
        // Long ago: no time to wait is left, however long it is.
        "bornTime" => "1",
        "batch" | "m" => "false",
        _ => "0",
    }
}

pub(super) fn request(code: RequestCode, value: impl Fn(&str) -> Option<String>, body: &[u8]) -> RemotingCommand {
    let mut command = RemotingCommand::default().with_body(body.to_vec());
    command.header.code = code.code();
    command.header.version = 513;
    for name in code.field_names() {
        if let Some(value) = value(name) {
            command.header.ext_fields.set(*name, value);
        }
    }
    command
}

/// Calls both servers; either may close the connection instead of answering.
struct Victims<'a> {
    system: &'a System,
    clients: [RawClient; 2],
}

impl<'a> Victims<'a> {
    fn new(system: &'a System) -> Victims<'a> {
        let clients = [system.broker_addr(), system.namesrv.local_addr()].map(RawClient::connect);
        Victims { system, clients }
    }

    fn call(&mut self, command: &RemotingCommand) {
        for (which, client) in self.clients.iter_mut().enumerate() {
            for serialize in BOTH {
                let mut asked = command;
                // An end of a transaction that neither commits nor rolls back gets no answer: that the next request gets one
                // shows that the connection lives.
                let probe = RemotingCommand::default();
                if command.header.code == RequestCode::EndTransaction.code() {
                    // A server that has closed is told by the read.
                    let _ = client.socket.write_all(&encode(command, serialize));
                    asked = &probe;
                }
                if client.try_call(asked, serialize).is_none() {
                    let addr = [self.system.broker_addr(), self.system.namesrv.local_addr()][which];
                    *client = RawClient::connect(addr);
                }
            }
        }
    }
}

#[test]
fn every_field_of_every_request_with_absurd_values() {
    let system = System::start();
    system.create_topic("Fields", 4);
    let mut victims = Victims::new(&system);
    let long = "x".repeat(40_000);
    for code in RequestCode::ALL {
        victims.call(&request(*code, |_| None, b""));
        victims.call(&request(*code, |name| Some(believable(name).to_owned()), b""));
        for absurd_name in code.field_names() {
            for absurd in ABSURD.iter().copied().chain([long.as_str()]) {
                let value = |name: &str| Some(if name == *absurd_name { absurd } else { believable(name) }.to_owned());
                victims.call(&request(*code, value, b""));
            }
            let without = |name: &str| (name != *absurd_name).then(|| believable(name).to_owned());
            victims.call(&request(*code, without, b"body"));
        }
        assert_eq!(panics(), [""; 0], "after {code:?}");
    }
    system.assert_serves("Fields");
}

#[test]
fn all_fields_absurd_at_once() {
    let system = System::start();
    system.create_topic("Fields", 4);
    let mut victims = Victims::new(&system);
    let mut random = Random(3);
    for code in RequestCode::ALL {
        for _ in 0..20 {
            let mut command = RemotingCommand::default();
            command.header.code = code.code();
            command.header.version = random.next() as i32;
            for name in code.field_names() {
                // What may wait would be answered late, as it should.
                let value = match *name {
                    "sysFlag" | "bornTime" => believable(name),
                    _ if random.below(3) == 0 => believable(name),
                    _ => random.pick(&ABSURD),
                };
                command.header.ext_fields.set(*name, value);
            }
            victims.call(&command);
        }
        assert_eq!(panics(), [""; 0], "after {code:?}");
    }
    system.assert_serves("Fields");
}

#[test]
fn absurd_bodies_of_every_request() {
    let system = System::start();
    system.create_topic("Fields", 4);
    let mut victims = Victims::new(&system);
    let deep = [vec![b'['; 200_000], b"{\"a\":".repeat(50_000)];
    let mut random = Random(4);
    let mut bodies: Vec<Vec<u8>> = [
        &b"null"[..],
        b"[]",
        b"{}",
        b"[{}]",
        b"[null]",
        b"{{{",
        b"\"text\"",
        b"-1",
        b"\0",
        b"\xff\xfe\xfd",
        b"{\"clientID\":null,\"producerDataSet\":[null],\"consumerDataSet\":[{}]}",
        b"{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"../../x\",\"consumeType\":\"NOPE\",\
          \"subscriptionDataSet\":[{\"topic\":\"../../y\",\"subString\":\"||\",\"subVersion\":-1}]}]}",
        b"{\"consumerGroup\":\"g\",\"clientId\":\"c\",\"mqSet\":[{\"topic\":\"../x\",\"brokerName\":\"\",\"queueId\":-2147483648}]}",
        b"{\"groupName\":\"../../x\",\"retryMaxTimes\":-2147483648,\"retryQueueNums\":2147483647,\"consumeTimeoutMinute\":1e300}",
        b"{\"topicConfigList\":[{\"topicName\":\"../../x\",\"readQueueNums\":2147483647,\"writeQueueNums\":-1,\"perm\":99}]}",
        b"{\"topicConfigSerializeWrapper\":{\"topicConfigTable\":{\"../../x\":{\"topicName\":\"\",\"readQueueNums\":-1}},\
          \"dataVersion\":{\"counter\":-1,\"timestamp\":99999999999999999999}}}",
        b"brokerName=../../x\nlistenPort=-1\nstorePathRootDir=/\nmaxMessageSize=99999999999999999999\n=\n\\",
    ]
    .map(<[u8]>::to_vec)
    .into();
    bodies.extend(deep);
    bodies.extend((0..10).map(|_| {
        let count = random.below(3000);
        random.bytes(count)
    }));
    for code in RequestCode::ALL {
        for body in &bodies {
            victims.call(&request(*code, |name| Some(believable(name).to_owned()), body));
        }
        assert_eq!(panics(), [""; 0], "after {code:?}");
    }
    for batch in &bodies {
        let batched = |name: &str| Some(if name == "m" { "true" } else { believable(name) }.to_owned());
        victims.call(&request(RequestCode::SendBatchMessage, batched, batch));
    }
    system.assert_serves("Fields");
}
