//! The encoding of one message, wherever it goes first: its queue, the dead letters, a delay, the half topic.

use std::rc::Rc;
use std::sync::Arc;

use oxmq_protocol::properties::PROPERTIES_BYTES_MAX;
use oxmq_protocol::record::RecordFields;
use oxmq_protocol::version::V3_4_9;
use oxmq_protocol::{hash, properties, property, sys_flag, topic};
use oxmq_store::{QueueKind, TagsCode};

use super::{Put, SendError, SendStage, Staged, UNIQUE_KEY_OVERHEAD_BYTES};
use crate::put::{self, Priority, PropertyScan};
use crate::topic_cache::TopicState;
use crate::transactions::half;
use crate::waiting::Waiting;

impl Put<'_> {
    pub(super) fn single(&self, stage: &mut SendStage, body: &[u8]) -> Result<Staged, SendError> {
        let seen = PropertyScan::of(self.request.properties);
        let last_queue = self.topic.config.write_queue_nums - 1;
        let queue_id = match seen.priority() {
            Priority::Queue(priority) if last_queue >= 0 => priority.min(last_queue),
            _ => self.queue_id,
        };
        Put { queue_id, ..*self }.scanned(stage, body, seen)
    }

    fn scanned(&self, stage: &mut SendStage, body: &[u8], seen: PropertyScan<'_>) -> Result<Staged, SendError> {
        let request = self.request;
        let dead_letters = self.dead_letters()?;
        if self.topic.is_compaction && !seen.has_keys {
            return Err(SendError::KeyMissing);
        }
        // A committed message that comes back to be consumed again keeps its properties.
        let is_half = seen.transaction && !(request.reconsume_times > 0 && seen.delay_level > 0);
        if is_half && self.config.reject_transaction_message {
            let ip = self.config.broker_ip1.clone();
            return Err(SendError::Transaction { ip });
        }
        if body.is_empty() || body.len() > self.config.max_message_size {
            return Err(self.illegal());
        }
        let inner_batch = self.inner_batch(&seen)?;
        if is_half && dead_letters.is_none() {
            return match inner_batch {
                None => self.half(stage, body, &seen),
                Some(_) => Err(self.illegal()),
            };
        }
        let waiting = match put::enters_a_queue(self.sys_flag) && dead_letters.is_none() {
            true => self.broker.waiting(seen.delay_level, &seen.timer)?,
            false => Waiting::Nowhere,
        };
        let made_key;
        let key = match seen.unique_key {
            Some(key) => key,
            None => {
                made_key = self.broker.next_unique_id();
                &made_key.0[..made_key.1]
            }
        };
        let hash = TagsCode::Hash(seen.tags.map_or(0, hash::tags_code));
        let (topic, queue) = match (waiting.queue(), &dead_letters) {
            (Some((topic, queue_id)), _) => (topic, self.broker.store.queue_or_create(topic, queue_id)),
            (None, Some(topic)) => (topic.name(), topic.queue(self.broker, 0)),
            (None, None) => (self.topic.name(), self.topic.queue(self.broker, self.queue_id)),
        };
        let mut extra = match (waiting, seen.multi_dispatch) {
            (Waiting::Nowhere, Some(names)) => self.broker.multi_dispatch(topic, names)?,
            _ => None,
        };
        if inner_batch.is_some() && queue.kind() == QueueKind::Batch {
            extra.get_or_insert_default().inner_batch = inner_batch;
        }
        if let Some(extra) = &extra {
            let added = self.broker.stamp.len() + key.len() + UNIQUE_KEY_OVERHEAD_BYTES;
            put::fits_with(extra, request.properties.len() + added).map_err(|_| self.illegal())?;
        }
        let first_entry = stage.batch.entries.len();
        put::stage(
            &mut stage.batch,
            Arc::clone(&queue),
            &self.fields(topic, queue.queue_id(), body),
            waiting.tags_code(hash),
            1,
            |out| {
                match waiting {
                    Waiting::Level(_) | Waiting::Timer { .. } => {
                        waiting.write(
                            out,
                            request.properties,
                            self.topic.name(),
                            self.queue_id,
                            seen.dropped(),
                        );
                    }
                    Waiting::Nowhere if dead_letters.is_some() => {
                        put::copy_properties(out, request.properties, |name| {
                            put::is_stamped(name) || name == property::DELAY_TIME_LEVEL.as_bytes()
                        });
                        properties::write(out, property::DELAY_TIME_LEVEL.as_bytes(), b"-1");
                    }
                    Waiting::Nowhere if seen.as_is => put::copy_text(out, request.properties),
                    Waiting::Nowhere => put::copy_properties(out, request.properties, seen.dropped()),
                }
                out.extend_from_slice(&self.broker.stamp);
                if seen.unique_key.is_none() {
                    properties::write(out, property::UNIQUE_CLIENT_MESSAGE_ID.as_bytes(), key);
                }
            },
        )
        .map_err(|_| self.illegal())?;
        if let Some(extra) = extra {
            stage.batch.add_extra(extra);
        }
        if let (Some(_), Some(metrics)) = (&dead_letters, &self.broker.metrics) {
            let group = topic::group_of_retry(self.topic.name()).unwrap_or_default();
            metrics.dead_letter(group, self.topic.name());
        }
        Ok(Staged {
            timer_out_ms: match waiting {
                Waiting::Timer { out_ms } if !topic::is_retry(self.topic.name()) => Some(out_ms),
                _ => None,
            },
            ..self.staged(stage, first_entry, key, &seen)
        })
    }

    /// A message that waits in the half topic for the end of its transaction. A delay that it asks for begins then.
    fn half(&self, stage: &mut SendStage, body: &[u8], seen: &PropertyScan<'_>) -> Result<Staged, SendError> {
        let request = self.request;
        let made_key;
        let key = match seen.unique_key {
            Some(key) => key,
            None => {
                made_key = self.broker.next_unique_id();
                &made_key.0[..made_key.1]
            }
        };
        if request.properties.len() + key.len() + half::ROOM_BYTES > PROPERTIES_BYTES_MAX {
            return Err(self.illegal());
        }
        let fields = RecordFields {
            sys_flag: self.sys_flag & !sys_flag::TRANSACTION_MASK,
            ..self.fields(topic::TRANS_HALF_TOPIC, 0, body)
        };
        let tags_code = TagsCode::Hash(seen.tags.map_or(0, hash::tags_code));
        let entry = stage.batch.entries.len();
        let queue = self.broker.transactions.half_queue();
        put::stage(&mut stage.batch, Arc::clone(queue), &fields, tags_code, 1, |out| {
            put::copy_properties(out, request.properties, |name| {
                put::is_stamped(name) || half::is_of_half(name)
            });
            out.extend_from_slice(&self.broker.stamp);
            if seen.unique_key.is_none() {
                properties::write(out, property::UNIQUE_CLIENT_MESSAGE_ID.as_bytes(), key);
            }
            half::write_half(out, self.topic.name(), self.queue_id, key);
        })
        .map_err(|_| self.illegal())?;
        Ok(Staged {
            is_half: true,
            ..self.staged(stage, entry, key, seen)
        })
    }

    /// How many messages a record says it holds, if it is an inner batch: only queues of batches take those.
    fn inner_batch(&self, seen: &PropertyScan<'_>) -> Result<Option<u16>, SendError> {
        let is_flagged = self.sys_flag & sys_flag::INNER_BATCH != 0;
        if (seen.inner_num.is_some() && !is_flagged) || (is_flagged && !self.topic.is_batch_queue) {
            return Err(self.illegal());
        }
        if !is_flagged {
            return Ok(None);
        }
        let count = seen.inner_num.map_or(Some(1), put::message_count);
        count.map(Some).ok_or_else(|| self.illegal())
    }

    /// A message that was consumed in vain too often goes to the dead letters of its group, and so does one of a group
    /// that consumes in order: it must not come back behind others (spec: behaviour.md §3.3).
    fn dead_letters(&self) -> Result<Option<Rc<TopicState>>, SendError> {
        let Some(group) = topic::group_of_retry(self.topic.name()) else {
            return Ok(None);
        };
        // POP retry topics are named `%RETRY%group+topic`.
        let group = group.split('+').next().unwrap_or(group);
        let config = self.broker.group(group);
        let config = config.ok_or_else(|| SendError::GroupUnknown(group.to_owned()))?;
        let reconsume_times_max = match self.request.max_reconsume_times {
            Some(max) if self.producer.version >= V3_4_9 => max,
            _ => config.retry_max_times,
        };
        let now = self.broker.now_ms();
        let in_order = || self.broker.queue_locks.holds_any(group, now);
        if self.request.reconsume_times <= reconsume_times_max && !in_order() {
            return Ok(None);
        }
        let dead_letters = self.broker.topics.ensure_dlq_topic(group, now);
        let topic = self.topics.get(self.broker, dead_letters.topic_name.as_bytes());
        topic
            .map(Some)
            .ok_or_else(|| SendError::DeadLetterTopic(dead_letters.topic_name.clone()))
    }
}
