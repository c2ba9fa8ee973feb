//! Bodies of requests and replies (spec: protocol.md §5), a file per family. Members that Java leaves out when they are
//! null are `Option`s here; members that are absent on input take Java's default. Read and write them with
//! [`crate::json`].

mod acl;
mod assignment;
mod batch_ack;
mod cluster;
mod cold_data;
mod connection;
mod consume_queue;
mod consume_stats;
mod data_version;
mod group_config;
mod ha;
mod heartbeat;
mod kv;
mod lite;
mod lock;
mod message_queue;
mod offsets;
mod register;
mod route;
mod running_info;
mod static_topic;
mod stats;
mod topic_config;

pub use acl::*;
pub use assignment::*;
pub use batch_ack::*;
pub use cluster::*;
pub use cold_data::*;
pub use connection::*;
pub use consume_queue::*;
pub use consume_stats::*;
pub use data_version::*;
pub use group_config::*;
pub use ha::*;
pub use heartbeat::*;
pub use kv::*;
pub use lite::*;
pub use lock::*;
pub use message_queue::*;
pub use offsets::*;
pub use register::*;
pub use route::*;
pub use running_info::*;
pub use static_topic::*;
pub use stats::*;
pub use topic_config::*;

/// Declares bodies whose members are all `pub`, named in camel case on the wire, and default when absent.
macro_rules! bodies {
    ($( $(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* $field:ident: $ty:ty, )* } )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $ty, )* }
    )*};
}
pub(crate) use bodies;
