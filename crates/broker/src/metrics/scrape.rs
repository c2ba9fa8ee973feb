//! All metrics at one moment: every family of RocketMQ 5.5.0 that a broker of this kind has, gathered from where it is known
//! (spec: behaviour.md §14). May wait for the disk.

mod store;

use hashbrown::HashMap;
use oxmq_protocol::body::ConsumeType;
use oxmq_protocol::pop::normal_topic;
use oxmq_protocol::topic;

use super::lag::{self, Lag};
use super::series::Histogram;
use super::sheet::{Family, Head, Row, Sheet, bool_label, summed};
use super::{Metrics, bounds, names};
use crate::broker::Broker;
use crate::stats::{MessageType, SIZE_BOUNDS, SentBatch};

/// Queues of requests in the original. Here requests wait in none, but for replies under way.
const PROCESSORS: [&str; 12] = [
    "send",
    "async_put",
    "pull",
    "ack",
    "query_message",
    "client_manager",
    "heartbeat",
    "lite_pull",
    "transaction",
    "consumer_manager",
    "admin",
    "reply",
];

pub(super) fn families(broker: &Broker) -> Vec<Family> {
    let Some(metrics) = &broker.metrics else {
        return Vec::new();
    };
    let mut sheet = Sheet::new(metrics.cardinality_max);
    let switches = metrics.switches;
    if switches.stats {
        stats(broker, &mut sheet);
    }
    if switches.requests {
        requests(broker, metrics, &mut sheet);
    }
    if switches.connections {
        connections(broker, &mut sheet);
    }
    if switches.lag {
        lags(broker, metrics, &mut sheet);
    }
    if switches.transactions {
        transactions(broker, metrics, &mut sheet);
    }
    if switches.remoting {
        remoting(metrics, &mut sheet);
    }
    if switches.store {
        store::storage(broker, &mut sheet);
        store::timers(broker, metrics, &mut sheet);
    }
    if switches.pop {
        store::pops(broker, metrics, &mut sheet);
    }
    sheet.families
}

