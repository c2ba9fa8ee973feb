//! What a request wants to do, by its code (spec: protocol.md §3.8).
//!
//! A request whose code stands nowhere here asks for nothing, and one without any field does not either, as in the original.
//! Other than there, requests ask for what they change where their body says it, or nothing does ([`changes`]), and lite
//! pulls are pulls.

use std::borrow::Cow;

use oxmq_protocol::body::{
    BatchAckMessageRequestBody, HeartbeatData, LockBatchRequestBody, SetMessageRequestModeRequestBody,
    SubscriptionGroupConfig, SubscriptionGroupList, TopicConfigList,
};
use oxmq_protocol::{json, topic};
use serde::de::DeserializeOwned;
use smallvec::{SmallVec, smallvec};

use super::policy::{Action, Actions, Ask, ResourceKind};
use super::request::SignedRequest;

pub(crate) type Asks<'a> = SmallVec<[Ask<'a>; 2]>;

/// The body that says what is asked for cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("parse authorization context error.")]
pub(crate) struct UnreadableAsk;

const PUB: Actions = Actions::of(&[Action::Pub]);
const SUB: Actions = Actions::of(&[Action::Sub]);
const GET: Actions = Actions::of(&[Action::Get]);
const UPDATE: Actions = Actions::of(&[Action::Update]);
const CREATE: Actions = Actions::of(&[Action::Create]);
const DELETE: Actions = Actions::of(&[Action::Delete]);
const SUB_OR_GET: Actions = Actions::of(&[Action::Sub, Action::Get]);
const SUB_OR_UPDATE: Actions = Actions::of(&[Action::Sub, Action::Update]);
const PUB_SUB_OR_GET: Actions = Actions::of(&[Action::Pub, Action::Sub, Action::Get]);

