//! What a consumer asks of brokers on behalf of its group.

use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::{
    ConsumerIdList, LockBatchRequestBody, LockBatchResponseBody, MASTER_ID, MessageModel, MessageQueue,
    MessageQueueAssignment, QueryAssignmentRequestBody, QueryAssignmentResponseBody,
};
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::requests::{
    ConsumerGroupHeader, ConsumerSendMsgBackHeader, QueryConsumerOffsetHeader, SendMessageHeaderV2,
    UpdateConsumerOffsetHeader, request,
};
use oxmq_protocol::{RemotingCommand, json, response_code, topic};

use super::retry::retry_message;
use crate::clock::now_millis;
use crate::error::ClientError;
use crate::instance::{BrokerAddr, Instance};
use crate::namespace::Namespace;

const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const SEND_BACK_TIMEOUT: Duration = Duration::from_secs(5);
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
const OFFSET_TIMEOUT: Duration = Duration::from_secs(5);
/// What a topic gets when a send creates it; retry topics exist already.
const DEFAULT_TOPIC_QUEUE_NUMS: i32 = 4;

#[derive(Clone)]
pub(crate) struct BrokerCalls {
    pub(crate) instance: Instance,
    /// As the servers know it.
    pub(crate) group: String,
    /// The instance is the consumer's alone and ends with it.
    pub(crate) owns_instance: bool,
}

impl BrokerCalls {
    /// After the consumer has left the group.
    pub(crate) async fn close(&self) {
        if self.owns_instance {
            self.instance.shutdown().await;
        }
    }

