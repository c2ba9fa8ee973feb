//! What the process does when its disk fails, and what it does not even begin with.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, ConsumeOrderlyStatus, Message, Messages, Producer, PushConsumer};
use rustix::process::{Resource, Rlimit, prlimit};

use super::*;

/// Files may not be written beyond this: less than the commit log file has, so that a write of a record fails.
const WRITABLE_BYTES: u64 = 16 * 1024;

#[test]
fn a_broker_whose_log_cannot_be_written_ends_with_status_3_if_it_is_told_to() {
    let folder = folder();
    let (_namesrv, namesrv_addr) = start_namesrv(folder.path(), Path::new(OXMQ), &["namesrv"]);
    let conf = format!(
        "{LOCAL}brokerName=broker-x\nbrokerIP1=127.0.0.1\nnamesrvAddr={namesrv_addr}\nstorePathRootDir={}\n\
         mappedFileSizeCommitLog=1048576\nexitOnStoreFailure=true\n",
        folder.path().join("store").display()
    );
    let conf = file(folder.path(), "broker.conf", &conf);
    // A write beyond the limit is an error where the signal about it is ignored.
    let run_it = "trap '' XFSZ; exec \"$0\" broker -c \"$1\"";
    let mut broker = Server::start(Path::new("/bin/sh"), &["-c", run_it, OXMQ, &conf]);
    broker.line_with("boot success");
    let limit = Rlimit {
        current: Some(WRITABLE_BYTES),
        maximum: None,
    };
    prlimit(Some(Pid::from_child(&broker.process)), Resource::Fsize, limit).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let refused = runtime.unwrap().block_on(async {
        let producer = Producer::builder("p")
            .name_server(&*namesrv_addr)
            .start()
            .await
            .unwrap();
        loop {
            let message = Message::new("Refused", vec![b'x'; WRITABLE_BYTES as usize / 2]);
            // The broker may not have registered yet, which is another error.
            match producer.send(message).await {
                Ok(_) => {}
                Err(error) if error.to_string().contains("commit log failed") => break error.to_string(),
                Err(_) if broker.process.try_wait().unwrap().is_some() => break String::new(),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    assert_eq!(broker.exit_code(), Some(3), "{refused}");
    let abort = folder.path().join("store/abort");
    assert!(abort.exists(), "the next start must look at the end of the log");
    let mut broker = Server::start(Path::new(OXMQ), &["broker", "-c", &conf]);
    broker.line_with("boot success");
    broker.signal(Signal::TERM);
    assert_eq!(broker.exit_code(), Some(0));
    assert!(!abort.exists());
}

/// Flips a bit of a file.
fn flip(path: &Path, at: u64, bit: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

#[test]
fn a_consumer_gets_past_damaged_messages_and_gets_all_others_in_order() {
    const COUNT: usize = 300;
    let folder = folder();
    let (_namesrv, namesrv_addr) = start_namesrv(folder.path(), Path::new(OXMQ), &["namesrv"]);
    let store = folder.path().join("store");
    let conf = format!(
        "{LOCAL}brokerName=broker-x\nbrokerIP1=127.0.0.1\nnamesrvAddr={namesrv_addr}\nstorePathRootDir={}\n\
         mappedFileSizeCommitLog=1048576\n",
        store.display()
    );
    let conf = file(folder.path(), "broker.conf", &conf);
    let start = || {
        let mut broker = Server::start(Path::new(OXMQ), &["broker", "-c", &conf]);
        broker.line_with("boot success");
        broker
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut broker = start();
    let places: Vec<u64> = runtime.block_on(async {
        let producer = Producer::builder("p")
            .name_server(&*namesrv_addr)
            .start()
            .await
            .unwrap();
        let mut places = Vec::new();
        while places.len() < COUNT {
            let message = Message::new("Damaged", places.len().to_string()).with_property("pad", "x".repeat(2000));
            match producer.send_ordered(message, "one queue").await {
                Ok(sent) => places.push(u64::from_str_radix(&sent.offset_msg_id[16..], 16).unwrap()),
                // The broker may not have registered yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        producer.shutdown().await;
        places
    });
    broker.signal(Signal::TERM);
    assert_eq!(broker.exit_code(), Some(0));
    // In the length, the body and the properties; and in the newest part, which no whole group of checksums covers.
    let log = store.join("commitlog/00000000000000000000");
    let damaged = [(50, 2), (51, 88), (120, 1500), (COUNT - 2, 1500)];
    for (number, byte) in damaged {
        flip(&log, places[number] + byte, 3);
    }

    let _broker = start();
    let received = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&received);
    runtime.block_on(async {
        let consumer = PushConsumer::builder("g")
            .name_server(&*namesrv_addr)
            .consume_from_where(ConsumeFromWhere::FirstOffset)
            .subscribe("Damaged", "*")
            .orderly(move |messages: Messages| {
                let numbers = messages
                    .iter()
                    .map(|message| text(&message.body).parse::<usize>().unwrap());
                listener.lock().unwrap().extend(numbers);
                std::future::ready(ConsumeOrderlyStatus::Success)
            });
        let consumer = consumer.start().await.unwrap();
        let all = async {
            while received.lock().unwrap().last() != Some(&(COUNT - 1)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        consumer.shutdown().await;
    });
    let wanted = (0..COUNT).filter(|number| damaged.iter().all(|(damaged, _)| damaged != number));
    assert!(received.lock().unwrap().iter().copied().eq(wanted));
}

#[test]
fn stores_of_another_form_are_refused_by_name_and_nothing_is_written() {
    for setting in ["storeType=defaultRocksDB", "enableDLegerCommitLog=true"] {
        let folder = folder();
        let store = folder.path().join("store");
        let conf = format!("{LOCAL}storePathRootDir={}\n{setting}\n", store.display());
        let conf = file(folder.path(), "broker.conf", &conf);
        let refused = run(Path::new(OXMQ), &["broker", "-c", &conf]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(text(&refused.stderr).contains(setting), "{refused:?}");
        assert!(!store.exists(), "{setting}");
    }
}
