use super::{MessageQueue, bodies};

bodies! {
    /// Bodies of 41 and 42.
    pub struct LockBatchRequestBody {
        client_id: String,
        consumer_group: String,
        mq_set: Vec<MessageQueue>,
        only_this_broker: bool,
    }

    /// Reply of 41: the queues that the caller holds now.
    pub struct LockBatchResponseBody {
        #[serde(rename = "lockOKMQSet")]
        lock_ok_mq_set: Vec<MessageQueue>,
    }
}
