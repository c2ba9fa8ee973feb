//! What a run has counted and measured, and how it is told.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The upper end of the histogram's first class, and its longest bar.
const FIRST_CLASS_US: u64 = 125;
const BAR_WIDTH: f64 = 50.0;
/// Latencies up to an hour are told apart, by three digits.
const LONGEST_US: u64 = 3_600_000_000;

pub(super) struct Figures {
    /// `produce` or `consume`.
    what: &'static str,
    started: Instant,
    took: Option<Duration>,
    messages: u64,
    bytes: u64,
    errors: BTreeMap<String, u64>,
    /// One for each name.
    latencies: Vec<(&'static str, Histogram<u64>)>,
    /// The first latency since the last line, and what had been counted then.
    recent: Histogram<u64>,
    shown: (Instant, u64, u64),
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are sound")
}

impl Figures {
    pub(super) fn new(what: &'static str, latencies: &[&'static str]) -> Figures {
        let now = Instant::now();
        Figures {
            what,
            started: now,
            took: None,
            messages: 0,
            bytes: 0,
            errors: BTreeMap::new(),
            latencies: latencies.iter().map(|name| (*name, histogram())).collect(),
            recent: histogram(),
            shown: (now, 0, 0),
        }
    }

    pub(super) fn begin(&mut self) {
        self.started = Instant::now();
        self.shown = (self.started, 0, 0);
    }

    pub(super) fn end(&mut self) {
        self.took = Some(self.started.elapsed());
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Messages that came or went, each with these latencies.
    pub(super) fn add(&mut self, messages: u64, bytes: u64, latencies: &[Duration]) {
        self.messages += messages;
        self.bytes += bytes;
        for (index, latency) in latencies.iter().enumerate() {
            let us = u64::try_from(latency.as_micros())
                .unwrap_or(LONGEST_US)
                .clamp(1, LONGEST_US);
            self.latencies[index].1.saturating_record_n(us, messages);
            if index == 0 {
                self.recent.saturating_record_n(us, messages);
            }
        }
    }

    pub(super) fn add_error(&mut self, error: String, messages: u64) {
        *self.errors.entry(error).or_default() += messages;
    }

    /// How it went since the line before.
    pub(super) fn next_line(&mut self) -> String {
        let now = Instant::now();
        let (then, messages, bytes) = std::mem::replace(&mut self.shown, (now, self.messages, self.bytes));
        let seconds = (now - then).as_secs_f64().max(0.001);
        let rate = |count: u64| count as f64 / seconds;
        let failed: u64 = self.errors.values().sum();
        let recent = &self.recent;
        let line = format!(
            "{:5.0} s  {:8.0} msg/s  {:8.2} MB/s  p50 {:.3} ms  p99 {:.3} ms  max {:.3} ms  failed {failed}",
            (now - self.started).as_secs_f64(),
            rate(self.messages - messages),
            rate(self.bytes - bytes) / 1e6,
            ms(recent.value_at_quantile(0.5)),
            ms(recent.value_at_quantile(0.99)),
            ms(recent.max()),
        );
        self.recent.reset();
        line
    }

    pub(super) fn report(&self) -> Report {
        let seconds = self.took.unwrap_or_else(|| self.started.elapsed()).as_secs_f64();
        let per_second = |count: u64| count as f64 / seconds.max(0.001);
        let latency = |(name, histogram): &(&'static str, Histogram<u64>)| {
            let at = |quantile| ms(histogram.value_at_quantile(quantile));
            let latency = Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: ms(histogram.max()),
            };
            (*name, latency)
        };
        Report {
            what: self.what,
            messages: self.messages,
            bytes: self.bytes,
            seconds,
            messages_per_second: per_second(self.messages),
            bytes_per_second: per_second(self.bytes),
            latency_ms: self.latencies.iter().map(latency).collect(),
            histogram_ms: self.latencies.iter().map(|(name, all)| (*name, classes(all))).collect(),
            errors: self.errors.clone(),
        }
    }
}

/// Each class reaches twice as far as the one before; those at both ends in which nothing is are left out.
fn classes(histogram: &Histogram<u64>) -> Vec<Class> {
    let mut class = Class {
        below_ms: ms(FIRST_CLASS_US),
        messages: 0,
    };
    let mut classes = Vec::new();
    for step in histogram.iter_recorded() {
        let latency_ms = ms(step.value_iterated_to());
        while latency_ms >= class.below_ms {
            classes.push(class);
            class = Class {
                below_ms: class.below_ms * 2.0,
                messages: 0,
            };
        }
        class.messages += step.count_since_last_iteration();
    }
    classes.push(class);
    classes.into_iter().skip_while(|class| class.messages == 0).collect()
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// A run, as `--json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    what: &'static str,
    messages: u64,
    /// Of bodies.
    bytes: u64,
    seconds: f64,
    messages_per_second: f64,
    bytes_per_second: f64,
    latency_ms: BTreeMap<&'static str, Latency>,
    histogram_ms: BTreeMap<&'static str, Vec<Class>>,
    /// Messages that failed, by the reason.
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

/// How many messages took less than this, and not less than the class before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    below_ms: f64,
    messages: u64,
}

