//! Which messages a pull or a pop wants (spec: behaviour.md §4.4).
//!
//! A filter is asked twice: with the tags code of the queue entry, which decides about tags without reading the message,
//! and then with the stored record, whose properties decide about expressions. Tags with equal codes are told apart by
//! the consumer.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxmq_filter::Expression;
use oxmq_protocol::body::{EXPRESSION_TYPE_TAG, SUB_ALL, SubscriptionData};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::RETRY_PREFIX;
use oxmq_protocol::{properties, property};
use oxmq_store::{Codes, MessageFilter};
use smallvec::SmallVec;
use thiserror::Error;

use crate::broker::Broker;

/// Evaluating more than this for hundreds of messages takes too long for a thread that others wait for.
const COST_ON_WORKER_MAX: usize = 500;

/// Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    All,
    Codes(SmallVec<[i32; 4]>),
    Sql(Arc<Expression>),
    /// Retried messages, by the expression for the topic that they were first in (`filterSupportRetry`).
    ByOrigin(Arc<BTreeMap<String, Arc<Expression>>>),
}

/// Why there is no filter, in the words of the original, which gives no reasons.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    #[error("parse the consumer's subscription failed{}", behind(reason))]
    Unreadable { reason: Option<String> },
    #[error(
        "The broker's consumer filter data is not exist!Your expression may be wrong!{}",
        behind(reason)
    )]
    Unknown { reason: Option<String> },
    #[error("the consumer's consumer filter data not latest")]
    Old,
    #[error("The broker does not support consumer to filter message by {0}")]
    Disabled(String),
}

fn behind(reason: &Option<String>) -> String {
    reason.as_ref().map_or_else(String::new, |reason| format!(" {reason}"))
}

impl Filter {
    /// The filter of what a group subscribes to by its heartbeats. `sub_version` is the one that the request knows.
    pub(crate) fn of_subscription(
        broker: &Broker,
        group: &str,
        subscription: &SubscriptionData,
        sub_version: i64,
    ) -> Result<Filter, FilterError> {
        let filter = if subscription.is_tag_type() {
            Filter::of_tags(subscription)
        } else {
            let known = broker.consumer_filters.get(group, &subscription.topic);
            let known = known.ok_or_else(|| {
                let (kind, text) = (&subscription.expression_type, &subscription.sub_string);
                let reason = broker.consumer_filters.compile(kind, text).err();
                FilterError::Unknown { reason }
            })?;
            if known.client_version < sub_version {
                return Err(FilterError::Old);
            }
            check_enabled(broker, &subscription.expression_type)?;
            Filter::Sql(known.expression)
        };
        Ok(filter.for_topic(broker, group, &subscription.topic))
    }

    /// The filter of a request that brings its expression along, which is noted.
    pub(crate) fn of_expression(
        broker: &Broker,
        group: &str,
        topic: &str,
        expression_type: Option<&str>,
        expression: Option<&str>,
    ) -> Result<Filter, FilterError> {
        let (kind, text) = (
            expression_type.unwrap_or(EXPRESSION_TYPE_TAG),
            expression.unwrap_or_default(),
        );
        broker.note_subscription(group, topic, kind, text);
        let filter = if kind == EXPRESSION_TYPE_TAG {
            let parsed = SubscriptionData::parse(topic, text, 0);
            let parsed = parsed.map_err(|_| FilterError::Unreadable { reason: None })?;
            Filter::of_tags(&parsed)
        } else if text.is_empty() {
            return Err(FilterError::Unreadable { reason: None });
        } else if kind.is_empty() {
            // Taken for tags, but not read as such.
            match text == SUB_ALL {
                true => Filter::All,
                false => Filter::Codes(SmallVec::new()),
            }
        } else {
            let compiled = broker.consumer_filters.compile(kind, text);
            let unreadable = |reason| FilterError::Unreadable { reason: Some(reason) };
            Filter::Sql(compiled.map_err(unreadable)?)
        };
        Ok(filter.for_topic(broker, group, topic))
    }

    /// The filter of a subscription to tags.
    fn of_tags(subscription: &SubscriptionData) -> Filter {
        match subscription.takes_all() || subscription.class_filter_mode {
            true => Filter::All,
            false => Filter::Codes(subscription.code_set.iter().copied().collect()),
        }
    }

    fn for_topic(self, broker: &Broker, group: &str, topic: &str) -> Filter {
        if topic.starts_with(RETRY_PREFIX) && broker.config().filter_support_retry {
            let expressions = broker.consumer_filters.of_group(group);
            if !expressions.is_empty() {
                return Filter::ByOrigin(Arc::new(expressions));
            }
        }
        self
    }

    pub(crate) fn accepts_code(&self, tags_code: i64) -> bool {
        match self {
            Filter::Codes(codes) => codes.iter().any(|code| i64::from(*code) == tags_code),
            Filter::All | Filter::Sql(_) | Filter::ByOrigin(_) => true,
        }
    }

