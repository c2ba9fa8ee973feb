//! The settings of a broker under RocketMQ's keys (spec: config.md §3, §6).

use std::path::PathBuf;

/// What a SEND reply promises about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlushDiskType {
    #[default]
    AsyncFlush,
    SyncFlush,
}

/// Resolved settings. Times are in milliseconds unless the name says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig {
    // Identity and addresses.
    pub broker_name: String,
    pub broker_cluster_name: String,
    pub broker_id: i64,
    /// Address given to clients and stored in messages.
    pub broker_ip1: String,
    /// Address given to slaves.
    pub broker_ip2: String,
    pub bind_address: String,
    pub listen_port: u16,
    /// 0: `listen_port` + 1.
    pub ha_listen_port: u16,
    /// `host:port;host:port`
    pub namesrv_addr: String,
    pub register_broker_timeout_ms: u64,
    /// Clamped to 10,000–60,000.
    pub register_name_server_period_ms: u64,
    pub force_register: bool,
    pub compressed_register: bool,
    pub enable_single_topic_register: bool,
    pub enable_split_registration: bool,
    pub split_registration_size: usize,

    // Topics and groups.
    pub auto_create_topic_enable: bool,
    pub auto_create_subscription_group: bool,
    pub enable_create_sys_group: bool,
    pub default_topic_queue_nums: i32,
    /// 2 write, 4 read.
    pub broker_permission: i32,
    pub cluster_topic_enable: bool,
    pub broker_topic_enable: bool,
    pub validate_system_topic_when_update_topic: bool,
    pub enable_mixed_message_type: bool,
    pub clear_retry_topic_when_delete_topic: bool,
    pub use_static_subscription: bool,
    pub revive_queue_num: i32,
    pub trace_topic_enable: bool,
    pub msg_trace_topic_name: String,
    pub timer_wheel_enable: bool,
    pub enable_split_metadata: bool,
    pub split_metadata_size: usize,

    // Sending.
    pub reject_transaction_message: bool,
    pub enable_register_producer: bool,
    /// Epoch milliseconds before which sends are refused.
    pub start_accept_send_request_timestamp: i64,
    pub region_id: String,
    pub trace_on: bool,
    pub max_message_size: usize,

    // Pulling and consumers.
    pub long_polling_enable: bool,
    pub short_polling_time_ms: u64,
    pub slave_read_enable: bool,
    pub lite_pull_message_enable: bool,
    pub reject_pull_consumer_enable: bool,
    pub enable_property_filter: bool,
    pub notify_consumer_ids_changed_enable: bool,
    pub real_time_notify_consumer_change: bool,
    pub channel_expired_timeout_ms: u64,
    pub flush_consumer_offset_interval_ms: u64,
    pub consumer_offset_update_version_step: u64,
    pub use_server_side_reset_offset: bool,
    pub max_transfer_count_on_message_in_memory: usize,
    pub max_transfer_bytes_on_message_in_memory: usize,
    pub max_transfer_count_on_message_in_disk: usize,
    pub max_transfer_bytes_on_message_in_disk: usize,
    pub access_message_in_memory_max_ratio: u32,
    pub max_filter_message_size: usize,
    pub default_query_max_num: i32,
    pub max_msgs_num_batch: i32,

    // Store.
    pub store_path_root_dir: PathBuf,
    /// Empty: `commitlog` below the root; several separated by commas.
    pub store_path_commit_log: String,
    pub mapped_file_size_commit_log: u64,
    pub mapped_file_size_consume_queue: u64,
    pub flush_disk_type: FlushDiskType,
    pub flush_interval_commit_log_ms: u64,
    pub flush_interval_consume_queue_ms: u64,
    pub sync_flush_timeout_ms: u64,
    pub message_index_enable: bool,
    pub max_hash_slot_num: u32,
    pub max_index_num: u32,
    pub message_delay_level: String,
    pub flush_delay_offset_interval_ms: u64,
    pub delay_offset_update_version_step: u64,
    pub file_reserved_time_hours: u64,
    /// Hours of the day, `;` separated.
    pub delete_when: String,
    pub disk_max_used_space_ratio: u32,
    pub disk_space_warning_level_ratio: u32,
    pub disk_space_clean_forcibly_ratio: u32,
    pub clean_file_forcibly_enable: bool,
    pub check_crc_on_recover: bool,

    // Network.
    pub server_channel_max_idle_time_seconds: u64,
    /// Event loops; 0: one per core.
    pub workers: usize,

    // Statistics and administration.
    pub enable_detail_stat: bool,
    pub auto_delete_unused_stats: bool,
    /// Keys that UPDATE_BROKER_CONFIG may not change, `;` separated.
    pub config_black_list: String,
    /// Where UPDATE_BROKER_CONFIG writes.
    pub broker_config_path: Option<PathBuf>,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig {
            broker_name: "DEFAULT_BROKER".into(),
            broker_cluster_name: "DefaultCluster".into(),
            broker_id: 0,
            broker_ip1: "127.0.0.1".into(),
            broker_ip2: "127.0.0.1".into(),
            bind_address: "0.0.0.0".into(),
            listen_port: 10911,
            ha_listen_port: 0,
            namesrv_addr: String::new(),
            register_broker_timeout_ms: 24_000,
            register_name_server_period_ms: 30_000,
            force_register: true,
            compressed_register: false,
            enable_single_topic_register: false,
            enable_split_registration: false,
            split_registration_size: 800,
            auto_create_topic_enable: true,
            auto_create_subscription_group: true,
            enable_create_sys_group: true,
            default_topic_queue_nums: 8,
            broker_permission: 6,
            cluster_topic_enable: true,
            broker_topic_enable: true,
            validate_system_topic_when_update_topic: true,
            enable_mixed_message_type: false,
            clear_retry_topic_when_delete_topic: true,
            use_static_subscription: false,
            revive_queue_num: 8,
            trace_topic_enable: false,
            msg_trace_topic_name: "RMQ_SYS_TRACE_TOPIC".into(),
            timer_wheel_enable: true,
            enable_split_metadata: true,
            split_metadata_size: 2000,
            reject_transaction_message: false,
            enable_register_producer: true,
            start_accept_send_request_timestamp: 0,
            region_id: "DefaultRegion".into(),
            trace_on: true,
            max_message_size: 4_194_304,
            long_polling_enable: true,
            short_polling_time_ms: 1000,
            slave_read_enable: false,
            lite_pull_message_enable: true,
            reject_pull_consumer_enable: false,
            enable_property_filter: false,
            notify_consumer_ids_changed_enable: true,
            real_time_notify_consumer_change: true,
            channel_expired_timeout_ms: 120_000,
            flush_consumer_offset_interval_ms: 5000,
            consumer_offset_update_version_step: 500,
            use_server_side_reset_offset: true,
            max_transfer_count_on_message_in_memory: 32,
            max_transfer_bytes_on_message_in_memory: 262_144,
            max_transfer_count_on_message_in_disk: 8,
            max_transfer_bytes_on_message_in_disk: 65_536,
            access_message_in_memory_max_ratio: 40,
            max_filter_message_size: 16_000,
            default_query_max_num: 32,
            max_msgs_num_batch: 64,
            store_path_root_dir: "store".into(),
            store_path_commit_log: String::new(),
            mapped_file_size_commit_log: 1024 * 1024 * 1024,
            mapped_file_size_consume_queue: 6_000_000,
            flush_disk_type: FlushDiskType::AsyncFlush,
            flush_interval_commit_log_ms: 500,
            flush_interval_consume_queue_ms: 1000,
            sync_flush_timeout_ms: 5000,
            message_index_enable: true,
            max_hash_slot_num: 5_000_000,
            max_index_num: 20_000_000,
            message_delay_level: "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".into(),
            flush_delay_offset_interval_ms: 10_000,
            delay_offset_update_version_step: 200,
            file_reserved_time_hours: 72,
            delete_when: "04".into(),
            disk_max_used_space_ratio: 75,
            disk_space_warning_level_ratio: 90,
            disk_space_clean_forcibly_ratio: 85,
            clean_file_forcibly_enable: true,
            check_crc_on_recover: true,
            server_channel_max_idle_time_seconds: 120,
            workers: 0,
            enable_detail_stat: true,
            auto_delete_unused_stats: true,
            config_black_list: "configBlackList;brokerConfigPath".into(),
            broker_config_path: None,
        }
    }
}

impl BrokerConfig {
    /// `brokerIP1:listenPort`: the name of this broker on the wire.
    pub fn broker_addr(&self) -> String {
        format!("{}:{}", self.broker_ip1, self.listen_port)
    }

    pub fn ha_port(&self) -> u16 {
        match self.ha_listen_port {
            0 => self.listen_port.wrapping_add(1),
            port => port,
        }
    }

    /// Address given to slaves.
    pub fn ha_addr(&self) -> String {
        format!("{}:{}", self.broker_ip2, self.ha_port())
    }
}
