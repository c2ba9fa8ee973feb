//! System flags of messages (spec: protocol.md §6.2), of pull requests (§7.1) and of topics (§5.2).

/// The body is compressed; [`COMPRESSION_MASK`] says how.
pub const COMPRESSED: i32 = 0x1;
pub const MULTI_TAGS: i32 = 0x2;
/// The two transaction bits together: none, prepared, committed or rolled back.
pub const TRANSACTION_MASK: i32 = 0xC;
pub const TRANSACTION_NONE: i32 = 0x0;
pub const TRANSACTION_PREPARED: i32 = 0x4;
pub const TRANSACTION_COMMIT: i32 = 0x8;
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
pub const BORN_HOST_V6: i32 = 0x10;
pub const STORE_HOST_V6: i32 = 0x20;
/// The receiving client must unwrap an inner batch.
pub const NEED_UNWRAP: i32 = 0x40;
pub const INNER_BATCH: i32 = 0x80;
pub const COMPRESSION_MASK: i32 = 0x700;

/// The bits of a pull request's `sysFlag`.
pub mod pull {
    pub const COMMIT_OFFSET: i32 = 1;
    pub const SUSPEND: i32 = 2;
    pub const SUBSCRIPTION: i32 = 4;
    pub const CLASS_FILTER: i32 = 8;
    pub const LITE_PULL: i32 = 16;
}

/// The bits of `topicSysFlag`.
pub mod topic {
    pub const UNIT: i32 = 1;
    pub const UNIT_SUB: i32 = 2;
}
