use super::bodies;

bodies! {
    /// Tells versions of a table apart: each change counts up and notes its time.
    #[derive(Copy, Eq)]
    pub struct DataVersion {
        counter: i64,
        state_version: i64,
        timestamp: i64,
    }
}

impl DataVersion {
    /// The version of a table that starts its life now.
    pub fn at(now_ms: i64) -> DataVersion {
        DataVersion {
            timestamp: now_ms,
            ..DataVersion::default()
        }
    }

    /// Steps on after a change.
    pub fn advance(&mut self, now_ms: i64) {
        self.counter += 1;
        self.timestamp = now_ms;
    }
}
