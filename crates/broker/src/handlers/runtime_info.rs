//! GET_BROKER_RUNTIME_INFO (28): what the broker says about itself, under the original's keys (spec: protocol.md
//! §3.5.1). Keys of thread pools, which do not exist here, read as if they were idle: tools expect
//! them.

use std::collections::BTreeMap;
use std::path::Path;

use oxmq_protocol::RemotingCommand;
use oxmq_protocol::body::KvTable;
use oxmq_protocol::record::RecordRef;
use oxmq_store::Figures;

use super::{Handled, success_json};
use crate::broker::Broker;
use crate::stats::Rates;

/// Name and upper bound in milliseconds of the classes that appends are counted in.
const APPEND_TIME_CLASSES: [(&str, f64); 13] = [
    ("<=0ms", 0.0),
    ("0~10ms", 10.0),
    ("10~50ms", 50.0),
    ("50~100ms", 100.0),
    ("100~200ms", 200.0),
    ("200~500ms", 500.0),
    ("500ms~1s", 1000.0),
    ("1~2s", 2000.0),
    ("2~3s", 3000.0),
    ("3~4s", 4000.0),
    ("4~5s", 5000.0),
    ("5~10s", 10_000.0),
    ("10s~", 10_000.0),
];

/// Values of what this broker does not have or does not measure.
const IDLE: [(&str, &str); 18] = [
    ("getMessageEntireTimeMax", "0"),
    ("sendThreadPoolQueueSize", "0"),
    ("sendThreadPoolQueueCapacity", "10000"),
    ("sendThreadPoolQueueHeadWaitTimeMills", "0"),
    ("pullThreadPoolQueueSize", "0"),
    ("pullThreadPoolQueueCapacity", "100000"),
    ("pullThreadPoolQueueHeadWaitTimeMills", "0"),
    ("litePullThreadPoolQueueSize", "0"),
    ("litePullThreadPoolQueueCapacity", "100000"),
    ("litePullThreadPoolQueueHeadWaitTimeMills", "0"),
    ("queryThreadPoolQueueSize", "0"),
    ("queryThreadPoolQueueCapacity", "20000"),
    ("queryThreadPoolQueueHeadWaitTimeMills", "0"),
    ("ackThreadPoolQueueSize", "0"),
    ("ackThreadPoolQueueCapacity", "100000"),
    ("ackThreadPoolQueueHeadWaitTimeMills", "0"),
    ("EndTransactionQueueSize", "0"),
    ("EndTransactionThreadPoolQueueCapacity", "100000"),
];

type Table = BTreeMap<String, String>;

pub(super) fn get(broker: &Broker, _: &RemotingCommand) -> Handled {
    let mut table = Table::new();
    for (key, value) in IDLE {
        table.insert(key.to_owned(), value.to_owned());
    }
    identity(broker, &mut table);
    traffic(broker, &mut table);
    storage(broker, &mut table);
    timers(broker, &mut table);
    for (level, progress, end) in broker.schedule.progress(&broker.store) {
        table.insert(format!("scheduleMessageOffset_{level}"), format!("{progress},{end}"));
    }
    if let Some(window) = &broker.duplicates {
        table.insert(
            "duplicateSendWindowForgotten".to_owned(),
            window.forgotten().to_string(),
        );
    }
    Ok(success_json(&KvTable { table }))
}

fn identity(broker: &Broker, table: &mut Table) {
    let seconds = (broker.now_ms() - broker.started_at).max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let runtime = format!(
        "[ {days} days, {hours} hours, {minutes} minutes, {} seconds ]",
        seconds % 60
    );
    let accepts_from = broker.config().start_accept_send_request_timestamp;
    set(table, "bootTimestamp", broker.started_at);
    set(table, "runtime", runtime);
    set(table, "brokerActive", true);
    set(table, "brokerVersionDesc", "V5_5_0");
    set(table, "startAcceptSendRequestTimeStamp", accepts_from);
}

fn traffic(broker: &Broker, table: &mut Table) {
    let (totals, mornings, rates) = (broker.stats.totals(), broker.stats.mornings(), broker.stats.rates());
    set(table, "msgPutTotalYesterdayMorning", mornings.put_yesterday);
    set(table, "msgPutTotalTodayMorning", mornings.put_today);
    set(table, "msgPutTotalTodayNow", totals.put_user);
    set(table, "msgGetTotalYesterdayMorning", mornings.get_yesterday);
    set(table, "msgGetTotalTodayMorning", mornings.get_today);
    set(table, "msgGetTotalTodayNow", totals.get_user);
    set(table, "putTps", triple(rates.put));
    set(table, "getFoundTps", triple(rates.found));
    set(table, "getMissTps", triple(rates.missed));
    set(
        table,
        "getTotalTps",
        triple(rates.total.map(|rate| Some(rate.unwrap_or(0.0)))),
    );
    set(table, "getTransferredTps", triple(rates.transferred));
}

fn timers(broker: &Broker, table: &mut Table) {
    let figures = broker.timers.figures(broker);
    set(table, "timerReadBehind", figures.read_behind_ms / 1000);
    set(table, "timerOffsetBehind", figures.offset_behind);
    set(table, "timerCongestNum", figures.waiting);
    set(table, "timerEnqueueTps", java_double(figures.enter_tps));
    set(table, "timerDequeueTps", java_double(figures.deliver_tps));
}

