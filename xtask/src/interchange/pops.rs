//! POP: what was handed out and not acknowledged comes again; what was acknowledged does not, unless a kill took back offsets
//! that were not saved. Receipts are good for the broker that takes over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use oxmq_client::{ConsumeFromWhere, MessageExt, SimpleConsumer};
use oxmq_protocol::{Message, perm};

use super::wire::Wire;

const TOPIC: &str = "Popped";
const GROUP: &str = "poppers";
const QUEUES: i32 = 2;
const MESSAGES: u64 = 24;
const INVISIBLE: Duration = Duration::from_secs(10);
/// Longer than a hand-over on a busy machine.
const HELD: Duration = Duration::from_secs(120);
const CHANGED: Duration = Duration::from_secs(2);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than it takes a message to come again.
const QUIET: Duration = Duration::from_secs(13);

pub(super) struct Pops {
    consumer: SimpleConsumer,
    stories: BTreeMap<u64, Story>,
    /// Brokers are killed.
    forgets: bool,
    /// To be acknowledged after the next hand-over.
    held: Vec<MessageExt>,
}

#[derive(Debug, Default)]
struct Story {
    deliveries: u32,
    is_acknowledged: bool,
}

impl Pops {
    pub(super) async fn start(wire: &Wire, namesrv_addr: String, forgets: bool) -> anyhow::Result<Pops> {
        wire.create_topic(TOPIC, QUEUES, perm::READ | perm::WRITE, false, "")
            .await?;
        let consumer = SimpleConsumer::builder(GROUP)
            .name_server(namesrv_addr)
            .subscribe(TOPIC, "*")
            .consume_from_where(ConsumeFromWhere::FirstOffset)
            .await_duration(Duration::from_millis(300));
        Ok(Pops {
            consumer: consumer.start().await?,
            stories: BTreeMap::new(),
            forgets,
            held: Vec::new(),
        })
    }

    /// Messages are sent and handed out; of those some are acknowledged, some now, some after the hand-over.
    pub(super) async fn round(&mut self, wire: &Wire) -> anyhow::Result<()> {
        for message in std::mem::take(&mut self.held) {
            self.acknowledge(&message)
                .await
                .context("a receipt from before the hand-over")?;
        }
        for _ in 0..MESSAGES {
            let number = self.stories.len() as u64;
            let message = Message::new(TOPIC, number.to_string());
            wire.send(&message, (number % QUEUES as u64) as i32, 0).await?;
            self.stories.insert(number, Story::default());
        }
        for _ in 0..4 {
            for mut message in self.consumer.receive(8, INVISIBLE).await? {
                match self.delivered(&message)? % 4 {
                    0 => self.acknowledge(&message).await?,
                    1 => {
                        self.consumer.change_invisible_duration(&mut message, HELD).await?;
                        self.held.push(message);
                    }
                    2 => self.consumer.change_invisible_duration(&mut message, CHANGED).await?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn delivered(&mut self, message: &MessageExt) -> anyhow::Result<u64> {
        let number = number_of(message)?;
        let story = self.stories.get_mut(&number).context("a message that nobody sent")?;
        ensure!(
            !story.is_acknowledged || self.forgets,
            "message {number} was acknowledged, and comes again: {message:?}"
        );
        story.deliveries += 1;
        Ok(number)
    }

    async fn acknowledge(&mut self, message: &MessageExt) -> anyhow::Result<()> {
        let number = number_of(message)?;
        self.consumer
            .ack(message)
            .await
            .with_context(|| format!("{message:?}"))?;
        self.stories.entry(number).or_default().is_acknowledged = true;
        Ok(())
    }

    /// Acknowledges everything until nothing comes any more. How many messages there were, and how many of them came again.
    pub(super) async fn drain(&mut self) -> anyhow::Result<(usize, usize)> {
        for message in std::mem::take(&mut self.held) {
            self.acknowledge(&message).await?;
        }
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut last = Instant::now();
        loop {
            for message in self.consumer.receive(16, INVISIBLE).await? {
                self.delivered(&message)?;
                self.acknowledge(&message).await?;
                last = Instant::now();
            }
            let missing = self.stories.iter().find(|(_, story)| !story.is_acknowledged);
            match missing {
                None if last.elapsed() > QUIET => break,
                Some((number, story)) if Instant::now() > deadline => {
                    bail!("message {number} does not come again: {story:?}")
                }
                _ => {}
            }
        }
        let again = self.stories.values().filter(|story| story.deliveries > 1).count();
        Ok((self.stories.len(), again))
    }
}

fn number_of(message: &MessageExt) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(&message.body)?;
    text.parse().with_context(|| format!("body {text:?}"))
}
