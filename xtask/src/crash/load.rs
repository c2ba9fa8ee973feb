//! The load under which the broker dies: producers that number their messages, and what was acknowledged to them.
//!
//! Each producer has a connection of its own with a fixed number of sends under way, and writes to all queues in turn.
//! A message says in its body who sent it and as which; the rest of the body follows from that, so that a harmed one
//! is recognised. One more producer is that of the client library, which sends one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use oxmq_client::{Message, Producer, SendStatus};
use oxmq_protocol::requests::{SendMessageHeaderV2, SendMessageReply, request};
use oxmq_protocol::{FieldSet, RemotingCommand, batch, response_code};
use oxmq_remoting::{CallError, RemotingClient};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::{CALL_TIMEOUT, QUEUES, TOPIC, client};

const PIPELINED_PRODUCERS: u64 = 4;
const LIBRARY_PRODUCER: u64 = PIPELINED_PRODUCERS;
const IN_FLIGHT: usize = 24;
/// Pipelined producers with an odd number send batches.
const BATCH: u64 = 8;
const FLUSH_DISK_TIMEOUT: i32 = response_code::FLUSH_DISK_TIMEOUT;

/// One message as its producer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    pub(crate) producer: u64,
    /// From 0, without gaps, over all queues and rounds.
    pub(crate) number: u64,
}

/// The broker said that this message lies there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledged {
    pub(crate) sent: Sent,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: i64,
}

impl Sent {
    /// `producer/number` and a filler of 0 to 2,000 bytes.
    pub(crate) fn body(self) -> Bytes {
        let mut body = format!("{}/{}/", self.producer, self.number).into_bytes();
        let filler = self.number.wrapping_mul(2_654_435_761) % 2000;
        body.extend((0..filler).map(|at| (at ^ self.number ^ self.producer) as u8));
        body.into()
    }

    /// Reads a body back; an error if any byte of it is not as it was sent.
    pub(crate) fn of_body(body: &[u8]) -> anyhow::Result<Sent> {
        let mut parts = body.splitn(3, |byte| *byte == b'/');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
        let (Some(producer), Some(number)) = (number(), number()) else {
            bail!("a body that no producer sent: {:?}", Bytes::copy_from_slice(body));
        };
        let sent = Sent { producer, number };
        ensure!(sent.body() == body, "the body of {sent:?} is harmed");
        Ok(sent)
    }

    pub(crate) fn key(self) -> String {
        format!("{}-{}", self.producer, self.number)
    }

    /// Messages of a batch go to one queue; batches, like single messages, to all queues in turn.
    fn queue_id(self) -> i32 {
        let turn = if self.producer % 2 == 1 {
            self.number / BATCH
        } else {
            self.number
        };
        (turn % QUEUES as u64) as i32
    }

    fn message(self) -> Message {
        Message::new(TOPIC, self.body()).with_keys(self.key())
    }
}

pub(crate) struct Producers {
    namesrv_addr: String,
    addr: String,
    next_numbers: Vec<Arc<AtomicU64>>,
}

/// A load that runs until the broker dies.
pub(crate) struct Load {
    producers: JoinSet<anyhow::Result<Ended>>,
    first_answer: Arc<Notify>,
}

/// A producer met the end of the broker.
struct Ended {
    acknowledged: Vec<Acknowledged>,
    why: String,
}

impl Producers {
    pub(crate) fn new(namesrv_addr: String, addr: String) -> Producers {
        Producers {
            namesrv_addr,
            addr,
            next_numbers: (0..=LIBRARY_PRODUCER).map(|_| Arc::default()).collect(),
        }
    }

    pub(crate) fn start(&mut self) -> Load {
        let mut producers = JoinSet::new();
        let first_answer = Arc::new(Notify::new());
        for (producer, next_number) in (0..).zip(&self.next_numbers) {
            let (next_number, first_answer) = (Arc::clone(next_number), Arc::clone(&first_answer));
            if producer == LIBRARY_PRODUCER {
                producers.spawn(produce_by_library(self.namesrv_addr.clone(), next_number, first_answer));
            } else {
                producers.spawn(produce(self.addr.clone(), producer, next_number, first_answer));
            }
        }
        Load {
            producers,
            first_answer,
        }
    }
}

impl Load {
    /// Returns when the load has run for this time after the first answer.
    pub(crate) async fn run_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let running = async {
            self.first_answer.notified().await;
            tokio::time::sleep(time).await;
        };
        tokio::select! {
            Some(ended) = self.producers.join_next() => {
                bail!("a producer ended before the broker was killed: {}", ended??.why)
            }
            () = running => Ok(()),
        }
    }

    /// Everything that was acknowledged until the broker died.
    pub(crate) async fn acknowledged(mut self) -> anyhow::Result<Vec<Acknowledged>> {
        let mut all = Vec::new();
        while let Some(ended) = self.producers.join_next().await {
            all.extend(ended??.acknowledged);
        }
        ensure!(!all.is_empty(), "nothing was acknowledged");
        Ok(all)
    }
}

