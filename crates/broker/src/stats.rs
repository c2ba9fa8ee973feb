//! Counters of traffic and their windows (spec: behaviour.md §13).
//!
//! The hot path holds a [`TopicStats`] or [`GroupStats`] and adds to atomics; nothing is looked up or locked per message.
//! [`Stats::tick`], called about once a second, takes the samples from which rates and sums are read. Broker totals are
//! derived from the topics' counters at each sample, so that they cost the hot path nothing. Counters that nobody adds to
//! are not looked at ([`recent`]).

mod recent;
mod sent;
mod views;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use oxmq_protocol::body::BrokerStatsData;
use oxmq_protocol::topic;
use parking_lot::{Mutex, RwLock};

use recent::{Counter, Listed, Recent, each_recent};
pub use sent::{MessageType, SIZE_BOUNDS, SentBatch};
use views::{MINUTE_VIEW, Name, Sample, Views};

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Seconds over which the rates of runtime information are taken.
const RATE_SECONDS: [usize; 3] = [10, 60, 600];

/// Traffic of one topic.
#[derive(Debug)]
pub struct TopicStats {
    topic: Box<str>,
    put_count: Counter,
    put_bytes: Counter,
    put_times: Counter,
    /// By type of message; made for the first.
    sent: OnceLock<Box<[sent::Sent; MessageType::ALL.len()]>>,
    listed: Listed<TopicStats>,
}

/// Traffic of one group on one topic.
#[derive(Debug)]
pub struct GroupStats {
    topic: Box<str>,
    group: Box<str>,
    get_count: Counter,
    get_bytes: Counter,
    get_times: Counter,
    /// What of that was got by POP.
    popped_count: Counter,
    popped_bytes: Counter,
    send_back_count: Counter,
    /// Checkpoints and acknowledgements of POP.
    checkpoint_count: Counter,
    ack_count: Counter,
    ack_times: Counter,
    listed: Listed<GroupStats>,
}

impl TopicStats {
    fn new(topic: &str, recent: &Recent<TopicStats>) -> TopicStats {
        TopicStats {
            topic: topic.into(),
            put_count: Counter::default(),
            put_bytes: Counter::default(),
            put_times: Counter::default(),
            sent: OnceLock::new(),
            listed: Listed::new(recent),
        }
    }

    /// Messages that were stored.
    pub fn on_send(self: &Arc<Self>, count: i64, bytes: i64) {
        self.on_sends(1, count, bytes);
    }

    /// The same for several sends.
    pub fn on_sends(self: &Arc<Self>, times: i64, count: i64, bytes: i64) {
        self.put_count.add(count);
        self.put_bytes.add(bytes);
        self.put_times.add(times);
        self.listed.note(self);
    }
}

impl GroupStats {
    fn new(topic: &str, group: &str, recent: &Recent<GroupStats>) -> GroupStats {
        GroupStats {
            topic: topic.into(),
            group: group.into(),
            get_count: Counter::default(),
            get_bytes: Counter::default(),
            get_times: Counter::default(),
            popped_count: Counter::default(),
            popped_bytes: Counter::default(),
            send_back_count: Counter::default(),
            checkpoint_count: Counter::default(),
            ack_count: Counter::default(),
            ack_times: Counter::default(),
            listed: Listed::new(recent),
        }
    }

    /// Messages that a pull returned.
    pub fn on_pull(self: &Arc<Self>, count: i64, bytes: i64) {
        self.get_count.add(count);
        self.get_bytes.add(bytes);
        self.get_times.add(1);
        self.listed.note(self);
    }

    /// Messages that a pop returned.
    pub fn on_pop(self: &Arc<Self>, count: i64, bytes: i64) {
        self.popped_count.add(count);
        self.popped_bytes.add(bytes);
        self.on_pull(count, bytes);
    }