fn storage(broker: &Broker, table: &mut Table) {
    let store = &broker.store;
    let figures = store.figures();
    let messages = figures.append_messages.max(1);
    set(table, "putMessageEntireTimeMax", figures.append_max_us / 1000);
    set(table, "putMessageTimesTotal", messages);
    set(table, "putMessageFailedTimes", figures.append_failures);
    set(table, "putMessageSizeTotal", figures.append_bytes);
    set(
        table,
        "putMessageAverageSize",
        java_double(figures.append_bytes as f64 / messages as f64),
    );
    set(table, "putMessageDistributeTime", distribution(&figures));
    set(table, "putLatency99", latency(&figures, 0.99));
    set(table, "putLatency999", latency(&figures, 0.999));
    set(table, "dispatchMaxBuffer", 0);
    set(table, "dispatchBehindBytes", store.dispatch_behind_bytes());
    set(table, "pageCacheLockTimeMills", store.append_in_progress_ms());
    set(table, "earliestMessageTimeStamp", broker.earliest_message_time());
    // Without a file there is no first offset.
    let min_offset = if store.written() == 0 {
        -1
    } else {
        store.min_physical_offset()
    };
    set(table, "commitLogMinOffset", min_offset);
    set(table, "commitLogMaxOffset", store.written());
    set(table, "remainTransientStoreBufferNumbs", i32::MAX);
    set(
        table,
        "remainHowManyDataToFlush",
        human_bytes((store.written() - store.flushed()).max(0) as u64),
    );
    set(table, "commitLogDiskRatio", ratio(figures.space.commit_log));
    set(table, "consumeQueueDiskRatio", ratio(figures.space.consume_queue));
    for dir in &store.config().commit_log_dirs {
        let key = format!("commitLogDiskRatio_{}", dir.display());
        set(table, &key, ratio(figures.space.commit_log));
    }
    let first_dir = store.config().commit_log_dirs.first();
    set(
        table,
        "commitLogDirCapacity",
        capacity(first_dir.unwrap_or(&store.config().root)),
    );
}

impl Broker {
    /// When the oldest message was stored, -1 without one. May read the disk.
    pub(crate) fn earliest_message_time(&self) -> i64 {
        let record = self.store.read_record(self.store.min_physical_offset()).ok().flatten();
        let record = record.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
        record.map_or(-1, |record| record.store_timestamp())
    }
}

fn set(table: &mut Table, key: &str, value: impl ToString) {
    table.insert(key.to_owned(), value.to_string());
}

/// Three rates, each with a blank behind it but the last; one without enough history is empty.
fn triple(rates: Rates) -> String {
    rates.map(|rate| rate.map_or_else(String::new, java_double)).join(" ")
}

/// Java writes whole numbers with a zero behind the point.
fn java_double(value: f64) -> String {
    format!("{value:?}")
}

/// A share in percent as a part of one, and -1 when it is unknown.
fn ratio(percent: i32) -> String {
    java_double(if percent < 0 { -1.0 } else { f64::from(percent) / 100.0 })
}

fn distribution(figures: &Figures) -> String {
    let classes = APPEND_TIME_CLASSES.iter().zip(figures.append_times);
    classes
        .map(|((class, _), count)| format!("[{class}]:{count} "))
        .collect()
}

/// Within which time this share of all appends was done: the bound of the class that it falls into.
fn latency(figures: &Figures, share: f64) -> String {
    let all: u64 = figures.append_times.iter().sum();
    let mut done = 0;
    for ((_, bound), count) in APPEND_TIME_CLASSES.iter().zip(figures.append_times) {
        done += count;
        if done as f64 >= all as f64 * share {
            return format!("{bound:.2}");
        }
    }
    "0.00".to_owned()
}

fn capacity(dir: &Path) -> String {
    let Ok(space) = rustix::fs::statvfs(dir) else {
        return "Total : 0 B, Free : 0 B.".to_owned();
    };
    let total = human_bytes(space.f_blocks * space.f_frsize);
    let free = human_bytes(space.f_bfree * space.f_frsize);
    format!("Total : {total}, Free : {free}.")
}

fn human_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog2() / 10) as usize;
    let unit = ["K", "M", "G", "T", "P", "E"][exponent - 1];
    format!(
        "{:.1} {unit}iB",
        bytes as f64 / f64::from(1u32 << 10).powi(exponent as i32)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_like_javas() {
        let shown = [0, 1023, 1024, 2150, 252 << 30, u64::MAX].map(human_bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "2.1 KiB", "252.0 GiB", "16.0 EiB"]);
    }

    #[test]
    fn latencies_are_the_bounds_of_their_classes() {
        let mut figures = Figures::default();
        assert_eq!(latency(&figures, 0.99), "0.00");
        figures.append_times[..3].copy_from_slice(&[980, 15, 5]);
        assert_eq!(latency(&figures, 0.99), "10.00");
        assert_eq!(latency(&figures, 0.999), "50.00");
    }

    #[test]
    fn rates_without_history_are_empty() {
        assert_eq!(triple([Some(11.25), Some(3.0), None]), "11.25 3.0 ");
        assert_eq!(triple([None, None, None]), "  ");
        assert_eq!([27, 0, -1].map(ratio), ["0.27", "0.0", "-1.0"]);
    }
}
