//! What the process does when its disk fails, and what it does not even begin with.

use oxmq_client::{Message, Producer};
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
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
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
