//! A broker and a collector that takes what it sends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{self, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::requests::{SendMessageHeader, request};
use oxmq_tests::{Authority, DEADLINE, RawClient, write_roots};
use prost::Message as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::proto::*;
use crate::config::MetricsExporterType;
use crate::{Broker, BrokerConfig, BrokerHandle};

type Taken = (HeaderMap, ExportRequest);

fn collector() -> (SocketAddr, mpsc::Receiver<Taken>) {
    serve(None)
}

/// Serves HTTP/2, over TLS with these settings.
fn serve(tls: Option<rustls::ServerConfig>) -> (SocketAddr, mpsc::Receiver<Taken>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, taken) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                match &tls {
                    None => answer(stream, &sender).await,
                    // Who does not trust us goes away.
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => answer(stream, &sender).await,
                        Err(_) => continue,
                    },
                }
            }
        });
    });
    (addr, taken)
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, sender: &mpsc::Sender<Taken>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(take(request, respond, sender.clone()));
    }
}

async fn take(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    sender: mpsc::Sender<Taken>,
) {
    assert_eq!(request.uri().path(), super::METHOD);
    let (head, mut body) = request.into_parts();
    let mut message = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        message.extend_from_slice(&data);
    }
    let length = u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize;
    assert_eq!((message[0], message.len()), (0, 5 + length));
    let decoded = ExportRequest::decode(&message[5..]).unwrap();
    let response = http::Response::builder().header("content-type", "application/grpc");
    let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    // Who is no longer interested has seen enough.
    let _ = sender.send((head.headers, decoded));
}

fn start(target: String, change: impl FnOnce(&mut BrokerConfig)) -> (BrokerHandle, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig {
        broker_name: "b".into(),
        broker_cluster_name: "c".into(),
        broker_ip1: "127.0.0.1".into(),
        bind_address: "127.0.0.1".into(),
        listen_port: 0,
        namesrv_addr: None,
        store_path_root_dir: dir.path().display().to_string(),
        mapped_file_size_commit_log: 1 << 20,
        metrics_exporter_type: MetricsExporterType::OtlpGrpc,
        metrics_grpc_exporter_target: target,
        metrics_grpc_exporter_header: "x-token:secret,broken".into(),
        metrics_label: "zone:z1".into(),
        metric_grpc_exporter_interval_ms: 50,
        ..BrokerConfig::default()
    };
    change(&mut config);
    (Broker::start(config).unwrap(), dir)
}

fn send(broker: &BrokerHandle, count: usize) {
    let mut client = RawClient::connect(broker.local_addr());
    for _ in 0..count {
        let header = SendMessageHeader {
            producer_group: "p".into(),
            topic: "exported".into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 1,
            ..SendMessageHeader::default()
        };
        let reply = client.call(&RemotingCommand::request::<request::SendMessage>(
            &header,
            "hello".into(),
        ));
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    }
}

/// Waits for a metric of the topic; it and its own data point as text.
fn wait_for(taken: &mpsc::Receiver<Taken>, name: &str) -> (Metric, String) {
    loop {
        let (_, request) = taken.recv_timeout(DEADLINE).unwrap();
        if let Some(found) = find(&request, name) {
            return found;
        }
    }
}

