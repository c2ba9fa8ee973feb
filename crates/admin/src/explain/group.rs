//! What one group has seen of a message, and if it has not, why. No I/O.
//!
//! Proof goes before inference: a dead letter, a trace, a copy in a retry topic. Then what keeps the message from every
//! member (filter, permission), then what the offsets tell, and last the members.

use oxmq_filter::{Expression, Outcome};
use oxmq_protocol::body::{ConsumeFromWhere, MessageModel, SubscriptionData};
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::perm;
use serde::Serialize;

use super::facts::{Facts, GroupFacts, MemberFacts, Place, Record, TraceKind};
use super::judge::State;
use crate::text::{ago, span, time};

/// A member that has not pulled for so long while messages wait is suspended or hangs.
const STALLED_MS: i64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A trace says that a member has consumed it.
    Consumed,
    /// Its offset is past the message.
    Past,
    /// Its offset is past the message, but it may have begun behind it.
    PerhapsSkipped,
    DeadLetter,
    /// It was consumed in vain, or its time ran out, and comes again.
    Retrying,
    /// Handed out by POP.
    Invisible,
    /// A member has it.
    InHand,
    /// The subscription does not take it.
    Filtered,
    /// Its filter cannot be evaluated.
    FilterUnknown,
    NoPermission,
    NotYet,
    Deleted,
    Broadcast,
    NoMember,
    NotSubscribed,
    NotAssigned,
    NotLocked,
    Stalled,
    /// Others are before it.
    Behind,
    /// The group has no offset in the queue.
    NotStarted,
}

impl Verdict {
    /// Whether the group has had it and is done with it.
    pub fn has_seen(self) -> bool {
        matches!(
            self,
            Verdict::Consumed | Verdict::Past | Verdict::PerhapsSkipped | Verdict::DeadLetter
        )
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupAnswer {
    pub group: String,
    pub verdict: Verdict,
    pub why: String,
    /// How often it was handed out, as far as its copies tell.
    pub retries: i32,
    pub offset: Option<i64>,
    /// Messages before it, where the group is not past it.
    pub lag: Option<i64>,
    pub members: usize,
}

pub(super) fn judge_group(facts: &Facts, primary: &Record, state: State, group: &GroupFacts) -> GroupAnswer {
    let case = Case {
        facts,
        primary,
        message: &primary.message,
        state,
        group,
    };
    let (verdict, why) = case.verdict();
    let lag = group
        .offset
        .map(|offset| primary.message.queue_offset - offset)
        .filter(|lag| *lag >= 0);
    GroupAnswer {
        group: group.name.clone(),
        verdict,
        why,
        retries: case.retries(),
        offset: group.offset,
        lag: lag.filter(|_| primary.place == Place::Topic),
        members: group
            .connection
            .as_ref()
            .map_or(0, |connection| connection.connection_set.len()),
    }
}

struct Case<'a> {
    facts: &'a Facts,
    primary: &'a Record,
    message: &'a MessageExt,
    state: State,
    group: &'a GroupFacts,
}

type Judged = (Verdict, String);

impl Case<'_> {
    fn verdict(&self) -> Judged {
        self.dead_letter()
            .or_else(|| self.traced())
            .or_else(|| self.retried())
            .or_else(|| self.popped())
            .or_else(|| self.not_there())
            .or_else(|| self.filtered())
            .or_else(|| self.past())
            .or_else(|| self.forbidden())
            .or_else(|| self.without_members())
            .or_else(|| self.with_members())
            .unwrap_or_else(|| self.behind())
    }

    /// Its copies for this group, the newest last.
    fn copies(&self) -> impl Iterator<Item = &Record> {
        let name = &self.group.name;
        self.facts.records.iter().filter(move |record| match &record.place {
            Place::Retry { group } | Place::DeadLetter { group } => group == name,
            Place::Level | Place::Timer => {
                let next = record
                    .next_topic()
                    .map(|next| Place::of(next, std::slice::from_ref(name)));
                matches!(next, Some(Place::Retry { group }) if group == *name)
            }
            _ => false,
        })
    }

