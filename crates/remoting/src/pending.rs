//! Requests that wait for their response, by opaque.

use hashbrown::HashMap;
use oxmq_protocol::RemotingCommand;
use tokio::sync::oneshot;

/// Dropping the table fails every waiting request.
pub(crate) struct PendingCalls {
    waiting: HashMap<i32, oneshot::Sender<RemotingCommand>>,
    next_opaque: i32,
    count_max: usize,
}

impl PendingCalls {
    pub(crate) fn new(count_max: usize) -> PendingCalls {
        PendingCalls {
            waiting: HashMap::new(),
            next_opaque: 0,
            count_max,
        }
    }

    pub(crate) fn next_opaque(&mut self) -> i32 {
        self.next_opaque = self.next_opaque.wrapping_add(1) & i32::MAX;
        self.next_opaque
    }

    /// The opaque for a request and where its response will arrive; `None` when the table is full.
    pub(crate) fn register(&mut self) -> Option<(i32, oneshot::Receiver<RemotingCommand>)> {
        if self.waiting.len() >= self.count_max {
            return None;
        }
        let mut opaque = self.next_opaque();
        while self.waiting.contains_key(&opaque) {
            opaque = self.next_opaque();
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(opaque, sender);
        Some((opaque, receiver))
    }

    /// Hands a response to its request. A response that nobody waits for (any more) is dropped.
    pub(crate) fn complete(&mut self, response: RemotingCommand) {
        if let Some(sender) = self.waiting.remove(&response.header.opaque) {
            // The caller may have given up in this moment.
            let _ = sender.send(response);
        }
    }

    pub(crate) fn forget(&mut self, opaque: i32) {
        self.waiting.remove(&opaque);
    }

    pub(crate) fn fail_all(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_find_their_request_and_the_table_is_bounded() {
        let mut pending = PendingCalls::new(2);
        let (first, mut first_response) = pending.register().unwrap();
        let (second, _second_response) = pending.register().unwrap();
        assert!(pending.register().is_none());

        pending.complete(RemotingCommand::response(first, 7, None));
        pending.complete(RemotingCommand::response(12345, 0, None));
        assert_eq!(first_response.try_recv().unwrap().header.code, 7);

        pending.forget(second);
        assert!(pending.register().is_some());
    }

    #[test]
    fn opaques_never_go_negative_and_skip_what_is_taken() {
        let mut pending = PendingCalls::new(10);
        pending.next_opaque = i32::MAX - 1;
        let opaques: Vec<i32> = (0..3).map(|_| pending.register().unwrap().0).collect();
        assert_eq!(opaques, [i32::MAX, 0, 1]);
    }
}
