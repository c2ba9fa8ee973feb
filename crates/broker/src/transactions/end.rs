//! Whether an END_TRANSACTION (37) may end what it names (spec: behaviour.md §7.2). Pure.

use oxmq_protocol::FieldError;
use oxmq_protocol::requests::EndTransactionHeader;
use oxmq_protocol::sys_flag;
use oxmq_store::AppendError;
use thiserror::Error;

use super::half::Half;
use super::ledger::{State, Unclaimed};
use crate::put::PutError;
use crate::response::OVERLOAD;

/// Why a transaction is not ended.
#[derive(Debug, Error)]
pub(crate) enum EndError {
    #[error(transparent)]
    Fields(#[from] FieldError),
    #[error("commitOrRollback field wrong")]
    Outcome,
    #[error("Find prepared transaction message failed")]
    NotFound,
    #[error("the message is older than its own time, so that it has to be checked")]
    Immunity,
    #[error("The producer group wrong")]
    ProducerGroup,
    #[error("The transaction state table offset wrong")]
    QueueOffset,
    #[error("The commit log offset wrong")]
    PhysicalOffset,
    #[error("the half message belongs to another transaction")]
    TransactionId,
    #[error("another request is deciding about the transaction")]
    Busy,
    #[error("the transaction has ended otherwise")]
    Ended,
    #[error("{OVERLOAD}")]
    Overload,
    #[error("the half message cannot be read: {0}")]
    Read(String),
    #[error(transparent)]
    Put(#[from] PutError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What a producer decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Commit,
    Rollback,
}

impl Outcome {
    /// `None`: the producer does not know yet.
    pub(crate) fn of(header: &EndTransactionHeader) -> Result<Option<Outcome>, EndError> {
        match header.commit_or_rollback {
            sys_flag::TRANSACTION_NONE => Ok(None),
            sys_flag::TRANSACTION_COMMIT => Ok(Some(Outcome::Commit)),
            sys_flag::TRANSACTION_ROLLBACK => Ok(Some(Outcome::Rollback)),
            _ => Err(EndError::Outcome),
        }
    }

    pub(crate) fn state(self) -> State {
        match self {
            Outcome::Commit => State::Committed,
            Outcome::Rollback => State::RolledBack,
        }
    }

    /// The second end of a transaction is no error when it says the same as the first.
    pub(crate) fn after(self, unclaimed: Unclaimed) -> Result<(), EndError> {
        match unclaimed {
            Unclaimed::Ended(state) if state == self.state() => Ok(()),
            Unclaimed::Ended(_) => Err(EndError::Ended),
            Unclaimed::Busy => Err(EndError::Busy),
        }
    }
}

/// The original's checks in its order. The id of the transaction is compared as well where both sides name one: after
/// a power cut another half message may lie where the producer's was.
pub(crate) fn check(
    header: &EndTransactionHeader,
    half: &Half<'_>,
    now: i64,
    transaction_timeout_ms: i64,
) -> Result<(), EndError> {
    if !header.from_transaction_check
        && let Some(immunity_ms) = half.immunity_ms(transaction_timeout_ms)
        && now.saturating_sub(half.record.born_timestamp()) > immunity_ms.max(transaction_timeout_ms)
    {
        return Err(EndError::Immunity);
    }
    if half.producer_group != Some(header.producer_group.as_bytes()) {
        return Err(EndError::ProducerGroup);
    }
    if half.id.queue_offset != header.tran_state_table_offset {
        return Err(EndError::QueueOffset);
    }
    if half.id.physical_offset != header.commit_log_offset {
        return Err(EndError::PhysicalOffset);
    }
    let named = header.transaction_id.as_deref().unwrap_or_default();
    if !named.is_empty() && !half.unique_key.is_empty() && named.as_bytes() != half.unique_key {
        return Err(EndError::TransactionId);
    }
    Ok(())
}
