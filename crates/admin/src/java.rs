//! How Java's `toString` and its JSON library show things, where mqadmin prints what they make.

use std::fmt::Display;

use oxmq_client::{MessageExt, SendResult, SendStatus};
use oxmq_protocol::body::{GroupRetryPolicy, SubscriptionGroupConfig, TopicConfig};
use oxmq_protocol::properties::Properties;
use oxmq_protocol::{hash, perm};

use crate::call::Failure;

/// A map: `{0=a:1, 1=b:2}`.
pub(crate) fn map<K: Display, V: Display>(entries: impl IntoIterator<Item = (K, V)>) -> String {
    let entries: Vec<String> = entries
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{{{}}}", entries.join(", "))
}

/// A list: `[a, b]`.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// Something that may be absent.
pub(crate) fn or_null<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

/// Attribute changes as a map: `+a=1,-b` → `{+a=1, -b=}`.
pub(crate) fn attribute_changes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let changes = text.split(',').map(str::trim).filter(|change| !change.is_empty());
    changes.map(|change| change.split_once('=').unwrap_or((change, "")))
}

pub(crate) fn topic_config(config: &TopicConfig, attributes: &str) -> String {
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType={}, topicSysFlag={}, \
         order={}, attributes={}]",
        config.topic_name,
        config.read_queue_nums,
        config.write_queue_nums,
        perm::text(config.perm),
        config.topic_filter_type.name(),
        config.topic_sys_flag,
        config.order,
        map(attribute_changes(attributes)),
    )
}

pub(crate) fn retry_policy(policy: &GroupRetryPolicy) -> String {
    let exponential = policy.exponential_retry_policy.as_ref().map(|policy| {
        format!(
            "ExponentialRetryPolicy{{initial={}, max={}, multiplier={}}}",
            policy.initial, policy.max, policy.multiplier
        )
    });
    let customized = policy.customized_retry_policy.as_ref();
    let customized = customized.map(|policy| format!("CustomizedRetryPolicy{{next={}}}", list(&policy.next)));
    format!(
        "GroupRetryPolicy{{type={}, exponentialRetryPolicy={}, customizedRetryPolicy={}}}",
        policy.kind,
        or_null(exponential),
        or_null(customized)
    )
}

pub(crate) fn group_config(config: &SubscriptionGroupConfig) -> String {
    let fields: Vec<String> = group_fields(config)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("SubscriptionGroupConfig{{{}}}", fields.join(", "))
}

/// The fields of a consumer group in Java's order.
pub(crate) fn group_fields(config: &SubscriptionGroupConfig) -> [(&'static str, String); 15] {
    let subscriptions = config.subscription_data_set.as_ref().map(|set| {
        list(set.iter().map(|data| {
            format!(
                "SimpleSubscriptionData{{topic='{}', expressionType='{}', expression='{}', version={}}}",
                data.topic, data.expression_type, data.expression, data.version
            )
        }))
    });
    [
        ("groupName", config.group_name.clone()),
        ("consumeEnable", config.consume_enable.to_string()),
        ("consumeFromMinEnable", config.consume_from_min_enable.to_string()),
        ("consumeBroadcastEnable", config.consume_broadcast_enable.to_string()),
        ("consumeMessageOrderly", config.consume_message_orderly.to_string()),
        ("retryQueueNums", config.retry_queue_nums.to_string()),
        ("retryMaxTimes", config.retry_max_times.to_string()),
        ("groupRetryPolicy", retry_policy(&config.group_retry_policy)),
        ("brokerId", config.broker_id.to_string()),
        (
            "whichBrokerWhenConsumeSlowly",
            config.which_broker_when_consume_slowly.to_string(),
        ),
        (
            "notifyConsumerIdsChangedEnable",
            config.notify_consumer_ids_changed_enable.to_string(),
        ),
        ("groupSysFlag", config.group_sys_flag.to_string()),
        ("consumeTimeoutMinute", config.consume_timeout_minute.to_string()),
        ("subscriptionDataSet", or_null(subscriptions)),
        ("attributes", map(&config.attributes)),
    ]
}

/// The order in which Java's hash tables with so many buckets show their members.
pub(crate) fn hash_order<T>(items: impl IntoIterator<Item = T>, buckets: u32, hash: impl Fn(&T) -> i32) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_by_key(|item| {
        let hash = hash(item) as u32;
        (hash ^ (hash >> 16)) & (buckets - 1)
    });
    items
}

