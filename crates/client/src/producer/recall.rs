//! Taking back messages that wait for their time (spec: behaviour.md §3.7).

use bytes::Bytes;
use oxmq_protocol::recall_handle::{RecallHandle, RecallHandleError};
use oxmq_protocol::requests::{RecallMessageHeader, request};
use thiserror::Error;

use super::Producer;
use crate::clock::now_millis;
use crate::error::ClientError;
use crate::trace::{Event, Record, region_of};

/// A message was not taken back.
#[derive(Debug, Error)]
pub enum RecallError {
    /// Not what a send has returned.
    #[error("{0}")]
    Handle(#[from] RecallHandleError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl RecallError {
    /// The code with which the broker refused, if one did: 604 when the message's time has come.
    pub fn response_code(&self) -> Option<i32> {
        match self {
            RecallError::Handle(_) => None,
            RecallError::Client(error) => error.response_code(),
        }
    }
}

impl Producer {
    /// Takes back a message with a delivery time of its own, by the handle that its send has returned. Returns the
    /// message's id. The broker does it a moment later: a message that is due by then is delivered all the same.
    pub async fn recall_message(&self, topic: &str, recall_handle: &str) -> Result<String, RecallError> {
        let handle = RecallHandle::decode(recall_handle)?;
        let instance = &self.0.instance;
        let topic = self.0.message.namespace.wrap(topic);
        instance.publish_route(&topic).await?;
        let addr = instance.master_addr(&handle.broker_name)?;
        let header = RecallMessageHeader {
            producer_group: Some(self.0.message.producer_group.clone()),
            topic: topic.clone(),
            recall_handle: recall_handle.to_owned(),
        };
        let called =
            instance
                .remoting()
                .call::<request::RecallMessage>(&addr, &header, Bytes::new(), self.0.send.timeout);
        let recalled = called.await.map_err(ClientError::from);
        if let Some(tracer) = instance.tracer() {
            tracer.trace(Record {
                timestamp: now_millis(),
                region: region_of(None),
                group: self.0.message.producer_group.clone(),
                topic,
                msg_id: handle.message_id,
                event: Event::Recall {
                    success: recalled.is_ok(),
                },
            });
        }
        Ok(recalled?.fields.msg_id)
    }
}
