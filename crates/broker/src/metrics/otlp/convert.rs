//! Families of rows as OpenTelemetry's data points, in requests of bounded size.
//!
//! Cumulative points count from the start of the broker. Delta points (`metricsInDelta`) say what has come since the last
//! request with that series which the collector took: what it did not take is part of the next.

use hashbrown::HashMap;

use super::proto::{
    AnyValue, Data, ExportRequest, Gauge, Histogram, HistogramPoint, KeyValue, Metric, NumberPoint, Resource,
    ResourceMetrics, Scope, ScopeMetrics, Sum, Temporality, Value,
};
use crate::metrics::SCOPE;
use crate::metrics::series;
use crate::metrics::sheet::{Family, Head, Rows};

/// Data points in one request: collectors take 4 MiB unless told otherwise, and a point has some hundred bytes.
const POINTS_MAX: usize = 2000;

/// A row of a family.
type Series = (&'static str, Vec<String>);

/// What the collector knows of each series, and since when.
#[derive(Default)]
pub(crate) struct Deltas(HashMap<Series, (series::Histogram, u64)>);

pub(crate) struct Conversion<'a> {
    pub(crate) common: &'a [(String, String)],
    pub(crate) start_time: u64,
    pub(crate) time: u64,
    /// Nothing where values count up from the start.
    pub(crate) deltas: Option<&'a Deltas>,
}

/// A request, and what the collector knows when it has taken it.
pub(crate) struct Part {
    pub(crate) request: ExportRequest,
    pub(crate) sent: Vec<(Series, series::Histogram)>,
}

impl Deltas {
    /// The collector has taken this.
    pub(crate) fn taken(&mut self, sent: Vec<(Series, series::Histogram)>, time: u64) {
        let sent = sent.into_iter().map(|(series, value)| (series, (value, time)));
        self.0.extend(sent);
    }

    /// Forgets series that are no more.
    pub(crate) fn retain(&mut self, families: &[Family]) {
        let mut known: HashMap<&str, hashbrown::HashSet<&[String]>> = HashMap::new();
        for family in families {
            let rows = known.entry(family.head.name).or_default();
            match &family.rows {
                Rows::Counters(counters) => rows.extend(counters.iter().map(|(values, _)| values.as_slice())),
                Rows::Histograms(_, all) => rows.extend(all.iter().map(|(values, _)| values.as_slice())),
                Rows::Gauges(_) => {}
            }
        }
        self.0
            .retain(|(name, values), _| known.get(name).is_some_and(|rows| rows.contains(values.as_slice())));
    }
}

