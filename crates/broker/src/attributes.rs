//! Attributes of topics and groups, and the changes that may be made to them (spec: behaviour.md §2.4).
//!
//! A change is written `+key=value` or `-key`, in a request as a comma-separated list and in a body as a map whose keys
//! carry the sign.

use std::collections::BTreeMap;

use thiserror::Error;

pub const QUEUE_TYPE: &str = "queue.type";
pub const CLEANUP_POLICY: &str = "cleanup.policy";
pub const MESSAGE_TYPE: &str = "message.type";
pub const RESERVE_TIME: &str = "reserve.time";
/// Of groups: the share of pops, in percent, that go by priority.
pub const PRIORITY_FACTOR: &str = "priority.factor";

/// Messages a second that a topic takes, or a group gets. Not one of RocketMQ.
pub const QUOTA_MESSAGES: &str = "quota.messages.per.second";
/// The same in bytes.
pub const QUOTA_BYTES: &str = "quota.bytes.per.second";

/// Value of [`CLEANUP_POLICY`].
pub const COMPACTION: &str = "COMPACTION";
/// Value of [`MESSAGE_TYPE`].
pub const PRIORITY: &str = "PRIORITY";

/// Attribute names and values.
pub type Attributes = BTreeMap<String, String>;

pub struct Attribute {
    name: &'static str,
    changeable: bool,
    values: Values,
}

enum Values {
    /// In the order in which Java's error message lists them.
    OneOf(&'static [&'static str]),
    Range(i64, i64),
    Boolean,
    Text,
}

const fn fixed(name: &'static str, values: &'static [&'static str]) -> Attribute {
    Attribute {
        name,
        changeable: false,
        values: Values::OneOf(values),
    }
}

const fn changeable(name: &'static str, values: Values) -> Attribute {
    Attribute {
        name,
        changeable: true,
        values,
    }
}

const MESSAGE_TYPES: &[&str] = &[
    "UNSPECIFIED",
    "MIXED",
    "TRANSACTION",
    PRIORITY,
    "FIFO",
    "DELAY",
    "LITE",
    "NORMAL",
];

/// What topics may have.
pub const TOPIC: &[Attribute] = &[
    fixed(QUEUE_TYPE, &["BatchCQ", "SimpleCQ"]),
    fixed(CLEANUP_POLICY, &[COMPACTION, "DELETE"]),
    changeable(MESSAGE_TYPE, Values::OneOf(MESSAGE_TYPES)),
    changeable(RESERVE_TIME, Values::Range(-1, i64::MAX)),
    changeable("lite.topic.expiration", Values::Range(-1, 43_200)),
    changeable(QUOTA_MESSAGES, Values::Range(0, i64::MAX)),
    changeable(QUOTA_BYTES, Values::Range(0, i64::MAX)),
];

/// What groups may have. Those that begin with `lite` are without effect.
pub const GROUP: &[Attribute] = &[
    changeable(PRIORITY_FACTOR, Values::Range(0, 100)),
    changeable(QUOTA_MESSAGES, Values::Range(0, i64::MAX)),
    changeable(QUOTA_BYTES, Values::Range(0, i64::MAX)),
    changeable("lite.bind.topic", Values::Text),
    changeable("lite.sub.client.max.event.cnt", Values::Range(10, i64::MAX)),
    changeable("lite.sub.client.quota", Values::Range(-1, i64::MAX)),
    changeable("lite.sub.model", Values::OneOf(&["Shared", "Exclusive"])),
    changeable("lite.sub.reset.offset.exclusive", Values::Boolean),
    changeable("lite.sub.reset.offset.unsubscribe", Values::Boolean),
    changeable("lite.sub.wildcard", Values::Text),
];

/// A change that is refused, in the words of the original.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AttributeError {
    #[error("add/alter attribute format is wrong: {0}")]
    AddFormat(String),
    #[error("delete attribute format is wrong: {0}")]
    DeleteFormat(String),
    #[error("key duplication: {0}")]
    Repeated(String),
    #[error("kv string format wrong.")]
    KeyFormat,
    #[error("alter duplication key. key: {0}")]
    Contradicting(String),
    #[error("only add attribute is supported while creating topic. key: {0}")]
    OnlyAddOnCreate(String),
    #[error("attempt to delete a nonexistent key: {0}")]
    DeleteAbsent(String),
    #[error("wrong format key: {0}")]
    Unsigned(String),
    #[error("unsupported key: {0}")]
    UnknownKey(String),
    #[error("attempt to update an unchangeable attribute. key: {0}")]
    Unchangeable(String),
    #[error("value is not in set: [{0}]")]
    Value(String),
    #[error("value is not in range({0}, {1})")]
    Range(i64, i64),
    #[error("For input string: \"{0}\"")]
    Number(String),
    #[error("boolean attribute format is wrong.")]
    Boolean,
}

