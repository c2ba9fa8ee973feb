//! Orderly POP under the kills: a queue is handed out in order and without gaps, only when everything before is
//! acknowledged, and from a kill on again from what was acknowledged and saved at the latest.
//!
//! One consumer, which lives through all kills, pops with requests of its own and acknowledges what it gets. What has no
//! answer is asked for again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bytes::Bytes;
use oxmq_client::{Message, Producer};
use oxmq_protocol::FieldSet;
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::requests::{AckMessageHeader, PopMessageHeader, PopMessageReply, QueueHeader, request};
use oxmq_remoting::RemotingClient;
use tokio::task::JoinHandle;

use super::{CALL_TIMEOUT, QUEUES, client};

pub(super) const TOPIC: &str = "CrashOrderly";
const GROUP: &str = "crash-orderly";
const SEND_PAUSE: Duration = Duration::from_millis(4);
const INVISIBLE_MS: i64 = 1000;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Orderly {
    addr: String,
    producer: Producer,
    sender: Option<JoinHandle<()>>,
    consumer: JoinHandle<anyhow::Result<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

/// What came from each queue.
#[derive(Default)]
struct Seen {
    /// The offset behind the last that was handed out.
    next: BTreeMap<i32, i64>,
    /// Kills since a queue was handed out from its end.
    went_back: u64,
    deliveries: u64,
}

impl Seen {
    /// Offsets of one pop of one queue.
    fn popped(&mut self, queue_id: i32, offsets: &[i64]) -> anyhow::Result<()> {
        let next = self.next.entry(queue_id).or_default();
        for offset in offsets {
            ensure!(
                *offset <= *next,
                "orderly POP of queue {queue_id} goes from {next} to {offset}: it leaves something out"
            );
            self.went_back += u64::from(*offset < *next);
            *next = offset + 1;
            self.deliveries += 1;
        }
        Ok(())
    }
}

impl Orderly {
    pub(super) async fn start(namesrv_addr: String, addr: String) -> anyhow::Result<Orderly> {
        let producer = Producer::builder("crash-orderly-producer")
            .name_server(namesrv_addr)
            .retry_times_when_send_failed(0);
        let shared = Arc::<Shared>::default();
        Ok(Orderly {
            producer: producer.start().await?,
            sender: None,
            consumer: tokio::spawn(consume(addr.clone(), Arc::clone(&shared))),
            addr,
            shared,
        })
    }

    /// Sends until the broker dies.
    pub(super) fn load(&mut self) {
        let producer = self.producer.clone();
        self.sender = Some(tokio::spawn(async move {
            while producer.send(Message::new(TOPIC, "in order")).await.is_ok() {
                tokio::time::sleep(SEND_PAUSE).await;
            }
        }));
    }

    /// The broker is dead.
    pub(super) async fn ended(&mut self) -> anyhow::Result<()> {
        if let Some(sender) = self.sender.take() {
            sender.await?;
        }
        if self.consumer.is_finished() {
            (&mut self.consumer).await??;
        }
        Ok(())
    }

    /// Waits until each queue was handed out to its end.
    pub(super) async fn check(&mut self) -> anyhow::Result<String> {
        let (remoting, deadline) = (client(), Instant::now() + SETTLE_TIMEOUT);
        for queue_id in 0..QUEUES {
            let header = QueueHeader {
                topic: TOPIC.to_owned(),
                queue_id,
                ..QueueHeader::default()
            };
            let call = remoting.call::<request::GetMaxOffset>(&self.addr, &header, Bytes::new(), CALL_TIMEOUT);
            let end = call.await?.fields.offset;
            while self.seen_to(queue_id) < end {
                if self.consumer.is_finished() {
                    (&mut self.consumer).await??;
                }
                if Instant::now() > deadline {
                    bail!(
                        "orderly POP of queue {queue_id} stays at {} of {end}",
                        self.seen_to(queue_id)
                    );
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let seen = self.shared.seen.lock().expect("nobody panics with it");
        Ok(format!(
            "{} messages were popped in order, {} times from further back",
            seen.deliveries, seen.went_back
        ))
    }

    fn seen_to(&self, queue_id: i32) -> i64 {
        let seen = self.shared.seen.lock().expect("nobody panics with it");
        seen.next.get(&queue_id).copied().unwrap_or(0)
    }

    pub(super) async fn shutdown(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // What went wrong was told by `check`.
        let _ = (&mut self.consumer).await;
        self.producer.shutdown().await;
    }
}

async fn consume(addr: String, shared: Arc<Shared>) -> anyhow::Result<()> {
    let remoting = client();
    while !shared.stop.load(Ordering::Relaxed) {
        for queue_id in 0..QUEUES {
            // An error means that there is no broker for a while.
            let handles = match pop(&remoting, &addr, queue_id).await {
                Ok(Some((offsets, handles))) => {
                    shared
                        .seen
                        .lock()
                        .expect("nobody panics with it")
                        .popped(queue_id, &offsets)?;
                    handles
                }
                Ok(None) | Err(_) => Vec::new(),
            };
            for header in handles {
                let _ = remoting
                    .call::<request::AckMessage>(&addr, &header, Bytes::new(), CALL_TIMEOUT)
                    .await;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Queue offsets of what is handed out, and how to acknowledge it.
async fn pop(
    remoting: &RemotingClient,
    addr: &str,
    queue_id: i32,
) -> anyhow::Result<Option<(Vec<i64>, Vec<AckMessageHeader>)>> {
    let header = PopMessageHeader {
        consumer_group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        queue_id,
        max_msg_nums: 8,
        invisible_time: INVISIBLE_MS,
        order: Some(true),
        ..PopMessageHeader::default()
    };
    let command = oxmq_protocol::RemotingCommand::request::<request::PopMessage>(&header, Bytes::new());
    let reply = remoting.invoke(addr, command, CALL_TIMEOUT).await?;
    if reply.header.code != 0 {
        return Ok(None);
    }
    let fields = PopMessageReply::read(&reply.header.ext_fields)?;
    let offsets: Vec<i64> = decode_messages(&reply.body, true)?
        .iter()
        .map(|message| message.queue_offset)
        .collect();
    let Some(start) = offsets.first() else { return Ok(None) };
    let ack = |offset: &i64| AckMessageHeader {
        consumer_group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        queue_id,
        extra_info: format!(
            "{start} {} {} {} 0 broker-a {queue_id} {offset}",
            fields.pop_time, fields.invisible_time, fields.revive_qid
        ),
        offset: *offset,
        broker_name: None,
    };
    let acks = offsets.iter().map(ack).collect();
    Ok(Some((offsets, acks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_is_allowed_and_leaving_out_is_not() {
        let mut seen = Seen::default();
        seen.popped(0, &[0, 1, 2]).unwrap();
        seen.popped(0, &[1, 2, 3]).unwrap();
        assert_eq!((seen.next[&0], seen.went_back), (4, 1));
        assert!(seen.popped(0, &[5]).is_err());
    }
}
