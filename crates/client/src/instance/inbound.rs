//! Requests of brokers: each goes to the member that it is meant for.

use std::sync::{Arc, Weak};

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{RemotingCommand, RequestCode, properties, property};
use oxmq_remoting::RequestHandler;
use tracing::debug;

use super::{Answer, Member, MemberKey, Shared};

pub(super) struct Inbound(pub(super) Weak<Shared>);

impl RequestHandler for Inbound {
    fn handle(&self, addr: &str, request: RemotingCommand) -> Answer {
        if request.header.code == RequestCode::PushReplyMessageToClient.code() {
            let answer = self.0.upgrade().map(|shared| shared.pending_replies.answer(&request));
            return Box::pin(std::future::ready(answer));
        }
        if request.header.code == RequestCode::CheckTransactionState.code() {
            let answer = self.0.upgrade().and_then(|shared| shared.check_transaction(&request));
            return answer.unwrap_or_else(|| Box::pin(std::future::ready(None)));
        }
        let fields = &request.header.ext_fields;
        let group = fields.get("consumerGroup").or_else(|| fields.get("group"));
        let consumer = group.and_then(|group| self.0.upgrade()?.consumer(group));
        match consumer {
            Some(consumer) => consumer.on_request(request),
            None => {
                debug!(addr, code = request.header.code, "request for nobody here");
                Box::pin(std::future::ready(None))
            }
        }
    }
}

impl Shared {
    /// Hands a question about a transaction to the producer whose group it names.
    fn check_transaction(&self, request: &RemotingCommand) -> Option<Answer> {
        let record = RecordRef::parse(&request.body).ok()?;
        let group = properties::find(record.properties(), property::PRODUCER_GROUP)?;
        let group = MemberKey::Producer(String::from_utf8_lossy(group).into_owned());
        let producer = self.members.lock().get(&group)?.upgrade()?;
        Some(producer.on_request(request.clone()))
    }

    fn consumer(&self, group: &str) -> Option<Arc<dyn Member>> {
        let members = self.members.lock();
        members.get(&MemberKey::Consumer(group.to_owned()))?.upgrade()
    }
}
