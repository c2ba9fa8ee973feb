//! What a server asks of its client: kept until the script compares it, and answered in the same way on both sides.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Mutex;

use oxmq_protocol::{RemotingCommand, RequestCode};
use oxmq_remoting::RequestHandler;

#[derive(Default)]
pub(super) struct Pushes(Mutex<Vec<RemotingCommand>>);

impl Pushes {
    /// Everything so far.
    pub(super) fn all(&self) -> Vec<RemotingCommand> {
        self.0.lock().map(|kept| kept.clone()).unwrap_or_default()
    }
}

impl RequestHandler for Pushes {
    fn handle(
        &self,
        _addr: &str,
        request: RemotingCommand,
    ) -> Pin<Box<dyn Future<Output = Option<RemotingCommand>> + Send>> {
        let code = RequestCode::from_code(request.header.code);
        // Checks come when the servers' clocks say so.
        if let (Ok(mut kept), true) = (self.0.lock(), code != Some(RequestCode::CheckTransactionState)) {
            kept.push(request);
        }
        Box::pin(ready(code.and_then(answer)))
    }
}

/// Of a client that has a consumer.
fn answer(code: RequestCode) -> Option<RemotingCommand> {
    let success = |body: &'static str| Some(RemotingCommand::response(0, 0, None).with_body(body));
    match code {
        RequestCode::PushReplyMessageToClient => success(""),
        RequestCode::GetConsumerRunningInfo => success(r#"{"properties":{"a":"1"},"subscriptionSet":[],"mqTable":{}}"#),
        RequestCode::ConsumeMessageDirectly => {
            success(r#"{"order":false,"autoCommit":true,"consumeResult":"CR_LATER","spentTimeMills":3}"#)
        }
        RequestCode::GetConsumerStatusFromClient => {
            success(r#"{"messageQueueTable":{{"brokerName":"broker-a","queueId":1,"topic":"t"}:7}}"#)
        }
        _ => None,
    }
}
