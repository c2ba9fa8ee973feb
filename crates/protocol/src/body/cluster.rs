use std::collections::{BTreeMap, BTreeSet};

use super::{BrokerData, BrokerMemberGroup, bodies};

bodies! {
    /// Reply of 106.
    pub struct ClusterInfo {
        broker_addr_table: BTreeMap<String, BrokerData>,
        cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
    }

    /// Reply of 901.
    pub struct GetBrokerMemberGroupBody {
        broker_member_group: BrokerMemberGroup,
    }
}

impl ClusterInfo {
    /// The brokers of a cluster, by their names.
    pub fn brokers(&self, cluster: &str) -> impl Iterator<Item = &BrokerData> {
        let names = self.cluster_addr_table.get(cluster).into_iter().flatten();
        names.filter_map(|name| self.broker_addr_table.get(name))
    }
}
