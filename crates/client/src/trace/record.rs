//! The text of trace records, as Java's clients and tools write and read it (spec: behaviour.md §9, protocol.md §8.7).

use std::fmt::Write;

const FIELD_SEPARATOR: char = '\u{1}';
const RECORD_SEPARATOR: char = '\u{2}';

/// What a client has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Pub {
        tags: Option<String>,
        keys: Option<String>,
        store_host: String,
        body_bytes: usize,
        cost_ms: u64,
        kind: MessageKind,
        offset_msg_id: String,
        success: bool,
    },
    SubBefore {
        request_id: String,
        retry_times: i32,
        keys: Option<String>,
    },
    SubAfter {
        request_id: String,
        cost_ms: u64,
        success: bool,
        keys: Option<String>,
        outcome: Consumed,
    },
    EndTransaction {
        tags: Option<String>,
        keys: Option<String>,
        store_host: String,
        transaction_id: String,
        state: &'static str,
        from_check: bool,
    },
    Recall {
        success: bool,
    },
}

/// One event and the message it happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) timestamp: i64,
    pub(crate) region: String,
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) msg_id: String,
    pub(crate) event: Event,
}

/// Numbers as in Java's enumeration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Normal = 0,
    TransactionHalf = 1,
    TransactionEnd = 2,
    Delay = 3,
}

/// Numbers as in Java's enumeration, where 3 is a listener that returns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consumed {
    Success = 0,
    TimeOut = 1,
    Exception = 2,
    Failed = 4,
}

impl Record {
    pub(crate) fn write(&self, out: &mut String) {
        let (time, region, group, topic, id) = (self.timestamp, &self.region, &self.group, &self.topic, &self.msg_id);
        match &self.event {
            Event::Pub {
                tags,
                keys,
                store_host,
                body_bytes,
                cost_ms,
                kind,
                offset_msg_id,
                success,
            } => fields(
                out,
                "Pub",
                &[
                    &time,
                    region,
                    group,
                    topic,
                    id,
                    &text(tags),
                    &text(keys),
                    store_host,
                    body_bytes,
                    cost_ms,
                    &(*kind as i32),
                    offset_msg_id,
                    success,
                ],
            ),
            Event::SubBefore {
                request_id,
                retry_times,
                keys,
            } => fields(
                out,
                "SubBefore",
                &[&time, region, group, request_id, id, retry_times, &text(keys)],
            ),
            Event::SubAfter {
                request_id,
                cost_ms,
                success,
                keys,
                outcome,
            } => fields(
                out,
                "SubAfter",
                &[
                    request_id,
                    id,
                    cost_ms,
                    success,
                    &text(keys),
                    &(*outcome as i32),
                    &time,
                    group,
                ],
            ),
            Event::EndTransaction {
                tags,
                keys,
                store_host,
                transaction_id,
                state,
                from_check,
            } => fields(
                out,
                "EndTransaction",
                &[
                    &time,
                    region,
                    group,
                    topic,
                    id,
                    &text(tags),
                    &text(keys),
                    store_host,
                    &(MessageKind::TransactionEnd as i32),
                    transaction_id,
                    state,
                    from_check,
                ],
            ),
            Event::Recall { success } => fields(out, "Recall", &[&time, region, group, topic, id, success]),
        }
        out.push(RECORD_SEPARATOR);
    }

    /// What the record is found by: the message's ids and its keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let keys = match &self.event {
            Event::Pub { keys, .. }
            | Event::SubBefore { keys, .. }
            | Event::SubAfter { keys, .. }
            | Event::EndTransaction { keys, .. } => keys.as_deref(),
            Event::Recall { .. } => None,
        };
        let keys = keys.unwrap_or_default().split(' ');
        self.msg_id.split(',').chain(keys).filter(|key| !key.is_empty())
    }
}

/// Java writes what is missing so, and fails to read a record that ends with nothing.
fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("null")
}

fn fields(out: &mut String, kind: &str, fields: &[&dyn std::fmt::Display]) {
    out.push_str(kind);
    for field in fields {
        write!(out, "{FIELD_SEPARATOR}{field}").expect("text grows without an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event: Event) -> Record {
        Record {
            timestamp: 17,
            region: "DefaultRegion".into(),
            group: "g".into(),
            topic: "t".into(),
            msg_id: "ID".into(),
            event,
        }
    }

    #[track_caller]
    fn check(event: Event, expected: &str) {
        let mut out = String::new();
        record(event).write(&mut out);
        assert_eq!(out, expected.replace('|', "\u{1}") + "\u{2}");
    }

    #[test]
    fn records_are_those_of_java() {
        let published = Event::Pub {
            tags: Some("a".into()),
            keys: None,
            store_host: "1.2.3.4:10911".into(),
            body_bytes: 5,
            cost_ms: 3,
            kind: MessageKind::Delay,
            offset_msg_id: "OFFSET".into(),
            success: true,
        };
        check(
            published,
            "Pub|17|DefaultRegion|g|t|ID|a|null|1.2.3.4:10911|5|3|3|OFFSET|true",
        );
        let before = Event::SubBefore {
            request_id: "R".into(),
            retry_times: 2,
            keys: Some("k".into()),
        };
        check(before, "SubBefore|17|DefaultRegion|g|R|ID|2|k");
        let after = Event::SubAfter {
            request_id: "R".into(),
            cost_ms: 9,
            success: false,
            keys: None,
            outcome: Consumed::Failed,
        };
        check(after, "SubAfter|R|ID|9|false|null|4|17|g");
        let end = Event::EndTransaction {
            tags: None,
            keys: Some("k".into()),
            store_host: "h".into(),
            transaction_id: "T".into(),
            state: "COMMIT_MESSAGE",
            from_check: true,
        };
        check(
            end,
            "EndTransaction|17|DefaultRegion|g|t|ID|null|k|h|2|T|COMMIT_MESSAGE|true",
        );
        check(Event::Recall { success: true }, "Recall|17|DefaultRegion|g|t|ID|true");
    }

    #[test]
    fn a_record_is_found_by_ids_and_keys() {
        let mut record = record(Event::SubBefore {
            request_id: "R".into(),
            retry_times: 0,
            keys: Some("k1 k2".into()),
        });
        record.msg_id = "A,B".into();
        assert_eq!(record.keys().collect::<Vec<_>>(), ["A", "B", "k1", "k2"]);
    }
}
