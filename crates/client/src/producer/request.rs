//! Requests that are sent as messages, and their replies (spec: behaviour.md §8, protocol.md §8.8).

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oxmq_protocol::body::MessageQueue;
use oxmq_protocol::message::{Message, MessageExt};
use oxmq_protocol::{property, topic};
use thiserror::Error;

use super::prepare::Prepared;
use super::{Producer, SendError, SendResult, Shared};
use crate::clock::now_millis;

/// A request brought no reply.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The request itself did not get through. It may have been stored all the same.
    #[error("the request was not sent: {0}")]
    Send(#[from] SendError),
    /// Nobody has replied in time, or the reply got lost.
    #[error("no reply within {} ms", .timeout.as_millis())]
    Timeout {
        timeout: Duration,
        /// Whether the broker has stored the request. Otherwise it had not answered yet.
        sent: bool,
    },
}

/// A message to which no reply can be made, as it is no request or came from a broker that does not say its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the message is no request: its property {0} is missing")]
pub struct NoRequest(pub &'static str);

/// The reply to a request, to be sent by any producer. `request` is what the consumer got.
pub fn create_reply_message(request: &Message, body: impl Into<Bytes>) -> Result<Message, NoRequest> {
    let of_request = |name| request.property(name).ok_or(NoRequest(name));
    let mut reply = Message::new(topic::reply_topic(of_request(property::CLUSTER)?), body)
        .with_property(property::MESSAGE_TYPE, property::REPLY_MESSAGE_TYPE);
    for name in [property::CORRELATION_ID, property::MESSAGE_REPLY_TO_CLIENT] {
        reply = reply.with_property(name, of_request(name)?);
    }
    if let Some(ttl) = request.property(property::MESSAGE_TTL) {
        reply = reply.with_property(property::MESSAGE_TTL, ttl);
    }
    Ok(reply)
}

impl Producer {
    /// Sends a message and waits until somebody who consumes it has replied, at most `timeout` in all.
    pub async fn request(&self, message: Message, timeout: Duration) -> Result<MessageExt, RequestError> {
        self.0.request(message, None, timeout).await
    }

    /// The same by way of one queue, so that requests of one kind reach one consumer in order.
    pub async fn request_to(
        &self,
        message: Message,
        queue: &MessageQueue,
        timeout: Duration,
    ) -> Result<MessageExt, RequestError> {
        self.0.request(message, Some(queue), timeout).await
    }
}

impl Shared {
    async fn request(
        &self,
        mut message: Message,
        queue: Option<&MessageQueue>,
        timeout: Duration,
    ) -> Result<MessageExt, RequestError> {
        let _place = self.in_flight.try_enter(message.body.len())?;
        let correlation_id = random_uuid();
        let mark = &mut message.properties;
        mark.set(property::CORRELATION_ID, correlation_id.as_str());
        mark.set(property::MESSAGE_REPLY_TO_CLIENT, self.instance.client_id());
        mark.set(property::MESSAGE_TTL, timeout.as_millis().to_string());
        let prepared = Prepared::message(message, &self.message, now_millis()).map_err(SendError::from)?;
        let mut pending = self.instance.pending_replies().wait_for(correlation_id);
        let mut sent = false;
        let exchange = async {
            self.introduce(prepared.topic()).await?;
            let sending = self.send_request(&prepared, queue, timeout);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    reply = pending.reply() => return Ok(reply),
                    result = &mut sending, if !sent => {
                        result?;
                        sent = true;
                    }
                }
            }
        };
        let result = tokio::time::timeout(timeout, exchange).await;
        result.unwrap_or_else(|_| {
            // The broker may have restarted and not know where replies to this client go.
            self.instance.request_heartbeat();
            Err(RequestError::Timeout { timeout, sent })
        })
    }

    async fn send_request(
        &self,
        prepared: &Prepared,
        queue: Option<&MessageQueue>,
        timeout: Duration,
    ) -> Result<SendResult, SendError> {
        let deadline = Instant::now() + timeout;
        match queue {
            None => self.send_until(prepared, self.retry_rule(), deadline).await,
            Some(queue) => {
                let queue = self.message.namespace.wrap_queue(queue);
                let sent = self.attempt(prepared, &queue, timeout).await;
                sent.map_err(|source| SendError::Failed { attempts: 1, source })
            }
        }
    }

    /// Before the first request to a topic: whoever replies does so by any broker of the cluster, so all of them have to
    /// know this client.
    async fn introduce(&self, topic: &str) -> Result<(), SendError> {
        if self.introduced.lock().contains(topic) {
            return Ok(());
        }
        let failed = |source| SendError::Failed { attempts: 0, source };
        let route = self.instance.publish_route(topic).await.map_err(failed)?;
        for cluster in route.clusters() {
            let reply_topic = topic::reply_topic(cluster);
            if let Err(error) = self.instance.route(&reply_topic).await {
                tracing::debug!(reply_topic, %error, "brokers without the topic are not told of this client");
            }
        }
        self.instance.heartbeat().await;
        self.introduced.lock().insert(topic.to_owned());
        Ok(())
    }
}

/// In the form that Java gives correlation ids.
fn random_uuid() -> String {
    let half = || RandomState::new().hash_one(now_millis());
    let (high, low) = (half(), half());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        8 | (low >> 62),
        (low >> 48) & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_back_the_way_the_request_came() {
        let request = Message::new("t", "question")
            .with_property("CLUSTER", "c1")
            .with_property("CORRELATION_ID", "id")
            .with_property("REPLY_TO_CLIENT", "client")
            .with_property("TTL", "3000");
        let reply = create_reply_message(&request, "answer").unwrap();
        assert_eq!(
            (reply.topic.as_str(), &reply.body[..]),
            ("c1_REPLY_TOPIC", &b"answer"[..])
        );
        for (name, value) in [
            ("MSG_TYPE", "reply"),
            ("CORRELATION_ID", "id"),
            ("REPLY_TO_CLIENT", "client"),
            ("TTL", "3000"),
        ] {
            assert_eq!(reply.property(name), Some(value));
        }
        let no_request = Message::new("t", "x").with_property("CLUSTER", "c1");
        assert_eq!(create_reply_message(&no_request, "x"), Err(NoRequest("CORRELATION_ID")));
        assert_eq!(
            create_reply_message(&Message::new("t", "x"), "x"),
            Err(NoRequest("CLUSTER"))
        );
    }

    #[test]
    fn correlation_ids_are_random_uuids() {
        let id = random_uuid();
        let groups: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, random_uuid());
    }
}
