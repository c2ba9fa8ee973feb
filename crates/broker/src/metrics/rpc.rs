//! How long requests took, by code and outcome. Each worker has a table of its own, which a scrape reads.

use std::time::Duration;

use hashbrown::HashMap;
use oxmq_remoting::ReplyTo;
use parking_lot::Mutex;

use super::bounds::RPC_MS;
use super::series::Histogram;

/// Rows of one worker. Clients may send any code: what comes beyond shares a row.
const ROWS_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RpcKey {
    pub(crate) request: i32,
    pub(crate) response: i32,
    /// It waited for messages.
    pub(crate) suspended: bool,
    pub(crate) result: RpcResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RpcResult {
    Success,
    Oneway,
    /// The connection was gone.
    WriteFailed,
}

impl RpcResult {
    pub(crate) fn name(self) -> &'static str {
        match self {
            RpcResult::Success => "success",
            RpcResult::Oneway => "oneway",
            RpcResult::WriteFailed => "write_channel_failed",
        }
    }
}

/// The lock is free but for the moment of a scrape.
#[derive(Default)]
pub(crate) struct RpcLatencies(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    index: HashMap<RpcKey, usize>,
    rows: Vec<(RpcKey, Histogram)>,
    /// Where the last one was counted: the next is often alike.
    last: usize,
    overflow: Histogram,
}

impl RpcLatencies {
    /// As many requests were answered that came together.
    pub(crate) fn record(&self, to: &ReplyTo, response: i32, taken: bool, times: u64, took: Duration) {
        let key = RpcKey {
            request: to.code,
            response,
            suspended: to.suspended,
            result: match (to.oneway, taken) {
                (true, _) => RpcResult::Oneway,
                (false, true) => RpcResult::Success,
                (false, false) => RpcResult::WriteFailed,
            },
        };
        let millis = took.as_millis() as u64;
        self.0.lock().row(key).record_many(&RPC_MS, millis, times);
    }

    /// Adds everything to `sum`; what has no row of its own comes back.
    pub(crate) fn add_to(&self, sum: &mut HashMap<RpcKey, Histogram>) -> Histogram {
        let rows = self.0.lock();
        for (key, row) in &rows.rows {
            sum.entry(*key).or_default().add(row);
        }
        rows.overflow
    }
}

impl Rows {
    fn row(&mut self, key: RpcKey) -> &mut Histogram {
        if self.rows.get(self.last).is_none_or(|(last, _)| *last != key) {
            let known = self.index.get(&key).copied();
            self.last = match known {
                Some(index) => index,
                None if self.rows.len() < ROWS_MAX => {
                    self.index.insert(key, self.rows.len());
                    self.rows.push((key, Histogram::default()));
                    self.rows.len() - 1
                }
                None => return &mut self.overflow,
            };
        }
        &mut self.rows[self.last].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_codes_takes_a_bounded_number_of_rows() {
        let latencies = RpcLatencies::default();
        let key = |request| RpcKey {
            request,
            response: 3,
            suspended: false,
            result: RpcResult::Success,
        };
        for request in 0..2 * ROWS_MAX as i32 {
            latencies.0.lock().row(key(request)).record(&RPC_MS, 2);
            latencies.0.lock().row(key(0)).record(&RPC_MS, 5000);
        }
        let mut sum = HashMap::new();
        let overflow = latencies.add_to(&mut sum);
        assert_eq!(sum.len(), ROWS_MAX);
        assert_eq!(overflow.counts[1], ROWS_MAX as u64);
        assert_eq!(
            (sum[&key(0)].counts[1], sum[&key(0)].counts[9]),
            (1, 2 * ROWS_MAX as u64)
        );
    }
}
