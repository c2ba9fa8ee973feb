use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::bodies;
use crate::hash;
use crate::json::{number, numbers, text_enum};

/// The expression that takes everything.
pub const SUB_ALL: &str = "*";
pub const EXPRESSION_TYPE_TAG: &str = "TAG";
pub const EXPRESSION_TYPE_SQL92: &str = "SQL92";

// The order of variants is Java's: C++ clients send ordinals.
text_enum! {
    pub enum ConsumeType {
        /// Pull consumers.
        #[default]
        Actively = "CONSUME_ACTIVELY",
        /// Push consumers.
        Passively = "CONSUME_PASSIVELY",
        Pop = "CONSUME_POP",
    }

    pub enum MessageModel {
        Broadcasting = "BROADCASTING",
        #[default]
        Clustering = "CLUSTERING",
    }

    /// Where a group starts that has no offsets yet.
    pub enum ConsumeFromWhere {
        #[default]
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        LastOffsetAndFromMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

bodies! {
    /// Body of 34.
    pub struct HeartbeatData {
        #[serde(rename = "clientID")]
        client_id: String,
        consumer_data_set: Vec<ConsumerData>,
        heartbeat_fingerprint: i32,
        producer_data_set: Vec<ProducerData>,
        without_sub: bool,
    }

    pub struct ProducerData {
        group_name: String,
    }

    pub struct ConsumerData {
        consume_from_where: ConsumeFromWhere,
        consume_type: ConsumeType,
        group_name: String,
        message_model: MessageModel,
        /// Everything the group subscribes to: a topic that is missing here is no longer subscribed.
        subscription_data_set: Vec<SubscriptionData>,
        unit_mode: bool,
    }

    /// Body of 46.
    pub struct CheckClientRequestBody {
        client_id: String,
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        subscription_data: SubscriptionData,
    }
}

/// What a group wants of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionData {
    pub class_filter_mode: bool,
    /// The hash of each tag.
    #[serde(deserialize_with = "numbers")]
    pub code_set: BTreeSet<i32>,
    pub expression_type: String,
    pub sub_string: String,
    /// When the subscription was made, by the client's clock. Only grows.
    #[serde(deserialize_with = "number")]
    pub sub_version: i64,
    pub tags_set: BTreeSet<String>,
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> SubscriptionData {
        SubscriptionData {
            class_filter_mode: false,
            code_set: BTreeSet::new(),
            expression_type: EXPRESSION_TYPE_TAG.to_owned(),
            sub_string: SUB_ALL.to_owned(),
            sub_version: 0,
            tags_set: BTreeSet::new(),
            topic: String::new(),
        }
    }
}

/// An expression made of nothing but bars.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the expression \"{0}\" names no tag")]
pub struct ExpressionError(pub String);

impl SubscriptionData {
    /// Reads a tag expression: `*` or nothing takes all, otherwise tags with `||` between them. Blank tags are left out,
    /// so that blanks alone take nothing.
    pub fn parse(topic: &str, expression: &str, sub_version: i64) -> Result<SubscriptionData, ExpressionError> {
        let mut subscription = SubscriptionData {
            topic: topic.to_owned(),
            sub_version,
            ..SubscriptionData::default()
        };
        if expression.is_empty() || expression == SUB_ALL {
            return Ok(subscription);
        }
        if expression.split("||").all(str::is_empty) {
            return Err(ExpressionError(expression.to_owned()));
        }
        for tag in expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
            subscription.tags_set.insert(tag.to_owned());
            subscription.code_set.insert(hash::java_string_hash(tag));
        }
        expression.clone_into(&mut subscription.sub_string);
        Ok(subscription)
    }

    /// Whether the expression is one of tags; absent and empty types mean so too.
    pub fn is_tag_type(&self) -> bool {
        self.expression_type.is_empty() || self.expression_type == EXPRESSION_TYPE_TAG
    }

    /// Whether everything is taken.
    pub fn takes_all(&self) -> bool {
        self.sub_string == SUB_ALL || self.sub_string.is_empty()
    }

    /// Whether a consume queue entry with this tag code may match. Different tags can share a code.
    pub fn matches_code(&self, tags_code: i64) -> bool {
        self.takes_all() || i32::try_from(tags_code).is_ok_and(|code| self.code_set.contains(&code))
    }

    /// Whether a message with this tag matches. No tags listed means that the client does not check.
    pub fn matches_tag(&self, tag: Option<&str>) -> bool {
        self.tags_set.is_empty() || tag.is_some_and(|tag| self.tags_set.contains(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn tag_expressions_are_split_and_trimmed() {
        let sub = SubscriptionData::parse("t", " eu || vip ||", 5).unwrap();
        assert_eq!(sub.tags_set, ["eu".to_owned(), "vip".to_owned()].into());
        assert_eq!(sub.code_set, [3248, 116_765].into());
        assert!(sub.matches_code(3248) && !sub.matches_code(0) && !sub.matches_code(i64::MAX));
        assert!(sub.matches_tag(Some("eu")) && !sub.matches_tag(Some("us")) && !sub.matches_tag(None));
        for all in ["", "*"] {
            let sub = SubscriptionData::parse("t", all, 5).unwrap();
            assert!(sub.takes_all() && sub.matches_code(7) && sub.matches_tag(None));
            assert_eq!(sub.sub_string, "*");
        }
        for bars in ["||", "||||"] {
            assert!(SubscriptionData::parse("t", bars, 5).is_err());
        }
        for blank in [" ", " || ", "|| ||"] {
            let sub = SubscriptionData::parse("t", blank, 5).unwrap();
            assert!(sub.tags_set.is_empty() && !sub.takes_all() && !sub.matches_code(0));
        }
    }

    #[test]
    fn the_heartbeat_of_the_cpp_client_is_read() {
        let heartbeat: HeartbeatData = json::from_slice(
            br#"{"clientID":"c","consumerDataSet":[{"consumeFromWhere":4,"consumeType":1,"groupName":"g","messageModel":0,
            "subscriptionDataSet":[{"codeSet":["3248"],"subString":"eu","subVersion":"1795209615511","tagsSet":["eu"],"topic":"t"}]}],
            "producerDataSet":null}"#,
        )
        .unwrap();
        let consumer = &heartbeat.consumer_data_set[0];
        assert_eq!(consumer.consume_from_where, ConsumeFromWhere::FirstOffset);
        assert_eq!(consumer.consume_type, ConsumeType::Passively);
        assert_eq!(consumer.message_model, MessageModel::Broadcasting);
        let wanted = SubscriptionData::parse("t", "eu", 1_795_209_615_511).unwrap();
        assert_eq!(consumer.subscription_data_set, [wanted]);
    }
}
