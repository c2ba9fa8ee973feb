//! Counting what waits, beside the deliveries: reads the timer log and holds nobody up.

use std::io;

use super::log::LogFiles;
use super::{Progress, TimerStore};

/// The timer log at one moment, and what of it waits.
#[derive(Debug)]
pub struct Census {
    files: LogFiles,
    from: i64,
    end: i64,
    /// The first slot that is not over.
    first_slot: i64,
    progress: Progress,
    precision_ms: i64,
}

/// A message that waits, or cancels one that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub physical_offset: i64,
    pub size: i32,
    pub topic_hash: i32,
    pub cancels: bool,
}

impl TimerStore {
    /// What waits now; nothing while messages of the slot that is being delivered are cancelled, because which of them
    /// waits is not told by the log alone.
    pub fn census(&mut self) -> io::Result<Option<Census>> {
        if self.cancels().is_some_and(|cancels| cancels.count > 0) {
            return Ok(None);
        }
        self.log.write_out()?;
        Ok(Some(Census {
            files: self.log.files(),
            from: self.log.min(),
            end: self.log.end(),
            first_slot: self.wheel.first().unwrap_or(i64::MAX),
            progress: self.progress,
            precision_ms: self.config.precision_ms,
        }))
    }
}

impl Census {
    pub fn each(&self, tell: &mut dyn FnMut(Waiting)) -> io::Result<()> {
        self.files.scan(self.from, |position, unit| {
            let reached = Progress {
                slot: unit.slot_ms.div_euclid(self.precision_ms),
                due_ms: unit.due_ms(self.precision_ms),
                position,
            };
            let waits = position < self.end
                && reached.slot >= self.first_slot
                && (reached.slot > self.progress.slot || reached > self.progress);
            if waits {
                tell(Waiting {
                    physical_offset: unit.physical_offset,
                    size: unit.size,
                    topic_hash: unit.topic_hash,
                    cancels: unit.is_cancellation(),
                });
            }
            position < self.end
        })?;
        Ok(())
    }
}
