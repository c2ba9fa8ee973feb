//! Where a group starts in a queue (spec: behaviour.md §6.4).

use oxmq_protocol::body::ConsumeFromWhere;
use oxmq_protocol::topic;

/// How the first queue offset is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartOffset {
    At(i64),
    /// The end of the queue, as the broker says.
    Max,
    /// The first message stored at or after this time.
    StoredSince(i64),
}

/// `stored` is what the offset store has; only without it the setting counts.
pub(crate) fn start_offset(
    stored: Option<i64>,
    topic: &str,
    from_where: ConsumeFromWhere,
    consume_timestamp: i64,
) -> StartOffset {
    if let Some(offset) = stored {
        return StartOffset::At(offset);
    }
    let is_retry = topic::is_retry(topic);
    match from_where {
        ConsumeFromWhere::FirstOffset => StartOffset::At(0),
        ConsumeFromWhere::Timestamp if is_retry => StartOffset::Max,
        ConsumeFromWhere::Timestamp => StartOffset::StoredSince(consume_timestamp),
        // The others are old names of this one. A retry topic holds only what this group could not consume.
        _ if is_retry => StartOffset::At(0),
        _ => StartOffset::Max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_offset_is_used_as_it_is() {
        for from_where in [ConsumeFromWhere::FirstOffset, ConsumeFromWhere::Timestamp] {
            assert_eq!(start_offset(Some(7), "t", from_where, 9), StartOffset::At(7));
        }
    }

    #[test]
    fn a_new_group_starts_where_it_is_told() {
        let cases = [
            (ConsumeFromWhere::LastOffset, StartOffset::Max, StartOffset::At(0)),
            (ConsumeFromWhere::MinOffset, StartOffset::Max, StartOffset::At(0)),
            (ConsumeFromWhere::FirstOffset, StartOffset::At(0), StartOffset::At(0)),
            (
                ConsumeFromWhere::Timestamp,
                StartOffset::StoredSince(9),
                StartOffset::Max,
            ),
        ];
        for (from_where, normal, retry) in cases {
            assert_eq!(start_offset(None, "t", from_where, 9), normal, "{from_where:?}");
            assert_eq!(start_offset(None, "%RETRY%g", from_where, 9), retry, "{from_where:?}");
        }
    }
}
