//! What producers sent to a topic by type of message, for the metrics. Counted only while they are on.

use std::sync::atomic::{AtomicU64, Ordering};

use super::TopicStats;

/// Upper ends of the classes of message sizes but the last, in bytes (spec: behaviour.md §14).
pub const SIZE_BOUNDS: [u64; 6] = [1 << 10, 4 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];

/// What a message was sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessageType {
    #[default]
    Normal,
    Fifo,
    Delay,
    Transaction,
}

impl MessageType {
    pub const ALL: [MessageType; 4] = [
        MessageType::Normal,
        MessageType::Fifo,
        MessageType::Delay,
        MessageType::Transaction,
    ];

    /// The value of the label `message_type`.
    pub fn name(self) -> &'static str {
        match self {
            MessageType::Normal => "normal",
            MessageType::Fifo => "fifo",
            MessageType::Delay => "delay",
            MessageType::Transaction => "transaction",
        }
    }
}

/// Several sends together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentBatch {
    pub messages: u64,
    pub bytes: u64,
    /// Sends by the size of their messages: [`SIZE_BOUNDS`], then all larger ones.
    pub sizes: [u64; SIZE_BOUNDS.len() + 1],
    /// Sum of these sizes.
    pub size_sum: u64,
}

impl SentBatch {
    /// One send, of one message or of a batch.
    pub fn add(&mut self, messages: i64, bytes: i64) {
        let (messages, bytes) = (messages.max(1) as u64, bytes.max(0) as u64);
        let size = bytes / messages;
        self.messages += messages;
        self.bytes += bytes;
        self.sizes[SIZE_BOUNDS.partition_point(|bound| *bound < size)] += 1;
        self.size_sum += size;
    }
}

#[derive(Debug, Default)]
pub(super) struct Sent {
    messages: AtomicU64,
    bytes: AtomicU64,
    sizes: [AtomicU64; SIZE_BOUNDS.len() + 1],
    size_sum: AtomicU64,
}

impl TopicStats {
    pub fn on_sent(&self, kind: MessageType, batch: &SentBatch) {
        let sent = &self.sent.get_or_init(Box::default)[kind as usize];
        sent.messages.fetch_add(batch.messages, Ordering::Relaxed);
        sent.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        sent.size_sum.fetch_add(batch.size_sum, Ordering::Relaxed);
        for (sum, count) in sent.sizes.iter().zip(batch.sizes) {
            if count > 0 {
                sum.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Everything of a type that was sent; nothing when there was none.
    pub fn sent(&self, kind: MessageType) -> Option<SentBatch> {
        let sent = &self.sent.get()?[kind as usize];
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let batch = SentBatch {
            messages: read(&sent.messages),
            bytes: read(&sent.bytes),
            sizes: std::array::from_fn(|class| read(&sent.sizes[class])),
            size_sum: read(&sent.size_sum),
        };
        (batch.messages > 0).then_some(batch)
    }

    pub fn name(&self) -> &str {
        &self.topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_the_class_whose_upper_end_they_reach() {
        let mut batch = SentBatch::default();
        for bytes in [1, 1024, 1025, 4 << 20, (4 << 20) + 1] {
            batch.add(1, bytes);
        }
        batch.add(10, 20_480);
        assert_eq!(batch.sizes, [2, 2, 0, 0, 0, 1, 1]);
        assert_eq!(
            (batch.messages, batch.size_sum),
            (15, 1 + 1024 + 1025 + (8 << 20) + 1 + 2048)
        );
    }
}
