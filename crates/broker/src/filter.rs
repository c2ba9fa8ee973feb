//! Which messages a pull or a pop wants (spec: behaviour.md §4.4).
//!
//! A filter is asked twice: with the tags code of the queue entry, which decides about tags without reading the message,
//! and then with the stored record, whose properties decide about expressions. Tags with equal codes are told apart by
//! the consumer.

use oxmq_protocol::body::SubscriptionData;
use oxmq_protocol::record::RecordRef;
use oxmq_store::MessageFilter;
use smallvec::SmallVec;

/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    Codes(SmallVec<[i32; 4]>),
}

impl Filter {
    /// The filter of a subscription to tags.
    pub(crate) fn of_tags(subscription: &SubscriptionData) -> Filter {
        match subscription.takes_all() || subscription.class_filter_mode {
            true => Filter::All,
            false => Filter::Codes(subscription.code_set.iter().copied().collect()),
        }
    }

    pub(crate) fn accepts_code(&self, tags_code: i64) -> bool {
        match self {
            Filter::All => true,
            Filter::Codes(codes) => codes.iter().any(|code| i64::from(*code) == tags_code),
        }
    }

    /// For records whose code was accepted.
    pub(crate) fn accepts_record(&self, _record: &RecordRef<'_>) -> bool {
        match self {
            Filter::All | Filter::Codes(_) => true,
        }
    }
}

impl MessageFilter for &Filter {
    fn accepts_code(&mut self, tags_code: i64) -> bool {
        Filter::accepts_code(self, tags_code)
    }

    fn accepts_record(&mut self, record: &RecordRef<'_>) -> bool {
        Filter::accepts_record(self, record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_chosen_by_their_code() {
        let filter = |expression| Filter::of_tags(&SubscriptionData::parse("t", expression, 1).unwrap());
        assert_eq!(filter("*"), Filter::All);
        let eu_or_vip = filter("eu || vip");
        assert!(eu_or_vip.accepts_code(3248) && eu_or_vip.accepts_code(116_765) && !eu_or_vip.accepts_code(0));
        assert!(!eu_or_vip.accepts_code(3248 + (1 << 32)));
    }
}