    fn retries(&self) -> i32 {
        self.copies()
            .map(|copy| copy.message.reconsume_times)
            .max()
            .unwrap_or(0)
    }

    fn dead_letter(&self) -> Option<Judged> {
        let dead = self
            .copies()
            .find(|copy| matches!(copy.place, Place::DeadLetter { .. }))?;
        let message = &dead.message;
        let why = format!(
            "a dead letter since {}: consumed in vain {} times; it lies in {} at offset {}",
            time(message.store_timestamp),
            message.reconsume_times + 1,
            dead.queue(),
            message.queue_offset
        );
        Some((Verdict::DeadLetter, why))
    }

    fn traced(&self) -> Option<Judged> {
        let name = &self.group.name;
        let ends = self.facts.trace.iter().filter(|event| event.group == *name);
        let consumed = ends.filter(|event| matches!(event.kind, TraceKind::ConsumeEnds { success: true, .. }));
        let last = consumed.max_by_key(|event| event.time_ms)?;
        let when = (time(last.time_ms), ago(self.facts.now_ms, last.time_ms));
        Some((
            Verdict::Consumed,
            format!("consumed {} ({}), as its trace says", when.0, when.1),
        ))
    }

    fn retried(&self) -> Option<Judged> {
        let copy = self.copies().last()?;
        let times = copy.message.reconsume_times.max(1);
        if let Some(due) = copy.due_ms(&self.facts.brokers) {
            let why = format!(
                "consumed in vain {times} times; it comes again {}, at {}",
                ago(self.facts.now_ms, due),
                time(due)
            );
            return Some((Verdict::Retrying, why));
        }
        let queue = copy.queue();
        let offset = self.group.retry_offsets.get(&queue);
        let at = copy.message.queue_offset;
        Some(match offset {
            Some(offset) if *offset > at => (
                Verdict::Past,
                format!("past it after {times} retries ({queue}: {offset})"),
            ),
            offset => {
                let lag = at - offset.copied().unwrap_or(0);
                let member = match self.group.connection {
                    None => "no member is online to take it",
                    Some(_) => "a member has it or will get it",
                };
                let why = format!(
                    "consumed in vain {times} times; retry {times} is in {queue} behind {lag} others, {member}"
                );
                (Verdict::Retrying, why)
            }
        })
    }

    fn popped(&self) -> Option<Judged> {
        let checkpoint = self.group.checkpoint.as_ref()?;
        let (popped, until) = (checkpoint.pop_time, checkpoint.revive_time());
        let now = self.facts.now_ms;
        let why = match until > now {
            true => format!(
                "popped {} and not acknowledged: invisible until {} ({})",
                ago(now, popped),
                time(until),
                ago(now, until)
            ),
            false => format!(
                "popped {} and not acknowledged in time: it is about to come again",
                ago(now, popped)
            ),
        };
        Some((Verdict::Invisible, why))
    }

    fn not_there(&self) -> Option<Judged> {
        match self.state {
            State::Stored => None,
            State::Deleted => match self.group.offset {
                Some(offset) if offset > self.message.queue_offset => None,
                _ => {
                    let min = self.facts.topic.min_offset.unwrap_or(-1);
                    Some((
                        Verdict::Deleted,
                        format!("too late: deleted before the group came to it; the queue begins at {min}"),
                    ))
                }
            },
            State::OnlyCopies => Some((Verdict::Deleted, "the message itself is deleted".into())),
            State::Recalled => Some((Verdict::NotYet, "never: it was recalled".into())),
            State::TransactionRolledBack => Some((Verdict::NotYet, "never: its transaction was rolled back".into())),
            State::TransactionGivenUp => Some((
                Verdict::NotYet,
                "never: the outcome of its transaction is not known".into(),
            )),
            State::TransactionPending => Some((Verdict::NotYet, "not yet: its transaction is open".into())),
            _ => {
                let due = self.primary.due_ms(&self.facts.brokers);
                let due = due.map_or_else(String::new, |due| format!(" until {}", time(due)));
                Some((Verdict::NotYet, format!("not yet: it waits{due}")))
            }
        }
    }