/// The list of a request as a map with signed keys.
pub fn parse_changes(text: &str) -> Result<Attributes, AttributeError> {
    let mut changes = Attributes::new();
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        let (key, value) = match piece.split_once('=') {
            Some((key, _)) if !key.contains('+') => return Err(AttributeError::AddFormat(key.into())),
            Some((key, value)) => (key, value),
            None if !piece.contains('-') => return Err(AttributeError::DeleteFormat(piece.into())),
            None => (piece, ""),
        };
        if changes.insert(key.into(), value.into()).is_some() {
            return Err(AttributeError::Repeated(key.into()));
        }
    }
    Ok(changes)
}

/// The attributes after the changes; `known` are [`TOPIC`] or [`GROUP`]. `current` is `None` while the topic or group is
/// being created.
pub fn apply_changes(
    known: &[Attribute],
    current: Option<&Attributes>,
    changes: &Attributes,
) -> Result<Attributes, AttributeError> {
    let mut result = current.cloned().unwrap_or_default();
    let mut seen = Vec::new();
    for (signed, value) in changes {
        let key = signed.get(1..).unwrap_or_default();
        if key.is_empty() || key.contains(['+', '-']) {
            return Err(AttributeError::KeyFormat);
        }
        if seen.contains(&key) {
            return Err(AttributeError::Contradicting(key.into()));
        }
        seen.push(key);
        match (signed.as_bytes()[0], current) {
            (b'+', _) => {
                check(known, key, Some(value), current.is_none())?;
                result.insert(key.into(), value.clone());
            }
            (_, None) => return Err(AttributeError::OnlyAddOnCreate(key.into())),
            (b'-', Some(current)) => {
                if !current.contains_key(key) {
                    return Err(AttributeError::DeleteAbsent(key.into()));
                }
                check(known, key, None, false)?;
                result.remove(key);
            }
            _ => return Err(AttributeError::Unsigned(key.into())),
        }
    }
    Ok(result)
}

/// Whether the changes ask for messages of all types on one topic.
pub fn asks_for_mixed(changes: &Attributes) -> bool {
    changes
        .iter()
        .any(|(key, value)| key.ends_with(MESSAGE_TYPE) && value == "MIXED")
}