    /// For records whose code was accepted.
    pub(crate) fn accepts_record(&self, record: &RecordRef<'_>) -> bool {
        match self {
            Filter::All | Filter::Codes(_) => true,
            Filter::Sql(expression) => expression.matches(record.properties()),
            Filter::ByOrigin(expressions) => {
                let origin = properties::find(record.properties(), property::RETRY_TOPIC);
                let origin = origin.and_then(|topic| std::str::from_utf8(topic).ok());
                let expression = origin.and_then(|topic| expressions.get(topic));
                expression.is_none_or(|expression| expression.matches(record.properties()))
            }
        }
    }

    /// Takes so long that it has to happen on a read thread.
    pub(crate) fn is_expensive(&self) -> bool {
        match self {
            Filter::All | Filter::Codes(_) => false,
            Filter::Sql(expression) => expression.cost() > COST_ON_WORKER_MAX,
            Filter::ByOrigin(expressions) => expressions
                .values()
                .any(|expression| expression.cost() > COST_ON_WORKER_MAX),
        }
    }
}

/// Expressions need `enablePropertyFilter`. Pops do not ask for it.
pub(crate) fn check_enabled(broker: &Broker, expression_type: &str) -> Result<(), FilterError> {
    let is_tag_type = matches!(expression_type, "" | EXPRESSION_TYPE_TAG);
    match is_tag_type || broker.config().enable_property_filter {
        true => Ok(()),
        false => Err(FilterError::Disabled(expression_type.to_owned())),
    }
}

impl MessageFilter for &Filter {
    fn accepts_code(&mut self, tags_code: i64) -> bool {
        Filter::accepts_code(self, tags_code)
    }

    fn codes(&self) -> Codes<'_> {
        match self {
            Filter::Codes(codes) => Codes::Only(codes),
            Filter::All | Filter::Sql(_) | Filter::ByOrigin(_) => Codes::All,
        }
    }

    fn looks_into_records(&self) -> bool {
        matches!(self, Filter::Sql(_) | Filter::ByOrigin(_))
    }

    fn accepts_record(&mut self, record: &RecordRef<'_>) -> bool {
        Filter::accepts_record(self, record)
    }
}

#[cfg(test)]
mod tests {
    use oxmq_protocol::record::RecordFields;

    use super::*;
    use crate::testing::stored;

    fn with_record<T>(entries: &[(&str, &str)], look: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        let out = stored(&RecordFields::new(b"t", b"body"), entries);
        look(&RecordRef::parse(&out).unwrap())
    }

    fn sql(expression: &str) -> Arc<Expression> {
        Arc::new(Expression::compile(expression).unwrap())
    }

    #[test]
    fn tags_are_chosen_by_their_code() {
        let filter = |expression| Filter::of_tags(&SubscriptionData::parse("t", expression, 1).unwrap());
        assert_eq!(filter("*"), Filter::All);
        let eu_or_vip = filter("eu || vip");
        assert!(eu_or_vip.accepts_code(3248) && eu_or_vip.accepts_code(116_765) && !eu_or_vip.accepts_code(0));
        assert!(!eu_or_vip.accepts_code(3248 + (1 << 32)));
    }

    #[test]
    fn expressions_read_the_properties_of_the_record() {
        let filter = Filter::Sql(sql("a > 5 AND TAGS = 'eu'"));
        assert!(filter.accepts_code(0));
        assert!(with_record(&[("a", "6"), ("TAGS", "eu")], |record| filter.accepts_record(record)));
        assert!(!with_record(&[("a", "5"), ("TAGS", "eu")], |record| filter.accepts_record(record)));
        assert!(!with_record(&[], |record| filter.accepts_record(record)));
    }

    #[test]
    fn retried_messages_are_judged_by_their_first_topic() {
        let expressions = BTreeMap::from([("t".to_owned(), sql("a = 1")), ("u".to_owned(), sql("a = 2"))]);
        let filter = Filter::ByOrigin(Arc::new(expressions));
        let accepts = |topic, a| {
            with_record(&[("RETRY_TOPIC", topic), ("a", a)], |record| {
                filter.accepts_record(record)
            })
        };
        assert!(accepts("t", "1") && accepts("u", "2") && accepts("other", "3"));
        assert!(!accepts("t", "2") && !accepts("u", "1"));
        assert!(with_record(&[("a", "9")], |record| filter.accepts_record(record)));
    }

    #[test]
    fn long_expressions_are_left_to_other_threads() {
        assert!(!Filter::Sql(sql("a = 1 AND b IN ('x', 'y')")).is_expensive());
        assert!(Filter::Sql(sql(&format!("a = 1{}", " OR a = 2".repeat(200)))).is_expensive());
    }
}
