//! Names of topics and groups: what is allowed, what is reserved, and the topics derived from a group
//! (spec: behaviour.md §2.2, protocol.md §6.6, storage.md §19).

use thiserror::Error;

pub const TOPIC_LENGTH_MAX: usize = 127;
/// Retry and dead-letter topics carry a prefix before a name of full length.
pub const RETRY_TOPIC_LENGTH_MAX: usize = 255;
pub const GROUP_LENGTH_MAX: usize = 120;

pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Light queues: one queue each, without a topic configuration.
pub const LMQ_PREFIX: &str = "%LMQ%";
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
/// Groups of the brokers and of tools.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// The topic whose route and settings stand in for a topic that does not exist yet.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Where messages with a delivery time of their own wait.
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
pub const TRANS_HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const TRANS_OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";

/// System topics known by name. Cluster, broker and region names are system topics too, but only a broker knows them.
const SYSTEM_TOPICS: [&str; 10] = [
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    TRANS_HALF_TOPIC,
    TRACE_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
    CHECKPOINT_TOPIC,
];

/// Topics that clients may not send to.
const TOPICS_CLOSED_TO_CLIENTS: [&str; 6] = [
    SCHEDULE_TOPIC,
    TRANS_HALF_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
];

/// Groups that exist on every broker without being created.
pub const SYSTEM_GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

pub const INNER_PRODUCER_GROUP: &str = "CLIENT_INNER_PRODUCER";

/// Groups with a meaning of their own that brokers do not create at start.
const RESERVED_GROUPS: [&str; 6] = [
    "SCHEDULE_CONSUMER",
    "DEFAULT_CONSUMER",
    "__MONITOR_CONSUMER",
    "SELF_TEST_P_GROUP",
    INNER_PRODUCER_GROUP,
    "CID_RMQ_SYS_REVIVE_GROUP",
];

/// Why a name is refused. Names become file paths, so everything goes through here first.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("the name is blank")]
    Blank,
    #[error("the name \"{0}\" has characters other than letters, digits, %, |, - and _")]
    Characters(String),
    #[error("the name is {length} characters long, more than {max}")]
    Length { length: usize, max: usize },
}

pub fn validate_topic(topic: &str) -> Result<(), NameError> {
    let prefixed = is_retry(topic) || is_dlq(topic);
    validate(
        topic,
        if prefixed {
            RETRY_TOPIC_LENGTH_MAX
        } else {
            TOPIC_LENGTH_MAX
        },
    )
}

/// Topics that a broker makes of others may have names that nobody can ask for: `%RETRY%group+topic`.
pub fn validate_stored_topic(topic: &str) -> Result<(), NameError> {
    match topic.strip_prefix(RETRY_PREFIX).and_then(|rest| rest.split_once('+')) {
        Some((group, first_topic)) => validate_group(group).and_then(|()| validate_topic(first_topic)),
        None => validate_topic(topic),
    }
}

pub fn validate_group(group: &str) -> Result<(), NameError> {
    validate(group, GROUP_LENGTH_MAX)
}

fn validate(name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank);
    }
    if name.len() > max {
        return Err(NameError::Length {
            length: name.len(),
            max,
        });
    }
    if !name.bytes().all(is_name_byte) {
        return Err(NameError::Characters(name.to_owned()));
    }
    Ok(())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'-' | b'_')
}

pub fn is_system_topic(topic: &str) -> bool {
    topic.starts_with(SYSTEM_TOPIC_PREFIX) || SYSTEM_TOPICS.contains(&topic)
}

pub fn is_closed_to_clients(topic: &str) -> bool {
    TOPICS_CLOSED_TO_CLIENTS.contains(&topic)
}

pub fn is_system_group(group: &str) -> bool {
    group.starts_with(SYSTEM_GROUP_PREFIX) || SYSTEM_GROUPS.contains(&group) || RESERVED_GROUPS.contains(&group)
}

pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// Where replies to requests lie that were sent as messages.
pub fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_REPLY_TOPIC")
}

pub fn is_retry(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX)
}

pub fn is_dlq(topic: &str) -> bool {
    topic.starts_with(DLQ_PREFIX)
}

/// Whether the name has the prefix of a light queue. It may still be no legal name.
pub fn is_lmq(name: &str) -> bool {
    name.starts_with(LMQ_PREFIX)
}

/// A light queue whose name may become a path.
pub fn is_light_queue(name: &str) -> bool {
    is_lmq(name) && validate_topic(name).is_ok()
}

/// Whether records of the topic may enter light queues as well (spec: storage.md §5.2).
pub fn may_multi_dispatch(topic: &str) -> bool {
    !is_retry(topic) && !topic.starts_with(SYSTEM_TOPIC_PREFIX) && topic != SCHEDULE_TOPIC
}

/// The group a retry topic belongs to.
pub fn group_of_retry(topic: &str) -> Option<&str> {
    topic.strip_prefix(RETRY_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_become_paths_are_refused() {
        for bad in ["../../x", "a/b", "a.b", "a b", "t\0", "é", "a\\b"] {
            assert_eq!(validate_topic(bad), Err(NameError::Characters(bad.into())), "{bad}");
            assert!(validate_group(bad).is_err(), "{bad}");
        }
        assert_eq!(validate_topic("  "), Err(NameError::Blank));
        assert_eq!(validate_topic(""), Err(NameError::Blank));
        for good in ["orders", "%RETRY%g", "A-b_c|d%e9"] {
            assert_eq!(validate_topic(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn prefixed_topics_may_be_longer() {
        let long = "x".repeat(TOPIC_LENGTH_MAX + 1);
        assert!(validate_topic(&long).is_err());
        assert_eq!(validate_topic(&retry_topic(&long)), Ok(()));
        assert_eq!(validate_topic(&dlq_topic(&long)), Ok(()));
        assert!(validate_topic("%RETRY%g+t").is_err() && validate_stored_topic("%RETRY%g+t").is_ok());
        for bad in ["a+b", "%RETRY%g+t+u", "%RETRY%g+", "%RETRY%../x+t"] {
            assert!(validate_stored_topic(bad).is_err(), "{bad}");
        }
        assert!(validate_topic(&retry_topic(&"x".repeat(249))).is_err());
        assert!(validate_group(&"g".repeat(121)).is_err());
    }

    #[test]
    fn system_names_are_known() {
        assert!(is_system_topic("TBW102") && is_system_topic("rmq_sys_wheel_timer") && !is_system_topic("orders"));
        assert!(is_closed_to_clients(SCHEDULE_TOPIC) && !is_closed_to_clients("TBW102"));
        assert!(is_system_group("CID_RMQ_SYS_x") && is_system_group("TOOLS_CONSUMER") && !is_system_group("g"));
    }
}
