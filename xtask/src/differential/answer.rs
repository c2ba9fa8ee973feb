//! An answer in the form in which both servers must agree: a JSON value without what may differ.
//!
//! Left out or replaced: addresses, times near now, ids and offsets that say where in the log a message lies, the names'
//! prefix of the actor, and in lists of a whole broker whatever belongs to other actors.

use bytes::Bytes;
use oxmq_protocol::MessageExt;
use oxmq_protocol::json::relaxed;
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::{RemotingCommand, response_code};
use serde_json::{Map, Value, json};

use crate::now_ms;

/// How long all prefixes of names are, and what they begin with.
const PREFIX_MARK: &str = "D-";
const PREFIX_BYTES: usize = 11;
/// A number this near to now is a time, and replaced.
const NEAR_NOW_MS: u64 = 24 * 3600 * 1000;
/// Members of JSON bodies that depend on the machine or the moment.
const LEFT_OUT: [&str; 5] = [
    "consumeTps",
    "dataVersion",
    "mappingDataVersion",
    "lastUpdateTimestamp",
    "version",
];

const TRANSACTIONS_GROUP: &str = "CID_RMQ_SYS_TRANS";

/// How the body of an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyForm {
    /// Stored messages in the order of the answer.
    Messages,
    /// Stored messages whose order and places depend on when they became due.
    MessagesInAnyOrder,
    /// Lists are compared as sets.
    Json,
    /// Lines `name=value` or plain text.
    Text,
}

/// What of an answer depends on the server and the run.
pub(super) struct Normalizer<'a> {
    pub(super) prefix: &'a str,
    pub(super) broker: &'a str,
    pub(super) name_server: &'a str,
}

/// The prefix of the names of one actor in one run: constant in length, because lengths are checked.
pub(super) fn prefix(run: u32, actor: usize) -> String {
    let prefix = format!("{PREFIX_MARK}{run:04}-{actor:03}-");
    assert_eq!(
        prefix.len(),
        PREFIX_BYTES,
        "more runs or actors than a prefix can number"
    );
    prefix
}

