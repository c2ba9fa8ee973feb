//! Counters and histograms by label values, for what does not happen with every message.

use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;

/// Classes of the largest histogram, with the one that has no upper end.
const CLASSES_MAX: usize = 10;

/// Rows by the values of their labels: at most as many as `metricsOtelCardinalityLimit` says, of which one takes what has no
/// row of its own. Its values are empty.
pub(crate) struct Family<T> {
    rows: Mutex<HashMap<Values, T>>,
    max: usize,
}

#[derive(PartialEq, Eq, Hash)]
struct Values(Box<[Box<str>]>);

#[derive(Hash)]
struct ValuesRef<'a>(&'a [&'a str]);

impl Equivalent<Values> for ValuesRef<'_> {
    fn equivalent(&self, key: &Values) -> bool {
        self.0.len() == key.0.len() && self.0.iter().zip(&key.0).all(|(a, b)| **a == **b)
    }
}

impl<T: Default + Clone> Family<T> {
    pub(crate) fn new(max: usize) -> Family<T> {
        let rows = Mutex::default();
        Family { rows, max }
    }

    pub(crate) fn with(&self, values: &[&str], change: impl FnOnce(&mut T)) {
        let mut rows = self.rows.lock();
        if let Some(row) = rows.get_mut(&ValuesRef(values)) {
            return change(row);
        }
        let values: &[&str] = if rows.len() + 1 < self.max { values } else { &[] };
        let key = Values(values.iter().map(|value| Box::from(*value)).collect());
        change(rows.entry(key).or_default());
    }

    /// A copy of all rows.
    pub(crate) fn rows(&self) -> Vec<(Vec<String>, T)> {
        let rows = self.rows.lock();
        let values = |key: &Values| key.0.iter().map(|value| value.to_string()).collect();
        rows.iter().map(|(key, row)| (values(key), row.clone())).collect()
    }
}

impl Family<u64> {
    pub(crate) fn add(&self, values: &[&str], count: u64) {
        self.with(values, |row| *row += count);
    }
}

/// How many values fell into each class, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Histogram {
    pub(crate) counts: [u64; CLASSES_MAX],
    pub(crate) sum: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, bounds: &[u64], value: u64) {
        self.record_many(bounds, value, 1);
    }

    /// The same value several times. A class has the values up to its upper end.
    pub(crate) fn record_many(&mut self, bounds: &[u64], value: u64, times: u64) {
        self.counts[bounds.partition_point(|bound| *bound < value)] += times;
        self.sum += value * times;
    }

    /// What has come since it was `earlier`; nothing when it never was.
    #[cfg(feature = "otlp")]
    pub(crate) fn since(&self, earlier: &Histogram) -> Option<Histogram> {
        let mut since = Histogram {
            sum: self.sum.checked_sub(earlier.sum)?,
            ..Histogram::default()
        };
        for (class, count) in since.counts.iter_mut().enumerate() {
            *count = self.counts[class].checked_sub(earlier.counts[class])?;
        }
        Some(since)
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_shares_a_row() {
        let family = Family::new(3);
        for topic in ["a", "b", "c", "d", "a"] {
            family.add(&[topic, "x"], 1);
        }
        let mut rows = family.rows();
        rows.sort();
        let row = |topic: &str| vec![topic.to_owned(), "x".to_owned()];
        assert_eq!(rows, [(vec![], 2), (row("a"), 2), (row("b"), 1)]);
    }

    #[test]
    fn a_value_belongs_to_the_class_whose_upper_end_it_reaches() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4] {
            histogram.record(&[1, 3], value);
        }
        histogram.record_many(&[1, 3], 2, 10);
        assert_eq!(histogram.counts[..3], [2, 12, 1]);
        assert_eq!(histogram.sum, 30);
    }
}
