use std::collections::BTreeMap;

use super::bodies;

bodies! {
    /// Reply of 2003, in the order in which the original's tool prints it.
    pub struct ColdDataFlowInfo {
        runtime_table: BTreeMap<String, GroupColdReads>,
        config_table: BTreeMap<String, i64>,
        cg_cold_read_threshold: i64,
        global_cold_read_threshold: i64,
        global_acc: i64,
    }

    /// What a group has read of cold messages in this window, in bytes, and when it did first and last.
    pub struct GroupColdReads {
        cold_acc: i64,
        create_time_mills: i64,
        last_cold_read_time_mills: i64,
    }
}
