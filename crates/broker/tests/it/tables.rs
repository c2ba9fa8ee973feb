//! The tables below `config/`: a damaged one gives way to the version before it and says so; where there is none, the
//! broker does not start, and says why.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Mutex;

use oxmq_store::disk::{Disk, SimulatedDisk};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::node::*;

/// What goes to the log as an error.
#[derive(Default)]
struct Errors(Mutex<Vec<String>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl Subscriber for &'static Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

const FILES: [&str; 11] = [
    "consumerFilter.json",
    "consumerOffset.json",
    "consumerOrderInfo.json",
    "delayOffset.json",
    "lmqConsumerOffset.json",
    "messageRequestMode.json",
    "subscriptionGroup.json",
    "timermetrics",
    "topicQueueMapping.json",
    "topics.json",
    "transactionMetrics",
];

fn write(disk: &SimulatedDisk, path: &Path, bytes: &[u8]) {
    let file = disk.create(path).unwrap();
    file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
}

#[test]
fn a_damaged_table_gives_way_to_the_version_before_or_stops_the_start() {
    let disk = SimulatedDisk::new();
    let clock = VirtualClock::new();
    let mut node = Node::start_in(clock.with_disk(&disk), |config| {
        (config.enable_lmq, config.enable_multi_dispatch) = (true, true);
    });
    let config_dir = node.dir.path().join("store/config");
    node.stop();
    let errors: &'static Errors = Box::leak(Box::default());
    let start = |disk: &SimulatedDisk| tracing::subscriber::with_default(errors, || node.try_on(disk));
    for name in FILES {
        let path = config_dir.join(name);
        let before = config_dir.join(format!("{name}.bak"));
        let cut = br#"{"dataVersion":{"counter":1,"#;
        for damage in [&b""[..], &[0; 500], cut, b"\xFF\x00 no table"] {
            let disk = disk.kill();
            write(&disk, &path, damage);
            write(&disk, &before, b"{}");
            errors.0.lock().unwrap().clear();
            start(&disk).unwrap().shutdown();
            let lines = std::mem::take(&mut *errors.0.lock().unwrap());
            let shown = |what: &str, path: &Path| {
                let path = path.display().to_string();
                lines.iter().any(|line| line.contains(what) && line.contains(&path))
            };
            assert!(shown("this file is damaged", &path), "{name}: {lines:?}");
            assert!(shown("the version before is used", &before), "{name}: {lines:?}");
        }
        let disk = disk.kill();
        write(&disk, &path, cut);
        write(&disk, &before, cut);
        let refused = start(&disk)
            .err()
            .expect("two damaged versions are not taken for none")
            .to_string();
        assert!(refused.contains(name) && refused.contains("is damaged"), "{refused}");
    }
}
