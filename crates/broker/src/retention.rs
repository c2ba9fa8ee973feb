//! What the broker adds to the store's retention: its settings, and a word in the log about who loses what before a file
//! goes (spec: storage.md §12).

use oxmq_store::{Expiry, HourSet, RetentionSettings};

use crate::broker::Broker;
use crate::compaction;
use crate::config::BrokerConfig;

/// Groups named for one file; of the others only the number is logged.
const GROUPS_NAMED_MAX: usize = 50;

pub(crate) fn settings(config: &BrokerConfig) -> RetentionSettings {
    let delete_hours = HourSet::parse(&config.delete_when);
    if delete_hours.is_empty() {
        tracing::warn!(deleteWhen = config.delete_when, "no hour to delete old files in");
    }
    RetentionSettings {
        delete_hours,
        reserved_ms: reserved_ms(config),
        max_used_ratio: config.disk_max_used_space_ratio,
        forced_ratio: config.disk_space_clean_forcibly_ratio,
        warning_ratio: config.disk_space_warning_level_ratio,
        is_forced_enabled: config.clean_file_forcibly_enable,
        files_per_round: config.delete_file_batch_max,
        interval_ms: config.clean_resource_interval_ms,
        log_file_pause_ms: config.delete_commit_log_files_interval_ms,
        queue_file_pause_ms: config.delete_consume_queue_files_interval_ms,
        retry_interval_ms: config.redelete_hanged_file_interval_ms as i64,
        held_file_warning_ms: config.destroy_maped_file_interval_forcibly_ms as i64,
    }
}

/// How long a record is kept at least, unless the disk is full.
pub(crate) fn reserved_ms(config: &BrokerConfig) -> i64 {
    config.file_reserved_time_hours as i64 * 3_600_000
}

/// What one group loses of one topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Loss {
    pub group: String,
    pub topic: String,
    /// Queues of the topic in which it loses messages.
    pub queues: usize,
    pub messages: i64,
    /// All that it has not consumed of the topic, lost or not.
    pub lag: i64,
}

/// What has to happen before a file goes. False when it has to stay for now.
pub(crate) fn prepare(broker: &Broker, expiry: &Expiry) -> bool {
    let is_kept = compaction::keep_before(broker, expiry.to);
    if is_kept {
        report(broker, expiry);
    }
    is_kept
}

/// Logs which groups have not consumed what a file holds, and how many timer messages wait in it. Reads a few entries of
/// each queue where a group lags behind, and nothing else.
fn report(broker: &Broker, expiry: &Expiry) {
    let losses = losses(broker, expiry);
    for loss in losses.iter().take(GROUPS_NAMED_MAX) {
        let Loss {
            group,
            topic,
            queues,
            messages,
            lag,
        } = loss;
        tracing::warn!(group, topic, queues, messages, lag, reason = ?expiry.reason, "messages expire that the group has not consumed");
    }
    if let Some(more) = losses.len().checked_sub(GROUPS_NAMED_MAX).filter(|more| *more > 0) {
        tracing::warn!(more, "messages of more groups expire");
    }
    match broker.timers.waiting_in(expiry.from, expiry.to) {
        Ok(0) => {}
        Ok(timers) => tracing::warn!(timers, reason = ?expiry.reason, "messages expire that wait for their time"),
        Err(error) => tracing::warn!(%error, "the timer log cannot be read"),
    }
}

/// What groups with a committed offset have not consumed of a file, the largest loss first.
pub fn losses(broker: &Broker, expiry: &Expiry) -> Vec<Loss> {
    let mut losses = Vec::new();
    for (group, topic, offsets) in broker.consumer_offsets.all() {
        let (mut queues, mut messages, mut lag) = (0, 0, 0);
        for (queue_id, committed) in offsets {
            let Some(queue) = broker.store.queue(&topic, queue_id) else {
                continue;
            };
            let (min_offset, max_offset) = (queue.min_offset(), queue.max_offset());
            let next = committed.max(min_offset);
            if next >= max_offset {
                continue;
            }
            lag += max_offset - next;
            match broker.store.first_offset_from(&queue, expiry.to) {
                Ok(kept) if kept > next => {
                    queues += 1;
                    messages += kept - next;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(topic, queue_id, %error, "consume queue cannot be read"),
            }
        }
        if queues > 0 {
            losses.push(Loss {
                group,
                topic,
                queues,
                messages,
                lag,
            });
        }
    }
    losses.sort_unstable_by_key(|loss| -loss.messages);
    losses
}
