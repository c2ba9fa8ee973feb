//! Namespaces: several tenants on one cluster, each with topics and groups of its own (spec: protocol.md §8.6).
//!
//! Names carry the prefix `namespace%` on their way to the servers and on nothing that the application sees. Retry and
//! dead-letter topics have it behind their own prefix: `%RETRY%namespace%group`. Everything below the public types of this
//! crate uses the names of the servers.

use std::sync::Arc;

use oxmq_protocol::body::MessageQueue;
use oxmq_protocol::message::{Message, MessageExt};
use oxmq_protocol::topic::{self, DLQ_PREFIX, RETRY_PREFIX};

const SEPARATOR: char = '%';
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Puts the prefix on names and takes it off. Without a namespace, which is the default, names stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Namespace(Option<Arc<str>>);

impl Namespace {
    /// An empty name is none.
    pub(crate) fn new(name: Option<&str>) -> Namespace {
        Namespace(name.filter(|name| !name.is_empty()).map(Arc::from))
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The name that the servers know. System topics and groups belong to everybody; a name that has the prefix already
    /// keeps it.
    pub(crate) fn wrap(&self, name: &str) -> String {
        let Some(namespace) = self.name() else {
            return name.to_owned();
        };
        if name.is_empty() || is_system(name) || has_prefix(name, namespace) {
            return name.to_owned();
        }
        let (kind, plain) = split_kind(name);
        format!("{kind}{namespace}{SEPARATOR}{plain}")
    }

    /// The name that the application knows.
    pub(crate) fn strip(&self, name: &str) -> String {
        match self.name() {
            Some(namespace) if !is_system(name) && has_prefix(name, namespace) => {
                let (kind, rest) = split_kind(name);
                format!("{kind}{}", &rest[namespace.len() + SEPARATOR.len_utf8()..])
            }
            _ => name.to_owned(),
        }
    }

    pub(crate) fn wrap_queue(&self, queue: &MessageQueue) -> MessageQueue {
        MessageQueue {
            topic: self.wrap(&queue.topic),
            ..queue.clone()
        }
    }

    pub(crate) fn strip_queue(&self, queue: &MessageQueue) -> MessageQueue {
        MessageQueue {
            topic: self.strip(&queue.topic),
            ..queue.clone()
        }
    }

    pub(crate) fn strip_queues<'a, C: FromIterator<MessageQueue>>(
        &self,
        queues: impl IntoIterator<Item = &'a MessageQueue>,
    ) -> C {
        queues.into_iter().map(|queue| self.strip_queue(queue)).collect()
    }

    pub(crate) fn strip_message(&self, mut message: MessageExt) -> MessageExt {
        self.strip_topic(&mut message.message);
        message
    }

    fn strip_topic(&self, message: &mut Message) {
        if self.0.is_some() {
            message.topic = self.strip(&message.topic);
        }
    }
}

fn is_system(name: &str) -> bool {
    topic::is_system_topic(name) || name.starts_with(SYSTEM_GROUP_PREFIX)
}

/// What a group's topic begins with, and the name behind it.
fn split_kind(name: &str) -> (&str, &str) {
    let kind = [RETRY_PREFIX, DLQ_PREFIX]
        .into_iter()
        .find(|kind| name.starts_with(kind))
        .unwrap_or_default();
    name.split_at(kind.len())
}

fn has_prefix(name: &str, namespace: &str) -> bool {
    let (_, rest) = split_kind(name);
    rest.strip_prefix(namespace)
        .is_some_and(|rest| rest.starts_with(SEPARATOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_java() {
        let shop = Namespace::new(Some("shop"));
        for (plain, wrapped) in [
            ("orders", "shop%orders"),
            ("%RETRY%billing", "%RETRY%shop%billing"),
            ("%DLQ%billing", "%DLQ%shop%billing"),
            ("a%b", "shop%a%b"),
            ("shops%orders", "shop%shops%orders"),
        ] {
            assert_eq!(shop.wrap(plain), wrapped);
            assert_eq!(shop.wrap(wrapped), wrapped, "once is enough");
            assert_eq!(shop.strip(wrapped), plain);
        }
    }

    #[test]
    fn what_belongs_to_all_keeps_its_name() {
        let shop = Namespace::new(Some("shop"));
        for name in [
            "TBW102",
            "RMQ_SYS_TRACE_TOPIC",
            "rmq_sys_wheel_timer",
            "CID_RMQ_SYS_x",
            "",
        ] {
            assert_eq!(shop.wrap(name), name);
            assert_eq!(shop.strip(name), name);
        }
        assert_eq!(shop.strip("farm%orders"), "farm%orders", "of another namespace");
    }

    #[test]
    fn without_a_namespace_nothing_changes() {
        for none in [Namespace::new(None), Namespace::new(Some(""))] {
            assert_eq!(none.wrap("shop%orders"), "shop%orders");
            assert_eq!(none.strip("shop%orders"), "shop%orders");
        }
    }
}
