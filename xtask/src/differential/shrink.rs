//! Makes a failing script shorter: leaves out what the failure does not need.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::actor::{Actor, Failure, Servers};
use super::kind;
use super::known::KnownDifferences;
use super::script::Step;

/// For one script.
const TIME_MAX: Duration = Duration::from_secs(15);

/// Tries scripts on the servers that still run, each time under new names.
pub(super) struct Shrinker<'a> {
    servers: &'a Servers,
    known: &'a Arc<KnownDifferences>,
    runs: u32,
}

impl<'a> Shrinker<'a> {
    pub(super) fn new(servers: &'a Servers, known: &'a Arc<KnownDifferences>) -> Shrinker<'a> {
        Shrinker {
            servers,
            known,
            runs: 1,
        }
    }

    /// The shortest script found that ends with a failure of the same kind.
    pub(super) async fn shrink(&mut self, actor: usize, script: &[Step], failure: &Failure) -> Vec<Step> {
        let wanted = kind(script, failure);
        let deadline = Instant::now() + TIME_MAX;
        let mut shortest = script[..=failure.at].to_vec();
        let mut chunk = shortest.len() / 2;
        while chunk > 0 && Instant::now() < deadline {
            let mut start = 0;
            // The last step is the failing one.
            while start + 1 < shortest.len() && Instant::now() < deadline {
                let end = (start + chunk).min(shortest.len() - 1);
                let mut shorter = shortest.clone();
                shorter.drain(start..end);
                match self.fails(actor, &shorter, &wanted).await {
                    Some(length) => {
                        shorter.truncate(length);
                        shortest = shorter;
                    }
                    None => start = end,
                }
            }
            chunk /= 2;
        }
        shortest
    }

    /// How many steps it takes until this failure, if it comes.
    async fn fails(&mut self, actor: usize, script: &[Step], wanted: &str) -> Option<usize> {
        self.runs += 1;
        let mut actor = Actor::new(self.servers, Arc::clone(self.known), self.runs, actor).hasty();
        let failure = actor.run(script).await.err()?;
        (kind(script, &failure) == wanted).then_some(failure.at + 1)
    }
}
