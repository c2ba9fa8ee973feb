//! The name servers of a client. All know the same, so any one will do: the one that answered last is asked again, and
//! when it cannot be reached the next one is (spec: protocol.md §8.3).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::Request;
use oxmq_remoting::{CallError, RemotingClient, Reply};

use crate::error::ClientError;

pub(super) struct NameServers {
    /// Never empty.
    addrs: Vec<String>,
    current: AtomicUsize,
}

impl NameServers {
    /// Reads `a:9876;b:9876`. Begins with any of them, so that clients spread.
    pub(super) fn parse(list: &str) -> Result<NameServers, ClientError> {
        let addrs: Vec<String> = list
            .split([';', ','])
            .map(str::trim)
            .filter(|addr| !addr.is_empty())
            .map(str::to_owned)
            .collect();
        if addrs.is_empty() {
            return Err(ClientError::NoNameServer);
        }
        let start = RandomState::new().hash_one(0) as usize % addrs.len();
        Ok(NameServers {
            addrs,
            current: AtomicUsize::new(start),
        })
    }

    pub(super) fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Asks one after the other until one answers. An answer that is an error is an answer.
    pub(super) async fn call<R: Request>(
        &self,
        remoting: &RemotingClient,
        header: &R::Header,
        timeout: Duration,
    ) -> Result<Reply<R>, CallError> {
        let start = self.current.load(Ordering::Relaxed);
        let mut tried = 0;
        loop {
            let index = (start + tried) % self.addrs.len();
            let called = remoting
                .call::<R>(&self.addrs[index], header, Bytes::new(), timeout)
                .await;
            tried += 1;
            let unreached = matches!(
                called,
                Err(CallError::Connect { .. } | CallError::Closed { .. } | CallError::Timeout { .. })
            );
            if !unreached {
                self.current.store(index, Ordering::Relaxed);
            }
            if !unreached || tried == self.addrs.len() {
                return called;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_separated_by_semicolons_or_commas() {
        let servers = NameServers::parse(" a:1; b:2,,c:3;").unwrap();
        assert_eq!(servers.addrs(), ["a:1", "b:2", "c:3"]);
        assert!(NameServers::parse(" ; ").is_err());
    }
}