impl Normalizer<'_> {
    pub(super) fn answer(&self, form: BodyForm, answer: &RemotingCommand) -> Value {
        let header = &answer.header;
        let mut fields = Map::new();
        for (name, value) in header.ext_fields.iter() {
            fields.insert(name.to_owned(), Value::String(self.text(value)));
        }
        json!({
            "code": header.code,
            // An empty remark says as much as none.
            "remark": header.remark.as_deref().filter(|remark| !remark.is_empty()).map(|remark| self.text(remark)),
            "fields": fields,
            "body": self.body(form, header.code, &answer.body),
        })
    }

    /// Requests of a server, in one order.
    pub(super) fn pushes(&self, pushes: &[RemotingCommand]) -> Value {
        let mut values: Vec<_> = pushes
            .iter()
            .map(|push| {
                let body = match decode_messages(&push.body, false) {
                    Ok(messages) if !messages.is_empty() => self.messages(&messages, BodyForm::Messages),
                    _ => Value::String(self.text(&String::from_utf8_lossy(&push.body))),
                };
                let fields = push.header.ext_fields.iter();
                let fields: Map<_, _> = fields
                    .map(|(name, value)| {
                        let mut lines: Vec<_> = value.split('\u{2}').map(|line| self.text(line)).collect();
                        // Properties, in any order.
                        lines.sort_unstable();
                        (name.to_owned(), Value::String(lines.join("\u{2}")))
                    })
                    .collect();
                json!({ "code": push.header.code, "fields": fields, "body": body })
            })
            .collect();
        values.sort_by_key(Value::to_string);
        Value::Array(values)
    }

    fn body(&self, form: BodyForm, code: i32, body: &Bytes) -> Value {
        if body.is_empty() {
            return Value::Null;
        }
        match form {
            BodyForm::Messages | BodyForm::MessagesInAnyOrder if code == response_code::SUCCESS => {
                match decode_messages(body, false) {
                    Ok(messages) => self.messages(&messages, form),
                    Err(error) => json!({ "unreadable": error.to_string() }),
                }
            }
            BodyForm::Json if code == response_code::SUCCESS => {
                let text = self.names(&String::from_utf8_lossy(body));
                match serde_json::from_slice(&relaxed(text.as_bytes())) {
                    Ok(value) => canonical(value),
                    Err(error) => json!({ "unreadable": error.to_string(), "text": text }),
                }
            }
            _ => {
                let text = self.text(&String::from_utf8_lossy(body));
                let mut lines: Vec<_> = text.lines().collect();
                lines.sort_unstable();
                json!(lines)
            }
        }
    }

    fn messages(&self, messages: &[MessageExt], form: BodyForm) -> Value {
        let mut values: Vec<_> = messages.iter().map(|message| self.message(message, form)).collect();
        if form == BodyForm::MessagesInAnyOrder {
            values.sort_by_key(|message| {
                let mut told = message.clone();
                // Servers differ in it.
                told["isPrepared"].take();
                told.to_string()
            });
        }
        Value::Array(values)
    }

    fn message(&self, message: &MessageExt, form: BodyForm) -> Value {
        let mut properties = Map::new();
        for (name, value) in message.properties.iter() {
            properties.insert(name.to_owned(), Value::String(self.text(value)));
        }
        let body = match message.body.len() {
            0..=200 => self.text(&String::from_utf8_lossy(&message.body)),
            bytes => format!("{bytes} bytes, crc {:08x}", message.body_crc),
        };
        let mut value = json!({
            "topic": self.text(&message.topic),
            "queueId": message.queue_id,
            "flag": message.flag,
            "sysFlag": message.sys_flag,
            "bornTimestamp": self.text(&message.born_timestamp.to_string()),
            "bornHost": message.born_host.ip().to_string(),
            "storeTimestamp": self.text(&message.store_timestamp.to_string()),
            "storeHost": self.text(&message.store_host.to_string()),
            "reconsumeTimes": message.reconsume_times,
            "isPrepared": message.prepared_transaction_offset != 0,
            "properties": properties,
            "body": body,
        });
        if form == BodyForm::Messages {
            value["queueOffset"] = json!(message.queue_offset);
        }
        value
    }

    /// Text with everything replaced that may differ.
    pub(super) fn text(&self, text: &str) -> String {
        replace_numbers(&self.names(text))
    }

    /// Text with names and addresses replaced.
    fn names(&self, text: &str) -> String {
        let text = text
            .replace(self.prefix, "@")
            .replace(self.broker, "BROKER")
            .replace(self.name_server, "NAMESERVER");
        replace_client_ports(&text)
    }
}

/// `127.0.0.1:12345` for any port: the client's own address.
fn replace_client_ports(text: &str) -> String {
    const HOST: &str = "127.0.0.1:";
    let mut parts = text.split(HOST);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|byte: char| byte.is_ascii_digit());
        replaced.push_str("CLIENT");
        replaced.push_str(rest);
    }
    replaced
}

/// Times near now become `TIME`, message ids made by a server (32 or 56 upper-case hexadecimal digits) become `ID`.
fn replace_numbers(text: &str) -> String {
    let now = now_ms();
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (word, behind) = rest.split_at(run);
        if run == 13 && word.parse().is_ok_and(|number: i64| number.abs_diff(now) < NEAR_NOW_MS) {
            replaced.push_str("TIME");
        } else if (run == 32 || run == 56) && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) {
            replaced.push_str("ID");
        } else {
            replaced.push_str(word);
        }
        let gap = behind
            .find(|next: char| next.is_ascii_alphanumeric())
            .unwrap_or(behind.len());
        replaced.push_str(&behind[..gap]);
        rest = &behind[gap..];
    }
    replaced
}

/// Without what may differ and without what belongs to other actors; lists in one order.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(name, value)| {
                !LEFT_OUT.contains(&name.as_str()) && !is_foreign(name) && !value.as_str().is_some_and(is_foreign)
            })
            .map(|(name, value)| (name, canonical(value)))
            .collect(),
        Value::Array(items) => {
            let mut items: Vec<_> = items
                .into_iter()
                .filter(|item| !is_foreign(&item.to_string()))
                .map(canonical)
                .collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::String(text) => Value::String(replace_numbers(&text)),
        Value::Number(number) if number.as_u64().is_some() => match replace_numbers(&number.to_string()) {
            text if text == "TIME" => Value::String(text),
            _ => Value::Number(number),
        },
        other => other,
    }
}

