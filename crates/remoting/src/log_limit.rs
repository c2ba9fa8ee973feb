//! At most so many log lines per interval for events that a peer can cause as often as it likes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct LogLimit {
    lines_max: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the interval began.
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Default for LogLimit {
    fn default() -> LogLimit {
        LogLimit::of(1)
    }
}

impl LogLimit {
    /// So many lines in five seconds.
    pub fn of(lines_max: u32) -> LogLimit {
        LogLimit {
            lines_max,
            state: Mutex::default(),
        }
    }

    /// `Some(events left out since the last line)` when a line may be written now.
    pub fn admit(&self) -> Option<u64> {
        self.state.lock().admit(Instant::now(), self.lines_max)
    }
}

impl State {
    fn admit(&mut self, now: Instant, lines_max: u32) -> Option<u64> {
        if self.began.is_none_or(|began| now - began >= INTERVAL) {
            self.began = Some(now);
            self.lines = 0;
        }
        if self.lines == lines_max {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_admitted_in_an_interval_and_the_next_one_tells_of_the_others() {
        let mut state = State::default();
        let start = Instant::now();
        let admitted: Vec<_> = [0, 1, 2, 4999, 5000, 9999, 10_000]
            .map(|at_ms| state.admit(start + Duration::from_millis(at_ms), 2))
            .into();
        assert_eq!(admitted, [Some(0), Some(0), None, None, Some(2), Some(0), Some(0)]);
    }
}
