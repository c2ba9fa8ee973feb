//! The wall clock, as the protocol counts it.

use std::time::SystemTime;

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as i64
}

/// What local time is ahead of UTC. Times inside message ids count from the start of the local month.
pub(crate) fn utc_offset_millis() -> i64 {
    i64::from(jiff::Zoned::now().offset().seconds()) * 1000
}
