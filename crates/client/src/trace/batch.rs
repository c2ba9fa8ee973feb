//! Which records go out together, and when (spec: behaviour.md §9).

use std::collections::BTreeSet;

use super::record::Record;

/// Longest body of a trace message.
const BODY_BYTES_MAX: usize = 128_000;
/// Java caps the setting here.
pub(crate) const BATCH_NUM_MAX: usize = 20;

/// A message full of records of one region.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TraceMessage {
    pub(crate) body: String,
    pub(crate) keys: BTreeSet<String>,
}

/// Records put together by region, in messages no longer than allowed.
pub(crate) fn messages(records: &[Record]) -> Vec<TraceMessage> {
    let mut regions: Vec<&str> = records.iter().map(|record| record.region.as_str()).collect();
    regions.sort_unstable();
    regions.dedup();
    let mut messages = Vec::new();
    for region in regions {
        let mut message = TraceMessage::default();
        for record in records.iter().filter(|record| record.region == region) {
            record.write(&mut message.body);
            message.keys.extend(record.keys().map(str::to_owned));
            if message.body.len() >= BODY_BYTES_MAX / 2 {
                messages.push(std::mem::take(&mut message));
            }
        }
        if !message.body.is_empty() {
            messages.push(message);
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::super::record::Event;
    use super::*;

    fn record(region: &str, topic: String) -> Record {
        Record {
            timestamp: 1,
            region: region.into(),
            group: "g".into(),
            topic,
            msg_id: "ID".into(),
            event: Event::Recall { success: true },
        }
    }

    #[test]
    fn a_message_has_one_region_and_a_bounded_length() {
        let records: Vec<_> = ["a", "b", "a"].map(|region| record(region, "t".into())).into();
        let messages = messages(&records);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].body.matches('\u{2}').count(), 2);
        assert_eq!(messages[0].keys.len(), 1);

        let long: Vec<_> = (0..20).map(|_| record("a", "t".repeat(10_000))).collect();
        let messages = super::messages(&long);
        assert!(messages.len() > 2);
        assert!(messages.iter().all(|message| message.body.len() <= BODY_BYTES_MAX));
    }
}
