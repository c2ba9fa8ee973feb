//! A client of the metrics endpoint, and a strict reader of the text exposition format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use oxmq_tests::DEADLINE;

use crate::node::Node;

pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Sends these bytes and reads to the end; nothing when the server ends without a whole answer.
pub(crate) fn exchange(addr: SocketAddr, request: &[u8]) -> Option<HttpAnswer> {
    let mut socket = connect(addr);
    // A server that has refused already is told by the read.
    let _ = socket.write_all(request);
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(HttpAnswer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> HttpAnswer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n");
    exchange(addr, request.as_bytes()).expect("an answer")
}

/// One page of metrics.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// Type by name.
    pub(crate) families: BTreeMap<String, String>,
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Node {
    pub(crate) fn scrape(&self) -> Scrape {
        let answer = get(self.metrics_addr(), "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(
            answer
                .head
                .contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
            "{}",
            answer.head
        );
        Scrape::parse(&answer.body)
    }
}

impl Scrape {
    /// Panics at anything that the format does not allow.
    pub(crate) fn parse(text: &str) -> Scrape {
        assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
        let mut scrape = Scrape {
            families: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        let mut helped: Option<&str> = None;
        let mut family: Option<(&str, &str)> = None;
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help text");
                assert!(is_name(name) && !help.is_empty(), "{line}");
                helped = Some(name);
                family = None;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(helped.take(), Some(name), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let known = scrape.families.insert(name.to_owned(), kind.to_owned());
                assert!(known.is_none(), "{name} comes twice");
                family = Some((name, kind));
            } else {
                let (family, kind) = family.unwrap_or_else(|| panic!("a sample without a family: {line}"));
                scrape.sample(family, kind, line);
            }
        }
        assert_eq!(helped, None);
        scrape.check_histograms();
        scrape
    }

    fn sample(&mut self, family: &str, kind: &str, line: &str) {
        let open = line.find('{').expect("labels");
        let (name, rest) = line.split_at(open);
        let suffixes: &[&str] = match kind {
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        let suffix = name.strip_prefix(family);
        assert!(
            suffix.is_some_and(|suffix| suffixes.contains(&suffix)),
            "{line} in {family}"
        );
        let (labels, value) = read_labels(&rest[1..]);
        assert_eq!(labels.contains_key("le"), name.ends_with("_bucket"), "{line}");
        let value: f64 = value.strip_prefix(' ').expect("a blank").parse().expect("a number");
        assert!(value.is_finite() && (kind == "gauge" || value >= 0.0), "{line}");
        let known = self.samples.insert((name.to_owned(), labels), value);
        assert!(known.is_none(), "{line} comes twice");
    }

    /// Classes count up, and the last has all.
    fn check_histograms(&self) {
        for name in self
            .families
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
            .map(|(name, _)| name)
        {
            let mut classes: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
            for ((sample, labels), value) in &self.samples {
                if *sample == format!("{name}_bucket") {
                    let mut labels = labels.clone();
                    let bound = labels.remove("le").unwrap();
                    let bound = if bound == "+Inf" {
                        f64::INFINITY
                    } else {
                        bound.parse().unwrap()
                    };
                    classes.entry(labels).or_default().push((bound, *value));
                }
            }
            for (labels, mut classes) in classes {
                classes.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    classes.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                    "{name} {classes:?}"
                );
                let last = classes.last().unwrap();
                let count = self.samples[&(format!("{name}_count"), labels.clone())];
                assert_eq!(*last, (f64::INFINITY, count), "{name}");
                assert!(self.samples.contains_key(&(format!("{name}_sum"), labels)), "{name}");
            }
        }
    }

    /// Samples of this name that have all of these labels.
    pub(crate) fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(&BTreeMap<String, String>, f64)> {
        let has = |known: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(name, value)| known.get(*name).map(String::as_str) == Some(*value))
        };
        let samples = self.samples.iter();
        samples
            .filter(|((sample, known), _)| sample == name && has(known))
            .map(|((_, labels), value)| (labels, *value))
            .collect()
    }

    /// The only one.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match &self.all(name, labels)[..] {
            [(_, value)] => *value,
            found => panic!("{name} {labels:?}: {found:?} of {:?}", self.all(name, &[])),
        }
    }

    /// The bounds of a histogram's classes.
    pub(crate) fn bounds(&self, name: &str) -> Vec<f64> {
        let bounds = self.all(&format!("{name}_bucket"), &[]).into_iter();
        let bounds: BTreeSet<u64> = bounds
            .filter_map(|(labels, _)| labels["le"].parse::<f64>().ok())
            .filter(|bound| bound.is_finite())
            .map(|bound| bound as u64)
            .collect();
        bounds.into_iter().map(|bound| bound as f64).collect()
    }

    /// Labels that every sample has.
    pub(crate) fn common(&self) -> BTreeMap<String, String> {
        let mut samples = self.samples.keys().map(|(_, labels)| labels);
        let mut common = samples.next().unwrap().clone();
        for labels in samples {
            common.retain(|name, value| labels.get(name) == Some(value));
        }
        common
    }
}

fn is_name(text: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

/// Reads up to the brace; what follows it comes back.
fn read_labels(mut text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, rest) = text.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("the end of a value") {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, c @ ('\\' | '"'))) => c,
                    other => panic!("an escape of {other:?}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} comes twice");
        text = &rest[end + 1..];
        match text.split_at(1) {
            (",", rest) => text = rest,
            ("}", rest) => return (labels, rest),
            (other, _) => panic!("{other} behind a label"),
        }
    }
}
