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
