//! What became of a message in each group that consumes its topic.

use std::fmt;

use oxmq_client::{Admin, ClientError, ConsumeStats, MessageExt, MessageModel};
use oxmq_protocol::body::{ClusterInfo, ConsumeType, ConsumerConnection};
use oxmq_protocol::response_code;
use serde::Serialize;

use crate::call::Failure;
use crate::java::or_null;
use crate::progress::followed;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Track {
    consumer_group: String,
    track_type: &'static str,
    exception_desc: Option<String>,
}

/// As Java's `toString` shows it.
impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MessageTrack [consumerGroup={}, trackType={}, exceptionDesc={}]",
            self.consumer_group,
            self.track_type,
            or_null(self.exception_desc.as_deref())
        )
    }
}

pub(crate) async fn track(admin: &Admin, message: &MessageExt) -> Result<Vec<Track>, Failure> {
    let mut tracks = Vec::new();
    let groups = admin.groups_of_topic(&message.topic).await?;
    let brokers = admin.cluster_info().await?;
    for group in followed("groups", groups) {
        let (track_type, exception_desc) = match admin.consumer_connections(&group).await {
            Err(error) => failed(error),
            Ok(connected) if connected.consume_type == ConsumeType::Actively => ("PULL", None),
            Ok(connected) if connected.message_model == MessageModel::Broadcasting => ("CONSUME_BROADCASTING", None),
            Ok(connected) => match admin.consume_stats(&group).await {
                Err(error) => failed(error),
                Ok(stats) => (judge(message, &connected, &stats, &brokers), None),
            },
        };
        tracks.push(Track {
            consumer_group: group,
            track_type,
            exception_desc,
        });
    }
    Ok(tracks)
}

fn failed(error: ClientError) -> (&'static str, Option<String>) {
    let failure = Failure::from(error);
    let track_type = match failure.code {
        Some(response_code::CONSUMER_NOT_ONLINE) => "NOT_ONLINE",
        _ => "UNKNOWN",
    };
    let description = match failure.code {
        Some(code) => format!("CODE:{code} DESC:{}", failure.description),
        None => failure.description,
    };
    (track_type, Some(description))
}

/// Whether a group is past a message, and whether its subscription wants it.
fn judge(
    message: &MessageExt,
    connected: &ConsumerConnection,
    stats: &ConsumeStats,
    brokers: &ClusterInfo,
) -> &'static str {
    let is_past = stats.offset_table.iter().any(|(queue, offsets)| {
        let broker = brokers.broker_addr_table.get(&queue.broker_name);
        let master = broker.and_then(|broker| broker.master());
        queue.topic == message.topic
            && queue.queue_id == message.queue_id
            && master.is_some_and(|addr| addr == message.store_host.to_string())
            && offsets.consumer_offset > message.queue_offset
    });
    let subscription = connected.subscription_table.get(&message.topic);
    let is_wanted = subscription.is_none_or(|data| data.tags_set.contains("*") || data.matches_tag(message.tags()));
    match (is_past, is_wanted) {
        (false, _) => "NOT_CONSUME_YET",
        (true, true) => "CONSUMED",
        (true, false) => "CONSUMED_BUT_FILTERED",
    }
}
