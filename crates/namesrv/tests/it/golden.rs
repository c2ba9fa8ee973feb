//! Requests captured from Java brokers, Java tools, Go and Python clients, replayed; the answers must be those that the
//! original gave.

use bytes::BytesMut;
use oxmq_namesrv::NamesrvConfig;
use oxmq_protocol::body::TopicRouteData;
use oxmq_protocol::header::finish_frame;
use oxmq_protocol::requests::*;
use oxmq_protocol::settings::Settings;
use oxmq_protocol::{Header, RemotingCommand, SerializeType, json};
use oxmq_tests::golden::{GoldenFrame, frames};

use crate::client::{Client, Namesrv};

struct Captured {
    frame: GoldenFrame,
    header: Header,
}

/// A request and its answer.
type Exchange = (Captured, Captured);

/// The exchanges of one capture with the name server, in their order.
fn exchanges(capture: &str, code: RequestCode) -> Vec<Exchange> {
    let of_code = frames()
        .filter(|frame| frame.file == capture && frame.server == "namesrv" && frame.request == Some(code.code()));
    let captured = of_code.map(|frame| Captured {
        header: Header::decode(frame.serialize, &frame.header).unwrap(),
        frame,
    });
    let (requests, mut answers): (Vec<_>, Vec<_>) = captured.partition(|captured| captured.frame.is_request);
    let exchange = |request: Captured| {
        let opaque = request.header.opaque;
        let at = answers.iter().position(|answer| answer.header.opaque == opaque)?;
        Some((request, answers.remove(at)))
    };
    let mut exchanges: Vec<Exchange> = requests.into_iter().filter_map(exchange).collect();
    exchanges.sort_by_key(|(request, _)| request.header.opaque);
    exchanges
}

/// Sends the request byte for byte.
fn replay(client: &mut Client, request: &Captured) -> RemotingCommand {
    let mut bytes = BytesMut::zeroed(8);
    bytes.extend_from_slice(&request.frame.header);
    finish_frame(&mut bytes, 0, request.frame.serialize, request.frame.body.len());
    bytes.extend_from_slice(&request.frame.body);
    client.exchange(&bytes)
}

fn check(client: &mut Client, (request, answer): &Exchange) {
    let reply = replay(client, request);
    let shown = String::from_utf8_lossy(&request.frame.header);
    assert_eq!(reply.header.code, answer.header.code, "{shown}");
    assert_eq!(reply.header.opaque, request.header.opaque, "{shown}");
    assert_eq!(reply.header.remark, answer.header.remark, "{shown}");
    let mut fields: Vec<_> = reply.header.ext_fields.iter().collect();
    let mut expected: Vec<_> = answer.header.ext_fields.iter().collect();
    fields.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fields, expected, "{shown}");
    let body = String::from_utf8_lossy(&reply.body);
    // 4.9 does not know this member and ignores it.
    let body = match request.header.version < oxmq_protocol::version::V5_0_0 && request.header.version > 400 {
        true => body.replace(",\"enableActingMaster\":false", ""),
        false => body.into_owned(),
    };
    assert_eq!(body, String::from_utf8_lossy(&answer.frame.body), "{shown}");
}

/// A Java broker's registration as master, and the same as slave.
fn register_group(client: &mut Client, capture: &str) {
    let (request, answer) = exchanges(capture, RequestCode::RegisterBroker).remove(0);
    check(client, &(request, answer));

    let (mut request, _) = exchanges(capture, RequestCode::RegisterBroker).remove(0);
    request.header.ext_fields.set("brokerId", "1");
    request.header.ext_fields.set("brokerAddr", "127.0.0.1:60911");
    let command = RemotingCommand {
        header: request.header,
        body: request.frame.body.into(),
    };
    let reply = client.send(&command, SerializeType::Json);
    let fields: RegisterBrokerReply = crate::client::fields(&reply);
    assert_eq!(fields.master_addr.as_deref(), Some("127.0.0.1:59911"));
    assert_eq!(fields.ha_server_addr.as_deref(), Some("192.0.2.2:59912"));
}

/// Makes the topic of a golden route known with the queues that the route shows.
fn register_topic(client: &mut Client, (request, answer): &Exchange) {
    let route: TopicRouteData = json::from_slice(&answer.frame.body).unwrap();
    let header = TopicHeader {
        topic: request.header.ext_fields.get("topic").unwrap().into(),
        broker_name: None,
    };
    let reply = client.call::<request::RegisterTopicInNamesrv>(&header, json::to_vec(&route));
    assert_eq!(reply.header.code, 0);
}