    /// Between the names that the application knows and those in calls.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.instance.namespace()
    }

    /// The client ids of the group's members, as the first broker of the topic says that answers (38).
    pub(crate) async fn consumer_ids(&self, topic: &str) -> Result<Vec<String>, ClientError> {
        let route = self.instance.route(topic).await?;
        let header = ConsumerGroupHeader {
            consumer_group: self.group.clone(),
            broker_name: None,
        };
        let mut failed = ClientError::NoRoute {
            topic: topic.to_owned(),
        };
        for addr in route
            .data
            .broker_datas
            .iter()
            .flat_map(|broker| broker.broker_addrs.values())
        {
            let called = self
                .instance
                .call::<request::GetConsumerListByGroup>(
                    &self.instance.fast_addr(addr.clone()),
                    &header,
                    Bytes::new(),
                    self.api_timeout(),
                )
                .await;
            match called {
                Ok(reply) => return Ok(json::from_slice::<ConsumerIdList>(&reply.body)?.consumer_id_list),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The group's offset on the broker (14); `None` when it has none.
    pub(crate) async fn query_offset(&self, queue: &MessageQueue) -> Result<Option<i64>, ClientError> {
        let header = QueryConsumerOffsetHeader {
            consumer_group: self.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: None,
            broker_name: Some(queue.broker_name.clone()),
        };
        let broker = self.instance.fast_addr(self.broker(queue, MASTER_ID).await?.addr);
        let called = self
            .instance
            .call::<request::QueryConsumerOffset>(&broker, &header, Bytes::new(), OFFSET_TIMEOUT)
            .await;
        match called {
            Ok(reply) => Ok(Some(reply.fields.offset).filter(|offset| *offset >= 0)),
            Err(error) if error.response_code() == Some(response_code::QUERY_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores the group's offset on the broker (15) and waits for the answer.
    pub(crate) async fn commit_offset(&self, queue: &MessageQueue, offset: i64) -> Result<(), ClientError> {
        let header = self.commit_header(queue, offset);
        let master = self.instance.master_of(queue).await?;
        self.instance
            .call::<request::UpdateConsumerOffset>(&master, &header, Bytes::new(), OFFSET_TIMEOUT)
            .await?;
        Ok(())
    }

    pub(crate) async fn commit_offset_oneway(&self, queue: &MessageQueue, offset: i64) -> Result<(), ClientError> {
        let header = self.commit_header(queue, offset);
        let request = RemotingCommand::request::<request::UpdateConsumerOffset>(&header, Bytes::new());
        let master = self.instance.master_of(queue).await?;
        Ok(self.instance.remoting().oneway(&master, request).await?)
    }

    fn commit_header(&self, queue: &MessageQueue, offset: i64) -> UpdateConsumerOffsetHeader {
        UpdateConsumerOffsetHeader {
            consumer_group: Some(self.group.clone()),
            topic: Some(queue.topic.clone()),
            queue_id: Some(queue.queue_id),
            commit_offset: Some(offset),
            broker_name: Some(queue.broker_name.clone()),
        }
    }

    /// Takes or renews the locks of queues of one broker (41); returns those that are ours now.
    pub(crate) async fn lock(
        &self,
        broker_name: &str,
        queues: Vec<MessageQueue>,
    ) -> Result<Vec<MessageQueue>, ClientError> {
        let master = self.instance.fast_addr(self.instance.master_addr(broker_name)?);
        let body = json::to_vec(&self.lock_body(queues));
        let reply = self
            .instance
            .call::<request::LockBatchMq>(&master, &(), body.into(), LOCK_TIMEOUT)
            .await?;
        Ok(json::from_slice::<LockBatchResponseBody>(&reply.body)?.lock_ok_mq_set)
    }

    /// Gives the locks of queues of one broker back (42).
    pub(crate) async fn unlock(&self, broker_name: &str, queues: Vec<MessageQueue>) -> Result<(), ClientError> {
        let master = self.instance.master_addr(broker_name)?;
        let body = json::to_vec(&self.lock_body(queues));
        self.instance
            .call::<request::UnlockBatchMq>(&master, &(), body.into(), LOCK_TIMEOUT)
            .await?;
        Ok(())
    }

    fn lock_body(&self, mq_set: Vec<MessageQueue>) -> LockBatchRequestBody {
        LockBatchRequestBody {
            client_id: self.instance.client_id().to_owned(),
            consumer_group: self.group.clone(),
            mq_set,
            only_this_broker: false,
        }
    }

    /// Lets the broker that has the message put it into the group's retry topic, or into its dead letters (36).
    pub(crate) async fn send_back(
        &self,
        message: &MessageExt,
        delay_level: i32,
        max_reconsume_times: i32,
    ) -> Result<(), ClientError> {
        let header = ConsumerSendMsgBackHeader {
            offset: message.physical_offset,
            group: self.group.clone(),
            delay_level,
            origin_msg_id: Some(message.msg_id()),
            origin_topic: Some(self.namespace().wrap(&message.topic)),
            unit_mode: false,
            max_reconsume_times: Some(max_reconsume_times),
            broker_name: Some(message.broker_name.clone()),
        };
        let master = self
            .instance
            .fast_addr(self.instance.master_addr(&message.broker_name)?);
        self.instance
            .call::<request::ConsumerSendMsgBack>(&master, &header, Bytes::new(), SEND_BACK_TIMEOUT)
            .await?;
        Ok(())
    }

    /// Sends a message that was not consumed to the group's retry topic (310), to whichever of its brokers takes it.
    /// Both counts travel in the header.
    pub(crate) async fn send_retry(
        &self,
        failed: &MessageExt,
        reconsume_times: i32,
        max_reconsume_times: i32,
    ) -> Result<(), ClientError> {
        let retry = retry_message(&self.group, self.namespace(), failed);
        let route = self.instance.publish_route(&retry.topic).await?;
        let mut failed = ClientError::NoRoute {
            topic: retry.topic.clone(),
        };
        for queue in &route.publish {
            let header = SendMessageHeaderV2 {
                producer_group: topic::INNER_PRODUCER_GROUP.to_owned(),
                topic: queue.topic.clone(),
                default_topic: topic::AUTO_CREATE_TOPIC.to_owned(),
                default_topic_queue_nums: DEFAULT_TOPIC_QUEUE_NUMS,
                queue_id: queue.queue_id,
                sys_flag: 0,
                born_timestamp: now_millis(),
                flag: retry.flag,
                properties: Some(retry.properties.encoded_text()),
                reconsume_times: Some(reconsume_times),
                unit_mode: false,
                max_reconsume_times: Some(max_reconsume_times),
                batch: false,
                broker_name: Some(queue.broker_name.clone()),
            };
            let sent = async {
                let master = self.instance.fast_addr(self.instance.master_addr(&queue.broker_name)?);
                let body = retry.body.clone();
                let called = self
                    .instance
                    .call::<request::SendMessageV2>(&master, &header, body, SEND_TIMEOUT);
                called.await
            };
            match sent.await {
                Ok(_) => return Ok(()),
                Err(error) if error.response_code().is_some_and(is_stored) => return Ok(()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The broker of a queue with this id, or the next best, which the topic's route names.
    pub(crate) async fn broker(&self, queue: &MessageQueue, preferred_id: i64) -> Result<BrokerAddr, ClientError> {
        match self.instance.broker_addr(&queue.broker_name, preferred_id) {
            Ok(broker) => Ok(broker),
            Err(_) => {
                self.instance.refresh_route(&queue.topic).await?;
                self.instance.broker_addr(&queue.broker_name, preferred_id)
            }
        }
    }

    /// What a broker of the topic says this client should have, and how it is to get it (400). `None` means that
    /// nothing is to change.
    pub(crate) async fn query_assignment(
        &self,
        topic: &str,
        strategy_name: &str,
        timeout: Duration,
    ) -> Result<Option<Vec<MessageQueueAssignment>>, ClientError> {
        let route = self.instance.route(topic).await?;
        let body = json::to_vec(&QueryAssignmentRequestBody {
            client_id: self.instance.client_id().to_owned(),
            consumer_group: self.group.clone(),
            message_model: MessageModel::Clustering,
            strategy_name: strategy_name.to_owned(),
            topic: topic.to_owned(),
        });
        let body = Bytes::from(body);
        let mut failed = ClientError::NoRoute {
            topic: topic.to_owned(),
        };
        for addr in route
            .data
            .broker_datas
            .iter()
            .filter_map(|broker| broker.broker_addrs.values().next())
        {
            match self
                .instance
                .call::<request::QueryAssignment>(addr, &(), body.clone(), timeout)
                .await
            {
                Ok(reply) => {
                    let assigned: QueryAssignmentResponseBody = json::from_slice(&reply.body)?;
                    return Ok(assigned.message_queue_assignments);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn api_timeout(&self) -> Duration {
        self.instance.config().api_timeout
    }
}

/// Whether a refused send is on the broker all the same, only not as safe as asked.
fn is_stored(code: i32) -> bool {
    use response_code::{FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE};
    matches!(code, FLUSH_DISK_TIMEOUT | FLUSH_SLAVE_TIMEOUT | SLAVE_NOT_AVAILABLE)
}
