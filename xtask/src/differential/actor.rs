//! One actor: a script done step by step against both servers, each answer compared before the next step.
//!
//! Actors share no topics and no groups, so that they can run side by side.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::requests::{OffsetReply, QueueHeader, request};
use oxmq_protocol::{FieldSet, RemotingCommand, SerializeType, response_code};
use oxmq_remoting::{CallError, ClientConfig, RemotingClient, RequestHandler};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::answer::{Difference, Normalizer, differences, prefix};
use super::known::KnownDifferences;
use super::learn::learn;
use super::operations::{Operation, operation};
use super::pushes::Pushes;
use super::script::{Call, Memory, Step, Target};

/// A request that is not answered within this time counts as unanswered on that server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long answers to a repeatable request may differ: both servers do some work behind their answers.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The same while a failing script is made shorter.
const HASTY_SETTLE_TIMEOUT: Duration = Duration::from_millis(300);
/// How long what is delayed may take to come.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
const HASTY_ARRIVAL_TIMEOUT: Duration = Duration::from_secs(8);
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(200);

/// The servers under test, by address.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    pub(super) java: Addresses,
    pub(super) oxmq: Addresses,
}

#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub(super) broker: String,
    pub(super) name_server: String,
}

/// Two answers that should be equal and are not.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Index of the step.
    pub(super) at: usize,
    pub(super) differences: Vec<Difference>,
    pub(super) java: Value,
    pub(super) oxmq: Value,
}

/// One server as one actor knows it.
struct Side {
    client: RemotingClient,
    pushes: Arc<Pushes>,
    addresses: Addresses,
    prefix: String,
    memory: Memory,
}

pub(super) struct Actor {
    settle_timeout: Duration,
    arrival_timeout: Duration,
    known: Arc<KnownDifferences>,
    java: Side,
    oxmq: Side,
}

impl Actor {
    /// `run` keeps apart what repeated runs of one script leave on the servers. Every other actor speaks the binary
    /// header.
    pub(super) fn new(servers: &Servers, known: Arc<KnownDifferences>, run: u32, number: usize) -> Actor {
        let serialize = if number.is_multiple_of(2) {
            SerializeType::Json
        } else {
            SerializeType::RocketMq
        };
        let side = |addresses: &Addresses| Side::new(addresses.clone(), prefix(run, number), serialize);
        Actor {
            settle_timeout: SETTLE_TIMEOUT,
            arrival_timeout: ARRIVAL_TIMEOUT,
            known,
            java: side(&servers.java),
            oxmq: side(&servers.oxmq),
        }
    }

    /// The same with less patience.
    pub(super) fn hasty(self) -> Actor {
        Actor {
            settle_timeout: HASTY_SETTLE_TIMEOUT,
            arrival_timeout: HASTY_ARRIVAL_TIMEOUT,
            ..self
        }
    }

    /// Does the script up to the first difference.
    pub(super) async fn run(&mut self, script: &[Step]) -> Result<(), Failure> {
        let mut at = 0;
        while at < script.len() {
            let step = &script[at];
            if step.call == Call::Overlap && at + 1 < script.len() {
                // Side by side on each server. What the first one learns is not needed by the second.
                let next = &script[at + 1];
                let (first, second) = tokio::join!(
                    ask_both(&self.java, &self.oxmq, step),
                    ask_both(&self.java, &self.oxmq, next)
                );
                self.compare(at, step, first).await?;
                self.compare(at + 1, next, second).await?;
                at += 2;
            } else {
                let answers = ask_both(&self.java, &self.oxmq, step).await;
                self.compare(at, step, answers).await?;
                at += 1;
            }
        }
        Ok(())
    }

    async fn compare(&mut self, at: usize, step: &Step, answers: (Asked, Asked)) -> Result<(), Failure> {
        let row = operation(&step.operation);
        let mut answers = answers;
        if step.messages_min > 0 {
            let deadline = Instant::now() + self.arrival_timeout;
            let mut pause = POLL_INTERVAL_MIN;
            while count(&answers.0).min(count(&answers.1)) < step.messages_min && Instant::now() < deadline {
                answers = self.again(step, &mut pause).await;
            }
        }
        let mut failure = self.difference(at, step, row, &answers);
        if row.repeatable && failure.is_some() {
            let patience = match row.patient {
                true => self.arrival_timeout,
                false => self.settle_timeout,
            };
            let deadline = Instant::now() + patience;
            let mut pause = POLL_INTERVAL_MIN;
            while failure.is_some() && Instant::now() < deadline {
                answers = self.again(step, &mut pause).await;
                failure = self.difference(at, step, row, &answers);
            }
        }
        // Both know the same things, or later steps would ask for different ones.
        if answers.0.code() == answers.1.code() {
            self.java.learn(step, &answers.0);
            self.oxmq.learn(step, &answers.1);
        }
        failure.map_or(Ok(()), Err)
    }