pub(crate) fn properties(properties: &Properties) -> String {
    map(hash_order(properties.iter(), 128, |(name, _)| {
        hash::java_string_hash(name)
    }))
}

pub(crate) fn message(message: &MessageExt, id: &str) -> String {
    format!(
        "MessageExt [brokerName={}, queueId={}, storeSize={}, queueOffset={}, sysFlag={}, bornTimestamp={}, bornHost=/{}, \
         storeTimestamp={}, storeHost=/{}, msgId={id}, commitLogOffset={}, bodyCRC={}, reconsumeTimes={}, \
         preparedTransactionOffset={}, toString()=Message{{topic='{}', flag={}, properties={}, body={}, \
         transactionId='null'}}]",
        if message.broker_name.is_empty() {
            "null"
        } else {
            &message.broker_name
        },
        message.queue_id,
        message.store_size,
        message.queue_offset,
        message.sys_flag,
        message.born_timestamp,
        message.born_host,
        message.store_timestamp,
        message.store_host,
        message.physical_offset,
        message.body_crc,
        message.reconsume_times,
        message.prepared_transaction_offset,
        message.topic,
        message.flag,
        properties(&message.properties),
        // Java's bytes have signs.
        list(message.body.iter().map(|byte| byte.cast_signed())),
    )
}

pub(crate) fn send_status(status: SendStatus) -> &'static str {
    match status {
        SendStatus::SendOk => "SEND_OK",
        SendStatus::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
        SendStatus::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
        SendStatus::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
    }
}

pub(crate) fn send_result(result: &SendResult) -> String {
    format!(
        "SendResult [sendStatus={}, msgId={}, offsetMsgId={}, messageQueue={}, queueOffset={}, recallHandle={}]",
        send_status(result.status),
        result.msg_id,
        result.offset_msg_id,
        crate::running_info::queue(&result.queue),
        result.queue_offset,
        or_null(result.recall_handle.as_deref())
    )
}

/// Bytes in a character set that needs no tables.
pub(crate) fn decode_text(bytes: &[u8], charset: &str) -> Result<String, Failure> {
    match &*charset.to_ascii_uppercase() {
        "UTF-8" | "UTF8" | "US-ASCII" | "ASCII" => Ok(String::from_utf8_lossy(bytes).into_owned()),
        "ISO-8859-1" | "LATIN1" => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        _ => Err(Failure::new(format!(
            "the character set {charset} is not known, only UTF-8 and ISO-8859-1"
        ))),
    }
}

/// Compact JSON of any dialect, with a line for each member and tabs before it.
pub(crate) fn pretty(compact: &[u8]) -> String {
    let compact = String::from_utf8_lossy(compact);
    let mut out = String::with_capacity(compact.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n('\t', depth));
    };
    let mut characters = compact.chars().peekable();
    while let Some(c) = characters.next() {
        if in_text {
            in_text = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            out.push(c);
            continue;
        }
        match c {
            '{' | '[' if matches!(characters.peek(), Some('}' | ']')) => {
                out.push(c);
                out.extend(characters.next());
            }
            '{' | '[' => {
                out.push(c);
                depth += 1;
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            _ => {
                in_text = c == '"';
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gets_lines_and_tabs() {
        let pretty = pretty(br#"{"a":[{0:"x,\"{"}],"b":{},"c":[1,2]}"#);
        assert_eq!(
            pretty,
            "{\n\t\"a\":[\n\t\t{\n\t\t\t0:\"x,\\\"{\"\n\t\t}\n\t],\n\t\"b\":{},\n\t\"c\":[\n\t\t1,\n\t\t2\n\t]\n}"
        );
    }

    #[test]
    fn attributes_are_shown_as_changes() {
        let config = TopicConfig::new("t", 4, 6);
        let text = topic_config(&config, "+message.type=FIFO,-cleanup.policy");
        assert!(
            text.ends_with("order=false, attributes={+message.type=FIFO, -cleanup.policy=}]"),
            "{text}"
        );
    }
}
