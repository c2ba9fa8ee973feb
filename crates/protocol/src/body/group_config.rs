use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataVersion, bodies};

/// How often a message is consumed again before it is a dead letter, unless the client or the group says otherwise.
pub const RETRY_MAX_TIMES_DEFAULT: i32 = 16;

/// A consumer group as a broker knows it: bodies of 200 and 352, an entry of `subscriptionGroup.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupConfig {
    pub attributes: BTreeMap<String, String>,
    pub broker_id: i64,
    pub consume_broadcast_enable: bool,
    pub consume_enable: bool,
    pub consume_from_min_enable: bool,
    pub consume_message_orderly: bool,
    pub consume_timeout_minute: i32,
    pub group_name: String,
    pub group_retry_policy: GroupRetryPolicy,
    pub group_sys_flag: i32,
    pub notify_consumer_ids_changed_enable: bool,
    pub retry_max_times: i32,
    pub retry_queue_nums: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<Vec<SimpleSubscriptionData>>,
    pub which_broker_when_consume_slowly: i64,
}

impl SubscriptionGroupConfig {
    pub fn new(group_name: impl Into<String>) -> SubscriptionGroupConfig {
        SubscriptionGroupConfig {
            group_name: group_name.into(),
            ..SubscriptionGroupConfig::default()
        }
    }
}

impl Default for SubscriptionGroupConfig {
    fn default() -> SubscriptionGroupConfig {
        SubscriptionGroupConfig {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: RETRY_MAX_TIMES_DEFAULT,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

/// How long a message waits that comes again by POP, in Java for the clients of its proxy: `CUSTOMIZED` or `EXPONENTIAL`,
/// with the numbers of each (spec: behaviour.md §5.1). Absent numbers mean the built-in ones. The delay levels of
/// CONSUMER_SEND_MSG_BACK (36) do not depend on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupRetryPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<CustomizedRetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<ExponentialRetryPolicy>,
    #[serde(rename = "type")]
    pub kind: String,
}

impl Default for GroupRetryPolicy {
    fn default() -> GroupRetryPolicy {
        GroupRetryPolicy {
            customized_retry_policy: None,
            exponential_retry_policy: None,
            kind: "CUSTOMIZED".to_owned(),
        }
    }
}

impl GroupRetryPolicy {
    /// Milliseconds to wait before a message is consumed again that was consumed `reconsume_times` times in vain. Never
    /// negative.
    pub fn next_delay_ms(&self, reconsume_times: i32) -> i64 {
        let delay_ms = match (
            &*self.kind,
            &self.exponential_retry_policy,
            &self.customized_retry_policy,
        ) {
            ("EXPONENTIAL", Some(policy), _) => policy.next_delay_ms(reconsume_times),
            ("CUSTOMIZED", _, Some(policy)) => policy.next_delay_ms(reconsume_times),
            _ => CustomizedRetryPolicy::default().next_delay_ms(reconsume_times),
        };
        delay_ms.max(0)
    }
}

/// A delay for each attempt, in milliseconds. The first attempt to consume again uses the third, as with the delay levels
/// that a consumer's default refers to; the last one serves for all that follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomizedRetryPolicy {
    pub next: Vec<i64>,
}

impl Default for CustomizedRetryPolicy {
    fn default() -> CustomizedRetryPolicy {
        const SECOND: i64 = 1000;
        const MINUTE: i64 = 60 * SECOND;
        let seconds = [1, 5, 10, 30].map(|count| count * SECOND);
        let minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|count| count * MINUTE);
        CustomizedRetryPolicy {
            next: [&seconds[..], &minutes[..]].concat(),
        }
    }
}

impl CustomizedRetryPolicy {
    fn next_delay_ms(&self, reconsume_times: i32) -> i64 {
        let index = reconsume_times.max(0) as usize + 2;
        // An empty list makes Java fail; here it means no delay.
        self.next.get(index).or(self.next.last()).copied().unwrap_or(0)
    }
}

/// A delay that is multiplied with each attempt, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExponentialRetryPolicy {
    pub initial: i64,
    pub max: i64,
    pub multiplier: i64,
}

impl Default for ExponentialRetryPolicy {
    fn default() -> ExponentialRetryPolicy {
        ExponentialRetryPolicy {
            initial: 5000,
            max: 7_200_000,
            multiplier: 2,
        }
    }
}

impl ExponentialRetryPolicy {
    /// Where Java's product leaves the range of its type, this one stays at the end of it.
    fn next_delay_ms(&self, reconsume_times: i32) -> i64 {
        let factor = (self.multiplier as f64).powi(reconsume_times.clamp(0, 32));
        self.initial.saturating_mul(factor as i64).min(self.max)
    }
}

