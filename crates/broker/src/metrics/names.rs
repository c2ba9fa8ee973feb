//! What the labels call codes and versions: RocketMQ's constants in small letters.

use oxmq_protocol::{RequestCode, response_code};

/// Names that are not those of our table with a line between their words.
const OTHER_NAMES: [(RequestCode, &str); 9] = [
    (RequestCode::GetEarliestMsgStoreTime, "get_earliest_msg_storetime"),
    (RequestCode::ChangeMessageInvisibleTime, "change_message_invisibletime"),
    (
        RequestCode::UpdateAndCreateSubscriptionGroup,
        "update_and_create_subscriptiongroup",
    ),
    (
        RequestCode::UpdateAndCreateSubscriptionGroupList,
        "update_and_create_subscriptiongroup_list",
    ),
    (
        RequestCode::GetAllSubscriptionGroupConfig,
        "get_all_subscriptiongroup_config",
    ),
    (RequestCode::GetSubscriptionGroupConfig, "get_subscriptiongroup_config"),
    (RequestCode::DeleteSubscriptionGroup, "delete_subscriptiongroup"),
    (RequestCode::CleanExpiredConsumeQueue, "clean_expired_consumequeue"),
    (RequestCode::DeleteExpiredCommitLog, "delete_expired_commitlog"),
];

/// The label `request_code`.
pub(super) fn request(code: i32) -> String {
    let Some(known) = RequestCode::from_code(code) else {
        return code.to_string();
    };
    let other = OTHER_NAMES.iter().find(|(code, _)| *code == known);
    other.map_or_else(|| with_lines(&format!("{known:?}")), |(_, name)| (*name).to_owned())
}

/// The label `response_code`.
pub(super) fn response(code: i32) -> String {
    match response_code::name(code) {
        "UNKNOWN" => code.to_string(),
        name => name.to_lowercase(),
    }
}

/// The label `version` of a client. Before 4.1.0 the numbers follow no rule, and are shown as they are.
pub(super) fn version(number: i32) -> String {
    const V4_1_0_SNAPSHOT: i32 = 232;
    let Some(since) = number.checked_sub(V4_1_0_SNAPSHOT).filter(|since| *since >= 0) else {
        return number.to_string();
    };
    let version = 410 + since / 2;
    let snapshot = if since % 2 == 0 { "_snapshot" } else { "" };
    format!("v{}_{}_{}{snapshot}", version / 100, version / 10 % 10, version % 10)
}

fn with_lines(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 8);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_original() {
        for (code, name) in [
            (10, "send_message"),
            (310, "send_message_v2"),
            (32, "get_earliest_msg_storetime"),
            (200, "update_and_create_subscriptiongroup"),
            (200_053, "change_message_invisibletime"),
            (320, "send_batch_message"),
            (41, "lock_batch_mq"),
            (77_777, "77777"),
        ] {
            assert_eq!(request(code), name);
        }
        assert_eq!(
            (response(0), response(19), response(-7)),
            ("success".into(), "pull_not_found".into(), "-7".into())
        );
    }

    #[test]
    fn versions_count_up_in_twos() {
        for (number, name) in [
            (401, "v4_9_4"),
            (413, "v5_0_0"),
            (475, "v5_3_1"),
            (513, "v5_5_0"),
            (232, "v4_1_0_snapshot"),
            (121, "121"),
        ] {
            assert_eq!(version(number), name);
        }
    }
}
