//! What a broker remembers of sends when it is killed.

use std::path::Path;
use std::time::Duration;

use oxmq_client::{Message, MessageQueue, Producer, SendResult};
use rustix::process::Signal;

use super::{LOCAL, OXMQ, Server, file, folder, start_namesrv};

const COUNT: usize = 40;

async fn send(producer: &Producer, number: usize) -> SendResult {
    let message = Message::new("Bookings", number.to_string()).with_property("UNIQ_KEY", format!("booking-{number}"));
    let sending = async {
        loop {
            match producer.send(message.clone()).await {
                Ok(sent) => return sent,
                // The broker may not have registered yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sending).await.unwrap()
}

/// Where a message lies: its queue, its offset there, and its place in the log. The rest of its id is the broker's address,
/// which is another one after each start here.
type Place = (MessageQueue, i64, String);

fn place(sent: SendResult) -> Place {
    let in_log = sent.offset_msg_id[16..].to_owned();
    (sent.queue, sent.queue_offset, in_log)
}

async fn send_all(namesrv_addr: &str) -> Vec<Place> {
    let producer = Producer::builder("bookings")
        .name_server(namesrv_addr)
        .start()
        .await
        .unwrap();
    let mut results = Vec::new();
    for number in 0..COUNT {
        results.push(place(send(&producer, number).await));
    }
    producer.shutdown().await;
    results
}

#[test]
fn a_broker_that_was_killed_knows_what_it_has_stored() {
    let folder = folder();
    let (_namesrv, namesrv_addr) = start_namesrv(folder.path(), Path::new(OXMQ), &["namesrv"]);
    let conf = format!(
        "{LOCAL}brokerName=broker-x\nbrokerIP1=127.0.0.1\nnamesrvAddr={namesrv_addr}\nstorePathRootDir={}\n\
         mappedFileSizeCommitLog=1048576\nduplicateSendWindow=600000\n",
        folder.path().join("store").display()
    );
    let conf = file(folder.path(), "broker.conf", &conf);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut results = Vec::new();
    for _ in 0..3 {
        let mut broker = Server::start(Path::new(OXMQ), &["broker", "-c", &conf]);
        broker.line_with("boot success");
        results.push(runtime.block_on(send_all(&namesrv_addr)));
        broker.signal(Signal::KILL);
        broker.exit_code();
    }
    assert_eq!(results[0].len(), COUNT);
    assert!(results[0] == results[1], "all as before the first kill");
    assert!(results[0] == results[2], "all as before the second kill");
}