    fn subscription(&self) -> Option<&SubscriptionData> {
        self.group
            .connection
            .as_ref()?
            .subscription_table
            .get(&self.message.topic)
    }

    fn filtered(&self) -> Option<Judged> {
        let subscription = self.subscription()?;
        let expression = &subscription.sub_string;
        if subscription.is_tag_type() {
            if subscription.takes_all()
                || !subscription.tags_set.is_empty() && subscription.matches_tag(self.message.tags())
            {
                return None;
            }
            let tag = self
                .message
                .tags()
                .map_or_else(|| "has no tag".into(), |tag| format!("has the tag \"{tag}\""));
            return Some((
                Verdict::Filtered,
                format!("filtered out: it {tag}, the group subscribes to \"{expression}\""),
            ));
        }
        let compiled = match Expression::compile(expression) {
            Ok(compiled) => compiled,
            Err(error) => {
                let why = format!("gets nothing: its expression \"{expression}\" cannot be read: {error}");
                return Some((Verdict::FilterUnknown, why));
            }
        };
        let reason = match compiled.evaluate(self.message.properties.encoded_text().as_bytes()) {
            Outcome::True => return None,
            Outcome::False => "is false",
            Outcome::Null => "is NULL, for a property that it names is missing,",
            Outcome::Aborted => "fails, for a property is no number where one is needed or types cannot be compared,",
        };
        Some((
            Verdict::Filtered,
            format!("filtered out: \"{expression}\" {reason} for its properties"),
        ))
    }