    /// Messages and bytes got by pulls, and by pops.
    pub fn got(&self) -> [(i64, i64); 2] {
        let popped = (self.popped_count.get(), self.popped_bytes.get());
        let all = (self.get_count.get(), self.get_bytes.get());
        [((all.0 - popped.0).max(0), (all.1 - popped.1).max(0)), popped]
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn group(&self) -> &str {
        &self.group
    }

    /// A pop got messages.
    pub fn on_checkpoint(self: &Arc<Self>) {
        self.checkpoint_count.add(1);
        self.listed.note(self);
    }

    /// So many messages were acknowledged by one request.
    pub fn on_acks(self: &Arc<Self>, count: i64) {
        self.ack_count.add(count);
        self.ack_times.add(1);
        self.listed.note(self);
    }

    pub fn on_send_back(self: &Arc<Self>) {
        self.send_back_count.add(1);
        self.listed.note(self);
    }
}

/// Messages put and got since the start, at the last sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub put: i64,
    pub get: i64,
    /// Without system topics; this is what the daily figures count.
    pub put_user: i64,
    pub get_user: i64,
    /// Checkpoints and acknowledgements of POP.
    pub checkpoints: i64,
    pub acks: i64,
}

/// Totals of user topics at the last two midnights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mornings {
    pub put_yesterday: i64,
    pub put_today: i64,
    pub get_yesterday: i64,
    pub get_today: i64,
}

/// Rates over 10, 60 and 600 s; `None` until there is that much history.
pub type Rates = [Option<f64>; 3];

/// Rates of runtime information, per second.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuntimeRates {
    /// Messages put.
    pub put: Rates,
    /// Pulls that found something, found nothing, and both.
    pub found: Rates,
    pub missed: Rates,
    pub total: Rates,
    /// Messages got.
    pub transferred: Rates,
}

pub struct Stats {
    cluster: String,
    topics: RwLock<HashMap<String, Arc<TopicStats>>>,
    /// group → topic
    groups: RwLock<HashMap<String, HashMap<String, Arc<GroupStats>>>>,
    /// Pulls that found nothing.
    missed: Counter,
    recent_topics: Recent<TopicStats>,
    recent_groups: Recent<GroupStats>,
    sampled: Mutex<Sampled>,
}

#[derive(Debug, Default)]
struct Sampled {
    views: HashMap<(Name, String), Views>,
    seconds: VecDeque<Second>,
    totals: Totals,
    /// Pulls that found something.
    pulls: i64,
    mornings: Mornings,
    today: Option<i64>,
    last_views: i64,
}

/// What is counted at one second.
#[derive(Debug, Clone, Copy)]
struct Second {
    at: i64,
    put: i64,
    found: i64,
    missed: i64,
    transferred: i64,
}

impl Stats {
    pub fn new(cluster: &str) -> Stats {
        Stats {
            cluster: cluster.to_owned(),
            topics: RwLock::default(),
            groups: RwLock::default(),
            missed: Counter::default(),
            recent_topics: Recent::default(),
            recent_groups: Recent::default(),
            sampled: Mutex::default(),
        }
    }

    /// The counters of a topic, to be kept by whoever sends to it.
    pub fn topic(&self, topic: &str) -> Arc<TopicStats> {
        if let Some(known) = self.topics.read().get(topic) {
            return Arc::clone(known);
        }
        let new = || Arc::new(TopicStats::new(topic, &self.recent_topics));
        Arc::clone(self.topics.write().entry_ref(topic).or_insert_with(new))
    }

    /// The counters of a group on a topic, to be kept by whoever pulls for it.
    pub fn group(&self, topic: &str, group: &str) -> Arc<GroupStats> {
        let known = self
            .groups
            .read()
            .get(group)
            .and_then(|topics| topics.get(topic))
            .cloned();
        if let Some(known) = known {
            return known;
        }
        let mut groups = self.groups.write();
        let new = || Arc::new(GroupStats::new(topic, group, &self.recent_groups));
        Arc::clone(
            groups
                .entry_ref(group)
                .or_default()
                .entry_ref(topic)
                .or_insert_with(new),
        )
    }

    /// The counters of all topics.
    pub fn topics(&self) -> Vec<Arc<TopicStats>> {
        self.topics.read().values().cloned().collect()
    }

    /// The counters of all groups on all topics.
    pub fn groups(&self) -> Vec<Arc<GroupStats>> {
        let groups = self.groups.read();
        groups.values().flat_map(HashMap::values).cloned().collect()
    }

    /// A pull found nothing.
    pub fn on_pull_missed(&self) {
        self.missed.add(1);
    }

    pub fn remove_topic(&self, topic: &str) {
        let mut sampled = self.sampled.lock();
        self.topics.write().remove(topic);
        for topics in self.groups.write().values_mut() {
            topics.remove(topic);
        }
        let of_group = format!("{topic}@");
        sampled
            .views
            .retain(|(_, key), _| key != topic && !key.starts_with(&of_group));
    }

