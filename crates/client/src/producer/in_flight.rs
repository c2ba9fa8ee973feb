//! How many sends may be under way in the background, and how many bytes of messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use super::SendError;

/// The bounds. Whoever enters leaves by dropping its [`Place`].
pub(super) struct InFlight {
    sends: Bound,
    /// Only with back-pressure.
    bytes: Option<Bound>,
}

struct Bound {
    free: Arc<Semaphore>,
    max: u32,
}

/// One send that is under way.
pub(super) struct Place {
    _send: OwnedSemaphorePermit,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// Bounds beyond what fits into 32 bits are none.
    pub(super) fn new(sends_max: usize, bytes_max: Option<usize>) -> InFlight {
        InFlight {
            sends: Bound::new(sends_max),
            bytes: bytes_max.map(Bound::new),
        }
    }

    /// Fails when a bound is reached.
    pub(super) fn try_enter(&self, bytes: usize) -> Result<Place, SendError> {
        let send = self.sends.try_take(1).map_err(|_| self.too_many_sends())?;
        let bytes = match &self.bytes {
            Some(bound) => Some(bound.try_take(bytes).map_err(|_| too_many_bytes(bound))?),
            None => None,
        };
        Ok(Place {
            _send: send,
            _bytes: bytes,
        })
    }

    /// Waits for a place, at most so long.
    pub(super) async fn enter(&self, bytes: usize, timeout: Duration) -> Result<Place, SendError> {
        let deadline = Instant::now() + timeout;
        let send = timeout_at(deadline, self.sends.take(1)).await;
        let send = send.map_err(|_| self.too_many_sends())?;
        let bytes = match &self.bytes {
            Some(bound) => {
                let taken = timeout_at(deadline, bound.take(bytes)).await;
                Some(taken.map_err(|_| too_many_bytes(bound))?)
            }
            None => None,
        };
        Ok(Place {
            _send: send,
            _bytes: bytes,
        })
    }

    /// Waits until nothing is under way, at most so long.
    pub(super) async fn wait_idle(&self, timeout: Duration) {
        if tokio::time::timeout(timeout, self.sends.take(usize::MAX))
            .await
            .is_err()
        {
            tracing::warn!("sends are still under way");
        }
    }

    fn too_many_sends(&self) -> SendError {
        SendError::TooManyInFlight {
            max: self.sends.max as usize,
        }
    }
}

fn too_many_bytes(bound: &Bound) -> SendError {
    SendError::TooManyBytesInFlight {
        max: bound.max as usize,
    }
}

impl Bound {
    fn new(max: usize) -> Bound {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        Bound {
            free: Arc::new(Semaphore::new(max as usize)),
            max,
        }
    }

    /// What is larger than the bound takes all of it: it may go when nothing else does.
    fn clamp(&self, count: usize) -> u32 {
        u32::try_from(count).unwrap_or(u32::MAX).min(self.max)
    }

    fn try_take(&self, count: usize) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        Arc::clone(&self.free).try_acquire_many_owned(self.clamp(count))
    }

    async fn take(&self, count: usize) -> OwnedSemaphorePermit {
        let taken = Arc::clone(&self.free).acquire_many_owned(self.clamp(count)).await;
        taken.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn both_bounds_hold() {
        let in_flight = InFlight::new(2, Some(100));
        let large = in_flight.try_enter(90).unwrap();
        assert!(matches!(
            in_flight.try_enter(11),
            Err(SendError::TooManyBytesInFlight { max: 100 })
        ));
        let small = in_flight.try_enter(10).unwrap();
        assert!(matches!(
            in_flight.enter(0, SHORT).await,
            Err(SendError::TooManyInFlight { max: 2 })
        ));
        drop((large, small));
        let whole = in_flight.enter(1000, SHORT).await.unwrap();
        assert!(in_flight.enter(1, SHORT).await.is_err());
        drop(whole);
        in_flight.wait_idle(SHORT).await;
    }

    #[tokio::test]
    async fn a_place_that_becomes_free_is_taken() {
        let in_flight = Arc::new(InFlight::new(1, None));
        let place = in_flight.try_enter(5).unwrap();
        let waiting = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.enter(5, Duration::from_secs(10)).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(place);
        waiting.await.unwrap().unwrap();
    }
}
