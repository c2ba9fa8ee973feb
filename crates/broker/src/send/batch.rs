//! The encoding of a batch: a record per message, or one record for a queue of batches.

use std::sync::Arc;

use oxmq_protocol::record::RecordFields;
use oxmq_protocol::{batch, hash, properties, property, sys_flag, topic};
use oxmq_store::{Extra, TagsCode};

use super::{Put, SendError, SendStage, Staged, UNIQUE_KEY_OVERHEAD_BYTES};
use crate::put::{self, PropertyScan};
use crate::waiting::Waiting;

impl Put<'_> {
    pub(super) fn batch(&self, stage: &mut SendStage, body: &[u8]) -> Result<Staged, SendError> {
        let request = self.request;
        let name = self.topic.name();
        if name.len() > topic::TOPIC_LENGTH_MAX {
            return Err(SendError::BatchTopicLength(name.len()));
        }
        if topic::is_retry(name) {
            return Err(SendError::BatchToRetryTopic);
        }
        let seen = PropertyScan::of(request.properties);
        if body.is_empty()
            || seen.delay_level > 0
            || seen.inner_num.is_some()
            || self.sys_flag & (sys_flag::TRANSACTION_MASK | sys_flag::INNER_BATCH) != 0
        {
            return Err(self.illegal());
        }
        if self.broker.waiting(0, &seen.timer)? != Waiting::Nowhere {
            return Err(self.illegal());
        }
        if body.len() > self.config.max_message_size {
            return Err(SendError::BatchTooLarge { bytes: body.len() });
        }
        if let Some(key) = seen.unique_key.filter(|_| self.topic.is_batch_queue) {
            return self.whole_batch(stage, body, &seen, key);
        }
        let first_entry = stage.batch.entries.len();
        let first_byte = stage.batch.records.len();
        if let Err(error) = self.batch_items(stage, body) {
            stage.batch.entries.truncate(first_entry);
            stage.batch.records.truncate(first_byte);
            return Err(error);
        }
        stage.batch.entries[first_entry].group_len = (stage.batch.entries.len() - first_entry) as u32;
        Ok(self.staged(stage, first_entry, seen.unique_key.unwrap_or_default(), &seen))
    }

    /// A batch to a queue of batches is one record, which the consumer unwraps (spec: behaviour.md §3.2).
    fn whole_batch(
        &self,
        stage: &mut SendStage,
        body: &[u8],
        seen: &PropertyScan<'_>,
        key: &[u8],
    ) -> Result<Staged, SendError> {
        let count = batch::items(body).try_fold(0u16, |count, item| {
            item.ok().filter(|_| count < i16::MAX as u16).map(|_| count + 1)
        });
        let count = count.ok_or_else(|| self.illegal())?;
        let mut extra = match seen.multi_dispatch {
            Some(names) => self
                .broker
                .multi_dispatch(self.topic.name(), names)?
                .unwrap_or_default(),
            None => Extra::default(),
        };
        extra.inner_batch = Some(count);
        let added = self.broker.stamp.len() + UNIQUE_KEY_OVERHEAD_BYTES;
        put::fits_with(&extra, self.request.properties.len() + added).map_err(|_| self.illegal())?;
        let mut fields = self.fields(self.topic.name(), self.queue_id, body);
        fields.sys_flag |= sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP;
        let queue = self.topic.queue(self.broker, self.queue_id);
        let tags_code = TagsCode::Hash(seen.tags.map_or(0, hash::tags_code));
        let first_entry = stage.batch.entries.len();
        put::stage(&mut stage.batch, queue, &fields, tags_code, 1, |out| {
            put::copy_properties(out, self.request.properties, put::is_stamped);
            out.extend_from_slice(&self.broker.stamp);
            properties::write(out, property::INNER_NUM.as_bytes(), count.to_string().as_bytes());
        })
        .map_err(|_| self.illegal())?;
        stage.batch.add_extra(extra);
        Ok(self.staged(stage, first_entry, key, seen))
    }

    /// Each item of a batch becomes a record of its own with its properties as they are (spec: storage.md §3.6).
    fn batch_items(&self, stage: &mut SendStage, body: &[u8]) -> Result<(), SendError> {
        let name = self.topic.name();
        let queue = self.topic.queue(self.broker, self.queue_id);
        for item in batch::items(body) {
            let item = item.map_err(|_| SendError::BatchMalformed)?;
            if item.body.is_empty() {
                return Err(self.illegal());
            }
            let tags = properties::find(item.properties, property::TAGS);
            let fields = RecordFields {
                flag: item.flag,
                prepared_transaction_offset: 0,
                ..self.fields(name, self.queue_id, item.body)
            };
            let tags_code = TagsCode::Hash(tags.map_or(0, hash::tags_code));
            put::stage(&mut stage.batch, Arc::clone(&queue), &fields, tags_code, 0, |out| {
                let is_claim = |(name, _): (&[u8], &[u8])| put::is_of_append(name);
                // Offsets in light queues that the client made up would be taken for real ones.
                match self.broker.store.config().multi_dispatch && properties::iter(item.properties).any(is_claim) {
                    true => put::copy_properties(out, item.properties, put::is_of_append),
                    false => out.extend_from_slice(item.properties),
                }
            })
            .map_err(|_| self.illegal())?;
        }
        Ok(())
    }
}