    pub fn remove_group(&self, group: &str) {
        let mut sampled = self.sampled.lock();
        self.groups.write().remove(group);
        let of_group = format!("@{group}");
        sampled.views.retain(|(_, key), _| !key.ends_with(&of_group));
    }

    /// Takes the samples that are due. `day` is the number of the local day: totals are noted when it changes.
    pub fn tick(&self, now: i64, day: i64) {
        let mut sampled = self.sampled.lock();
        self.count(&mut sampled);
        let second = Second {
            at: now,
            put: sampled.totals.put,
            found: sampled.pulls,
            missed: self.missed.get(),
            transferred: sampled.totals.get,
        };
        sampled.seconds.push_back(second);
        if sampled.seconds.len() > RATE_SECONDS[2] + 1 {
            sampled.seconds.pop_front();
        }
        if sampled.today.replace(day).is_some_and(|known| known != day) {
            sampled.next_morning();
        }
        if now - sampled.last_views >= MINUTE_VIEW.1 {
            sampled.last_views = now;
            self.sample_views(&mut sampled, now);
        }
    }

    pub fn totals(&self) -> Totals {
        let mut sampled = self.sampled.lock();
        self.count(&mut sampled);
        sampled.totals
    }

    pub fn mornings(&self) -> Mornings {
        self.sampled.lock().mornings
    }

    pub fn rates(&self) -> RuntimeRates {
        let sampled = self.sampled.lock();
        RuntimeRates {
            put: sampled.rates(|second| second.put),
            found: sampled.rates(|second| second.found),
            missed: sampled.rates(|second| second.missed),
            total: sampled.rates(|second| second.found + second.missed),
            transferred: sampled.rates(|second| second.transferred),
        }
    }

    /// What VIEW_BROKER_STATS_DATA answers; `None` for a name or key that was never counted.
    pub fn view(&self, name: &str, key: &str) -> Option<BrokerStatsData> {
        let name = Name::from_text(name)?;
        let sampled = self.sampled.lock();
        let Some(views) = sampled.views.get(&(name, key.to_owned())) else {
            return self.is_counted(name, key).then(BrokerStatsData::default);
        };
        Some(views.data(sampled.last_views))
    }

    /// Counters exist before their first sample.
    fn is_counted(&self, name: Name, key: &str) -> bool {
        let of_group = |count: fn(&GroupStats) -> &Counter| {
            let groups = self.groups.read();
            let stats = key
                .split_once('@')
                .and_then(|(topic, group)| groups.get(group)?.get(topic));
            stats.is_some_and(|stats| count(stats).get() > 0)
        };
        match name {
            Name::TopicPutNums | Name::TopicPutSize => {
                let topics = self.topics.read();
                topics.get(key).is_some_and(|stats| stats.put_times.get() > 0)
            }
            Name::GroupGetNums | Name::GroupGetSize => of_group(|stats| &stats.get_times),
            Name::GroupCkNums => of_group(|stats| &stats.checkpoint_count),
            Name::GroupAckNums => of_group(|stats| &stats.ack_times),
            Name::SendBackPutNums => of_group(|stats| &stats.send_back_count),
            _ => false,
        }
    }

    /// Messages a second that the group got from the topic, over the last minute.
    pub fn group_get_tps(&self, topic: &str, group: &str) -> f64 {
        self.minute_tps(Name::GroupGetNums, &format!("{topic}@{group}"))
    }

    /// Messages a second that were put into the topic, over the last minute.
    pub fn topic_put_tps(&self, topic: &str) -> f64 {
        self.minute_tps(Name::TopicPutNums, topic)
    }

    fn minute_tps(&self, name: Name, key: &str) -> f64 {
        let sampled = self.sampled.lock();
        let views = sampled.views.get(&(name, key.to_owned()));
        views.map_or(0.0, |views| views.data(sampled.last_views).stats_minute.tps)
    }

    /// Brings the totals up to date. They never fall, also when topics and groups go.
    fn count(&self, sampled: &mut Sampled) {
        each_recent(&self.recent_topics, |stats| sampled.count_topic(stats));
        each_recent(&self.recent_groups, |stats| sampled.count_group(stats));
    }