fn replay_capture(capture: &str) {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    register_group(&mut client, capture);
    for code in [RequestCode::GetBrokerClusterInfo, RequestCode::DeleteTopicInNamesrv] {
        exchanges(capture, code)
            .iter()
            .for_each(|exchange| check(&mut client, exchange));
    }
    for exchange in exchanges(capture, RequestCode::GetRouteInfoByTopic) {
        if exchange.1.header.code == 0 {
            register_topic(&mut client, &exchange);
        }
        check(&mut client, &exchange);
    }
    let unknown_cluster = exchanges(capture, RequestCode::GetTopicsByCluster).pop().unwrap();
    check(&mut client, &unknown_cluster);
    replay_kv_config(&mut client, capture);

    let [(wipe, _), (add, _)] = [RequestCode::WipeWritePermOfBroker, RequestCode::AddWritePermOfBroker]
        .map(|code| exchanges(capture, code).remove(0));
    let wiped: WipeWritePermReply = crate::client::fields(&replay(&mut client, &wipe));
    let added: AddWritePermReply = crate::client::fields(&replay(&mut client, &add));
    assert!(wiped.wipe_topic_count > 5);
    assert_eq!(added.add_topic_count, wiped.wipe_topic_count);

    for exchange in exchanges(capture, RequestCode::UnregisterBroker) {
        check(&mut client, &exchange);
    }
}

fn replay_kv_config(client: &mut Client, capture: &str) {
    let [missing, first] = <[Exchange; 2]>::try_from(exchanges(capture, RequestCode::GetKvConfig))
        .ok()
        .unwrap();
    let [put_first, put_second] = <[Exchange; 2]>::try_from(exchanges(capture, RequestCode::PutKvConfig))
        .ok()
        .unwrap();
    let list = exchanges(capture, RequestCode::GetKvListByNamespace).remove(0);
    for exchange in [&missing, &put_first, &put_second, &first] {
        check(client, exchange);
    }
    let changed = PutKvConfigHeader {
        namespace: list.0.header.ext_fields.get("namespace").map(str::to_owned),
        key: Some("k1".into()),
        value: Some("changed".into()),
    };
    assert_eq!(client.call::<request::PutKvConfig>(&changed, "").header.code, 0);
    check(client, &list);
    for exchange in exchanges(capture, RequestCode::DeleteKvConfig) {
        check(client, &exchange);
    }
    assert_eq!(replay(client, &first.0).header.code, 22);
}

#[test]
fn java_5_5_0_gets_the_answers_of_the_original() {
    replay_capture("java-5.5.0-json");
}

#[test]
fn java_5_5_0_with_binary_headers_gets_the_answers_of_the_original() {
    replay_capture("java-5.5.0-binary");
}

#[test]
fn java_4_9_gets_the_answers_of_the_original() {
    replay_capture("java-4.9-json");
}

#[test]
fn go_and_python_get_the_answers_of_the_original() {
    let namesrv = Namesrv::start();
    let mut client = namesrv.connect();
    register_group(&mut client, "java-5.5.0-json");
    let capture = exchanges("go-python-json", RequestCode::GetRouteInfoByTopic);
    for exchange in capture {
        let reply = replay(&mut client, &exchange.0);
        assert_eq!(reply.header.code, exchange.1.header.code);
        assert_eq!(reply.header.remark, exchange.1.header.remark);
        // The capture had another broker; the dialect is what matters.
        if reply.header.code == 0 {
            let body = String::from_utf8_lossy(&reply.body);
            assert!(
                body.starts_with("{\"brokerDatas\":[{\"brokerAddrs\":{0:\"127.0.0.1:59911\""),
                "{body}"
            );
        }
    }
}

#[test]
fn settings_change_and_show_as_in_the_original() {
    for capture in ["java-5.5.0-json", "java-5.5.0-binary"] {
        let namesrv = Namesrv::start();
        let mut client = namesrv.connect();
        for exchange in exchanges(capture, RequestCode::UpdateNamesrvConfig) {
            check(&mut client, &exchange);
        }
        let (request, answer) = exchanges(capture, RequestCode::GetNamesrvConfig).remove(0);
        let text = String::from_utf8(replay(&mut client, &request).body.to_vec()).unwrap();
        let theirs = String::from_utf8(answer.frame.body).unwrap();
        let keys = |text: &str| {
            text.lines()
                .map(|line| line.split('=').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let theirs = keys(&theirs);
        let shown = keys(&text);
        assert!(shown.is_sorted());
        for key in shown
            .iter()
            .map(String::as_str)
            .chain(NamesrvConfig::TABLE.iter().map(|setting| setting.key))
            // System properties of the original, and a setting of its client, which it takes and does not show.
            .filter(|key| !key.starts_with("tls.") && *key != "useTLS")
        {
            assert!(
                theirs.iter().any(|their| their == key),
                "{key} is not a key of the original"
            );
        }
    }
}
