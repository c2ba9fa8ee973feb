//! The text exposition format 0.0.4 of Prometheus, as the Java broker prints it. (Libraries here write OpenMetrics, whose
//! names of counters differ.)

use std::borrow::Cow;
use std::fmt::Write as _;

use super::sheet::{Family, Head, Row, Rows};

/// The media type of a page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// On every sample, as the Java broker's library puts it there.
const SCOPE_LABEL: &str = "otel_scope_name";

pub(super) fn page(families: &[Family], common: &[(String, String)]) -> String {
    let mut page = Page {
        out: String::new(),
        common,
    };
    for family in families {
        page.family(family);
    }
    page.out
}

/// One page, written family by family.
struct Page<'a> {
    out: String,
    common: &'a [(String, String)],
}

impl Page<'_> {
    fn family(&mut self, Family { head, rows }: &Family) {
        let (name, help) = (head.name, head.help);
        let kind = match rows {
            Rows::Counters(_) => "counter",
            Rows::Gauges(_) => "gauge",
            Rows::Histograms(..) => "histogram",
        };
        let written = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        written.expect("a string takes any text");
        match rows {
            Rows::Counters(rows) => self.singles(head, rows),
            Rows::Gauges(rows) => self.singles(head, rows),
            Rows::Histograms(bounds, rows) => {
                for (values, histogram) in rows {
                    let labels = labels(head, values, self.common);
                    let mut count = 0;
                    for (class, in_class) in histogram.counts[..=bounds.len()].iter().enumerate() {
                        count += in_class;
                        let bound = match bounds.get(class) {
                            Some(bound) => format!("{bound}.0"),
                            None => "+Inf".to_owned(),
                        };
                        self.sample(name, "_bucket", &labels, Some(&bound), &count);
                    }
                    self.sample(name, "_count", &labels, None, &count);
                    self.sample(name, "_sum", &labels, None, &histogram.sum);
                }
            }
        }
    }

    fn singles<T: std::fmt::Display>(&mut self, head: &Head, rows: &[Row<T>]) {
        for (values, value) in rows {
            let labels = labels(head, values, self.common);
            self.sample(head.name, "", &labels, None, value);
        }
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &str, bound: Option<&str>, value: &impl std::fmt::Display) {
        let written = match bound {
            Some(bound) => writeln!(self.out, "{name}{suffix}{{{labels},le=\"{bound}\"}} {value}"),
            None => writeln!(self.out, "{name}{suffix}{{{labels}}} {value}"),
        };
        written.expect("a string takes any text");
    }
}

/// The labels of a row as text, sorted by name.
pub(super) fn labels(head: &Head, values: &[String], common: &[(String, String)]) -> String {
    let mut labels = head.labels(values, common);
    labels.push((SCOPE_LABEL, super::SCOPE));
    labels.sort_unstable();
    labels.dedup_by_key(|(name, _)| *name);
    let shown = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    shown.collect::<Vec<_>>().join(",")
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
    use super::super::series::Histogram;
    use super::super::sheet::Sheet;
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
        let mut sheet = Sheet::new(10);
        sheet.gauge(HEAD, vec![row(&["t", "1"], -5)]);
        let wanted = "# HELP x_ms Some times\n# TYPE x_ms gauge\n\
                      x_ms{a=\"1\",node_id=\"b\\\"\\\\\\n\",otel_scope_name=\"broker-meter\",topic=\"t\"} -5\n";
        assert_eq!(page(&sheet.families, &common), wanted);
    }

    #[test]
    fn classes_of_a_histogram_add_up() {
        let mut histogram = Histogram::default();
        for value in [1, 2, 100] {
            histogram.record(&[1, 10], value);
        }
        let mut sheet = Sheet::new(10);
        sheet.histogram(Head { labels: &[], ..HEAD }, &[1, 10], vec![row(&[], histogram)]);
        let text = page(&sheet.families, &[]);
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
}
