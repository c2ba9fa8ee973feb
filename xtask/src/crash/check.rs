//! What the broker stores after a crash, against what it acknowledged before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::requests::{PullMessageHeader, PullMessageReply, QueryMessageHeader, QueueHeader, request};
use oxmq_protocol::{FieldSet, RemotingCommand, response_code};

use super::load::{Acknowledged, Sent};
use super::{CALL_TIMEOUT, QUEUES, TOPIC, client};

/// Re-read in each round although it was checked before: a crash must not harm what is older.
const OVERLAP: usize = 1000;
/// Messages of each round that are looked up in the index, in that round and all later ones.
const LOOKUPS: usize = 5;
/// The index is written behind the log.
const INDEX_TIMEOUT: Duration = Duration::from_secs(60);
const SUBSCRIPTION_IN_REQUEST: i32 = 4;

/// The queues as they were last read: what lies at each queue offset.
pub(crate) struct Stored {
    addr: String,
    queues: Vec<Vec<Sent>>,
    looked_up: Vec<Sent>,
    pub(crate) acknowledged: u64,
}

impl Stored {
    pub(crate) fn new(addr: String) -> Stored {
        Stored {
            addr,
            queues: vec![Vec::new(); QUEUES as usize],
            looked_up: Vec::new(),
            acknowledged: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.iter().map(Vec::len).sum()
    }

    /// Reads what is new since the last check, and some of what is not, and looks for everything acknowledged since.
    pub(crate) async fn check(&mut self, acknowledged: &[Acknowledged]) -> anyhow::Result<()> {
        self.check_queues(acknowledged).await?;
        for (at, sent) in self.looked_up.iter().enumerate() {
            let count = self.looked_up.len();
            self.check_index(*sent)
                .await
                .with_context(|| format!("message {at} of the {count} looked up, oldest first"))?;
        }
        Ok(())
    }

    /// The same without the index.
    pub(crate) async fn check_queues(&mut self, acknowledged: &[Acknowledged]) -> anyhow::Result<()> {
        for queue_id in 0..QUEUES {
            let known = &self.queues[queue_id as usize];
            self.queues[queue_id as usize] = self
                .read_on(queue_id, known.len().saturating_sub(OVERLAP))
                .await
                .with_context(|| format!("queue {queue_id}"))?;
        }
        self.check_order()?;
        for ack in acknowledged {
            let stored = self.queues[ack.queue_id as usize].get(ack.queue_offset as usize);
            ensure!(
                stored == Some(&ack.sent),
                "acknowledged {ack:?}, stored there: {stored:?}"
            );
        }
        self.acknowledged += acknowledged.len() as u64;
        let some = acknowledged.iter().rev().step_by(acknowledged.len() / LOOKUPS + 1);
        self.looked_up.extend(some.map(|ack| ack.sent));
        Ok(())
    }

    /// Reads everything from the beginning.
    pub(crate) async fn check_all_again(&self) -> anyhow::Result<()> {
        for queue_id in 0..QUEUES {
            self.read_on(queue_id, 0)
                .await
                .with_context(|| format!("queue {queue_id}, read again"))?;
        }
        Ok(())
    }

    /// The messages of a queue: known ones, of which those from `from` on must be there as they were, and new ones.
    async fn read_on(&self, queue_id: i32, from: usize) -> anyhow::Result<Vec<Sent>> {
        let mut known = self.queues[queue_id as usize].clone();
        let max_offset = self.max_offset(queue_id).await?;
        ensure!(
            known.len() <= max_offset,
            "had {} messages, ends at {max_offset}",
            known.len()
        );
        let client = client();
        let mut next = from;
        while next < max_offset {
            let request = RemotingCommand::request::<request::PullMessage>(&pull(queue_id, next), Bytes::new());
            let response = client.invoke(&self.addr, request, CALL_TIMEOUT).await?;
            ensure!(
                response.header.code == response_code::SUCCESS,
                "pull at {next} of {max_offset}: {} {:?}",
                response.header.code,
                response.header.remark
            );
            let messages = decode_messages(&response.body, true)?;
            ensure!(!messages.is_empty(), "an empty pull at {next}");
            for message in messages {
                let sent = self.check_message(&message, queue_id, next)?;
                match known.get(next) {
                    Some(before) => ensure!(*before == sent, "{before:?} at {next} has become {sent:?}"),
                    None => known.push(sent),
                }
                next += 1;
            }
            let reply = PullMessageReply::read(&response.header.ext_fields)?;
            ensure!(
                reply.next_begin_offset as usize == next,
                "next offset {} after reading up to {next}",
                reply.next_begin_offset
            );
        }
        Ok(known)
    }

    fn check_message(&self, message: &MessageExt, queue_id: i32, queue_offset: usize) -> anyhow::Result<Sent> {
        ensure!(
            message.queue_offset == queue_offset as i64 && message.queue_id == queue_id,
            "offset {} of queue {} stands at {queue_offset}",
            message.queue_offset,
            message.queue_id
        );
        let crc = crc32fast::hash(&message.body);
        ensure!(
            message.body_crc & 0x7fff_ffff == crc & 0x7fff_ffff,
            "CRC at {queue_offset}"
        );
        Sent::of_body(&message.body)
    }

    /// Within a queue, the numbers of each producer only grow; so each message is there at most once.
    fn check_order(&self) -> anyhow::Result<()> {
        for (queue_id, messages) in self.queues.iter().enumerate() {
            let mut last: HashMap<u64, u64> = HashMap::new();
            for (queue_offset, sent) in messages.iter().enumerate() {
                let before = last.insert(sent.producer, sent.number);
                ensure!(
                    before.is_none_or(|before| before < sent.number),
                    "{sent:?} at {queue_offset} of queue {queue_id} comes after its number {before:?}"
                );
            }
        }
        Ok(())
    }

    async fn check_index(&self, sent: Sent) -> anyhow::Result<()> {
        let header = QueryMessageHeader {
            topic: TOPIC.to_owned(),
            key: sent.key(),
            max_num: 32,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            ..QueryMessageHeader::default()
        };
        let client = client();
        let deadline = Instant::now() + INDEX_TIMEOUT;
        loop {
            let request = RemotingCommand::request::<request::QueryMessage>(&header, Bytes::new());
            let response = client.invoke(&self.addr, request, CALL_TIMEOUT).await?;
            let found = decode_messages(&response.body, true)?
                .iter()
                .any(|message| message.body == sent.body());
            if found {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the index does not find {sent:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn max_offset(&self, queue_id: i32) -> anyhow::Result<usize> {
        let header = QueueHeader {
            topic: TOPIC.to_owned(),
            queue_id,
            ..QueueHeader::default()
        };
        let reply = client()
            .call::<request::GetMaxOffset>(&self.addr, &header, Bytes::new(), CALL_TIMEOUT)
            .await?;
        Ok(reply.fields.offset as usize)
    }
}

fn pull(queue_id: i32, queue_offset: usize) -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: "crash-check".to_owned(),
        topic: TOPIC.to_owned(),
        queue_id,
        queue_offset: queue_offset as i64,
        max_msg_nums: 32,
        sys_flag: SUBSCRIPTION_IN_REQUEST,
        subscription: Some("*".to_owned()),
        expression_type: Some("TAG".to_owned()),
        ..PullMessageHeader::default()
    }
}