    fn sample_views(&self, sampled: &mut Sampled, now: i64) {
        let recent = std::mem::take(&mut *self.recent_topics.lock());
        for stats in recent {
            stats.listed.unlist();
            sampled.count_topic(&stats);
            let topic = &*stats.topic;
            let is_known = |known: &Arc<TopicStats>| Arc::ptr_eq(known, &stats);
            if self.topics.read().get(topic).is_some_and(is_known) {
                let times = stats.put_times.get();
                sampled.sample(Name::TopicPutNums, topic, now, stats.put_count.get(), times);
                sampled.sample(Name::TopicPutSize, topic, now, stats.put_bytes.get(), times);
            }
        }
        let recent = std::mem::take(&mut *self.recent_groups.lock());
        for stats in recent {
            stats.listed.unlist();
            sampled.count_group(&stats);
            let (topic, group) = (&*stats.topic, &*stats.group);
            let known = self
                .groups
                .read()
                .get(group)
                .and_then(|topics| topics.get(topic))
                .cloned();
            if !known.is_some_and(|known| Arc::ptr_eq(&known, &stats)) {
                continue;
            }
            let key = format!("{topic}@{group}");
            let times = stats.get_times.get();
            for (name, counter, times) in [
                (Name::GroupGetNums, &stats.get_count, times),
                (Name::GroupGetSize, &stats.get_bytes, times),
                (Name::GroupCkNums, &stats.checkpoint_count, stats.checkpoint_count.get()),
                (Name::GroupAckNums, &stats.ack_count, stats.ack_times.get()),
                (
                    Name::SendBackPutNums,
                    &stats.send_back_count,
                    stats.send_back_count.get(),
                ),
            ] {
                sampled.sample(name, &key, now, counter.get(), times);
            }
        }
        let totals = sampled.totals;
        for (name, sum) in [
            (Name::BrokerPutNums, totals.put),
            (Name::BrokerGetNums, totals.get),
            (Name::BrokerPutNumsWithoutSystemTopic, totals.put_user),
            (Name::BrokerGetNumsWithoutSystemTopic, totals.get_user),
            (Name::BrokerCkNums, totals.checkpoints),
            (Name::BrokerAckNums, totals.acks),
        ] {
            sampled.sample(name, &self.cluster, now, sum, sum);
        }
    }
}

impl Sampled {
    /// Nothing is kept of a counter that never counted.
    fn sample(&mut self, name: Name, key: &str, now: i64, sum: i64, times: i64) {
        let key = (name, key.to_owned());
        if sum == 0 && !self.views.contains_key(&key) {
            return;
        }
        let sample = Sample { at: now, sum, times };
        self.views.entry(key).or_insert_with(|| Views::new(sample)).push(sample);
    }

    fn count_topic(&mut self, stats: &TopicStats) {
        let count = stats.put_count.fresh();
        self.totals.put += count;
        if !topic::is_system_topic(&stats.topic) {
            self.totals.put_user += count;
        }
    }

    fn count_group(&mut self, stats: &GroupStats) {
        let count = stats.get_count.fresh();
        self.totals.get += count;
        self.totals.checkpoints += stats.checkpoint_count.fresh();
        self.totals.acks += stats.ack_count.fresh();
        self.pulls += stats.get_times.fresh();
        if !topic::is_system_topic(&stats.topic) {
            self.totals.get_user += count;
        }
    }

    fn next_morning(&mut self) {
        self.mornings = Mornings {
            put_yesterday: self.mornings.put_today,
            put_today: self.totals.put_user,
            get_yesterday: self.mornings.get_today,
            get_today: self.totals.get_user,
        };
    }

    fn rates(&self, value: impl Fn(&Second) -> i64) -> Rates {
        RATE_SECONDS.map(|seconds| {
            let last = self.seconds.back()?;
            let before = self.seconds.get(self.seconds.len().checked_sub(seconds + 1)?)?;
            let elapsed = (last.at - before.at).max(1) as f64;
            Some((value(last) - value(before)) as f64 * 1000.0 / elapsed)
        })
    }
}

