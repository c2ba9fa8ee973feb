//! How many timer messages wait for each topic: `config/timermetrics` and GET_TIMER_METRICS (spec: storage.md §16.8).

use std::collections::BTreeMap;
use std::io;

use oxmq_protocol::body::{DataVersion, TimerMetric, TimerMetricsBody};
use oxmq_protocol::json;
use parking_lot::Mutex;

use crate::config_file::{ConfigFile, Unsaved};

pub(crate) struct TimerMetrics {
    file: ConfigFile,
    unsaved: Unsaved,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: DataVersion,
    topics: BTreeMap<Box<[u8]>, TimerMetric>,
}

impl TimerMetrics {
    pub(crate) fn open(file: ConfigFile) -> io::Result<TimerMetrics> {
        let stored: TimerMetricsBody = file.load()?.unwrap_or_default();
        let topics = stored.timing_count.into_iter();
        Ok(TimerMetrics {
            file,
            unsaved: Unsaved::default(),
            state: Mutex::new(State {
                version: stored.data_version,
                topics: topics
                    .map(|(topic, metric)| (topic.into_bytes().into(), metric))
                    .collect(),
            }),
        })
    }

    pub(crate) fn add(&self, topic: &[u8], count: i64, now: i64) {
        let mut state = self.state.lock();
        let metric = match state.topics.get_mut(topic) {
            Some(metric) => metric,
            None => state.topics.entry(topic.into()).or_default(),
        };
        metric.count += count;
        metric.time_stamp = now;
        drop(state);
        self.unsaved.mark();
    }

    /// What is counted now, by topic.
    pub(crate) fn counts(&self) -> Vec<(Box<[u8]>, i64)> {
        let state = self.state.lock();
        let topics = state.topics.iter();
        topics.map(|(topic, metric)| (topic.clone(), metric.count)).collect()
    }

    /// So many more wait for a topic than was counted.
    pub(crate) fn correct(&self, topic: &[u8], by: i64) {
        if let Some(metric) = self.state.lock().topics.get_mut(topic).filter(|_| by != 0) {
            metric.count += by;
            self.unsaved.mark();
        }
    }

    /// Writes the file if something changed.
    pub(crate) fn save(&self, now: i64) -> io::Result<()> {
        self.unsaved.save(|| {
            self.state.lock().version.advance(now);
            self.file.save(&self.to_body())
        })
    }

    /// The body of GET_TIMER_METRICS.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        json::to_vec(&self.to_body())
    }

    fn to_body(&self) -> TimerMetricsBody {
        let state = self.state.lock();
        let topics = state.topics.iter();
        TimerMetricsBody {
            data_version: state.version,
            timing_count: topics
                .map(|(topic, metric)| (String::from_utf8_lossy(topic).into_owned(), metric.clone()))
                .collect(),
        }
    }
}
