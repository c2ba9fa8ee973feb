//! Peers that send nonsense lose their connection or get an error, and nobody else notices.

use std::io::Write;

use bytes::BytesMut;
use oxmq_protocol::{ExtFields, Header, RemotingCommand, RequestCode, SerializeType};

use crate::client::{Namesrv, broker};

/// A reproducible source of nonsense.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.next() as usize % choices.len()]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn every_request_with_every_absurd_field_is_answered() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    client.register(&broker("a", 0), &["T", "U"], 1);
    // Without `heartbeatTimeoutMillis`: a broker whose heartbeats are due at once loses its connection.
    let names = [
        "brokerName",
        "brokerAddr",
        "clusterName",
        "haServerAddr",
        "brokerId",
        "topic",
        "cluster",
        "namespace",
        "key",
        "value",
        "bodyCrc32",
        "compressed",
        "enableActingMaster",
    ];
    let values = [
        "",
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "true",
        "../../x",
        "a",
        "\u{0}\u{1}",
    ];
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "{\"queueDatas\":null}",
        "listenPort",
        "\u{78}\u{9c}",
    ];
    let mut noise = Noise(42);
    for round in 0..200 {
        for code in RequestCode::ALL {
            let mut ext_fields = ExtFields::new();
            for name in names {
                // Now and then a field is missing.
                if !noise.next().is_multiple_of(8) {
                    ext_fields.set(name, noise.pick(&values));
                }
            }
            let header = Header {
                code: code.code(),
                opaque: round,
                ext_fields,
                ..Header::default()
            };
            let body = noise.pick(&bodies).as_bytes().into();
            let reply = client.send(&RemotingCommand { header, body }, SerializeType::Json);
            assert_eq!(reply.header.opaque, round);
        }
    }
}

#[test]
fn random_bytes_disturb_nobody() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    client.register(&broker("a", 0), &["T", "U"], 1);
    let mut noise = Noise(7);
    for round in 0..200 {
        let mut stranger = namesrv.connect();
        let mut bytes = noise.bytes(64);
        if round % 2 == 0 {
            // A frame with a good prefix and a bad header.
            let mut frame = BytesMut::zeroed(8);
            frame.extend_from_slice(&bytes);
            oxmq_protocol::header::finish_frame(&mut frame, 0, SerializeType::RocketMq, 0);
            bytes = frame.to_vec();
        }
        // The other side may close before all is written.
        let _ = stranger.0.socket.write_all(&bytes);
    }
    assert_eq!(client.route("T").header.code, 0);
}
