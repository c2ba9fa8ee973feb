//! Bytes that are no frames, or frames that are no commands.

use std::io::Write;
use std::net::SocketAddr;

use oxmq_protocol::{RemotingCommand, RequestCode, SerializeType};

use crate::support::*;

fn both_servers(system: &System) -> [SocketAddr; 2] {
    [system.broker_addr(), system.namesrv.local_addr()]
}

#[test]
fn random_bytes() {
    let system = System::start();
    let mut random = Random(1);
    for round in 0..200 {
        for addr in both_servers(&system) {
            let mut client = RawClient::connect(addr);
            let count = random.below(5000);
            let mut bytes = random.bytes(count);
            if round % 2 == 0 && bytes.len() > 12 {
                // A believable prefix: the bytes get further.
                let header = random.below(bytes.len() - 8) as u8;
                let length = (bytes.len() - 4) as u32;
                bytes[..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&[random.below(2) as u8, 0, 0, header]);
            }
            // The server may close in the middle.
            let _ = client.socket.write_all(&bytes);
        }
    }
    system.assert_serves("Bytes");
}

#[test]
fn every_request_cut_anywhere_and_abandoned() {
    let system = System::start();
    let mut random = Random(2);
    for code in RequestCode::ALL {
        let mut command = RemotingCommand::default().with_body(&b"a body"[..]);
        command.header.code = code.code();
        for name in code.field_names() {
            command.header.ext_fields.set(*name, "1");
        }
        for serialize in BOTH {
            let frame = encode(&command, serialize);
            for addr in both_servers(&system) {
                let mut client = RawClient::connect(addr);
                client.socket.write_all(&frame[..random.below(frame.len())]).unwrap();
            }
        }
    }
    system.assert_serves("Cut");
}

#[test]
fn frames_that_are_too_long_or_lie_about_their_parts() {
    let system = System::start();
    for addr in both_servers(&system) {
        for lie in [
            [0x01, 0, 0, 1, 0, 0, 0, 0],
            [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 8, 0, 0xff, 0xff, 0xff],
            [0, 0, 0, 8, 5, 0, 0, 0],
        ] {
            let mut client = RawClient::connect(addr);
            client.socket.write_all(&lie).unwrap();
            client.assert_closed();
        }
    }
    system.assert_serves("Lies");
}

#[test]
fn the_largest_frame_is_refused_as_a_message_and_the_connection_lives() {
    let system = System::start();
    let mut client = system.connect();
    for serialize in BOTH {
        let response = client
            .try_call(&send("Large", &vec![0; 16_000_000]), serialize)
            .unwrap();
        assert_eq!(response.header.code, 13, "{:?}", response.header.remark);
    }
    assert!(is_success(&client.call(&send("Large", b"small"))));
    system.assert_serves("Large");
}

/// Responses that answer nothing, and one-way requests of every kind, are taken without an answer.
#[test]
fn nothing_is_answered_that_wants_no_answer() {
    let system = System::start();
    for addr in both_servers(&system) {
        for serialize in BOTH {
            let mut client = RawClient::connect(addr);
            for code in RequestCode::ALL.iter().map(|code| code.code()).chain([-5, 12345]) {
                let mut response = RemotingCommand::response(77, code, None);
                client.socket.write_all(&encode(&response, serialize)).unwrap();
                response.header.flag = 2;
                client.socket.write_all(&encode(&response, serialize)).unwrap();
            }
            let mut last = RemotingCommand::default();
            last.header.code = 30_000;
            last.header.opaque = 4711;
            client.socket.write_all(&encode(&last, SerializeType::Json)).unwrap();
            let answer = client.receive();
            assert_eq!((answer.header.opaque, answer.header.code), (4711, 3));
        }
    }
    system.assert_serves("Oneway");
}
