use std::collections::{BTreeMap, BTreeSet};

use super::bodies;

bodies! {
    /// Replies of 28, 103 and 219.
    pub struct KvTable {
        table: BTreeMap<String, String>,
    }

    /// Replies of 206, 224, 304, 305, 311 to 313 and 343.
    pub struct TopicList {
        #[serde(skip_serializing_if = "Option::is_none")]
        broker_addr: Option<String>,
        topic_list: BTreeSet<String>,
    }

    /// Reply of 300.
    pub struct GroupList {
        group_list: BTreeSet<String>,
    }
}