    fn past(&self) -> Option<Judged> {
        let offset = self.group.offset.filter(|offset| *offset > self.message.queue_offset)?;
        let stored = self.message.store_timestamp;
        let began = self.group.members.iter().map(|member| member.started_ms);
        // Without the start of each member nothing is known of the group's beginning.
        let began = began.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min());
        let from_last = self.group.connection.as_ref().is_some_and(|connection| {
            !matches!(
                connection.consume_from_where,
                ConsumeFromWhere::FirstOffset | ConsumeFromWhere::MinOffset
            )
        });
        let at = format!("its offset is {offset}, the message has {}", self.message.queue_offset);
        Some(match began.filter(|began| *began > stored && from_last) {
            Some(began) => {
                let why = format!(
                    "past it ({at}); perhaps never seen: its members started {} after the message was stored, and new groups begin at the end",
                    span(began - stored)
                );
                (Verdict::PerhapsSkipped, why)
            }
            None => (Verdict::Past, format!("past it: {at}")),
        })
    }

    fn forbidden(&self) -> Option<Judged> {
        let broker = self
            .facts
            .brokers
            .iter()
            .find(|broker| broker.name == self.message.broker_name);
        let unreadable = |bits: Option<i32>| bits.filter(|bits| !perm::is_readable(*bits)).map(perm::text);
        let why = if self.group.consume_enable == Some(false) {
            "may not consume: the group has consumeEnable=false".into()
        } else if let Some(bits) = broker.and_then(|broker| unreadable(broker.perm)) {
            format!("cannot read: the broker's permission is {bits} (brokerPermission)")
        } else if let Some(bits) = unreadable(self.facts.topic.perm) {
            format!("cannot read: the permission of {} is {bits}", self.message.topic)
        } else if self.group.readable == Some(false) {
            format!("may not read {}: forbidden for this group", self.message.topic)
        } else if self
            .facts
            .topic
            .read_queue_nums
            .is_some_and(|queues| self.message.queue_id >= queues)
        {
            let queues = self.facts.topic.read_queue_nums.unwrap_or(0);
            format!(
                "queue {} is not read: {} has {queues} read queues",
                self.message.queue_id, self.message.topic
            )
        } else if self.is_broadcast() && self.group.broadcast_enable == Some(false) {
            "may not broadcast: the group has consumeBroadcastEnable=false".into()
        } else {
            return None;
        };
        Some((Verdict::NoPermission, why))
    }

    fn is_broadcast(&self) -> bool {
        let model = self
            .group
            .connection
            .as_ref()
            .map(|connection| connection.message_model);
        model == Some(MessageModel::Broadcasting)
    }

    fn waiting(&self) -> String {
        match self.group.offset.map(|offset| self.message.queue_offset - offset) {
            Some(0) => "it is the next in its queue".into(),
            Some(1) => "1 other is before it".into(),
            Some(others) => format!("{others} others are before it"),
            None => "the group has no offset in this queue".into(),
        }
    }

    fn without_members(&self) -> Option<Judged> {
        if self
            .group
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.connection_set.is_empty())
        {
            return None;
        }
        Some((
            Verdict::NoMember,
            format!("no member of the group is online; {}", self.waiting()),
        ))
    }

    fn with_members(&self) -> Option<Judged> {
        let topic = &self.message.topic;
        if self.subscription().is_none() {
            return Some((
                Verdict::NotSubscribed,
                format!("its members do not subscribe to {topic}; {}", self.waiting()),
            ));
        }
        if self.is_broadcast() {
            return Some((
                Verdict::Broadcast,
                "broadcasting: each member keeps its own offsets, the broker has none".into(),
            ));
        }
        let members = &self.group.members;
        let connected = self
            .group
            .connection
            .as_ref()
            .map_or(0, |connection| connection.connection_set.len());
        let owner = members.iter().find_map(|member| Some((member, member.queue.as_ref()?)));
        let Some((member, queue)) = owner else {
            // Members that pop share queues, pull consumers do not tell, and one that did not answer may have it.
            let all_told = members.len() == connected && !members.iter().any(|member| member.pops);
            let is_push = self.group.connection.as_ref().is_some_and(is_push);
            let none = (
                Verdict::NotAssigned,
                format!(
                    "queue {} is assigned to none of the {connected} members",
                    self.message.queue_id
                ),
            );
            return (all_told && is_push).then_some(none);
        };
        self.with_owner(member, queue)
    }

    fn with_owner(&self, member: &MemberFacts, queue: &oxmq_protocol::body::ProcessQueueInfo) -> Option<Judged> {
        let (name, now, at) = (&member.client_id, self.facts.now_ms, self.message.queue_offset);
        if queue.droped {
            return Some((Verdict::NotAssigned, format!("{name} is giving the queue up")));
        }
        if member.is_orderly && !queue.locked {
            let why = format!(
                "{name} consumes in order and does not hold the lock of the queue (another member may, for up to 60 s)"
            );
            return Some((Verdict::NotLocked, why));
        }
        if queue.cached_msg_count > 0 && (queue.cached_msg_min_offset..=queue.cached_msg_max_offset).contains(&at) {
            let before = match self.group.offset {
                Some(offset) if offset < at => format!(", {} before it are not done", at - offset),
                _ => String::new(),
            };
            let since = ago(now, queue.last_consume_timestamp);
            return Some((
                Verdict::InHand,
                format!("{name} has it, last consumption {since}{before}"),
            ));
        }
        let idle = now - queue.last_pull_timestamp;
        (queue.last_pull_timestamp > 0 && idle > STALLED_MS).then(|| {
            let held = queue.cached_msg_count;
            let why = format!(
                "{name} has the queue and has not pulled for {}: it is suspended, or its {held} messages in hand hang; {}",
                span(idle),
                self.waiting()
            );
            (Verdict::Stalled, why)
        })
    }

    fn behind(&self) -> Judged {
        match self.group.offset {
            Some(offset) => {
                let lag = self.message.queue_offset - offset;
                let why = match lag {
                    0 => "next in its queue".to_owned(),
                    lag => format!("not there yet: {lag} messages of its queue are before it (offset {offset})"),
                };
                (Verdict::Behind, why)
            }
            None => {
                let why =
                    "has members but no offset in this queue yet: nothing is committed until a message is consumed";
                (Verdict::NotStarted, why.into())
            }
        }
    }
}

fn is_push(connection: &oxmq_protocol::body::ConsumerConnection) -> bool {
    connection.consume_type == oxmq_protocol::body::ConsumeType::Passively
}
