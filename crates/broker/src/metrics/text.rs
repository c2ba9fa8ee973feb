//! The text exposition format 0.0.4 of Prometheus, as the Java broker prints it. (Libraries here write OpenMetrics, whose
//! names of counters differ.)

use std::borrow::Cow;
use std::fmt::Write as _;

use hashbrown::HashMap;

use super::series::Histogram;

/// The media type of a page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// On every sample, as the Java broker's library puts it there.
const SCOPE: (&str, &str) = ("otel_scope_name", "broker-meter");
/// The row of a family that stands for all beyond the limit.
const OVERFLOW: (&str, &str) = ("otel_metric_overflow", "true");

/// Values of a family's labels, in the order of their names; none for the row of what is beyond the limit.
pub(crate) type Row<T> = (Vec<String>, T);

/// One page, written family by family.
pub(crate) struct Page<'a> {
    out: String,
    common: &'a [(String, String)],
    rows_max: usize,
}

/// What a family is called. The name ends with its unit, that of a counter with `_total`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) labels: &'static [&'static str],
}

impl<'a> Page<'a> {
    pub(crate) fn new(common: &'a [(String, String)], rows_max: usize) -> Page<'a> {
        Page {
            out: String::new(),
            common,
            rows_max,
        }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    pub(crate) fn counter(&mut self, head: Head, rows: Vec<Row<u64>>) {
        let rows = self.limited(rows, |sum, more| *sum += more);
        self.family(head, "counter", &rows, |page, labels, value| {
            page.sample(head.name, "", labels, None, value);
        });
    }

    pub(crate) fn gauge(&mut self, head: Head, rows: Vec<Row<i64>>) {
        let rows = self.limited(rows, |sum, more| *sum += more);
        self.family(head, "gauge", &rows, |page, labels, value| {
            page.sample(head.name, "", labels, None, value);
        });
    }

    pub(crate) fn histogram(&mut self, head: Head, bounds: &[u64], rows: Vec<Row<Histogram>>) {
        let rows = self.limited(rows, |sum, more| sum.add(more));
        self.family(head, "histogram", &rows, |page, labels, histogram| {
            let mut count = 0;
            for (class, in_class) in histogram.counts[..=bounds.len()].iter().enumerate() {
                count += in_class;
                let bound = match bounds.get(class) {
                    Some(bound) => format!("{bound}.0"),
                    None => "+Inf".to_owned(),
                };
                page.sample(head.name, "_bucket", labels, Some(&bound), &count);
            }
            page.sample(head.name, "_count", labels, None, &count);
            page.sample(head.name, "_sum", labels, None, &histogram.sum);
        });
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

    fn family<T>(&mut self, head: Head, kind: &str, rows: &[Row<T>], each: impl Fn(&mut Self, &str, &T)) {
        if rows.is_empty() {
            return;
        }
        let (name, help) = (head.name, head.help);
        let written = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        written.expect("a string takes any text");
        for (values, value) in rows {
            let labels = self.labels(head.labels, values);
            each(self, &labels, value);
        }
    }

    /// The labels of a row as text, sorted by name.
    fn labels(&self, names: &[&str], values: &[String]) -> String {
        let own: Vec<(&str, &str)> = match values.is_empty() && !names.is_empty() {
            true => vec![OVERFLOW],
            false => names.iter().copied().zip(values.iter().map(String::as_str)).collect(),
        };
        // Not every row of a family has all labels.
        let own: Vec<_> = own.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let is_own = |name: &str| own.iter().any(|(known, _)| *known == name);
        let common = self.common.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut labels: Vec<_> = common.filter(|(name, _)| !is_own(name)).collect();
        labels.push(SCOPE);
        labels.extend(&own);
        labels.sort_unstable();
        labels.dedup_by_key(|(name, _)| *name);
        let shown = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        shown.collect::<Vec<_>>().join(",")
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &str, bound: Option<&str>, value: &impl std::fmt::Display) {
        let written = match bound {
            Some(bound) => writeln!(self.out, "{name}{suffix}{{{labels},le=\"{bound}\"}} {value}"),
            None => writeln!(self.out, "{name}{suffix}{{{labels}}} {value}"),
        };
        written.expect("a string takes any text");
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

/// A name that the format allows.
pub(crate) fn label_name(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = text.chars().map(allowed).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
    }
}

fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head {
        name: "x_ms",
        help: "Some times",
        labels: &["topic", "a"],
    };

    fn row<T>(values: &[&str], value: T) -> Row<T> {
        (values.iter().map(|value| (*value).to_owned()).collect(), value)
    }

    #[test]
    fn labels_are_sorted_and_escaped() {
        let common = [("node_id".to_owned(), "b\"\\\n".to_owned())];
        let mut page = Page::new(&common, 10);
        page.gauge(HEAD, vec![row(&["t", "1"], -5)]);
        let wanted = "# HELP x_ms Some times\n# TYPE x_ms gauge\n\
                      x_ms{a=\"1\",node_id=\"b\\\"\\\\\\n\",otel_scope_name=\"broker-meter\",topic=\"t\"} -5\n";
        assert_eq!(page.finish(), wanted);
    }

    #[test]
    fn classes_of_a_histogram_add_up() {
        let mut histogram = Histogram::default();
        for value in [1, 2, 100] {
            histogram.record(&[1, 10], value);
        }
        let mut page = Page::new(&[], 10);
        page.histogram(Head { labels: &[], ..HEAD }, &[1, 10], vec![row(&[], histogram)]);
        let text = page.finish();
        let values: Vec<_> = text
            .lines()
            .skip(2)
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect();
        assert_eq!(values, ["1", "2", "3", "3", "103"]);
        assert!(
            text.contains("x_ms_bucket{otel_scope_name=\"broker-meter\",le=\"10.0\"} 2\n"),
            "{text}"
        );
        assert!(text.contains(",le=\"+Inf\"} 3\n"), "{text}");
    }

    #[test]
    fn rows_beyond_the_limit_become_one() {
        let mut page = Page::new(&[], 3);
        let rows = ["a", "b", "c", "d"].map(|topic| row(&[topic, "1"], 1));
        page.counter(HEAD, rows.to_vec());
        let text = page.finish();
        assert_eq!(text.lines().count(), 2 + 3, "{text}");
        assert!(
            text.contains("{otel_metric_overflow=\"true\",otel_scope_name=\"broker-meter\"} 2\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_said_of_a_family_without_rows() {
        let mut page = Page::new(&[], 3);
        page.gauge(HEAD, Vec::new());
        assert_eq!(page.finish(), "");
    }
}