const fn head(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Head {
    Head { name, help, labels }
}

fn row<T>(values: &[&str], value: T) -> Row<T> {
    (values.iter().map(|value| (*value).to_owned()).collect(), value)
}

fn stats(broker: &Broker, sheet: &mut Sheet) {
    let watermark = head(
        "rocketmq_processor_watermark",
        "Requests that wait for a thread",
        &["processor"],
    );
    let waiting = |processor| match processor {
        "reply" => broker.reply_pushes.under_way() as i64,
        _ => 0,
    };
    sheet.gauge(watermark, PROCESSORS.map(|name| row(&[name], waiting(name))).into());
    let single = |sheet: &mut Sheet, name, help, value: i64| sheet.gauge(head(name, help, &[]), vec![row(&[], value)]);
    let permission = broker.config().broker_permission.into();
    single(
        sheet,
        "rocketmq_broker_permission",
        "Sum of 4 for reading and 2 for writing",
        permission,
    );
    single(sheet, "rocketmq_topic_number", "Topics", broker.topics.count() as i64);
    single(
        sheet,
        "rocketmq_consumer_group_number",
        "Consumer groups",
        broker.groups.count() as i64,
    );
}

/// Only where there are quotas: the original has none.
fn quotas(broker: &Broker, sheet: &mut Sheet) {
    const LABELS: &[&str] = &["quota", "name"];
    let mut quotas = broker.quotas.all();
    quotas.retain(|quota| quota.counts() != [0; 2]);
    let clients = Some(&broker.quotas.clients).filter(|clients| clients.counts() != [0; 2]);
    let all = || quotas.iter().map(|quota| &**quota).chain(clients);
    if all().next().is_none() {
        return;
    }
    let rows = |which: usize| -> Vec<Row<u64>> {
        all()
            .map(|quota| row(&[quota.scope.name(), &quota.name], quota.counts()[which]))
            .collect()
    };
    let delayed = "Messages sent, and pulls and pops, that were held because of a quota";
    sheet.counter(head("rocketmq_quota_delayed_total", delayed, LABELS), rows(0));
    let refused = "Messages sent that were refused because of a quota";
    sheet.counter(head("rocketmq_quota_refused_total", refused, LABELS), rows(1));
}

fn requests(broker: &Broker, metrics: &Metrics, sheet: &mut Sheet) {
    const IN: &[&str] = &["topic", "message_type", "is_system"];
    const OUT: &[&str] = &["topic", "consumer_group", "is_system", "is_retry"];
    let sent: Vec<Row<SentBatch>> = broker
        .stats
        .topics()
        .iter()
        .flat_map(|stats| {
            MessageType::ALL.into_iter().filter_map(|kind| {
                let is_system = bool_label(topic::is_system_topic(stats.name()));
                Some(row(&[stats.name(), kind.name(), is_system], stats.sent(kind)?))
            })
        })
        .collect();
    let each = |value: fn(&SentBatch) -> u64| {
        sent.iter()
            .map(|(labels, sent)| (labels.clone(), value(sent)))
            .collect()
    };
    sheet.counter(
        head("rocketmq_messages_in_total", "Messages that were stored", IN),
        each(|sent| sent.messages),
    );
    sheet.counter(
        head("rocketmq_throughput_in_total", "Bytes that were stored", IN),
        each(|sent| sent.bytes),
    );
    quotas(broker, sheet);
    let sizes = sent.iter().map(|(labels, sent)| {
        let mut sizes = Histogram {
            sum: sent.size_sum,
            ..Histogram::default()
        };
        sizes.counts[..sent.sizes.len()].copy_from_slice(&sent.sizes);
        (labels.clone(), sizes)
    });
    let message_size = head("rocketmq_message_size", "Sizes of stored messages in bytes", IN);
    sheet.histogram(message_size, &SIZE_BOUNDS, sizes.collect());

    let mut got: HashMap<Vec<String>, (i64, i64)> = HashMap::new();
    let mut add = |labels: &[&str], (count, bytes): (i64, i64)| {
        if count > 0 {
            let sum = got.entry(row(labels, ()).0).or_default();
            *sum = (sum.0 + count, sum.1 + bytes);
        }
    };
    for stats in broker.stats.groups() {
        let (topic, group) = (stats.topic(), stats.group());
        let [pulled, popped] = stats.got();
        if !topic::is_retry(topic) && !topic::is_dlq(topic) {
            add(&[topic, group, is_system(topic, group), ""], pulled);
        }
        let first = normal_topic(topic, group);
        let is_retry = bool_label(topic::is_retry(topic));
        add(&[first, group, is_system(first, group), is_retry], popped);
    }
    add(
        &[topic::SCHEDULE_TOPIC, "SCHEDULE_CONSUMER", "true", ""],
        metrics.scheduled(),
    );
    let each = |value: fn(&(i64, i64)) -> i64| {
        got.iter()
            .map(|(labels, got)| (labels.clone(), value(got) as u64))
            .collect()
    };
    sheet.counter(
        head("rocketmq_messages_out_total", "Messages handed to consumers", OUT),
        each(|got| got.0),
    );
    sheet.counter(
        head("rocketmq_throughput_out_total", "Bytes handed to consumers", OUT),
        each(|got| got.1),
    );

    sheet.histogram(
        head(
            "rocketmq_topic_create_execution_time_milliseconds",
            "How long the creation or change of a topic took",
            &["invocation_status", "is_system"],
        ),
        &bounds::CREATE_MS,
        metrics.topic_create.rows(),
    );
    sheet.histogram(
        head(
            "rocketmq_consumer_group_create_execution_time_milliseconds",
            "How long the creation or change of a consumer group took",
            &["invocation_status"],
        ),
        &bounds::CREATE_MS,
        metrics.group_create.rows(),
    );
}

fn is_system(topic: &str, group: &str) -> &'static str {
    bool_label(topic::is_system_topic(topic) || is_system_group(group))
}