/// The number of the day that `now` lies in, where local time is `utc_offset_ms` ahead.
pub fn local_day(now: i64, utc_offset_ms: i64) -> i64 {
    (now + utc_offset_ms).div_euclid(DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that ticks every second from `from`.
    fn run(stats: &Stats, from: i64, seconds: i64, mut each: impl FnMut()) -> i64 {
        for second in 0..seconds {
            each();
            stats.tick(from + second * SECOND_MS, 0);
        }
        from + seconds * SECOND_MS
    }

    #[test]
    fn views_show_the_difference_of_their_first_and_last_sample() {
        let stats = Stats::new("DefaultCluster");
        let topic = stats.topic("orders");
        run(&stats, 1_000_000, 61, || topic.on_send(2, 200));
        let view = stats.view("TOPIC_PUT_NUMS", "orders").unwrap();
        assert_eq!(view.stats_minute.sum, 120, "the first sample of seven saw 2 of 122");
        assert!((view.stats_minute.tps - 2.0).abs() < 0.3, "{}", view.stats_minute.tps);
        assert_eq!(view.stats_minute.avgpt, 2.0);
        assert_eq!(
            stats
                .view("BROKER_PUT_NUMS", "DefaultCluster")
                .unwrap()
                .stats_minute
                .sum,
            120
        );
        assert!(stats.view("TOPIC_PUT_NUMS", "unknown").is_none());
        assert!(stats.view("NO_SUCH_NAME", "orders").is_none());
    }

    #[test]
    fn a_counter_is_there_before_its_first_sample() {
        let stats = Stats::new("c");
        stats.topic("orders").on_send(1, 1);
        stats.group("orders", "g").on_send_back();
        assert!(stats.view("TOPIC_PUT_NUMS", "orders").is_some());
        assert!(stats.view("SNDBCK_PUT_NUMS", "orders@g").is_some());
        assert!(stats.view("GROUP_GET_NUMS", "orders@g").is_none());
        assert!(stats.view("GROUP_GET_NUMS", "orders").is_none());
    }

    #[test]
    fn an_idle_minute_reads_zero() {
        let stats = Stats::new("c");
        let group = stats.group("orders", "g");
        let later = run(&stats, 1_000_000, 20, || group.on_pull(1, 10));
        assert!(stats.group_get_tps("orders", "g") > 0.5);
        run(&stats, later, 90, || {});
        assert_eq!(stats.group_get_tps("orders", "g"), 0.0);
        assert_eq!(stats.view("GROUP_GET_NUMS", "orders@g").unwrap().stats_minute.sum, 0);
    }

    #[test]
    fn a_tick_does_not_look_at_quiet_counters() {
        let stats = Stats::new("c");
        let now = run(&stats, 0, 11, || stats.topic("quiet").on_send(1, 1));
        run(&stats, now, 65, || stats.topic("busy").on_send(1, 1));
        let recent = stats.recent_topics.lock();
        assert_eq!(recent.iter().map(|stats| &*stats.topic).collect::<Vec<_>>(), ["busy"]);
        drop(recent);
        assert_eq!(stats.totals().put, 76);
    }

    #[test]
    fn rates_appear_with_their_history() {
        let stats = Stats::new("c");
        let topic = stats.topic("orders");
        run(&stats, 0, 30, || topic.on_send(5, 5));
        let rates = stats.rates();
        assert_eq!(rates.put, [Some(5.0), None, None]);
        assert_eq!(rates.missed[0], Some(0.0));
    }

    #[test]
    fn totals_do_not_fall_when_topics_and_groups_go() {
        let stats = Stats::new("c");
        stats.topic("orders").on_send(7, 70);
        stats.topic("TBW102").on_send(1, 1);
        stats.group("orders", "g").on_pull(4, 40);
        stats.tick(1, 0);
        let before = stats.totals();
        assert_eq!((before.put, before.put_user, before.get_user), (8, 7, 4));
        stats.remove_topic("orders");
        stats.remove_group("g");
        assert_eq!(stats.totals(), before);
        assert!(stats.view("TOPIC_PUT_NUMS", "orders").is_none());
    }

    #[test]
    fn midnight_moves_today_to_yesterday() {
        let stats = Stats::new("c");
        stats.tick(0, 1);
        stats.topic("orders").on_send(7, 70);
        stats.tick(1, 1);
        assert_eq!(stats.mornings(), Mornings::default());
        stats.tick(2, 2);
        stats.topic("orders").on_send(1, 1);
        stats.tick(3, 3);
        let mornings = stats.mornings();
        assert_eq!((mornings.put_yesterday, mornings.put_today), (7, 8));
    }
}