/// A field that names a resource.
enum Field {
    Topic(&'static str),
    Group(&'static str),
    Cluster(&'static str),
    /// Several, with this between them.
    Topics(&'static str, char),
    Groups(&'static str, char),
}

use Field::{Cluster, Group, Groups, Topic, Topics};

/// Codes whose fields say everything.
fn fields_of(code: i32) -> Option<(Actions, &'static [Field])> {
    Some(match code {
        17 | 513 => (CREATE, &[Topic("topic")]),
        215 => (DELETE, &[Topic("topic")]),
        207 => (DELETE, &[Group("groupName")]),
        29 | 30 | 31 | 32 | 33 | 202 | 300 | 351 | 354 => (GET, &[Topic("topic")]),
        323 => (UPDATE, &[Topic("topic")]),
        39 => (PUB, &[Topic("topic")]),
        40 | 200_073 => (SUB, &[Group("consumerGroup")]),
        203 | 307 => (GET, &[Group("consumerGroup")]),
        343 | 352 => (GET, &[Group("group")]),
        208 => (GET, &[Group("consumerGroup"), Topic("topic"), Topics("topicList", ';')]),
        222 | 353 => (UPDATE, &[Group("group"), Topic("topic")]),
        223 | 303 => (GET, &[Topic("topic"), Group("group")]),
        308 => (
            GET,
            &[Groups("filterGroups", ','), Group("compareGroup"), Topic("topic")],
        ),
        309 => (SUB, &[Group("consumerGroup"), Topic("topic")]),
        314 => (UPDATE, &[Group("destGroup"), Topic("topic")]),
        321 => (GET, &[Topic("topic"), Group("consumerGroup")]),
        326 => (SUB, &[Group("producerGroup"), Topic("topic")]),
        345 => (GET, &[Group("group"), Topic("topic")]),
        200_050 | 200_051 | 200_053 | 200_054 => (SUB, &[Group("consumerGroup"), Topic("topic")]),
        200_052 => (SUB, &[Topic("topic"), Group("consumerGroup")]),
        200_055 => (GET, &[Group("consumerGroup"), Topic("topic")]),
        901 => (GET, &[Cluster("clusterName")]),
        _ => return None,
    })
}

/// Codes that are about the cluster: what for, and the field that may name another than ours.
fn cluster_of(code: i32) -> Option<(Actions, Option<&'static str>)> {
    Some(match code {
        101 | 204 | 219 | 315 | 317 | 328 | 355 | 1004 | 3004 | 3005 | 3009 | 3010 => (GET, None),
        322 | 1012 => (GET, Some("clusterName")),
        100 | 102 | 205 | 217 | 327 | 902 | 905 | 906 | 908 | 1001 | 1008 => (UPDATE, None),
        3001 | 3002 | 3003 | 3006 | 3007 | 3008 => (UPDATE, None),
        103 | 104 | 216 | 904 | 1002 | 1003 | 1011 | 1013 => (UPDATE, Some("clusterName")),
        903 => (UPDATE, Some("brokerClusterName")),
        _ => return None,
    })
}

/// Everything that the request needs, in the order in which it is judged.
#[inline]
pub(crate) fn asks<'a>(
    request: &'a SignedRequest<'_>,
    body: &[u8],
    cluster: &'a str,
) -> Result<Asks<'a>, UnreadableAsk> {
    if let Some(asks) = changes(request.code, body, cluster) {
        return asks;
    }
    if request.has_no_fields() {
        return Ok(Asks::new());
    }
    let field = |name: &str| -> Option<Cow<'a, str>> { request.get(name) };
    let given = |name: &str| field(name).filter(|value| !value.trim().is_empty());
    Ok(match request.code {
        10 => send(field("topic"), given("group")),
        310 | 320 => send(field("b"), given("a")),
        370 => smallvec![topic(field("topic"), PUB)],
        37 => given("topic").map(|name| topic(Some(name), PUB)).into_iter().collect(),
        36 => smallvec![group(field("group"), SUB)],
        11 | 361 => topic_and_group(field("topic"), field("consumerGroup"), SUB),
        12 => smallvec![topic(field("topic"), SUB_OR_GET)],
        14 => topic_and_group(field("topic"), field("consumerGroup"), SUB_OR_GET),
        15 => topic_and_group(field("topic"), field("consumerGroup"), SUB_OR_UPDATE),
        34 => heartbeat(body)?,
        35 => given("consumerGroup")
            .map(|name| group(Some(name), SUB))
            .into_iter()
            .collect(),
        38 => smallvec![group(field("consumerGroup"), SUB_OR_GET)],
        41 | 42 => locks(body)?,
        105 => match field("topic") {
            retry if is_retry(&retry) => smallvec![group(retry, SUB_OR_GET)],
            name => smallvec![topic(name, PUB_SUB_OR_GET)],
        },
        code => described(code, request, cluster),
    })
}

/// Requests that the original asks for nothing: what they change stands in their body, or is the broker.
fn changes<'a>(code: i32, body: &[u8], cluster: &'a str) -> Option<Result<Asks<'a>, UnreadableAsk>> {
    let groups = |groups: Vec<SubscriptionGroupConfig>| {
        let names = groups.into_iter().map(|config| config.group_name.into());
        names.map(|name| group(Some(name), CREATE)).collect()
    };
    Some(match code {
        25 | 306 | 316 | 329 | 2001 | 2002 | 2004 | 5001 => {
            Ok(smallvec![of(ResourceKind::Cluster, Some(cluster.into()), UPDATE)])
        }
        18 => read(body).map(|list: TopicConfigList| {
            let names = list.topic_config_list.into_iter();
            names
                .map(|config| named(ResourceKind::Topic, config.topic_name.into(), CREATE))
                .collect()
        }),
        200 => read(body).map(|config| groups(vec![config])),
        400 => read(body).map(|mode: SetMessageRequestModeRequestBody| {
            let consumer_group = mode.consumer_group.into();
            topic_and_group(Some(mode.topic.into()), Some(consumer_group), UPDATE)
        }),
        200_151 if body.is_empty() => Ok(Asks::new()),
        200_151 => read(body).map(|batch: BatchAckMessageRequestBody| {
            let acks = batch.acks.into_iter();
            acks.flat_map(|ack| topic_and_group(Some(ack.topic.into()), Some(ack.consumer_group.into()), SUB))
                .collect()
        }),
        225 => read(body).map(|list: SubscriptionGroupList| groups(list.group_config_list)),
        _ => return None,
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, UnreadableAsk> {
    json::from_slice(body).map_err(|_| UnreadableAsk)
}

fn send<'a>(name: Option<Cow<'a, str>>, producer_group: Option<Cow<'a, str>>) -> Asks<'a> {
    match is_retry(&name) {
        true => smallvec![group(producer_group.or(name), SUB)],
        false => smallvec![topic(name, PUB)],
    }
}

fn topic_and_group<'a>(name: Option<Cow<'a, str>>, group_name: Option<Cow<'a, str>>, actions: Actions) -> Asks<'a> {
    let topic = (!is_retry(&name)).then(|| topic(name, actions));
    topic.into_iter().chain([group(group_name, actions)]).collect()
}

fn heartbeat<'a>(body: &[u8]) -> Result<Asks<'a>, UnreadableAsk> {
    let data: HeartbeatData = read(body)?;
    let mut asks = Asks::new();
    for consumer in data.consumer_data_set {
        asks.push(group(Some(consumer.group_name.into()), SUB));
        let subscribed = consumer.subscription_data_set.into_iter();
        let topics = subscribed.filter(|subscription| !topic::is_retry(&subscription.topic));
        asks.extend(topics.map(|subscription| topic(Some(subscription.topic.into()), SUB)));
    }
    Ok(asks)
}

fn locks<'a>(body: &[u8]) -> Result<Asks<'a>, UnreadableAsk> {
    let locks: LockBatchRequestBody = read(body)?;
    let mut asks: Asks<'_> = smallvec![group(Some(locks.consumer_group.into()), SUB)];
    let topics = locks.mq_set.into_iter().filter(|queue| !topic::is_retry(&queue.topic));
    asks.extend(topics.map(|queue| topic(Some(queue.topic.into()), SUB)));
    Ok(asks)
}

fn described<'a>(code: i32, request: &'a SignedRequest<'_>, cluster: &'a str) -> Asks<'a> {
    if let Some((actions, named_by)) = cluster_of(code) {
        let name = named_by.and_then(|field| request.get(field));
        return smallvec![of(ResourceKind::Cluster, Some(name.unwrap_or(cluster.into())), actions)];
    }
    let mut asks = Asks::new();
    let Some((actions, fields)) = fields_of(code) else {
        return asks;
    };
    for field in fields {
        let (kind, name, separator) = match *field {
            Topic(name) => (ResourceKind::Topic, name, None),
            Group(name) => (ResourceKind::Group, name, None),
            Cluster(name) => (ResourceKind::Cluster, name, None),
            Topics(name, separator) => (ResourceKind::Topic, name, Some(separator)),
            Groups(name, separator) => (ResourceKind::Group, name, Some(separator)),
        };
        let Some(value) = request.get(name) else { continue };
        match separator {
            None => asks.push(named(kind, value, actions)),
            Some(separator) => {
                let names = value.split(separator).filter(|name| !name.is_empty());
                asks.extend(names.map(|name| named(kind, name.to_owned().into(), actions)));
            }
        }
    }
    asks
}

/// A retry topic stands for its group.
fn named(kind: ResourceKind, name: Cow<'_, str>, actions: Actions) -> Ask<'_> {
    match kind == ResourceKind::Topic && topic::is_retry(&name) {
        true => group(Some(name), actions),
        false => of(kind, Some(name), actions),
    }
}

fn topic(name: Option<Cow<'_, str>>, actions: Actions) -> Ask<'_> {
    of(ResourceKind::Topic, name, actions)
}

fn group(name: Option<Cow<'_, str>>, actions: Actions) -> Ask<'_> {
    let name = name.map(|name| match topic::group_of_retry(&name) {
        Some(group) => Cow::Owned(group.to_owned()),
        None => name,
    });
    of(ResourceKind::Group, name, actions)
}

fn of(kind: ResourceKind, name: Option<Cow<'_, str>>, actions: Actions) -> Ask<'_> {
    Ask { kind, name, actions }
}

fn is_retry(name: &Option<Cow<'_, str>>) -> bool {
    name.as_deref().is_some_and(topic::is_retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: i32, fields: &[(&str, &str)], body: &str, expected: &[&str]) {
        let command = super::super::request::tests::command(code, fields);
        let request = SignedRequest::of_header(&command.header);
        let asks = asks(&request, body.as_bytes(), "C").unwrap();
        let asks: Vec<_> = asks.iter().map(ToString::to_string).collect();
        assert_eq!(asks, expected, "{code}");
    }

    #[test]
    fn requests_ask_for_what_the_original_asks_for() {
        check(310, &[("a", "p"), ("b", "t")], "", &["Topic:t"]);
        check(310, &[("a", "g"), ("b", "%RETRY%g")], "", &["Group:g"]);
        check(10, &[("topic", "%RETRY%g")], "", &["Group:g"]);
        check(
            11,
            &[("consumerGroup", "g"), ("topic", "t")],
            "",
            &["Topic:t", "Group:g"],
        );
        check(11, &[("consumerGroup", "g"), ("topic", "%RETRY%g")], "", &["Group:g"]);
        check(37, &[("commitLogOffset", "1")], "", &[]);
        check(35, &[("clientID", "c"), ("producerGroup", "p")], "", &[]);
        check(
            208,
            &[("consumerGroup", "g"), ("topicList", "a;b;")],
            "",
            &["Group:g", "Topic:a", "Topic:b"],
        );
        check(322, &[("clusterName", "D")], "", &["Cluster:D"]);
        check(3001, &[("username", "u")], "", &["Cluster:C"]);
        check(33, &[("offset", "1")], "", &[]);
        check(17, &[], "", &[]);
        check(36, &[("x", "y")], "", &["Group:null"]);
        let body =
            r#"{"consumerDataSet":[{"groupName":"g","subscriptionDataSet":[{"topic":"t"},{"topic":"%RETRY%g"}]}]}"#;
        check(34, &[("AccessKey", "a")], body, &["Group:g", "Topic:t"]);
        let body = r#"{"consumerGroup":"g","mqSet":[{"topic":"t","brokerName":"b","queueId":0}]}"#;
        check(41, &[("AccessKey", "a")], body, &["Group:g", "Topic:t"]);
    }

    #[test]
    fn changes_ask_for_what_they_change() {
        let signed = [("AccessKey", "a")];
        for fields in [&signed[..], &[]] {
            for code in [25, 306, 316, 329, 2001, 2002, 2004, 5001] {
                check(code, fields, "a=b", &["Cluster:C"]);
            }
            let body = r#"{"topic":"t","consumerGroup":"g"}"#;
            check(400, fields, body, &["Topic:t", "Group:g"]);
            let body = r#"{"acks":[{"c":"g","t":"t"},{"c":"h","t":"%RETRY%h"}]}"#;
            check(200_151, fields, body, &["Topic:t", "Group:g", "Group:h"]);
            let body = r#"{"topicConfigList":[{"topicName":"t"},{"topicName":"%RETRY%g"}]}"#;
            check(18, fields, body, &["Topic:t", "Group:g"]);
            check(200, fields, r#"{"groupName":"g"}"#, &["Group:g"]);
            let body = r#"{"groupConfigList":[{"groupName":"g"},{"groupName":"h"}]}"#;
            check(225, fields, body, &["Group:g", "Group:h"]);
        }
        let fields = [("consumerGroup", "g"), ("topic", "t")];
        check(361, &fields, "", &["Topic:t", "Group:g"]);
    }

    #[test]
    fn a_body_that_cannot_be_read_asks_for_nothing_that_could_be_granted() {
        for code in [34, 18, 200, 225] {
            let command = super::super::request::tests::command(code, &[("AccessKey", "a")]);
            let request = SignedRequest::of_header(&command.header);
            assert!(asks(&request, b"[", "C").is_err());
        }
    }
}
