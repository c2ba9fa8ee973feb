//! Cases that need two brokers: `broker-a` as everywhere, and `broker-b`, which may be of the other kind, at the same name
//! server.

use super::programs::Client;
use super::{METRICS_PORT_STEP, Outcomes, cluster_run};
use crate::servers::{Cluster, Options, Server};

pub(super) const CASES: [&str; 1] = ["static-topic"];
/// From the ports of the first broker to those of the second.
const PORT_STEP: u16 = 20;

/// `options` are those of the first broker; `partner` is the second.
pub(super) fn run(options: Options, partner: Server, clients: &[Client], case: &str) -> anyhow::Result<Outcomes> {
    let mut second = options.clone();
    second.broker = partner;
    second.port += PORT_STEP;
    let second_port = second.port;
    second.dir = options.dir.with_extension("b");
    second = second
        .broker_property("brokerName", "broker-b")
        .broker_property("metricsPromExporterPort", second_port + METRICS_PORT_STEP);
    let mut cluster = Cluster::start(options)?;
    second.joins = Some(cluster.namesrv_addr());
    let second = Cluster::start(second)?;
    let outcomes = cluster_run::run(&mut cluster, clients, &[case])?;
    second.discard()?;
    cluster.discard()?;
    Ok(outcomes)
}