    async fn again(&self, step: &Step, pause: &mut Duration) -> (Asked, Asked) {
        sleep(*pause).await;
        *pause = (*pause * 2).min(POLL_INTERVAL_MAX);
        ask_both(&self.java, &self.oxmq, step).await
    }

    fn difference(&self, at: usize, step: &Step, row: &Operation, answers: &(Asked, Asked)) -> Option<Failure> {
        let java = self.java.value(row, &answers.0);
        let oxmq = self.oxmq.value(row, &answers.1);
        let mut differences = differences(&java, &oxmq);
        differences
            .retain(|difference| !row.ignores(&difference.path) && !self.known.covers(&step.operation, difference));
        let covered = differences.is_empty() || self.known.covers_answer(&step.operation, &java, &oxmq);
        (!covered).then_some(Failure {
            at,
            differences,
            java,
            oxmq,
        })
    }
}

/// What a request came to.
enum Asked {
    Answer(RemotingCommand),
    Pushes(Vec<RemotingCommand>),
    /// Not answered, in words.
    Nothing(String),
}

impl Asked {
    fn code(&self) -> Option<i32> {
        match self {
            Asked::Answer(answer) => Some(answer.header.code),
            Asked::Pushes(_) | Asked::Nothing(_) => None,
        }
    }
}

async fn ask_both(java: &Side, oxmq: &Side, step: &Step) -> (Asked, Asked) {
    tokio::join!(java.ask(step), oxmq.ask(step))
}

fn count(asked: &Asked) -> usize {
    match asked {
        Asked::Answer(answer) if answer.header.code == response_code::SUCCESS => {
            decode_messages(&answer.body, false).map_or(0, |messages| messages.len())
        }
        _ => 0,
    }
}

impl Side {
    fn new(addresses: Addresses, prefix: String, serialize: SerializeType) -> Side {
        let config = ClientConfig {
            serialize,
            ..ClientConfig::default()
        };
        let pushes = Arc::new(Pushes::default());
        Side {
            client: RemotingClient::new(config, Some(Arc::clone(&pushes) as Arc<dyn RequestHandler>)),
            pushes,
            addresses,
            prefix,
            memory: Memory::default(),
        }
    }

    async fn ask(&self, step: &Step) -> Asked {
        let addr = match step.to {
            Target::Broker => &self.addresses.broker,
            Target::NameServer => &self.addresses.name_server,
            Target::Pushes => return Asked::Pushes(self.pushes.all()),
        };
        let command = step.command(&self.memory, &self.prefix);
        let asked = match step.call {
            Call::OneWay => self.one_way(addr, command).await,
            Call::Wait | Call::Overlap => {
                let answered = self.client.invoke(addr, command, ANSWER_TIMEOUT).await;
                answered.map_err(anyhow::Error::from)
            }
        };
        match asked {
            Ok(answer) => Asked::Answer(answer),
            Err(error) => Asked::Nothing(match error.downcast_ref() {
                Some(CallError::Timeout { .. }) => "no answer".to_owned(),
                Some(CallError::Closed { .. }) => "connection closed".to_owned(),
                _ => format!("{error:#}"),
            }),
        }
    }

    /// Sends and waits until the queue has grown; the answer is made up.
    async fn one_way(&self, addr: &str, command: RemotingCommand) -> anyhow::Result<RemotingCommand> {
        let field = |names: [&str; 2]| {
            let value = names.iter().find_map(|name| command.header.ext_fields.get(name));
            value.with_context(|| format!("a one-way request without {names:?}"))
        };
        let queue = QueueHeader {
            topic: field(["topic", "b"])?.to_owned(),
            queue_id: field(["queueId", "e"])?.parse()?,
            ..QueueHeader::default()
        };
        let max_offset = async || {
            let command = RemotingCommand::request::<request::GetMaxOffset>(&queue, Bytes::new());
            let answer = self.client.invoke(addr, command, ANSWER_TIMEOUT).await?;
            anyhow::Ok(OffsetReply::read(&answer.header.ext_fields)?.offset)
        };
        let before = max_offset().await?;
        self.client.oneway(addr, command).await?;
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while max_offset().await? == before {
            anyhow::ensure!(Instant::now() < deadline, "a message sent one-way has not been stored");
            sleep(POLL_INTERVAL_MIN).await;
        }
        Ok(RemotingCommand::default())
    }

    /// The answer in the form in which it is compared.
    fn value(&self, row: &Operation, asked: &Asked) -> Value {
        let normalizer = Normalizer {
            prefix: &self.prefix,
            broker: &self.addresses.broker,
            name_server: &self.addresses.name_server,
        };
        match asked {
            Asked::Answer(answer) => normalizer.answer(row.body, answer),
            Asked::Pushes(pushes) => normalizer.pushes(pushes),
            Asked::Nothing(why) => json!({ "nothing": normalizer.text(why) }),
        }
    }

    fn learn(&mut self, step: &Step, asked: &Asked) {
        if let Asked::Answer(answer) = asked {
            learn(&mut self.memory, step, answer);
        }
    }
}