impl Conversion<'_> {
    /// All rows, part by part.
    pub(crate) fn parts<'b>(&'b self, families: &'b [Family]) -> impl Iterator<Item = Part> + 'b {
        let (mut family, mut row) = (0, 0);
        std::iter::from_fn(move || {
            let (mut metrics, mut sent) = (Vec::new(), Vec::new());
            let mut room = POINTS_MAX;
            while let Some(next) = families.get(family)
                && room > 0
            {
                let end = next.rows.len().min(row + room);
                metrics.extend(self.metric(next, row..end, &mut sent));
                room -= end - row;
                row = end;
                if row == next.rows.len() {
                    (family, row) = (family + 1, 0);
                }
            }
            (room < POINTS_MAX).then(|| Part {
                request: request(metrics),
                sent,
            })
        })
    }

    /// Some rows of a family; nothing where none has changed.
    fn metric(
        &self,
        family: &Family,
        rows: std::ops::Range<usize>,
        sent: &mut Vec<(Series, series::Histogram)>,
    ) -> Option<Metric> {
        let head = &family.head;
        let temporality = match self.deltas {
            Some(_) => Temporality::Delta,
            None => Temporality::Cumulative,
        } as i32;
        let (count, data) = match &family.rows {
            Rows::Gauges(gauges) => {
                let points = gauges[rows].iter().map(|(values, value)| NumberPoint {
                    attributes: self.attributes(head, values),
                    start_time: self.start_time,
                    time: self.time,
                    value: Some(*value),
                });
                let data_points: Vec<_> = points.collect();
                (data_points.len(), Data::Gauge(Gauge { data_points }))
            }
            Rows::Counters(counters) => {
                let points = counters[rows].iter().filter_map(|(values, value)| {
                    let total = series::Histogram {
                        sum: *value,
                        ..Default::default()
                    };
                    let (since, start_time) = self.since(head, values, total, sent)?;
                    Some(NumberPoint {
                        attributes: self.attributes(head, values),
                        start_time,
                        time: self.time,
                        value: Some(since.sum as i64),
                    })
                });
                let sum = Sum {
                    data_points: points.collect(),
                    aggregation_temporality: temporality,
                    is_monotonic: true,
                };
                (sum.data_points.len(), Data::Sum(sum))
            }
            Rows::Histograms(bounds, histograms) => {
                let points = histograms[rows].iter().filter_map(|(values, total)| {
                    let (since, start_time) = self.since(head, values, *total, sent)?;
                    let classes = &since.counts[..=bounds.len()];
                    Some(HistogramPoint {
                        attributes: self.attributes(head, values),
                        start_time,
                        time: self.time,
                        count: classes.iter().sum(),
                        sum: Some(since.sum as f64),
                        bucket_counts: classes.to_vec(),
                        explicit_bounds: bounds.iter().map(|bound| *bound as f64).collect(),
                    })
                });
                let histogram = Histogram {
                    data_points: points.collect(),
                    aggregation_temporality: temporality,
                };
                (histogram.data_points.len(), Data::Histogram(histogram))
            }
        };
        let (name, unit) = name_and_unit(head.name);
        (count > 0).then(|| Metric {
            name: name.to_owned(),
            description: head.help.to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
        })
    }

    /// What is to be said of a value, and from when on it counts; nothing where it has not changed.
    fn since(
        &self,
        head: &Head,
        values: &[String],
        total: series::Histogram,
        sent: &mut Vec<(Series, series::Histogram)>,
    ) -> Option<(series::Histogram, u64)> {
        let Some(Deltas(known)) = self.deltas else {
            return Some((total, self.start_time));
        };
        let series = (head.name, values.to_vec());
        // A smaller value is another's: of a topic that was deleted and created again.
        let known = known.get(&series).map(|(value, time)| (total.since(value), *time));
        let (since, from) = match known {
            Some((Some(since), from)) => (since, from),
            Some((None, from)) => (total, from),
            None => (total, self.start_time),
        };
        if since == series::Histogram::default() {
            return None;
        }
        sent.push((series, total));
        Some((since, from))
    }

    fn attributes(&self, head: &Head, values: &[String]) -> Vec<KeyValue> {
        let labels = head.labels(values, self.common).into_iter();
        labels
            .map(|(key, value)| KeyValue {
                key: key.to_owned(),
                value: Some(AnyValue {
                    value: Some(typed(key, value)),
                }),
            })
            .collect()
    }
}

/// Instruments of the original have attributes that are no text; in Prometheus' format all are.
fn typed(key: &str, value: &str) -> Value {
    match (key, value.parse(), value.parse()) {
        ("is_system" | "is_retry" | "is_long_polling" | "otel_metric_overflow", Ok(truth), _) => Value::Bool(truth),
        ("queue_id", _, Ok(number)) => Value::Int(number),
        _ => Value::String(value.to_owned()),
    }
}

/// The name of the original's instrument: Prometheus' without the unit that it ends with, unless it is part of it.
fn name_and_unit(name: &str) -> (&str, &str) {
    const WITH_BYTES: [&str; 2] = [
        "rocketmq_storage_flush_behind_bytes",
        "rocketmq_storage_dispatch_behind_bytes",
    ];
    if WITH_BYTES.contains(&name) {
        return (name, "bytes");
    }
    let units = ["milliseconds", "seconds", "bytes"];
    let found = units.iter().find_map(|unit| {
        let name = name.strip_suffix(unit)?.strip_suffix('_')?;
        Some((name, *unit))
    });
    found.unwrap_or((name, ""))
}

