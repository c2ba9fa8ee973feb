//! The case of OxMQ's tools that say what is wrong, on a cluster for itself: what other cases leave behind is trouble.

use std::path::PathBuf;

use super::programs::Client;
use super::{Outcomes, cluster_run};
use crate::servers::{Cluster, Options};

pub(super) const CASES: [&str; 1] = ["diagnosis"];

/// `oxmq` is the program whose tools are asked.
pub(super) fn run(mut options: Options, clients: &[Client], case: &str, oxmq: PathBuf) -> anyhow::Result<Outcomes> {
    options.tools = Some(oxmq);
    // Nobody is to be asked about its half message.
    let mut cluster = Cluster::start(options.broker_property("transactionTimeOut", 600_000))?;
    let outcomes = cluster_run::run(&mut cluster, clients, &[case])?;
    cluster.discard()?;
    Ok(outcomes)
}