async fn produce(
    addr: String,
    producer: u64,
    next_number: Arc<AtomicU64>,
    first_answer: Arc<Notify>,
) -> anyhow::Result<Ended> {
    let client = client();
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut sends = JoinSet::new();
    let mut all = Vec::new();
    let count = if producer % 2 == 1 { BATCH } else { 1 };
    loop {
        let permit = Arc::clone(&room).acquire_owned().await?;
        while let Some(result) = sends.try_join_next() {
            match result? {
                Ok(acknowledged) => {
                    first_answer.notify_one();
                    all.extend::<Vec<Acknowledged>>(acknowledged);
                }
                Err(SendError::Broken(error)) => {
                    return Ok(Ended {
                        acknowledged: drain(sends, all).await,
                        why: error.to_string(),
                    });
                }
                Err(SendError::Refused(error)) => return Err(error),
            }
        }
        let first = Sent {
            producer,
            number: next_number.fetch_add(count, Ordering::Relaxed),
        };
        let (client, addr) = (client.clone(), addr.clone());
        sends.spawn(async move {
            let result = send(&client, &addr, first, count).await;
            drop(permit);
            result
        });
    }
}

/// One after the other, without retries: a retried message might be stored twice.
async fn produce_by_library(
    namesrv_addr: String,
    next_number: Arc<AtomicU64>,
    first_answer: Arc<Notify>,
) -> anyhow::Result<Ended> {
    let producer = Producer::builder("crash-library")
        .name_server(namesrv_addr)
        .retry_times_when_send_failed(0)
        .start()
        .await?;
    let mut acknowledged = Vec::new();
    loop {
        let sent = Sent {
            producer: LIBRARY_PRODUCER,
            number: next_number.fetch_add(1, Ordering::Relaxed),
        };
        match producer.send(sent.message()).await {
            Ok(result) if result.status == SendStatus::SendOk => {
                first_answer.notify_one();
                acknowledged.push(Acknowledged {
                    sent,
                    queue_id: result.queue.queue_id,
                    queue_offset: result.queue_offset,
                });
            }
            // Stored but not promised.
            Ok(_) => {}
            Err(error) => {
                let why = error.to_string();
                return Ok(Ended { acknowledged, why });
            }
        }
    }
}

/// What still comes of the sends that were under way. No new ones: they would go to the next broker out of order.
async fn drain(
    mut sends: JoinSet<Result<Vec<Acknowledged>, SendError>>,
    mut all: Vec<Acknowledged>,
) -> Vec<Acknowledged> {
    while let Some(result) = sends.join_next().await {
        if let Ok(Ok(acknowledged)) = result {
            all.extend(acknowledged);
        }
    }
    all
}

enum SendError {
    /// The connection broke: whether the message is stored is open.
    Broken(CallError),
    Refused(anyhow::Error),
}

async fn send(client: &RemotingClient, addr: &str, first: Sent, count: u64) -> Result<Vec<Acknowledged>, SendError> {
    let response = client
        .invoke(addr, send_request(first, count), CALL_TIMEOUT)
        .await
        .map_err(SendError::Broken)?;
    acknowledged(first, count, &response).map_err(SendError::Refused)
}

fn send_request(first: Sent, count: u64) -> RemotingCommand {
    let message = first.message();
    let mut header = SendMessageHeaderV2 {
        producer_group: format!("crash-{}", first.producer),
        topic: TOPIC.to_owned(),
        default_topic: "TBW102".to_owned(),
        default_topic_queue_nums: QUEUES,
        queue_id: first.queue_id(),
        born_timestamp: crate::now_ms(),
        properties: Some(message.properties.encoded_text()),
        batch: count > 1,
        ..SendMessageHeaderV2::default()
    };
    if count == 1 {
        return RemotingCommand::request::<request::SendMessageV2>(&header, message.body);
    }
    header.properties = None;
    let messages: Vec<Message> = (first.number..first.number + count)
        .map(|number| Sent { number, ..first }.message())
        .collect();
    RemotingCommand::request::<request::SendBatchMessage>(&header, batch::encode(&messages))
}

fn acknowledged(first: Sent, count: u64, response: &RemotingCommand) -> anyhow::Result<Vec<Acknowledged>> {
    match response.header.code {
        response_code::SUCCESS => {}
        // Stored but not promised.
        FLUSH_DISK_TIMEOUT => return Ok(Vec::new()),
        code => bail!("a send was refused with {code}: {:?}", response.header.remark),
    }
    let reply = SendMessageReply::read(&response.header.ext_fields).context("the answer to a send")?;
    Ok((0..count)
        .map(|at| Acknowledged {
            sent: Sent {
                number: first.number + at,
                ..first
            },
            queue_id: reply.queue_id,
            queue_offset: reply.queue_offset + at as i64,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_message_and_any_harm() {
        let sent = Sent {
            producer: 3,
            number: 4711,
        };
        let body = sent.body();
        assert_eq!(Sent::of_body(&body).unwrap(), sent);
        for at in 0..body.len() {
            let mut harmed = body.to_vec();
            harmed[at] ^= 1;
            assert!(Sent::of_body(&harmed).is_err(), "byte {at}");
        }
        assert!(Sent::of_body(&body[..body.len() - 1]).is_err());
    }
}
