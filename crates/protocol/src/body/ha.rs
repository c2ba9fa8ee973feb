use std::collections::{BTreeMap, BTreeSet};

use super::{BrokerMemberGroup, bodies};

bodies! {
    /// Reply of 907.
    pub struct HaRuntimeInfo {
        ha_client_runtime_info: HaClientRuntimeInfo,
        ha_connection_info: Vec<HaConnectionRuntimeInfo>,
        in_sync_slave_nums: i32,
        master: bool,
        master_commit_log_max_offset: i64,
    }

    /// What a slave says of the way to its master.
    pub struct HaClientRuntimeInfo {
        activated: bool,
        last_read_timestamp: i64,
        last_write_timestamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        master_addr: Option<String>,
        master_flush_offset: i64,
        max_offset: i64,
        transferred_byte_in_second: i64,
    }

    /// What a master says of the way to a slave.
    pub struct HaConnectionRuntimeInfo {
        addr: String,
        diff: i64,
        in_sync: bool,
        slave_ack_offset: i64,
        transfer_from_where: i64,
        transferred_byte_in_second: i64,
    }

    /// Reply of 1007.
    pub struct EpochEntryCache {
        broker_id: i64,
        broker_name: String,
        cluster_name: String,
        epoch_list: Vec<EpochEntry>,
        max_offset: i64,
    }

    pub struct EpochEntry {
        end_offset: i64,
        epoch: i32,
        start_offset: i64,
    }

    /// Reply of 1006.
    pub struct BrokerReplicasInfo {
        replicas_info_table: BTreeMap<String, ReplicasInfo>,
    }

    /// The replicas of one broker.
    pub struct ReplicasInfo {
        in_sync_replicas: Vec<ReplicaIdentity>,
        #[serde(skip_serializing_if = "Option::is_none")]
        master_address: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        master_broker_id: Option<i64>,
        master_epoch: i32,
        not_in_sync_replicas: Vec<ReplicaIdentity>,
        sync_state_set_epoch: i32,
    }

    pub struct ReplicaIdentity {
        alive: bool,
        broker_address: String,
        broker_id: i64,
        broker_name: String,
    }

    /// Reply of 1002.
    pub struct ElectedMaster {
        broker_member_group: BrokerMemberGroup,
        sync_state_set: BTreeSet<i64>,
    }

    /// Reply of 354. The status is 0 when all is alike, 1 when not, 2 while it is looked at, 3 when that failed.
    pub struct CheckRocksdbCqWriteResult {
        #[serde(skip_serializing_if = "Option::is_none")]
        check_result: Option<String>,
        check_status: i32,
    }
}
