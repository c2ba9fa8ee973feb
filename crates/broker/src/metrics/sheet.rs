//! What is known of all metrics at one moment, whoever it is for: families of rows, as RocketMQ's instruments have them.

use hashbrown::HashMap;

use super::series::Histogram;

/// Values of a family's labels, in the order of their names; none for the row of what is beyond the limit.
pub(crate) type Row<T> = (Vec<String>, T);

/// The label of the row of a family that stands for all beyond the limit.
pub(crate) const OVERFLOW: (&str, &str) = ("otel_metric_overflow", "true");

/// Filled family by family.
pub(crate) struct Sheet {
    pub(crate) families: Vec<Family>,
    rows_max: usize,
}

/// Instruments of one name; there is at least one row.
pub(crate) struct Family {
    pub(crate) head: Head,
    pub(crate) rows: Rows,
}

pub(crate) enum Rows {
    Counters(Vec<Row<u64>>),
    Gauges(Vec<Row<i64>>),
    /// With the upper ends of their classes.
    Histograms(&'static [u64], Vec<Row<Histogram>>),
}

/// What a family is called. The name is that of Prometheus: it ends with its unit, that of a counter with `_total`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) labels: &'static [&'static str],
}

impl Sheet {
    pub(crate) fn new(rows_max: usize) -> Sheet {
        Sheet {
            families: Vec::new(),
            rows_max,
        }
    }

    pub(crate) fn counter(&mut self, head: Head, rows: Vec<Row<u64>>) {
        let rows = self.limited(rows, |sum, more| *sum += more);
        self.add(head, Rows::Counters(rows));
    }

    pub(crate) fn gauge(&mut self, head: Head, rows: Vec<Row<i64>>) {
        let rows = self.limited(rows, |sum, more| *sum += more);
        self.add(head, Rows::Gauges(rows));
    }

    pub(crate) fn histogram(&mut self, head: Head, bounds: &'static [u64], rows: Vec<Row<Histogram>>) {
        let rows = self.limited(rows, |sum, more| sum.add(more));
        self.add(head, Rows::Histograms(bounds, rows));
    }

    fn add(&mut self, head: Head, rows: Rows) {
        if rows.len() > 0 {
            self.families.push(Family { head, rows });
        }
    }

    /// No more rows than `metricsOtelCardinalityLimit`; those beyond become one.
    fn limited<T>(&self, mut rows: Vec<Row<T>>, add: impl Fn(&mut T, &T)) -> Vec<Row<T>> {
        if rows.len() <= self.rows_max {
            return rows;
        }
        rows.sort_by(|(a, _), (b, _)| a.is_empty().cmp(&b.is_empty()).then_with(|| a.cmp(b)));
        let beyond = rows.split_off(self.rows_max - 1);
        let mut values = beyond.into_iter().map(|(_, value)| value);
        if let Some(mut sum) = values.next() {
            values.for_each(|more| add(&mut sum, &more));
            rows.push((Vec::new(), sum));
        }
        rows
    }
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Counters(rows) => rows.len(),
            Rows::Gauges(rows) => rows.len(),
            Rows::Histograms(_, rows) => rows.len(),
        }
    }
}

impl Head {
    /// The labels of a row, its own before those that all have. Not every row has all of its family.
    pub(crate) fn labels<'a>(&self, values: &'a [String], common: &'a [(String, String)]) -> Vec<(&'a str, &'a str)> {
        let mut labels: Vec<(&str, &str)> = match values.is_empty() && !self.labels.is_empty() {
            true => vec![OVERFLOW],
            false => self
                .labels
                .iter()
                .copied()
                .zip(values.iter().map(String::as_str))
                .collect(),
        };
        labels.retain(|(_, value)| !value.is_empty());
        for (name, value) in common {
            if labels.iter().all(|(known, _)| known != name) {
                labels.push((name, value));
            }
        }
        labels
    }
}

/// Rows that were found one by one, where several may be alike.
pub(crate) fn summed(found: impl IntoIterator<Item = (Vec<String>, i64)>) -> Vec<Row<i64>> {
    let mut rows: HashMap<Vec<String>, i64> = HashMap::new();
    for (values, count) in found {
        *rows.entry(values).or_default() += count;
    }
    rows.into_iter().collect()
}

pub(crate) fn bool_label(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_limit_become_one() {
        let head = Head {
            name: "x_ms",
            help: "",
            labels: &["topic", "a"],
        };
        let mut sheet = Sheet::new(3);
        let rows = ["a", "b", "c", "d"].map(|topic| (vec![topic.to_owned(), "1".to_owned()], 1));
        sheet.counter(head, rows.to_vec());
        sheet.gauge(head, Vec::new());
        let [
            Family {
                head,
                rows: Rows::Counters(rows),
            },
        ] = &sheet.families[..]
        else {
            panic!("one family has rows");
        };
        let (values, sum) = &rows[2];
        assert_eq!((rows.len(), head.labels(values, &[]), *sum), (3, vec![OVERFLOW], 2));
    }
}