impl Report {
    pub(super) fn text(&self) -> String {
        let mut out = format!(
            "{}: {} messages, {:.2} MB in {:.2} s: {:.0} messages and {:.2} MB a second\n\n",
            self.what,
            self.messages,
            self.bytes as f64 / 1e6,
            self.seconds,
            self.messages_per_second,
            self.bytes_per_second / 1e6,
        );
        let mut line = |columns: [&str; 6]| {
            let [name, p50, p90, p99, p999, max] = columns;
            writeln!(out, "{name:<13} {p50:>10} {p90:>9} {p99:>9} {p999:>9} {max:>9}")
                .expect("a string takes any text");
        };
        line(["ms", "p50", "p90", "p99", "p99.9", "max"]);
        for (name, latency) in &self.latency_ms {
            let figures = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
            let [p50, p90, p99, p999, max] = figures.map(|ms| format!("{ms:.3}"));
            line([*name, &p50, &p90, &p99, &p999, &max]);
        }
        for (name, classes) in &self.histogram_ms {
            histogram_text(&mut out, name, classes);
        }
        for (error, count) in &self.errors {
            writeln!(out, "\nfailed: {count} times {error}").expect("a string takes any text");
        }
        out
    }
}

fn histogram_text(out: &mut String, name: &str, classes: &[Class]) {
    let total: u64 = classes.iter().map(|class| class.messages).sum();
    let most = classes.iter().map(|class| class.messages).max().unwrap_or(0).max(1);
    if total > 0 {
        writeln!(out, "\n{:<14}{:>10}", format!("{name}, ms"), "messages").expect("a string takes any text");
    }
    for Class { below_ms, messages } in classes {
        let share = *messages as f64 / total.max(1) as f64 * 100.0;
        let bar = "#".repeat((*messages as f64 / most as f64 * BAR_WIDTH).ceil() as usize);
        let line = format!("  < {below_ms:<10}{messages:>10} {share:6.2} %  {bar}");
        writeln!(out, "{}", line.trim_end()).expect("a string takes any text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_counted() {
        let mut figures = Figures::new("produce", &["send"]);
        figures.begin();
        for number in 1..=1000 {
            figures.add(1, 10, &[Duration::from_millis(number)]);
        }
        figures.add(2, 20, &[Duration::from_secs(100_000)]);
        figures.add_error("SYSTEM_BUSY".into(), 3);
        figures.took = Some(Duration::from_secs(2));
        let text = figures.report().text();
        let expected = "produce: 1002 messages, 0.01 MB in 2.00 s: 501 messages and 0.01 MB a second\n\n\
                        ms                   p50       p90       p99     p99.9       max\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("\nfailed: 3 times SYSTEM_BUSY\n"), "{text}");
        let latency = &figures.report().latency_ms["send"];
        let is_near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted / 500.0;
        assert!(
            is_near(latency.p50, 501.0) && is_near(latency.p90, 902.0),
            "{latency:?}"
        );
        assert!(
            is_near(latency.max, 3_600_000.0),
            "what is longer counts as the longest: {latency:?}"
        );
        assert!(figures.has_failed() && figures.messages() == 1002);
    }

    #[test]
    fn a_histogram_has_a_class_for_each_doubling() {
        let mut figures = Figures::new("produce", &["send"]);
        for (us, messages) in [(300, 30), (499, 10), (500, 2), (3000, 5)] {
            figures.add(messages, 0, &[Duration::from_micros(us)]);
        }
        let report = figures.report();
        let classes: Vec<_> = report.histogram_ms["send"]
            .iter()
            .map(|class| (class.below_ms, class.messages))
            .collect();
        assert_eq!(classes, [(0.5, 40), (1.0, 2), (2.0, 0), (4.0, 5)]);
        let text = report.text();
        let expected = "\nsend, ms        messages\n  \
                        < 0.5               40  85.11 %  ##################################################\n  \
                        < 1                  2   4.26 %  ###\n  \
                        < 2                  0   0.00 %\n  \
                        < 4                  5  10.64 %  #######\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(
            !Figures::new("produce", &["send"])
                .report()
                .text()
                .contains("messages\n")
        );
    }

    #[test]
    fn a_line_tells_of_the_time_since_the_last() {
        let mut figures = Figures::new("produce", &["send"]);
        figures.add(1, 10, &[Duration::from_millis(900)]);
        assert!(figures.next_line().contains("max 9"));
        assert!(figures.next_line().contains("max 0.000 ms  failed 0"));
    }
}
