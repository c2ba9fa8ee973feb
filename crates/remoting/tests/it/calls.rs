//! Requests and replies as the protocol wants them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oxmq_protocol::{RemotingCommand, SerializeType, response_code};
use oxmq_remoting::ServerConfig;
use socket2::SockRef;

use crate::support::*;

#[test]
fn frames_may_be_cut_at_every_byte() {
    let server = TestServer::start(config());
    let frame = encode(&request(ECHO, 1, b"cut"));
    let mut client = server.connect();
    for cut in 1..frame.len() {
        client.write(&frame[..cut]);
        // Lets the server see the first part by itself, most of the time.
        std::thread::yield_now();
        client.write(&frame[cut..]);
        assert_eq!(&client.receive().body[..], b"cut", "cut at {cut}");
    }
    for byte in &frame[..] {
        client.write(&[*byte]);
    }
    assert_eq!(&client.receive().body[..], b"cut");
}

#[test]
fn glued_frames_are_answered_in_order_and_a_cut_one_when_its_rest_comes() {
    let server = TestServer::start(config());
    let mut glued = BytesMut::new();
    for opaque in 0..3000 {
        glued.extend_from_slice(&encode(&request(ECHO, opaque, &[b'x'; 100])));
    }
    let (most, rest) = glued.split_at(glued.len() - 7);
    let mut client = server.connect();
    client.write(most);
    let mut opaques: Vec<i32> = (0..2999).map(|_| client.receive().header.opaque).collect();
    client.write(rest);
    opaques.push(client.receive().header.opaque);
    assert_eq!(opaques, (0..3000).collect::<Vec<_>>());
}

#[test]
fn frames_of_all_sizes_up_to_the_largest_come_through() {
    let server = TestServer::start(config());
    let mut client = server.connect();
    let half = config().read_buffer_bytes / 2;
    for bytes in [
        0,
        1,
        half - 200,
        half,
        half * 2,
        half * 2 + 1,
        1 << 20,
        (16 << 20) - 200,
    ] {
        let body: Bytes = (0..bytes).map(|i| i as u8).collect::<Vec<_>>().into();
        let mut writer = client.socket.try_clone().unwrap();
        let frames = [encode(&request(ECHO, 5, &body)), encode(&request(ECHO, 6, b"behind"))].concat();
        let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &frames).unwrap());
        assert!(client.receive().body == body, "{bytes} bytes");
        assert_eq!(client.receive().header.opaque, 6);
        writing.join().unwrap();
    }
}

#[test]
fn a_reply_is_written_as_its_request_was() {
    let server = TestServer::start(config());
    let mut client = server.connect();
    for serialize in [SerializeType::Json, SerializeType::RocketMq] {
        let mut frame = BytesMut::new();
        request(ECHO, 9, b"x").encode(serialize, &mut frame);
        client.write(&frame);
        let mut mark = [0; 5];
        wait_for("a reply", || client.socket.peek(&mut [0; 5]).unwrap() == 5);
        client.socket.peek(&mut mark).unwrap();
        assert_eq!(mark[4], u8::from(serialize == SerializeType::RocketMq));
        let reply = client.receive();
        assert_eq!((reply.header.opaque, reply.header.is_response()), (9, true));
    }
}

#[test]
fn one_way_requests_are_handled_and_never_answered() {
    let server = TestServer::start(config());
    let mut client = server.connect();
    let mut unknown = RemotingCommand::default();
    unknown.header.code = 9999;
    for mut oneway in [
        request(ECHO, 1, b""),
        request_with_number(ECHO_LATE, 2, 0),
        request(SILENT, 3, b""),
        unknown,
    ] {
        oneway.header.mark_oneway();
        client.send(&oneway);
    }
    client.send(&request_with_number(ECHO_LATE, 5, 20));
    assert_eq!(client.receive().header.opaque, 5);
    assert_eq!(server.handled(), 4);
}

#[test]
fn what_a_client_sent_before_it_went_is_handled_even_if_its_answers_cannot_be_written() {
    let server = TestServer::start(ServerConfig {
        read_buffer_bytes: 4096,
        ..config()
    });
    let mut client = server.connect();
    let gate = server.handler.gate.lock();
    client.send(&request(GATE, 0, b""));
    wait_for("the worker waits", || server.handled() == 1);
    // More than one read takes, and answers in the first: they meet a connection that is reset.
    let requests = (1..=200).map(|opaque| encode(&request(ECHO, opaque, &[1; 50])));
    client.write(&requests.collect::<Vec<_>>().concat());
    SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    drop(gate);
    wait_for("the connection is gone", || server.connections() == 0);
    assert_eq!(server.handled(), 201);
}

#[test]
fn unknown_codes_are_answered_with_3() {
    let server = TestServer::start(config());
    let mut client = server.connect();
    for code in [7777, -1, i32::MIN] {
        let mut command = RemotingCommand::default();
        command.header.code = code;
        command.header.opaque = 8;
        client.send(&command);
        let reply = client.receive().header;
        assert_eq!(
            (reply.opaque, reply.code),
            (8, response_code::REQUEST_CODE_NOT_SUPPORTED)
        );
        assert_eq!(
            reply.remark.as_deref(),
            Some(format!(" request type {code} not supported").as_str())
        );
    }
}

#[test]
fn late_replies_overtake_each_other() {
    let server = TestServer::start(config());
    let mut client = server.connect();
    client.send(&request_with_number(ECHO_LATE, 1, 100));
    client.send(&request_with_number(ECHO_LATE, 2, 0));
    assert_eq!(client.receive().header.opaque, 2);
    assert_eq!(client.receive().header.opaque, 1);
}