fn find(request: &ExportRequest, name: &str) -> Option<(Metric, String)> {
    let scope = &request.resource_metrics[0].scope_metrics[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "broker-meter");
    let metric = scope.metrics.iter().find(|metric| metric.name == name)?;
    let shown = |attributes: &[KeyValue]| {
        let shown = attributes.iter().map(|pair| {
            let value = pair.value.as_ref().unwrap().value.as_ref().unwrap();
            format!("{}={value:?}", pair.key)
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    let points: Vec<String> = match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => gauge.data_points.iter().map(|p| shown(&p.attributes)).collect(),
        Data::Sum(sum) => sum.data_points.iter().map(|p| shown(&p.attributes)).collect(),
        Data::Histogram(histogram) => histogram.data_points.iter().map(|p| shown(&p.attributes)).collect(),
    };
    let own = points.iter().find(|point| point.contains("exported"));
    own.or(points.first()).map(|point| (metric.clone(), point.clone()))
}

fn sum(metric: &Metric) -> (&NumberPoint, i32) {
    let Some(Data::Sum(sum)) = &metric.data else {
        panic!("{metric:?} is no sum");
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points.len(), 1);
    (&sum.data_points[0], sum.aggregation_temporality)
}

#[test]
fn a_collector_gets_names_labels_values_and_units() {
    let (addr, taken) = collector();
    let (broker, _dir) = start(format!("http://{addr}"), |_| {});
    send(&broker, 3);
    let started = broker.broker().started_at as u64 * 1_000_000;
    let (metric, labels) = loop {
        let (metric, labels) = wait_for(&taken, "rocketmq_messages_in_total");
        if sum(&metric).0.value == Some(3) {
            break (metric, labels);
        }
    };
    assert_eq!(metric.unit, "");
    let (point, temporality) = sum(&metric);
    assert_eq!(temporality, Temporality::Cumulative as i32);
    assert!(point.start_time == started && point.time >= started, "{point:?}");
    assert_eq!(
        labels,
        "topic=String(\"exported\") message_type=String(\"normal\") is_system=Bool(false) zone=String(\"z1\") \
         node_type=String(\"broker\") cluster=String(\"c\") node_id=String(\"b\")"
    );

    let (headers, request) = taken.recv_timeout(DEADLINE).unwrap();
    assert_eq!(
        (&headers["x-token"], &headers["te"]),
        (&"secret".parse().unwrap(), &"trailers".parse().unwrap())
    );
    let (sizes, _) = find(&request, "rocketmq_message_size").unwrap();
    let Some(Data::Histogram(histogram)) = &sizes.data else {
        panic!("{sizes:?}");
    };
    let point = &histogram.data_points[0];
    let bounds = [1024.0, 4096.0, 524_288.0, 1_048_576.0, 2_097_152.0, 4_194_304.0];
    assert_eq!((point.count, &point.explicit_bounds[..]), (3, &bounds[..]));
    assert_eq!(point.bucket_counts, [3, 0, 0, 0, 0, 0, 0]);
    assert!(point.sum.unwrap() > 15.0);
    let (latency, labels) = find(&request, "rocketmq_rpc_latency").unwrap();
    assert_eq!(latency.unit, "milliseconds");
    assert!(labels.contains("is_long_polling=Bool(false)"), "{labels}");
    let (disk, _) = find(&request, "rocketmq_storage_size").unwrap();
    assert!(
        disk.unit == "bytes" && matches!(disk.data, Some(Data::Gauge(_))),
        "{disk:?}"
    );
}

#[test]
fn deltas_are_what_has_come_since_and_the_last_are_sent_at_the_end() {
    let (addr, taken) = collector();
    let (broker, _dir) = start(format!("http://{addr}"), |config| config.metrics_in_delta = true);
    for count in [2, 1] {
        send(&broker, count);
        let mut come = 0;
        while come < count as i64 {
            let (metric, labels) = wait_for(&taken, "rocketmq_messages_in_total");
            let (point, temporality) = sum(&metric);
            assert_eq!(temporality, Temporality::Delta as i32);
            assert!(labels.contains("aggregation=String(\"delta\")"), "{labels}");
            come += point.value.unwrap();
        }
        assert_eq!(come, count as i64);
    }
    send(&broker, 1);
    broker.shutdown();
    let rest = taken
        .try_iter()
        .filter_map(|(_, request)| find(&request, "rocketmq_messages_in_total"));
    assert_eq!(rest.map(|(metric, _)| sum(&metric).0.value.unwrap()).sum::<i64>(), 1);
}

#[test]
fn a_broker_serves_without_a_collector_that_answers() {
    let absent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = absent.local_addr().unwrap();
    drop(absent);
    let (broker, _dir) = start(format!("http://{nowhere}"), |_| {});
    send(&broker, 3);
    broker.shutdown();

    // It accepts connections, which nobody serves yet.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (broker, _dir) = start(format!("http://{addr}"), |config| {
        config.metric_grpc_exporter_timeout_ms = 50
    });
    let first = listener.accept().unwrap();
    send(&broker, 3);
    let second = listener.accept().unwrap();
    drop((first, second, broker));

    for wrong in ["", "http://", "http://a b", "127.0.0.1:1"] {
        let (broker, _dir) = start(wrong.into(), |_| {});
        send(&broker, 1);
    }
}

/// A broker in a process of its own: authorities are those of the environment.
struct Child(process::Child);

impl Child {
    fn start(collector: SocketAddr, roots: &str) -> Child {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "metrics::otlp::tests::child", "--ignored", "--nocapture"])
            .env(COLLECTOR, collector.to_string())
            .env("SSL_CERT_FILE", roots)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Child(child.unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

const COLLECTOR: &str = "OXMQ_TEST_COLLECTOR";

#[test]
#[ignore = "a part of the next test"]
fn child() {
    tracing_subscriber::fmt().with_ansi(false).init();
    let (_broker, _dir) = start(std::env::var(COLLECTOR).unwrap(), |_| {});
    // The parent closes it.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn over_https_a_collector_has_to_be_known() {
    let authority = Authority::new("ours");
    let pair = authority.issue("127.0.0.1");
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let (addr, taken) = serve(Some(tls));
    let dir = tempfile::tempdir().unwrap();

    let others = write_roots(dir.path(), "others", &[&Authority::new("another")]);
    let mut refused = Child::start(addr, &others);
    let mut lines = BufReader::new(refused.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let line = lines.find(|line| line.contains("metrics are not exported")).unwrap();
    assert!(line.contains("UnknownIssuer"), "{line}");
    drop(refused);
    assert!(taken.try_recv().is_err());

    let _trusting = Child::start(addr, &write_roots(dir.path(), "ours", &[&authority]));
    wait_for(&taken, "rocketmq_topic_number");
}