fn is_system_group(group: &str) -> bool {
    let prefix = topic::SYSTEM_GROUP_PREFIX;
    group
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn connections(broker: &Broker, sheet: &mut Sheet) {
    let producers = broker.producers.all();
    let producers = producers.values().flatten().map(|client| {
        let (language, version) = (client.language.name().to_lowercase(), names::version(client.version));
        (vec![language, version, "remoting".into()], 1)
    });
    let labels = &["language", "version", "protocol_type"];
    let producer_connections = head("rocketmq_producer_connections", "Connected producers", labels);
    sheet.gauge(producer_connections, summed(producers));

    let mut consumers = Vec::new();
    broker.consumers.each(|name, group| {
        let mode = match group.consume_type {
            ConsumeType::Actively => "pull",
            ConsumeType::Passively => "push",
            ConsumeType::Pop => "pop",
        };
        for client in group.clients.values() {
            let (language, version) = (client.language.name().to_lowercase(), names::version(client.version));
            let is_system = bool_label(is_system_group(name));
            consumers.push((row(&[name, &language, &version, mode, "remoting", is_system], ()).0, 1));
        }
    });
    let labels = &[
        "consumer_group",
        "language",
        "version",
        "consume_mode",
        "protocol_type",
        "is_system",
    ];
    let consumer_connections = head("rocketmq_consumer_connections", "Connected consumers", labels);
    sheet.gauge(consumer_connections, summed(consumers));
}

fn lags(broker: &Broker, metrics: &Metrics, sheet: &mut Sheet) {
    const LABELS: &[&str] = &["consumer_group", "topic", "is_retry", "is_system"];
    let all = lag::all(broker);
    let mut gauge = |name, help, value: fn(&Lag) -> Option<i64>| {
        let rows = all.iter().filter_map(|lag| {
            let is_system = is_system(&lag.topic, &lag.group);
            let labels = [lag.group.as_str(), &lag.topic, bool_label(lag.is_retry), is_system];
            Some(row(&labels, value(lag)?))
        });
        sheet.gauge(head(name, help, LABELS), rows.collect());
    };
    gauge(
        "rocketmq_consumer_lag_messages",
        "Messages that are not consumed",
        |lag| Some(lag.messages),
    );
    gauge(
        "rocketmq_consumer_lag_latency_milliseconds",
        "Age of the oldest message that is not consumed",
        |lag| lag.latency_ms,
    );
    gauge(
        "rocketmq_consumer_inflight_messages",
        "Messages that consumers have not acknowledged",
        |lag| Some(lag.in_flight),
    );
    gauge(
        "rocketmq_consumer_queueing_latency_milliseconds",
        "Age of the oldest message that no consumer has",
        |lag| lag.queueing_ms,
    );
    gauge(
        "rocketmq_consumer_ready_messages",
        "Messages that no consumer has",
        |lag| Some(lag.ready),
    );
    let dead = metrics.dead_letters.rows().into_iter().map(|(mut labels, count)| {
        if let [group, topic] = &labels[..] {
            let is_system = is_system(topic, group).to_owned();
            labels.push(is_system);
        }
        (labels, count)
    });
    let labels = &["consumer_group", "topic", "is_system"];
    let dead_letters = head(
        "rocketmq_send_to_dlq_messages_total",
        "Messages that were given up",
        labels,
    );
    sheet.counter(dead_letters, dead.collect());
}

fn transactions(broker: &Broker, metrics: &Metrics, sheet: &mut Sheet) {
    let of_topic = |name, help| head(name, help, &["topic"]);
    let commits = of_topic("rocketmq_commit_messages_total", "Transactions that were committed");
    sheet.counter(commits, metrics.commits.rows());
    let rollbacks = of_topic("rocketmq_rollback_messages_total", "Transactions that were rolled back");
    sheet.counter(rollbacks, metrics.rollbacks.rows());
    let finish = of_topic(
        "rocketmq_finish_message_latency_milliseconds",
        "From the making of a half message to its commit, in seconds whatever the name says",
    );
    sheet.histogram(finish, &bounds::FINISH_S, metrics.finish_latency.rows());
    let half = broker.transactions.metrics.counts().into_iter();
    let half = half.map(|(topic, count)| (vec![topic], count)).collect();
    sheet.gauge(
        of_topic("rocketmq_half_messages", "Half messages that wait for their end"),
        half,
    );
}

fn remoting(metrics: &Metrics, sheet: &mut Sheet) {
    let (mut sum, mut overflow) = (HashMap::new(), Histogram::default());
    for worker in &metrics.rpc {
        overflow.add(&worker.add_to(&mut sum));
    }
    let mut rows: Vec<Row<Histogram>> = sum
        .into_iter()
        .map(|(key, histogram)| {
            let labels = [
                "remoting",
                &names::request(key.request),
                &names::response(key.response),
                bool_label(key.suspended),
                key.result.name(),
            ];
            row(&labels, histogram)
        })
        .collect();
    if overflow != Histogram::default() {
        rows.push(row(&[], overflow));
    }
    let labels = &[
        "protocol_type",
        "request_code",
        "response_code",
        "is_long_polling",
        "result",
    ];
    let latency = head(
        "rocketmq_rpc_latency_milliseconds",
        "From a request to its answer",
        labels,
    );
    sheet.histogram(latency, &bounds::RPC_MS, rows);
}