fn check(known: &[Attribute], key: &str, value: Option<&str>, creating: bool) -> Result<(), AttributeError> {
    let attribute = known.iter().find(|attribute| attribute.name == key);
    let attribute = attribute.ok_or_else(|| AttributeError::UnknownKey(key.into()))?;
    if !creating && !attribute.changeable {
        return Err(AttributeError::Unchangeable(key.into()));
    }
    let Some(value) = value else { return Ok(()) };
    match attribute.values {
        Values::OneOf(values) if !values.contains(&value) => Err(AttributeError::Value(values.join(", "))),
        Values::Range(least, most) => match value.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(()),
            Ok(_) => Err(AttributeError::Range(least, most)),
            Err(_) => Err(AttributeError::Number(value.into())),
        },
        Values::Boolean if !["true", "false"].iter().any(|word| value.eq_ignore_ascii_case(word)) => {
            Err(AttributeError::Boolean)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(current: Option<&[(&str, &str)]>, changes: &str, expected: Result<&[(&str, &str)], &str>) {
        let map = |pairs: &[(&str, &str)]| -> Attributes {
            pairs
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect()
        };
        let current = current.map(map);
        let result = parse_changes(changes).and_then(|changes| apply_changes(TOPIC, current.as_ref(), &changes));
        assert_eq!(
            result.map_err(|error| error.to_string()),
            expected.map(map).map_err(String::from),
            "{changes}"
        );
    }

    #[test]
    fn a_new_topic_takes_additions_only() {
        check(None, "", Ok(&[]));
        check(
            None,
            "+message.type=FIFO,+queue.type=BatchCQ",
            Ok(&[("message.type", "FIFO"), ("queue.type", "BatchCQ")]),
        );
        check(
            None,
            "-message.type",
            Err("only add attribute is supported while creating topic. key: message.type"),
        );
    }

    #[test]
    fn an_existing_topic_changes_what_may_change() {
        let current: &[_] = &[("message.type", "NORMAL"), ("queue.type", "SimpleCQ")];
        check(
            Some(current),
            "+message.type=DELAY",
            Ok(&[("message.type", "DELAY"), ("queue.type", "SimpleCQ")]),
        );
        check(Some(current), "-message.type", Ok(&[("queue.type", "SimpleCQ")]));
        check(
            Some(current),
            "+queue.type=BatchCQ",
            Err("attempt to update an unchangeable attribute. key: queue.type"),
        );
        check(
            Some(current),
            "-cleanup.policy",
            Err("attempt to delete a nonexistent key: cleanup.policy"),
        );
    }

    #[test]
    fn refusals_read_like_javas() {
        check(None, "+no.such.key=1", Err("unsupported key: no.such.key"));
        check(
            None,
            "+message.type=X",
            Err("value is not in set: [UNSPECIFIED, MIXED, TRANSACTION, PRIORITY, FIFO, DELAY, LITE, NORMAL]"),
        );
        check(
            None,
            "message.type=X",
            Err("add/alter attribute format is wrong: message.type"),
        );
        check(None, "message", Err("delete attribute format is wrong: message"));
        check(
            Some(&[("message.type", "FIFO")]),
            "+message.type=FIFO,-message.type",
            Err("alter duplication key. key: message.type"),
        );
        check(None, "+reserve.time=5", Ok(&[("reserve.time", "5")]));
        let out_of_range = "value is not in range(-1, 9223372036854775807)";
        check(None, "+reserve.time=-2", Err(out_of_range));
        check(None, "+reserve.time=soon", Err("For input string: \"soon\""));
        check(None, "+=5", Err("kv string format wrong."));
    }

    #[test]
    fn groups_have_attributes_of_their_own() {
        let apply = |change: &str| {
            let changes = parse_changes(change).unwrap();
            apply_changes(GROUP, None, &changes).map_err(|error| error.to_string())
        };
        assert_eq!(apply("+priority.factor=50").unwrap()[PRIORITY_FACTOR], "50");
        let refused = [
            ("+priority.factor=101", "value is not in range(0, 100)"),
            ("+lite.sub.model=x", "value is not in set: [Shared, Exclusive]"),
            (
                "+lite.sub.reset.offset.exclusive=yes",
                "boolean attribute format is wrong.",
            ),
            ("+message.type=FIFO", "unsupported key: message.type"),
        ];
        for (change, expected) in refused {
            assert_eq!(apply(change), Err(expected.to_owned()));
        }
    }

    #[test]
    fn signed_keys_of_other_alphabets_do_not_panic() {
        check(None, "é+=1", Err("kv string format wrong."));
    }
}
