//! Attributes of topics and the changes that may be made to them (spec: behaviour.md §2.4).
//!
//! A change is written `+key=value` or `-key`, in a request as a comma-separated list and in a body as a map whose keys
//! carry the sign.

use std::collections::BTreeMap;

use thiserror::Error;

pub const QUEUE_TYPE: &str = "queue.type";
pub const CLEANUP_POLICY: &str = "cleanup.policy";
pub const MESSAGE_TYPE: &str = "message.type";
pub const RESERVE_TIME: &str = "reserve.time";

/// Value of [`CLEANUP_POLICY`].
pub const COMPACTION: &str = "COMPACTION";
/// Value of [`MESSAGE_TYPE`].
pub const PRIORITY: &str = "PRIORITY";

/// Attribute names and values.
pub type Attributes = BTreeMap<String, String>;

struct Attribute {
    name: &'static str,
    changeable: bool,
    values: Values,
}

enum Values {
    /// In the order in which Java's error message lists them.
    OneOf(&'static [&'static str]),
    AtLeast(i64),
}

const ATTRIBUTES: [Attribute; 4] = [
    Attribute {
        name: QUEUE_TYPE,
        changeable: false,
        values: Values::OneOf(&["BatchCQ", "SimpleCQ"]),
    },
    Attribute {
        name: CLEANUP_POLICY,
        changeable: false,
        values: Values::OneOf(&[COMPACTION, "DELETE"]),
    },
    Attribute {
        name: MESSAGE_TYPE,
        changeable: true,
        values: Values::OneOf(&[
            "UNSPECIFIED",
            "MIXED",
            "TRANSACTION",
            PRIORITY,
            "FIFO",
            "DELAY",
            "LITE",
            "NORMAL",
        ]),
    },
    Attribute {
        name: RESERVE_TIME,
        changeable: true,
        values: Values::AtLeast(-1),
    },
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
    #[error("value is not in range({0}, {max})", max = i64::MAX)]
    Range(i64),
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

/// The attributes after the changes. `current` is `None` while the topic is being created.
pub fn apply_changes(current: Option<&Attributes>, changes: &Attributes) -> Result<Attributes, AttributeError> {
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
                check(key, Some(value), current.is_none())?;
                result.insert(key.into(), value.clone());
            }
            (_, None) => return Err(AttributeError::OnlyAddOnCreate(key.into())),
            (b'-', Some(current)) => {
                if !current.contains_key(key) {
                    return Err(AttributeError::DeleteAbsent(key.into()));
                }
                check(key, None, false)?;
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

fn check(key: &str, value: Option<&str>, creating: bool) -> Result<(), AttributeError> {
    let known = ATTRIBUTES.iter().find(|attribute| attribute.name == key);
    let attribute = known.ok_or_else(|| AttributeError::UnknownKey(key.into()))?;
    if !creating && !attribute.changeable {
        return Err(AttributeError::Unchangeable(key.into()));
    }
    match (&attribute.values, value) {
        (Values::OneOf(values), Some(value)) if !values.contains(&value) => {
            Err(AttributeError::Value(values.join(", ")))
        }
        (Values::AtLeast(least), Some(value)) if !value.parse().is_ok_and(|number: i64| number >= *least) => {
            Err(AttributeError::Range(*least))
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
        let result = parse_changes(changes).and_then(|changes| apply_changes(current.as_ref(), &changes));
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
        check(None, "+=5", Err("kv string format wrong."));
    }

    #[test]
    fn signed_keys_of_other_alphabets_do_not_panic() {
        check(None, "é+=1", Err("kv string format wrong."));
    }
}
