//! `oxmq store` as operators call it.

use super::*;

fn stopped_broker(folder: &Path) -> PathBuf {
    let store = folder.join("store");
    let conf = format!(
        "{LOCAL}brokerIP1=127.0.0.1\nnamesrvAddr=127.0.0.1:1\nstorePathRootDir={}\nmappedFileSizeCommitLog=1048576\n",
        store.display()
    );
    let conf = file(folder, "broker.conf", &conf);
    let mut broker = Server::start(Path::new(OXMQ), &["broker", "-c", &conf]);
    broker.line_with("boot success");
    let running = run(Path::new(OXMQ), &["store", "check", &store.to_string_lossy()]);
    assert_eq!(running.status.code(), Some(2));
    assert!(text(&running.stderr).contains("used by another broker"), "{running:?}");
    broker.signal(Signal::TERM);
    assert_eq!(broker.exit_code(), Some(0));
    store
}

#[test]
fn a_store_is_checked_and_repaired_when_its_broker_is_not_running() {
    let folder = folder();
    let store = stopped_broker(folder.path());
    let dir = store.to_string_lossy().into_owned();
    let sound = run(Path::new(OXMQ), &["store", "check", &dir]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert!(text(&sound.stdout).contains("No problems."), "{sound:?}");

    let topics = store.join("config/topics.json");
    let before = br#"{"topicConfigTable":{}}"#.to_vec();
    fs::create_dir_all(store.join("config")).unwrap();
    fs::write(store.join("config/topics.json.bak"), &before).unwrap();
    fs::write(&topics, &before[..before.len() / 2]).unwrap();
    let damaged = run(Path::new(OXMQ), &["store", "check", "--json", &dir]);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    assert!(text(&damaged.stdout).contains("\"kind\":\"table\""), "{damaged:?}");
    let planned = run(Path::new(OXMQ), &["store", "repair", &dir]);
    assert_eq!(planned.status.code(), Some(1), "{planned:?}");
    assert_ne!(fs::read(&topics).unwrap(), before, "without --yes nothing changes");
    let repaired = run(Path::new(OXMQ), &["store", "repair", "--yes", &dir]);
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
    assert_eq!(fs::read(&topics).unwrap(), before);

    let dumped = run(Path::new(OXMQ), &["store", "dump", "--json", &dir]);
    assert_eq!(dumped.status.code(), Some(0), "{dumped:?}");
}

#[test]
fn what_is_no_store_cannot_be_read() {
    let folder = folder();
    let empty = folder.path().to_string_lossy().into_owned();
    let checked = run(Path::new(OXMQ), &["store", "check", &empty]);
    assert_eq!(checked.status.code(), Some(2));
    assert!(
        text(&checked.stderr).contains("is not the folder of a store"),
        "{checked:?}"
    );
    fs::create_dir_all(folder.path().join("config/rdb")).unwrap();
    file(folder.path(), "config/rdb/CURRENT", "MANIFEST-000001\n");
    let foreign = run(Path::new(OXMQ), &["store", "check", &empty]);
    assert_eq!(foreign.status.code(), Some(2));
    assert!(text(&foreign.stderr).contains("RocksDB"), "{foreign:?}");
}