/// Whether the text names something of another actor, or of all.
fn is_foreign(text: &str) -> bool {
    if text.contains(TRANSACTIONS_GROUP) {
        return true;
    }
    text.match_indices(PREFIX_MARK).any(|(at, _)| {
        let rest = text.as_bytes().get(at + PREFIX_MARK.len()..at + PREFIX_BYTES);
        rest.is_some_and(|rest| rest[..4].iter().all(u8::is_ascii_digit) && rest[4] == b'-')
    })
}

/// A place where two answers differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// Member names and indexes with dots between them.
    pub(super) path: String,
    pub(super) java: Value,
    pub(super) oxmq: Value,
}

pub(super) fn differences(java: &Value, oxmq: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", java, oxmq, &mut found);
    found
}

fn compare(path: &str, java: &Value, oxmq: &Value, found: &mut Vec<Difference>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    match (java, oxmq) {
        (Value::Object(java), Value::Object(oxmq)) => {
            let only_oxmq = oxmq.keys().filter(|name| !java.contains_key(*name));
            for name in java.keys().chain(only_oxmq) {
                let member = |object: &Map<String, Value>| object.get(name).cloned().unwrap_or(Value::Null);
                compare(&below(name), &member(java), &member(oxmq), found);
            }
        }
        (Value::Array(java), Value::Array(oxmq)) if java.len() == oxmq.len() && !is_set(java) => {
            for (index, (java, oxmq)) in java.iter().zip(oxmq).enumerate() {
                compare(&below(&index.to_string()), java, oxmq, found);
            }
        }
        _ if java == oxmq => {}
        (Value::Array(java), Value::Array(oxmq)) if is_set(java) && is_set(oxmq) => {
            let missing = |from: &[Value], item: &Value| !from.contains(item);
            found.extend(java.iter().filter(|item| missing(oxmq, item)).map(|item| Difference {
                path: below("-"),
                java: item.clone(),
                oxmq: Value::Null,
            }));
            found.extend(oxmq.iter().filter(|item| missing(java, item)).map(|item| Difference {
                path: below("+"),
                java: Value::Null,
                oxmq: item.clone(),
            }));
        }
        _ => found.push(Difference {
            path: path.to_owned(),
            java: java.clone(),
            oxmq: oxmq.clone(),
        }),
    }
}

/// Names, each once and in order: what is missing can be named.
fn is_set(items: &[Value]) -> bool {
    items.is_sorted_by(|one, other| matches!((one.as_str(), other.as_str()), (Some(one), Some(other)) if one < other))
        && items.iter().all(Value::is_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMALIZER: Normalizer<'_> = Normalizer {
        prefix: "D-0001-007-",
        broker: "127.0.0.1:38010",
        name_server: "127.0.0.1:38000",
    };

    #[test]
    fn what_may_differ_is_replaced() {
        let now = now_ms();
        let text = format!(
            "D-0001-007-a at 127.0.0.1:38010 of /127.0.0.1:5 {now} 1700000000000 7F000001000012340000000000000FA0"
        );
        assert_eq!(NORMALIZER.text(&text), "@a at BROKER of /CLIENT TIME 1700000000000 ID");
    }

    #[test]
    fn others_are_left_out_of_lists() {
        let value = json!({"D-0001-008-t": 1, "@t": {"dataVersion": 4, "list": ["b", "%RETRY%D-0001-009-g", "a"]}});
        assert_eq!(canonical(value), json!({"@t": {"list": ["a", "b"]}}));
    }

    #[test]
    fn differences_have_a_path() {
        let found = differences(
            &json!({"a": [1, {"b": 2}], "c": 1}),
            &json!({"a": [1, {"b": 3}], "d": null}),
        );
        let paths: Vec<_> = found.iter().map(|difference| difference.path.as_str()).collect();
        assert_eq!(paths, ["a.1.b", "c"]);
        let found = differences(&json!({"a": ["x", "y"]}), &json!({"a": ["y", "z", "zz"]}));
        let told: Vec<_> = found
            .iter()
            .map(|difference| (&*difference.path, &difference.java, &difference.oxmq))
            .collect();
        let null = Value::Null;
        assert_eq!(
            told,
            [
                ("a.-", &json!("x"), &null),
                ("a.+", &null, &json!("z")),
                ("a.+", &null, &json!("zz"))
            ]
        );
    }
}
