//! What applications do with messages, and what they say about it.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use oxmq_protocol::message::MessageExt;

/// Messages of one queue in their order.
pub type Messages = Vec<Arc<MessageExt>>;

/// What a concurrent listener makes of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeStatus {
    Success,
    /// All of them come again later, after a delay that grows with the attempts.
    ReconsumeLater,
    /// All of them come again after the delay of this level (1 to 18). A negative level sends them to the dead letters.
    ReconsumeAfter {
        delay_level: i32,
    },
    /// The first `count` are done, the others come again later.
    SuccessUpTo {
        count: usize,
    },
}

/// What an orderly listener makes of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeOrderlyStatus {
    Success,
    /// The same messages come again before any other of their queue.
    SuspendCurrentQueueAMoment,
    /// The same after a time of the listener's choice, 10 ms to 30 s.
    SuspendCurrentQueueFor {
        time: Duration,
    },
}

pub(crate) type ListenerFuture<S> = Pin<Box<dyn Future<Output = S> + Send>>;
pub(crate) type Listener<S> = Arc<dyn Fn(Messages) -> ListenerFuture<S> + Send + Sync>;

pub(crate) fn boxed<S, F, Fut>(listener: F) -> Listener<S>
where
    F: Fn(Messages) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = S> + Send + 'static,
{
    Arc::new(move |messages| Box::pin(listener(messages)))
}

/// Runs a listener; `None` when it panics.
pub(crate) async fn run<S>(listener: &Listener<S>, messages: Messages) -> Option<S> {
    catch(AssertUnwindSafe(|| listener(messages))).await
}

/// Calls the application; `None` when it panics, be it at once or in its future.
pub(crate) async fn catch<S>(call: impl FnOnce() -> ListenerFuture<S> + UnwindSafe) -> Option<S> {
    let mut consuming = catch_unwind(call).ok()?;
    poll_fn(move |context| {
        // A future that has panicked is not polled again.
        match catch_unwind(AssertUnwindSafe(|| consuming.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(status)) => Poll::Ready(Some(status)),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

impl ConsumeStatus {
    /// How many of the first messages are done.
    pub(crate) fn done(self, count: usize) -> usize {
        match self {
            ConsumeStatus::Success => count,
            ConsumeStatus::ReconsumeLater | ConsumeStatus::ReconsumeAfter { .. } => 0,
            ConsumeStatus::SuccessUpTo { count: done } => done.min(count),
        }
    }

    /// 0 leaves the delay to the broker.
    pub(crate) fn delay_level(self) -> i32 {
        match self {
            ConsumeStatus::ReconsumeAfter { delay_level } => delay_level,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_listener_is_caught_wherever_it_happens() {
        let early: Listener<()> = Arc::new(|_| panic!("early"));
        let late = boxed(|_| async {
            tokio::task::yield_now().await;
            panic!("late")
        });
        assert_eq!(run(&early, Vec::new()).await, None);
        assert_eq!(run::<()>(&late, Vec::new()).await, None);
        assert_eq!(run(&boxed(|_| async { 5 }), Vec::new()).await, Some(5));
    }

    #[test]
    fn a_status_splits_its_batch() {
        assert_eq!(ConsumeStatus::Success.done(3), 3);
        assert_eq!(ConsumeStatus::ReconsumeLater.done(3), 0);
        assert_eq!(ConsumeStatus::SuccessUpTo { count: 2 }.done(3), 2);
        assert_eq!(ConsumeStatus::SuccessUpTo { count: 9 }.done(3), 3);
        assert_eq!(ConsumeStatus::ReconsumeAfter { delay_level: 4 }.delay_level(), 4);
    }
}
