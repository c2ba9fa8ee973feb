//! Whether a send is tried once more (spec: protocol.md §4.2, §8.4).

use std::time::Duration;

use oxmq_protocol::response_code::{
    GO_AWAY, NO_BUYER_ID, NO_PERMISSION, NOT_IN_CURRENT_UNIT, SERVICE_NOT_AVAILABLE, SYSTEM_BUSY, SYSTEM_ERROR,
    TOPIC_NOT_EXIST,
};

use super::SendStatus;

/// Refusals that another broker may not repeat.
const RETRY_CODES: [i32; 8] = [
    SYSTEM_ERROR,
    SYSTEM_BUSY,
    SERVICE_NOT_AVAILABLE,
    NO_PERMISSION,
    TOPIC_NOT_EXIST,
    NO_BUYER_ID,
    NOT_IN_CURRENT_UNIT,
    GO_AWAY,
];

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored(SendStatus),
    Refused {
        code: i32,
    },
    /// The broker could not be reached or did not answer. It may have stored the message all the same.
    Unanswered,
}

/// How often and after what a send is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryRule {
    pub(super) attempts_max: u32,
    /// A refusal ends the send, whatever its code. So it is with sends that nobody waits for.
    pub(super) only_when_unanswered: bool,
    /// Stored, but flush or replication did not keep their time: store it elsewhere as well.
    pub(super) when_not_store_ok: bool,
}

impl RetryRule {
    pub(super) fn tries_again(&self, attempts_made: u32, outcome: Outcome, time_left: Duration) -> bool {
        if attempts_made >= self.attempts_max || time_left.is_zero() {
            return false;
        }
        match outcome {
            Outcome::Stored(SendStatus::SendOk) => false,
            Outcome::Stored(_) => self.when_not_store_ok,
            Outcome::Refused { code } => !self.only_when_unanswered && RETRY_CODES.contains(&code),
            Outcome::Unanswered => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxmq_protocol::response_code::MESSAGE_ILLEGAL;

    const RULE: RetryRule = RetryRule {
        attempts_max: 3,
        only_when_unanswered: false,
        when_not_store_ok: false,
    };
    const LEFT: Duration = Duration::from_millis(1);

    #[test]
    fn what_another_broker_may_do_better_is_tried_again() {
        for code in RETRY_CODES {
            assert!(RULE.tries_again(1, Outcome::Refused { code }, LEFT), "{code}");
        }
        assert!(RULE.tries_again(2, Outcome::Unanswered, LEFT));
        assert!(!RULE.tries_again(1, Outcome::Refused { code: MESSAGE_ILLEGAL }, LEFT));
    }

    #[test]
    fn attempts_and_time_come_to_an_end() {
        assert!(!RULE.tries_again(3, Outcome::Unanswered, LEFT));
        assert!(!RULE.tries_again(1, Outcome::Unanswered, Duration::ZERO));
    }

    #[test]
    fn what_is_stored_is_sent_again_only_on_request() {
        let slow = Outcome::Stored(SendStatus::FlushDiskTimeout);
        assert!(!RULE.tries_again(1, Outcome::Stored(SendStatus::SendOk), LEFT));
        assert!(!RULE.tries_again(1, slow, LEFT));
        let rule = RetryRule {
            when_not_store_ok: true,
            ..RULE
        };
        assert!(rule.tries_again(1, slow, LEFT));
        assert!(!rule.tries_again(1, Outcome::Stored(SendStatus::SendOk), LEFT));
    }

    #[test]
    fn a_send_in_the_background_ends_with_any_answer() {
        let rule = RetryRule {
            only_when_unanswered: true,
            ..RULE
        };
        assert!(!rule.tries_again(1, Outcome::Refused { code: SYSTEM_BUSY }, LEFT));
        assert!(rule.tries_again(1, Outcome::Unanswered, LEFT));
    }
}