bodies! {
    #[derive(Eq)]
    pub struct SimpleSubscriptionData {
        expression: String,
        expression_type: String,
        topic: String,
        version: i64,
    }

    /// Reply of 201; also the form of `subscriptionGroup.json`.
    pub struct SubscriptionGroupWrapper {
        data_version: DataVersion,
        /// A bit mask per group and topic.
        forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
        subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
    }

    /// Body of 225.
    pub struct SubscriptionGroupList {
        group_config_list: Vec<SubscriptionGroupConfig>,
    }

    /// Reply of 353.
    pub struct GroupForbidden {
        group: String,
        readable: bool,
        topic: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use proptest::prelude::*;

    fn policy(text: &str) -> GroupRetryPolicy {
        json::from_slice(text.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check(text: &str, expected: &[(i32, i64)]) {
        for (times, delay_ms) in expected {
            assert_eq!(policy(text).next_delay_ms(*times), *delay_ms, "{times}");
        }
    }

    #[test]
    fn delays_are_those_of_java() {
        let built_in = [(-1, 10_000), (0, 10_000), (1, 30_000), (15, 7_200_000), (99, 7_200_000)];
        check("{}", &built_in);
        check(r#"{"type":"CUSTOMIZED","customizedRetryPolicy":{}}"#, &built_in);
        check(r#"{"type":"EXPONENTIAL"}"#, &built_in);
        check(r#"{"type":"FUTURE"}"#, &built_in);
        check(
            r#"{"type":"CUSTOMIZED","customizedRetryPolicy":{"next":[1,2,3,4]}}"#,
            &[(0, 3), (1, 4), (2, 4)],
        );
        check(
            r#"{"type":"EXPONENTIAL","exponentialRetryPolicy":{}}"#,
            &[
                (-1, 5000),
                (0, 5000),
                (1, 10_000),
                (10, 5_120_000),
                (11, 7_200_000),
                (99, 7_200_000),
            ],
        );
        check(
            r#"{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":10,"max":100,"multiplier":3}}"#,
            &[(0, 10), (2, 90), (3, 100)],
        );
    }

    #[test]
    fn absurd_numbers_do_no_harm() {
        check(r#"{"customizedRetryPolicy":{"next":[]}}"#, &[(0, 0), (i32::MAX, 0)]);
        check(r#"{"customizedRetryPolicy":{"next":[-5]}}"#, &[(7, 0)]);
        check(
            r#"{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":9000000000000000000,"max":9100000000000000000,"multiplier":-9000000000000000000}}"#,
            &[
                (1, 0),
                (2, 9_100_000_000_000_000_000),
                (i32::MIN, 9_000_000_000_000_000_000),
            ],
        );
    }

    fn kinds() -> impl Strategy<Value = GroupRetryPolicy> {
        let customized = prop::collection::vec(0..10_000_000i64, 0..20).prop_map(|mut next| {
            next.sort_unstable();
            GroupRetryPolicy {
                customized_retry_policy: Some(CustomizedRetryPolicy { next }),
                ..GroupRetryPolicy::default()
            }
        });
        let exponential = (0..100_000i64, 0..10_000_000i64, 1..10i64).prop_map(|(initial, max, multiplier)| {
            let policy = ExponentialRetryPolicy {
                initial,
                max,
                multiplier,
            };
            GroupRetryPolicy {
                kind: "EXPONENTIAL".to_owned(),
                exponential_retry_policy: Some(policy),
                ..GroupRetryPolicy::default()
            }
        });
        prop_oneof![Just(GroupRetryPolicy::default()), customized, exponential]
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_than_the_one_before(policy in kinds(), times in 0..100i32) {
            let (wait, next) = (policy.next_delay_ms(times), policy.next_delay_ms(times + 1));
            prop_assert!(0 <= wait && wait <= next);
            if let Some(exponential) = &policy.exponential_retry_policy {
                prop_assert!(next <= exponential.max);
            }
        }

        #[test]
        fn no_numbers_do_harm(initial: i64, max: i64, multiplier: i64, next: Vec<i64>, times: i32) {
            for kind in ["CUSTOMIZED", "EXPONENTIAL", "?"] {
                let policy = GroupRetryPolicy {
                    customized_retry_policy: Some(CustomizedRetryPolicy { next: next.clone() }),
                    exponential_retry_policy: Some(ExponentialRetryPolicy { initial, max, multiplier }),
                    kind: kind.to_owned(),
                };
                prop_assert!(policy.next_delay_ms(times) >= 0);
            }
        }
    }
}
