//! The tables below `config/`: a damaged one gives way to the version before it and says so; where there is none, the
//! broker does not start, and says why.

use std::io::IoSlice;
use std::path::Path;

use oxmq_store::disk::{Disk, SimulatedDisk};
use tracing::Level;

use crate::log_lines::LogLines;
use crate::node::*;

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
    let errors = LogLines::of(|metadata| *metadata.level() == Level::ERROR);
    let start = |disk: &SimulatedDisk| tracing::subscriber::with_default(errors, || node.try_on(disk));
    for name in FILES {
        let path = config_dir.join(name);
        let before = config_dir.join(format!("{name}.bak"));
        let cut = br#"{"dataVersion":{"counter":1,"#;
        for damage in [&b""[..], &[0; 500], cut, b"\xFF\x00 no table"] {
            let disk = disk.kill();
            write(&disk, &path, damage);
            write(&disk, &before, b"{}");
            errors.take();
            start(&disk).unwrap().shutdown();
            let lines = errors.take();
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