fn request(metrics: Vec<Metric>) -> ExportRequest {
    ExportRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource::default()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(Scope { name: SCOPE.into() }),
                metrics,
            }],
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::sheet::Sheet;

    const HEAD: Head = Head {
        name: "rocketmq_rpc_latency_milliseconds",
        help: "h",
        labels: &["topic", "is_system"],
    };

    fn sheet(count: u64, rows: usize) -> Sheet {
        let mut histogram = series::Histogram::default();
        histogram.record_many(&[1, 10], 5, count);
        let mut sheet = Sheet::new(100_000);
        sheet.histogram(HEAD, &[1, 10], vec![(vec!["t".into(), "true".into()], histogram)]);
        let name = |row: usize| vec![format!("t{row}"), "false".to_owned()];
        let head = Head {
            name: "x_total",
            ..HEAD
        };
        sheet.counter(head, (0..rows).map(|row| (name(row), count)).collect());
        sheet
    }

    fn values(part: &Part) -> Vec<(u64, i64)> {
        let points = |metric: &Metric| match &metric.data {
            Some(Data::Sum(sum)) => sum
                .data_points
                .iter()
                .map(|p| (p.start_time, p.value.unwrap()))
                .collect(),
            Some(Data::Histogram(h)) => h.data_points.iter().map(|p| (p.start_time, p.count as i64)).collect(),
            _ => Vec::new(),
        };
        let metrics = &part.request.resource_metrics[0].scope_metrics[0].metrics;
        metrics.iter().flat_map(points).collect()
    }

    #[test]
    fn deltas_say_what_the_collector_has_not_taken_yet() {
        let mut deltas = Deltas::default();
        let mut send = |count, time, is_taken: bool| {
            let sheet = sheet(count, 1);
            deltas.retain(&sheet.families);
            let conversion = Conversion {
                common: &[],
                start_time: 1,
                time,
                deltas: Some(&deltas),
            };
            let mut parts: Vec<_> = conversion.parts(&sheet.families).collect();
            assert_eq!(parts.len(), 1);
            let said = values(&parts[0]);
            if is_taken {
                deltas.taken(std::mem::take(&mut parts[0].sent), time);
            }
            said
        };
        assert_eq!(send(3, 10, true), [(1, 3), (1, 3)]);
        assert_eq!(send(5, 20, false), [(10, 2), (10, 2)]);
        assert_eq!(send(6, 30, true), [(10, 3), (10, 3)]);
        assert_eq!(send(6, 40, true), []);
        assert_eq!(send(2, 50, true), [(30, 2), (30, 2)]);
        deltas.retain(&[]);
        assert!(deltas.0.is_empty());
    }

    #[test]
    fn many_rows_take_several_requests() {
        let sheet = sheet(3, 2 * POINTS_MAX);
        let conversion = Conversion {
            common: &[],
            start_time: 1,
            time: 2,
            deltas: None,
        };
        let parts: Vec<_> = conversion.parts(&sheet.families).collect();
        let counts: Vec<_> = parts.iter().map(|part| values(part).len()).collect();
        assert_eq!(counts, [POINTS_MAX, POINTS_MAX, 1]);
    }

    #[test]
    fn instruments_have_the_names_of_the_original() {
        for (name, wanted) in [
            ("rocketmq_messages_in_total", ("rocketmq_messages_in_total", "")),
            (
                "rocketmq_rpc_latency_milliseconds",
                ("rocketmq_rpc_latency", "milliseconds"),
            ),
            (
                "rocketmq_pop_buffer_scan_time_consume_milliseconds",
                ("rocketmq_pop_buffer_scan_time_consume", "milliseconds"),
            ),
            ("rocketmq_message_size", ("rocketmq_message_size", "")),
            ("rocketmq_storage_size_bytes", ("rocketmq_storage_size", "bytes")),
            (
                "rocketmq_delay_message_latency_seconds",
                ("rocketmq_delay_message_latency", "seconds"),
            ),
            (
                "rocketmq_storage_flush_behind_bytes",
                ("rocketmq_storage_flush_behind_bytes", "bytes"),
            ),
        ] {
            assert_eq!(name_and_unit(name), wanted);
        }
    }
}
