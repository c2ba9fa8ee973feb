//! What access control costs a send of 128 bytes: `cargo bench -p oxmq-broker --bench access`

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use oxmq_broker::access_harness::Judge;
use oxmq_protocol::scan::scan;
use oxmq_protocol::{ExtFields, Frame, RemotingCommand, SerializeType};
use oxmq_remoting::Credentials;
use oxmq_remoting::signing::SigningKey;

const ROUNDS: u32 = 400;
const SENDS: u32 = 2_000;
/// What the send signs: its values and its body.
const CONTENT_BYTES: usize = 261;

fn main() {
    for serialize in [SerializeType::Json, SerializeType::RocketMq] {
        let bytes = signed_send(serialize);
        let (frame, _) = Frame::peek(&bytes).expect("a frame").expect("all of it");
        let mut judge = Judge::new();
        let off = measure(|| scan(serialize, black_box(frame.header)).is_ok());
        let stateless = measure(|| judge.admits(serialize, black_box(frame.header), frame.body, false));
        let stateful = measure(|| judge.admits(serialize, black_box(frame.header), frame.body, true));
        println!(
            "{serialize:?}: header read {off:.0} ns; with access control {stateless:.0} ns (+{:.0}), stateful {stateful:.0} ns (+{:.0})",
            stateless - off,
            stateful - off
        );
    }
    let key = SigningKey::new("password");
    let content = [b'x'; CONTENT_BYTES];
    let signature = key.sign(&content);
    let alone = measure(|| key.verify(black_box(&content), &signature));
    println!("of that, the signature of {CONTENT_BYTES} bytes {alone:.0} ns");
}

fn signed_send(serialize: SerializeType) -> BytesMut {
    let properties = "UNIQ_KEY\u{1}7F0000010A2B07A4A9B5C6D700000001\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}";
    let mut send = RemotingCommand::default();
    send.header.code = 310;
    send.header.version = 513;
    send.header.ext_fields = [
        ("a", "bench_producer"),
        ("b", "bench_topic"),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", "3"),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "0"),
        ("i", properties),
        ("j", "0"),
        ("k", "false"),
        ("m", "false"),
        ("n", "broker-a"),
    ]
    .into_iter()
    .collect::<ExtFields>();
    send.body = vec![b'x'; 128].into();
    Credentials::new("user", "password").sign(&mut send);
    let mut bytes = BytesMut::new();
    send.encode(serialize, &mut bytes);
    bytes
}

/// Nanoseconds for one, in the fastest round: rounds are short, so that one of them is not interrupted.
fn measure(mut admitted: impl FnMut() -> bool) -> f64 {
    let round = |_| {
        let began = Instant::now();
        for _ in 0..SENDS {
            assert!(admitted());
        }
        began.elapsed().as_nanos() as f64 / f64::from(SENDS)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}
