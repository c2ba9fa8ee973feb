//! The settings of a broker under RocketMQ's keys (spec: config.md §3, §6).

use std::net::{IpAddr, Ipv4Addr};

use oxmq_protocol::body::MessageRequestMode;
use oxmq_protocol::setting_enum;
use oxmq_remoting::settings_with_tls;
use oxmq_store::timer::CURRENT_MAX;

setting_enum! {
    /// What the acknowledgement of a send promises about the disk.
    pub enum FlushDiskType { AsyncFlush = "ASYNC_FLUSH", SyncFlush = "SYNC_FLUSH" }
}

setting_enum! {
    /// Part of this broker in replication.
    pub enum BrokerRole { AsyncMaster = "ASYNC_MASTER", SyncMaster = "SYNC_MASTER", Slave = "SLAVE" }
}

setting_enum! {
    /// Form of the store.
    pub enum StoreType { Default = "default", RocksDb = "defaultRocksDB" }
}

setting_enum! {
    /// Form of the tables.
    pub enum ConfigManagerVersion { V1 = "v1", V2 = "v2" }
}

setting_enum! {
    /// Where metrics go. The numbers are those of RocketMQ.
    pub enum MetricsExporterType { Disable = "DISABLE" | "0", OtlpGrpc = "OTLP_GRPC" | "1", Prom = "PROM" | "2", Log = "LOG" | "3" }
}

settings_with_tls! {
    /// Settings of a broker.
    pub struct BrokerConfig {
        // Identity and addresses.
        /// Name of this broker's group of master and slaves.
        broker_name: String = "brokerName" => host_name(), shown("host name"), important();
        /// Name of the cluster, also the name of a system topic.
        broker_cluster_name: String = "brokerClusterName" => "DefaultCluster".into(), important();
        /// 0 for a master.
        broker_id: i64 = "brokerId" => 0, range(0..=i64::MAX), local(), important();
        /// Address given to clients and stored in messages.
        broker_ip1: String = "brokerIP1" => local_ip(), shown("local address"), important();
        /// Address given to slaves.
        broker_ip2: String = "brokerIP2" => local_ip(), shown("local address");
        /// Address to listen on.
        bind_address: String = "bindAddress" => "0.0.0.0".into();
        /// Port for all requests. All but pulls are also served on the port two below.
        listen_port: u16 = "listenPort" => 10911, local(), important();
        /// Port for slaves; 0 means listenPort + 1.
        ha_listen_port: u16 = "haListenPort" => 0, local();
        /// Name servers, `host:port;host:port`.
        namesrv_addr: Option<String> = "namesrvAddr" => std::env::var("NAMESRV_ADDR").ok(), shown("$NAMESRV_ADDR"), live(), local(), important();
        /// Time that a registration may take.
        register_broker_timeout_ms: u64 = "registerBrokerTimeoutMills" => 24_000, unit("ms"), range(1..=3_600_000), live();
        /// Interval of registrations, kept between 10 s and 60 s.
        register_name_server_period_ms: u64 = "registerNameServerPeriod" => 30_000, unit("ms"), range(1..=i64::MAX);
        /// Register every period even when nothing changed.
        force_register: bool = "forceRegister" => true, live();
        /// Compress the body of registrations.
        compressed_register: bool = "compressedRegister" => false, live();
        /// Announce a changed topic by code 217 instead of a registration.
        enable_single_topic_register: bool = "enableSingleTopicRegister" => false, live();
        /// Register in pieces.
        enable_split_registration: bool = "enableSplitRegistration" => false, live();
        /// Topics in one piece of a registration.
        split_registration_size: usize = "splitRegistrationSize" => 800, unit("topics"), range(1..=1_000_000), live();

        // Topics and groups.
        /// Keep TBW102 and create unknown topics from it.
        auto_create_topic_enable: bool = "autoCreateTopicEnable" => true, live(), important();
        /// Create unknown consumer groups.
        auto_create_subscription_group: bool = "autoCreateSubscriptionGroup" => true, live(), important();
        /// Create groups that start with CID_RMQ_SYS_ in any case.
        enable_create_sys_group: bool = "enableCreateSysGroup" => true, live();
        /// Queues of TBW102.
        default_topic_queue_nums: i32 = "defaultTopicQueueNums" => 8, range(1..=65_536);
        /// Sum of 4 for reading and 2 for writing.
        broker_permission: i32 = "brokerPermission" => 6, range(0..=7), live(), important();
        /// Clients may use the topic that is named as the cluster.
        cluster_topic_enable: bool = "clusterTopicEnable" => true;
        /// Clients may use the topic that is named as the broker.
        broker_topic_enable: bool = "brokerTopicEnable" => true;
        /// Refuse to change system topics.
        validate_system_topic_when_update_topic: bool = "validateSystemTopicWhenUpdateTopic" => true, live();
        /// Allow topics of message.type MIXED.
        enable_mixed_message_type: bool = "enableMixedMessageType" => false, live();
        /// Queues of the POP revive topic.
        revive_queue_num: i32 = "reviveQueueNum" => 8, unit("queues"), range(1..=65_536);
        /// Create the topic for message traces.
        trace_topic_enable: bool = "traceTopicEnable" => false;
        /// Name of the topic for message traces.
        msg_trace_topic_name: String = "msgTraceTopicName" => "RMQ_SYS_TRACE_TOPIC".into();

        /// How long another broker may take to answer for its part of a static topic.
        forward_timeout_ms: u64 = "forwardTimeout" => 3000, unit("ms"), range(1..=3_600_000), live();

        // Sending.
        /// Refuse transactional messages.
        reject_transaction_message: bool = "rejectTransactionMessage" => false, live();
        /// Remember producers even where transactions are refused.
        enable_register_producer: bool = "enableRegisterProducer" => true, live();
        /// Refuse messages before this time.
        start_accept_send_request_timestamp: i64 = "startAcceptSendRequestTimeStamp" => 0, unit("ms since 1970"), live();
        /// Region put into every message.
        region_id: String = "regionId" => "DefaultRegion".into();
        /// Tell clients to send message traces.
        trace_on: bool = "traceOn" => true;
        /// Store reply messages as well as passing them on to whoever waits for them.
        store_reply_message_enable: bool = "storeReplyMessageEnable" => true, live();
        /// Reply messages that may be under way to their requesters at once.
        reply_thread_pool_queue_capacity: usize = "replyThreadPoolQueueCapacity" => 10_000, unit("messages"), range(1..=1_000_000), live();
        /// How long the unique keys of sent messages are remembered: a send that comes again within this time is not stored
        /// again, but answered as the first. 0 for never. Not a key of RocketMQ.
        duplicate_send_window_ms: u64 = "duplicateSendWindow" => 0, unit("ms"), range(0..=3_600_000);
        /// Messages remembered for that at most, 90 bytes of memory each; the oldest go first. Not a key of RocketMQ.
        duplicate_send_window_count_max: usize = "duplicateSendWindowMaxCount" => 1_000_000, unit("messages"), range(64..=1_000_000_000);
        /// Largest body of a message.
        max_message_size: usize = "maxMessageSize" => 4_194_304, unit("bytes"), range(10..=16_000_000), live(), important();

        // Transactions.
        /// Age at which producers are first asked about a half message.
        transaction_time_out_ms: u64 = "transactionTimeOut" => 6000, unit("ms"), range(1..=86_400_000), live(), important();
        /// How often a producer is asked before a half message is given up.
        transaction_check_max: i32 = "transactionCheckMax" => 15, unit("checks"), range(1..=1_000_000), live(), important();
        /// How often producers are asked.
        transaction_check_interval_ms: u64 = "transactionCheckInterval" => 30_000, unit("ms"), range(100..=86_400_000), live(), important();
        /// How often the counts of half messages are saved.
        transaction_metric_flush_interval_ms: u64 = "transactionMetricFlushInterval" => 10_000, unit("ms"), range(10..=3_600_000);

        // Pulling and consumers.
        /// Hold a pull that finds nothing as long as the consumer asked for.
        long_polling_enable: bool = "longPollingEnable" => true, live(), important();
        /// How long to hold it where longPollingEnable is false.
        short_polling_time_ms: u64 = "shortPollingTimeMills" => 1000, unit("ms"), range(1..=60_000), live();
        /// Advise consumers to read cold messages from a slave.
        slave_read_enable: bool = "slaveReadEnable" => false, live();
        /// Serve lite pull consumers.
        lite_pull_message_enable: bool = "litePullMessageEnable" => true, live();
        /// Refuse pull consumers.
        reject_pull_consumer_enable: bool = "rejectPullConsumerEnable" => false, live();
        /// Tell the consumers of a group when one of them comes or goes.
        notify_consumer_ids_changed_enable: bool = "notifyConsumerIdsChangedEnable" => true, live();
        /// Tell them at once instead of every 15 s.
        real_time_notify_consumer_change: bool = "realTimeNotifyConsumerChange" => true, live();
        /// A consumer without heartbeat is forgotten after this time.
        channel_expired_timeout_ms: u64 = "channelExpiredTimeout" => 120_000, unit("ms"), range(1000..=i64::MAX), live();
        /// A subscription that only pulls or pops have brought along is shown to operators for this time.
        subscription_expired_timeout_ms: u64 = "subscriptionExpiredTimeout" => 600_000, unit("ms"), range(1000..=i64::MAX), live();
        /// How often consumer offsets are saved.
        flush_consumer_offset_interval_ms: u64 = "flushConsumerOffsetInterval" => 5000, unit("ms"), range(10..=3_600_000);
        /// Commits from one version of the offsets to the next.
        consumer_offset_update_version_step: u64 = "consumerOffsetUpdateVersionStep" => 500, unit("commits"), range(1..=i64::MAX), live();
        /// Reset offsets in the broker instead of in the consumers.
        use_server_side_reset_offset: bool = "useServerSideResetOffset" => true, live();
        /// Messages of one pull that are in memory.
        max_transfer_count_on_message_in_memory: usize = "maxTransferCountOnMessageInMemory" => 32, unit("messages"), range(1..=1_000_000), live();
        /// Bytes of one pull that are in memory.
        max_transfer_bytes_on_message_in_memory: usize = "maxTransferBytesOnMessageInMemory" => 262_144, unit("bytes"), range(1..=134_217_728), live();
        /// Messages of one pull that come from the disk.
        max_transfer_count_on_message_in_disk: usize = "maxTransferCountOnMessageInDisk" => 8, unit("messages"), range(1..=1_000_000), live();
        /// Bytes of one pull that come from the disk.
        max_transfer_bytes_on_message_in_disk: usize = "maxTransferBytesOnMessageInDisk" => 65_536, unit("bytes"), range(1..=134_217_728), live();
        /// How far behind the end a message counts as on disk.
        access_message_in_memory_max_ratio: u32 = "accessMessageInMemoryMaxRatio" => 40, unit("% of RAM"), range(1..=100), live();
        /// Limit how much groups read of cold messages, those far behind the end of the log. Push consumers that want more are
        /// refused as busy, pulls of others held for 3 s and given one message.
        cold_data_flow_control_enable: bool = "coldDataFlowControlEnable" => false, live();
        /// How far behind the end a message counts as cold.
        access_message_in_memory_hot_ratio: u32 = "accessMessageInMemoryHotRatio" => 26, unit("% of RAM"), range(0..=100), live();
        /// Count only those cold messages that the disk had to bring.
        cold_data_scan_enable: bool = "coldDataScanEnable" => false, live();
        /// What a group may read of them, where nothing else is set for it (`mqadmin updateColdDataFlowCtrGroupConfig`).
        cg_cold_read_threshold: i64 = "cgColdReadThreshold" => 3_145_728, unit("bytes in 5 s"), range(0..=i64::MAX), live();
        /// What all groups together may read of them.
        global_cold_read_threshold: i64 = "globalColdReadThreshold" => 104_857_600, unit("bytes in 5 s"), range(0..=i64::MAX), live();
        /// Raise the thresholds of groups that reach them while there is room below globalColdReadThreshold, and lower them when
        /// there is none.
        cold_ctr_strategy_enable: bool = "coldCtrStrategyEnable" => false, live();
        /// Let a PID controller decide on that, which aims at 80 % of globalColdReadThreshold.
        use_pid_cold_ctr_strategy: bool = "usePIDColdCtrStrategy" => true, live();
        /// Bring up to 4 MiB ahead of a reader of what is on the disk only; otherwise 32 KiB at a time
        /// (`mqadmin setCommitLogReadAheadMode`).
        data_read_ahead_enable: bool = "dataReadAheadEnable" => true, live();
        /// Let consumers filter by SQL92 expressions.
        enable_property_filter: bool = "enablePropertyFilter" => false, live(), important();
        /// Apply the expression for a message's first topic when it is retried.
        filter_support_retry: bool = "filterSupportRetry" => false, live();
        /// Keep the expression of a group that is gone.
        filter_data_clean_time_span_ms: u64 = "filterDataCleanTimeSpan" => 86_400_000, unit("ms"), range(0..=i64::MAX), live();
        /// Bytes of consume queue (20 for a message) that one pull looks through.
        max_filter_message_size: usize = "maxFilterMessageSize" => 16_000, unit("bytes"), range(20..=2_000_000);
        /// Groups that the Bloom filter in consumerFilter.json is made for.
        expect_consumer_num_use_filter: u32 = "expectConsumerNumUseFilter" => 32, unit("groups"), range(1..=10_000);
        /// Part of the other groups for which it is wrong.
        max_error_rate_of_bloom_filter: u32 = "maxErrorRateOfBloomFilter" => 20, unit("%"), range(1..=99);
        /// Messages found by one query for a unique key.
        default_query_max_num: i32 = "defaultQueryMaxNum" => 32, unit("messages"), range(1..=100_000), live();
        /// Most messages found by one query.
        max_msgs_num_batch: i32 = "maxMsgsNumBatch" => 64, unit("messages"), range(1..=100_000), live();

        // POP consumption.
        /// Requests of one group on one queue that may wait.
        pop_polling_size: usize = "popPollingSize" => 1024, unit("requests"), range(1..=1_000_000), live();
        /// Groups and queues for which requests may wait.
        pop_polling_map_size: usize = "popPollingMapSize" => 100_000, unit("keys"), range(1..=10_000_000), live();
        /// Requests that may wait in all.
        max_pop_polling_size: usize = "maxPopPollingSize" => 100_000, unit("requests"), range(1..=10_000_000), live();
        /// How often the revive topic is looked at when nothing is due earlier.
        revive_interval_ms: u64 = "reviveInterval" => 1000, unit("ms"), range(10..=60_000), live();
        /// Keep checkpoints in memory until they are acknowledged; what is not acknowledged in time is written then. Fewer
        /// writes, but after a crash everything comes again that was out.
        enable_pop_buffer_merge: bool = "enablePopBufferMerge" => false, live();
        /// How long a checkpoint stays in memory.
        pop_ck_stay_buffer_time_ms: i64 = "popCkStayBufferTime" => 10_000, unit("ms"), range(0..=3_600_000), live();
        /// It is written so long before its messages come again.
        pop_ck_stay_buffer_time_out_ms: i64 = "popCkStayBufferTimeOut" => 3000, unit("ms"), range(0..=3_600_000), live();
        /// Checkpoints in memory.
        pop_ck_max_buffer_size: usize = "popCkMaxBufferSize" => 200_000, unit("checkpoints"), range(0..=10_000_000), live();
        /// Checkpoints in memory of one group on one queue.
        pop_ck_offset_max_queue_size: usize = "popCkOffsetMaxQueueSize" => 20_000, unit("checkpoints"), range(1..=1_000_000), live();
        /// A new group that wants the newest messages gets all while the first one is in memory.
        init_pop_offset_by_check_msg_in_mem: bool = "initPopOffsetByCheckMsgInMem" => true, live();
        /// Delete the topics of messages that come again with their topic.
        clear_retry_topic_when_delete_topic: bool = "clearRetryTopicWhenDeleteTopic" => true, live();
        /// Let messages come again through `%RETRY%group+topic` instead of `%RETRY%group_topic`.
        enable_retry_topic_v2: bool = "enableRetryTopicV2" => false, live();
        /// Then go on reading the other one.
        retrieve_message_from_pop_retry_topic_v1: bool = "retrieveMessageFromPopRetryTopicV1" => true, live();
        /// How often messages that come again go before new ones.
        pop_from_retry_probability: u32 = "popFromRetryProbability" => 20, unit("%"), range(0..=100), live();
        /// The same for topics of message.type PRIORITY.
        pop_from_retry_probability_for_priority: u32 = "popFromRetryProbabilityForPriority" => 0, unit("%"), range(0..=100), live();
        /// The greater number is the higher priority.
        priority_order_asc: bool = "priorityOrderAsc" => true, live();
        /// Show the retry topic of messages that come again instead of their first topic.
        pop_response_return_actual_retry_topic: bool = "popResponseReturnActualRetryTopic" => false, live();
        /// Hand out no more of a queue while too many messages of it are out.
        enable_pop_message_threshold: bool = "enablePopMessageThreshold" => false, live();
        /// How many that is.
        pop_inflight_message_threshold: i64 = "popInflightMessageThreshold" => 10_000, unit("messages"), range(1..=i64::MAX), live();
        /// Wake waiting orderly requests when the time of a batch is over that blocks their queue.
        enable_notify_after_pop_order_lock_release: bool = "enableNotifyAfterPopOrderLockRelease" => true, live();
        /// Give up on a message that could not be stored again 17 times, over almost four hours.
        skip_when_ck_re_put_reach_max_times: bool = "skipWhenCKRePutReachMaxTimes" => false, live();
        /// Deal queues to consumers that ask the broker; otherwise each gets all.
        server_load_balancer_enable: bool = "serverLoadBalancerEnable" => true, live();
        /// How groups consume for which nothing was set.
        default_message_request_mode: MessageRequestMode = "defaultMessageRequestMode" => MessageRequestMode::Pull, live();
        /// Members that share the queues of one with it, where groups consume by POP; -1 for all.
        default_pop_share_queue_num: i32 = "defaultPopShareQueueNum" => -1, unit("members"), range(-1..=65_536), live();

        // Quotas.
        /// Messages a second that a topic takes, where its attribute quota.messages.per.second says nothing; 0 for any number. Not a key of RocketMQ.
        quota_topic_messages_per_second: u64 = "quotaTopicMessagesPerSecond" => 0, unit("messages/s"), range(0..=i64::MAX), live();
        /// Bytes a second that a topic takes, where its attribute quota.bytes.per.second says nothing; 0 for any number. Not a key of RocketMQ.
        quota_topic_bytes_per_second: u64 = "quotaTopicBytesPerSecond" => 0, unit("bytes/s"), range(0..=i64::MAX), live();
        /// Messages a second that a consumer group gets, where its attribute quota.messages.per.second says nothing; 0 for any number. Not a key of RocketMQ.
        quota_group_messages_per_second: u64 = "quotaGroupMessagesPerSecond" => 0, unit("messages/s"), range(0..=i64::MAX), live();
        /// Bytes a second that a consumer group gets, where its attribute quota.bytes.per.second says nothing; 0 for any number. Not a key of RocketMQ.
        quota_group_bytes_per_second: u64 = "quotaGroupBytesPerSecond" => 0, unit("bytes/s"), range(0..=i64::MAX), live();
        /// Messages a second that one connection sends, and gets besides; 0 for any number. Not a key of RocketMQ.
        quota_client_messages_per_second: u64 = "quotaClientMessagesPerSecond" => 0, unit("messages/s"), range(0..=i64::MAX), live();
        /// Bytes a second that one connection sends, and gets besides; 0 for any number. Not a key of RocketMQ.
        quota_client_bytes_per_second: u64 = "quotaClientBytesPerSecond" => 0, unit("bytes/s"), range(0..=i64::MAX), live();
        /// How long a request is held at most that is beyond a quota. Sends that would have to wait longer are refused as busy.
        /// Not a key of RocketMQ.
        quota_hold_time_ms: u64 = "quotaHoldTimeMills" => 1000, unit("ms"), range(0..=10_000), live();

        // Store.
        /// Part in replication. Slaves do not exist here yet: SLAVE is refused at start.
        broker_role: BrokerRole = "brokerRole" => BrokerRole::AsyncMaster, important();
        /// Form of the store; defaultRocksDB is refused at start.
        store_type: StoreType = "storeType" => StoreType::Default, local();
        /// Form of the tables below config; v2, a RocksDB, is refused at start.
        config_manager_version: ConfigManagerVersion = "configManagerVersion" => ConfigManagerVersion::V1;
        /// A commit log replicated by DLedger, which is refused at start.
        enable_dledger_commit_log: bool = "enableDLegerCommitLog" => false;
        /// Root of all files.
        store_path_root_dir: String = "storePathRootDir" => default_root(), shown("$HOME/store"), important();
        /// Folders of the commit log, separated by commas.
        store_path_commit_log: Option<String> = "storePathCommitLog" => None, shown("$storePathRootDir/commitlog"), important();
        /// Size of a commit log file.
        mapped_file_size_commit_log: u64 = "mappedFileSizeCommitLog" => 1_073_741_824, unit("bytes"), range(65_536..=17_179_869_184), local();
        /// Size of a consume queue file; rounded up to whole entries of 20 bytes.
        mapped_file_size_consume_queue: u64 = "mappedFileSizeConsumeQueue" => 6_000_000, unit("bytes"), range(20..=1_000_000_000), local();
        /// Size of a file of a queue of batches (queue.type=BatchCQ); rounded up to whole units of 46 bytes.
        mapper_file_size_batch_consume_queue: u64 = "mapperFileSizeBatchConsumeQueue" => 13_800_000, unit("bytes"), range(46..=1_000_000_000), local();
        /// Light queues, named %LMQ%…, without configuration. Needs enableMultiDispatch as well.
        enable_lmq: bool = "enableLmq" => false;
        /// Messages enter every light queue that they name in INNER_MULTI_DISPATCH. Needs enableLmq as well.
        enable_multi_dispatch: bool = "enableMultiDispatch" => false;
        /// Compact topics of cleanup.policy=COMPACTION: of older messages only the newest of each key is read.
        enable_compaction: bool = "enableCompaction" => true;
        /// Time from one compaction to the next.
        compaction_schedule_internal_ms: u64 = "compactionScheduleInternal" => 900_000, unit("ms"), range(10..=i64::MAX);
        /// Memory for the keys of one queue while it is being compacted; what does not fit is for the next time.
        max_offset_map_size: usize = "maxOffsetMapSize" => 104_857_600, unit("bytes"), range(1024..=4_294_967_296), live();
        /// Most light queues that there may be.
        max_lmq_consume_queue_num: usize = "maxLmqConsumeQueueNum" => 20_000, unit("queues"), range(0..=10_000_000), live();
        /// When a send is acknowledged: once it is in memory, or once it is on disk.
        flush_disk_type: FlushDiskType = "flushDiskType" => FlushDiskType::AsyncFlush, important();
        /// How often the commit log is flushed with ASYNC_FLUSH.
        flush_interval_commit_log_ms: u64 = "flushIntervalCommitLog" => 500, unit("ms"), range(1..=3_600_000);
        /// How often consume queues are flushed.
        flush_interval_consume_queue_ms: u64 = "flushIntervalConsumeQueue" => 1000, unit("ms"), range(1..=3_600_000);
        /// How long a send waits for the disk with SYNC_FLUSH.
        sync_flush_timeout_ms: u64 = "syncFlushTimeout" => 5000, unit("ms"), range(1..=3_600_000), live();
        /// Index messages by their keys.
        message_index_enable: bool = "messageIndexEnable" => true;
        /// Hash slots of an index file.
        max_hash_slot_num: u32 = "maxHashSlotNum" => 5_000_000, unit("slots"), range(1..=500_000_000);
        /// Entries of an index file.
        max_index_num: u32 = "maxIndexNum" => 20_000_000, unit("entries"), range(1..=500_000_000);
        /// Delay levels, level 1 first.
        message_delay_level: String = "messageDelayLevel" => "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".into();
        /// Take messages with a delivery time of their own.
        timer_wheel_enable: bool = "timerWheelEnable" => true, live(), important();
        /// Furthest delivery time from now; 0 means any. RocketMQ refuses more than 259200 s unless told otherwise.
        timer_max_delay_sec: i64 = "timerMaxDelaySec" => 0, unit("s"), range(0..=i64::MAX), live(), important();
        /// Messages further ahead than so many slots go round once more.
        timer_roll_window_slot: i64 = "timerRollWindowSlot" => 172_800, unit("slots"), range(0..=i32::MAX as i64);
        /// Messages for one slot from where on some are refused; twice as many are refused in any case.
        timer_congest_num_each_slot: i64 = "timerCongestNumEachSlot" => i32::MAX as i64, unit("messages"), range(0..=i32::MAX as i64);
        /// Size of a file of the timer log.
        mapped_file_size_timer_log: i64 = "mappedFileSizeTimerLog" => 104_857_600, unit("bytes"), range(4096..=1_073_741_824), local();
        /// How often the progress of timer messages is made durable.
        timer_flush_interval_ms: u64 = "timerFlushIntervalMs" => 1000, unit("ms"), range(10..=60_000), live();
        /// Leave new timer messages in their queue.
        timer_stop_enqueue: bool = "timerStopEnqueue" => false, live();
        /// Deliver no timer messages.
        timer_stop_dequeue: bool = "timerStopDequeue" => false, live();
        /// Let producers recall messages that wait on the timer wheel.
        recall_message_enable: bool = "recallMessageEnable" => false, live();
        /// Accept recalls while the broker is not writeable.
        allow_recall_when_broker_not_writeable: bool = "allowRecallWhenBrokerNotWriteable" => true, live();
        /// Name the topic in what cancels a timer message: `topic+UNIQ_KEY` instead of UNIQ_KEY.
        append_topic_for_timer_delete_key: bool = "appendTopicForTimerDeleteKey" => false;
        /// Width of a slot of the timer wheel. Messages are delivered to the millisecond whatever it is.
        timer_precision_ms: i64 = "timerPrecisionMs" => 1000, unit("ms"), range(1..=60_000);
        /// Count anew how many timer messages wait for each topic, once a day.
        timer_enable_check_metrics: bool = "timerEnableCheckMetrics" => true, live();
        /// Hours at which that is done, local time, separated by `;`.
        timer_check_metrics_when: String = "timerCheckMetricsWhen" => "05".into(), live();
        /// Topics for which so many wait are not counted anew.
        timer_metric_small_threshold: i64 = "timerMetricSmallThreshold" => 1_000_000, unit("messages"), range(0..=i32::MAX as i64), live();
        /// Messages of one slot that are in memory at once, and recalls of it; a fuller slot is read several times. Not a key of
        /// RocketMQ.
        timer_current_messages_max: usize = "timerCurrentMessagesMax" => CURRENT_MAX, unit("messages"), range(1..=i32::MAX as i64);
        /// Updates from one version of this progress to the next.
        delay_offset_update_version_step: u64 = "delayOffsetUpdateVersionStep" => 200, unit("updates"), range(1..=i64::MAX);
        /// Bytes of the commit log that are looked at for damage in a second; 0 for never. Not a key of RocketMQ.
        scrub_bytes_per_second: u64 = "scrubBytesPerSecond" => 4_194_304, unit("bytes/s"), range(0..=1_000_000_000);
        /// Time from the start of one look at the whole commit log to that of the next. Not a key of RocketMQ.
        scrub_interval_ms: u64 = "scrubInterval" => 604_800_000, unit("ms"), range(0..=i64::MAX);
        /// End the process, with status 3, when the commit log cannot be written or flushed any more. Otherwise consumers are
        /// served further and sends are refused. Not a key of RocketMQ.
        exit_on_store_failure: bool = "exitOnStoreFailure" => false;

        // Retention and full disks.
        /// Hours of the day, local time, in which old files are deleted; several are separated by `;`.
        delete_when: String = "deleteWhen" => "04".into(), live(), important();
        /// Files of the commit log that were written last so long ago are old. Half messages older than this are given up.
        file_reserved_time_hours: u64 = "fileReservedTime" => 72, unit("h"), range(0..=100_000), live(), important();
        /// A disk fuller than this: old files are deleted at any hour. Taken as 10 to 95.
        disk_max_used_space_ratio: u32 = "diskMaxUsedSpaceRatio" => 75, unit("%"), range(0..=100), live(), important();
        /// A disk fuller than this: the oldest files are deleted, old or not. Taken as 30 to 85.
        disk_space_clean_forcibly_ratio: u32 = "diskSpaceCleanForciblyRatio" => 85, unit("%"), range(0..=100), live();
        /// A disk fuller than this: messages are refused. Taken as 35 to 90.
        disk_space_warning_level_ratio: u32 = "diskSpaceWarningLevelRatio" => 90, unit("%"), range(0..=100), live();
        /// Whether files that are not old may be deleted for want of space.
        clean_file_forcibly_enable: bool = "cleanFileForciblyEnable" => true, live();
        /// How often files are looked at that may be deleted.
        clean_resource_interval_ms: u64 = "cleanResourceInterval" => 10_000, unit("ms"), range(10..=3_600_000), live();
        /// Commit log files deleted each time at most.
        delete_file_batch_max: usize = "deleteFileBatchMax" => 10, unit("files"), range(1..=1_000_000), live();
        /// Pause after a deleted file of the commit log.
        delete_commit_log_files_interval_ms: u64 = "deleteCommitLogFilesInterval" => 100, unit("ms"), range(0..=60_000), live();
        /// Pause after a deleted file of a consume queue.
        delete_consume_queue_files_interval_ms: u64 = "deleteConsumeQueueFilesInterval" => 100, unit("ms"), range(0..=60_000), live();
        /// A file that could not be deleted is tried again after this time.
        redelete_hanged_file_interval_ms: u64 = "redeleteHangedFileInterval" => 120_000, unit("ms"), range(1..=86_400_000), live();
        /// A deleted file that is still being read after this time is reported. RocketMQ takes it from its readers.
        destroy_maped_file_interval_forcibly_ms: u64 = "destroyMapedFileIntervalForcibly" => 120_000, unit("ms"), range(1..=86_400_000), live();

        // Network.
        /// A connection that is silent this long is closed.
        server_channel_max_idle_time_seconds: u64 = "serverChannelMaxIdleTimeSeconds" => 120, unit("s"), range(1..=86_400);
        /// Event loops, each a thread; 0 means one for each core. Not a key of RocketMQ.
        workers: usize = "workers" => 0, range(0..=62);

        // Access.
        /// Access control of RocketMQ 4.x: accounts of plain_acl.yml.
        acl_enable: bool = "aclEnable" => false, local(), important();
        /// The file of accounts, relative to the home folder.
        acl_plain_file: String = "rocketmq.acl.plain.file" => "conf/plain_acl.yml".into(), local();
        /// Folder that has the folder conf.
        rocketmq_home: Option<String> = "rocketmqHome" => std::env::var("ROCKETMQ_HOME").ok(), shown("$ROCKETMQ_HOME"), local();
        /// Serve only requests that a user has signed.
        authentication_enabled: bool = "authenticationEnabled" => false, local(), important();
        /// Serve only what the policies of the user allow.
        authorization_enabled: bool = "authorizationEnabled" => false, local(), important();
        /// Who checks signatures: `DefaultAuthenticationProvider`, also where nothing is set.
        authentication_provider: String = "authenticationProvider" => String::new(), local();
        /// Who checks policies: `DefaultAuthorizationProvider`, also where nothing is set.
        authorization_provider: String = "authorizationProvider" => String::new(), local();
        /// Where users are: `org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider` for the
        /// file `config/auth.json`. Without it there are none.
        authentication_metadata_provider: String = "authenticationMetadataProvider" => String::new(), local(), important();
        /// Where policies are: `org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider` for the
        /// same file. Without it there are none.
        authorization_metadata_provider: String = "authorizationMetadataProvider" => String::new(), local(), important();
        /// `StatelessAuthenticationStrategy`, also where nothing is set, checks each signature; `StatefulAuthenticationStrategy`
        /// trusts a connection for a while that has signed as this user.
        authentication_strategy: String = "authenticationStrategy" => String::new(), local();
        /// `StatelessAuthorizationStrategy` or `StatefulAuthorizationStrategy`. Both check each request here.
        authorization_strategy: String = "authorizationStrategy" => String::new(), local();
        /// Codes of requests that need no signature, separated by commas.
        authentication_whitelist: String = "authenticationWhitelist" => String::new(), local();
        /// Codes of requests that need no permission, separated by commas.
        authorization_whitelist: String = "authorizationWhitelist" => String::new(), local();
        /// A super user that is created unless it exists: `{"username":"…","password":"…"}`.
        init_authentication_user: String = "initAuthenticationUser" => String::new(), local(), secret();
        /// What this broker signs its own requests with, a super user that is created unless it exists:
        /// `{"accessKey":"…","secretKey":"…"}`.
        inner_client_authentication_credentials: String = "innerClientAuthenticationCredentials" => String::new(), local(), secret();
        /// Make users of the accounts of plain_acl.yml, unless they exist.
        migrate_auth_from_v1_enabled: bool = "migrateAuthFromV1Enabled" => false, local();
        /// Connections that the stateful strategy remembers.
        stateful_authentication_cache_max_num: usize = "statefulAuthenticationCacheMaxNum" => 10_000, unit("connections"), range(1..=1_000_000);
        /// How long it trusts them.
        stateful_authentication_cache_expired_second: u64 = "statefulAuthenticationCacheExpiredSecond" => 60, unit("s"), range(1..=86_400);

        // Metrics.
        /// Who gets metrics, by name or number: nobody (0), an OpenTelemetry collector (OTLP_GRPC, 1), whoever asks the HTTP endpoint
        /// (PROM, 2), or the log (LOG, 3).
        metrics_exporter_type: MetricsExporterType = "metricsExporterType" => MetricsExporterType::Disable, important();
        /// Port of the HTTP endpoint.
        metrics_prom_exporter_port: u16 = "metricsPromExporterPort" => 5557, local(), important();
        /// Address that it listens on; unless set that of bindAddress, or brokerIP1 where bindAddress is every address.
        metrics_prom_exporter_host: String = "metricsPromExporterHost" => String::new(), local();
        /// Port for `/livez` and `/readyz` where `metricsExporterType` is not PROM, which brings its own; 0 for none. Not a key of
        /// RocketMQ.
        health_port: u16 = "healthPort" => 0, local();
        /// The collector, `http://host:port`; without `http://` it is `https://`.
        metrics_grpc_exporter_target: String = "metricsGrpcExporterTarget" => String::new(), local();
        /// Headers for the collector, `name:value,name:value`.
        metrics_grpc_exporter_header: String = "metricsGrpcExporterHeader" => String::new(), local(), secret();
        /// How long the collector may take to answer.
        metric_grpc_exporter_timeout_ms: u64 = "metricGrpcExporterTimeOutInMills" => 3000, unit("ms"), range(1..=3_600_000);
        /// How often the collector gets metrics.
        metric_grpc_exporter_interval_ms: u64 = "metricGrpcExporterIntervalInMills" => 60_000, unit("ms"), range(10..=86_400_000);
        /// How often the log gets metrics.
        metric_logging_exporter_interval_ms: u64 = "metricLoggingExporterIntervalInMills" => 10_000, unit("ms"), range(10..=86_400_000);
        /// Labels for every metric, `name:value,name:value`.
        metrics_label: String = "metricsLabel" => String::new();
        /// A collector gets what has come since the last time instead of values that count up. Adds the label aggregation=delta, also
        /// for others, whose values count up all the same, as in RocketMQ.
        metrics_in_delta: bool = "metricsInDelta" => false;
        /// Series of one metric; those beyond it share one.
        metrics_otel_cardinality_limit: usize = "metricsOtelCardinalityLimit" => 50_000, unit("series"), range(1..=10_000_000);
        /// Show how long requests take.
        enable_remoting_metrics: bool = "enableRemotingMetrics" => true;
        /// Show the metrics of the store and of timer messages.
        enable_message_store_metrics: bool = "enableMessageStoreMetrics" => true;
        /// Show the metrics of POP.
        enable_pop_metrics: bool = "enablePopMetrics" => true;
        /// Show how many clients are connected.
        enable_connection_metrics: bool = "enableConnectionMetrics" => true;
        /// Show the metrics of transactions.
        enable_transaction_metrics: bool = "enableTransactionMetrics" => true;
        /// Show how many topics and groups there are.
        enable_stats_metrics: bool = "enableStatsMetrics" => true;
        /// Show messages and bytes that come and go.
        enable_request_metrics: bool = "enableRequestMetrics" => true;
        /// Show how far groups are behind, and what was given up.
        enable_lag_and_dlq_metrics: bool = "enableLagAndDlqMetrics" => true;

        // Statistics and administration.
        /// Requests that take as long get a line in the log; 0 for none. Not a key of RocketMQ.
        slow_request_threshold_ms: u64 = "slowRequestThreshold" => 1000, unit("ms"), range(0..=3_600_000), live();
        /// Forget the counters of deleted topics and groups.
        auto_delete_unused_stats: bool = "autoDeleteUnusedStats" => true, live();
        /// Keys that cannot be changed remotely, separated by `;`.
        config_black_list: String = "configBlackList" => "configBlackList;brokerConfigPath".into();
        /// File that remote changes are written to; the file given with -c unless set.
        broker_config_path: Option<String> = "brokerConfigPath" => None;
    }
    // Keys of RocketMQ, by the reason why they do nothing here.
    without_effect:
        "requests are served by a thread for each core and wait in no queue for a pool" =>
            "ackMessageThreadPoolNums", "ackThreadPoolQueueCapacity", "adminBrokerThreadPoolNums",
            "adminBrokerThreadPoolQueueCapacity", "batchDispatchRequestThreadPoolNums", "brokerFastFailureEnable",
            "clientAsyncSemaphoreValue", "clientCallbackExecutorThreads", "clientManageThreadPoolNums",
            "clientManagerThreadPoolQueueCapacity", "clientOnewaySemaphoreValue", "clientWorkerThreads",
            "compactionThreadNum", "consumerManageThreadPoolNums", "consumerManagerThreadPoolQueueCapacity",
            "disableCallbackExecutor", "dispatchCqThreads", "endTransactionPoolQueueCapacity",
            "endTransactionThreadPoolNums", "heartbeatThreadPoolNums", "heartbeatThreadPoolQueueCapacity",
            "litePullMessageThreadPoolNums", "litePullThreadPoolQueueCapacity", "loadBalanceProcessorThreadPoolNums",
            "loadBalanceThreadPoolQueueCapacity", "maxAsyncPutMessageRequests", "processReplyMessageThreadPoolNums",
            "pullMessageThreadPoolNums", "pullThreadPoolQueueCapacity", "putMessageFutureThreadPoolNums",
            "putThreadPoolQueueCapacity", "queryMessageThreadPoolNums", "queryThreadPoolQueueCapacity",
            "recoverThreadPoolNums", "sendMessageThreadPoolNums", "sendThreadPoolQueueCapacity",
            "serverAsyncSemaphoreValue", "serverCallbackExecutorThreads", "serverOnewaySemaphoreValue",
            "serverSelectorThreads", "serverWorkerThreads", "spinLockCollisionRetreatOptimalDegree",
            "topicQueueLockNum", "useABSLock", "useReentrantLockWhenPutMessage", "waitTimeMillsInAckQueue",
            "waitTimeMillsInAdminBrokerQueue", "waitTimeMillsInHeartbeatQueue", "waitTimeMillsInLitePullQueue",
            "waitTimeMillsInPullQueue", "waitTimeMillsInSendQueue", "waitTimeMillsInTransactionQueue";
        "connections are not made with Netty" =>
            "channelNotActiveInterval", "clientChannelMaxIdleTimeSeconds", "clientCloseSocketIfTimeout",
            "clientPooledByteBufAllocatorEnable", "clientSocketRcvBufSize", "clientSocketSndBufSize",
            "connectTimeoutMillis", "disableNettyWorkerGroup", "enableFastChannelEventProcess",
            "enableNetWorkFlowControl", "enableReconnectForGoAway", "highSpeedMode", "isScanAvailableNameSrv",
            "loadBalancePollNameServerInterval", "maxReconnectIntervalTimeSeconds", "scanAvailableNameSrv",
            "serverNettyWorkerGroupEnable", "serverPooledByteBufAllocatorEnable", "serverSocketBacklog",
            "serverSocketRcvBufSize", "serverSocketSndBufSize", "socksProxyConfig", "useEpollNativeSelector",
            "writeBufferHighWaterMark", "writeBufferLowWaterMark";
        "files are written, flushed, checked and recovered in another way" =>
            "autoMessageVersionOnTopicLen", "checkCommitLogOffsetOnRecover", "checkCRCOnRecover",
            "cleanSwapedMapInterval", "commitCommitLogLeastPages", "commitCommitLogThoroughInterval",
            "commitIntervalCommitLog", "commitLogForceSwapMapInterval", "commitLogRecoverMaxNum",
            "commitLogSwapMapInterval", "commitLogSwapMapReserveFileNum", "compactionCqMappedFileSize",
            "compactionMappedFileSize", "correctLogicMinOffsetForceInterval", "correctLogicMinOffsetSleepInterval",
            "debugLockEnable", "diskFallRecorded", "dispatchCqCacheNum", "dispatchFromSenderThread",
            "duplicationEnable", "enableAcceleratedRecovery", "enableAsyncReput",
            "enableBuildConsumeQueueConcurrently", "enabledAppendPropCRC",
            "enableLogConsumeQueueRepeatedlyBuildWhenRecover", "enableRunningFlagsInFlush",
            "fastFailIfNoBufferInStorePool", "flushCommitLogLeastPages", "flushCommitLogThoroughInterval",
            "flushCommitLogTimed", "flushConsumeQueueLeastPages", "flushConsumeQueueThoroughInterval",
            "flushConsumerOffsetHistoryInterval", "flushDelayOffsetInterval", "flushLeastPagesWhenWarmMapedFile",
            "forceVerifyPropCRC", "logicalDiskSpaceCleanForciblyThreshold", "logicQueueForceSwapMapInterval",
            "logicQueueSwapMapInterval", "logicQueueSwapMapReserveFileNum", "mappedFileSwapEnable",
            "maxBatchDeleteFilesNum", "maxChecksumRange", "maxConsumeQueueScan", "maxRecoveryCommitlogFiles",
            "maxTopicLength", "messageIndexSafe", "messageStorePlugIn", "osPageCacheBusyTimeOutMills",
            "putConsumeQueueDataByFileChannel", "putMessageTimeout", "putMsgIndexHightWater",
            "readOnlyCommitLogStorePaths", "readUnCommitted", "recheckReputOffsetFromCq", "recoverConcurrently",
            "searchBcqByCacheEnable", "sharedByteBufferNum", "timerWarmEnable", "transferMsgByHeap",
            "transientStorePoolEnable", "transientStorePoolSize", "travelCqFileNumWhenGetMessage",
            "wakeCommitWhenPutMessage", "wakeFlushWhenPutMessage", "warmMapedFileEnable", "writeWithoutMmap";
        "delayed and transactional messages are handled in another way" =>
            "asyncSendEnable", "enableScheduleAsyncDeliver", "scheduleAsyncDeliverMaxPendingLimit",
            "scheduleAsyncDeliverMaxResendNum2Blocked", "timerEnableDisruptor", "timerEnableRetryUntilSuccess",
            "timerGetMessageThreadNum", "timerInterceptDelayLevel", "timerProgressLogIntervalMs",
            "timerPutMessageThreadNum", "timerSkipUnknownError", "timerWheelSnapshotFlush",
            "timerWheelSnapshotIntervalMs", "transactionOpBatchInterval", "transactionOpMsgMaxSize";
        "POP is handled in another way" =>
            "appendAckAsync", "appendCkAsync", "enableNotifyBeforePopCalculateLag", "enablePopBatchAck",
            "enablePopLog", "enableSkipLongAwaitingAck", "maxMessageFilterNumForNotification",
            "popLongPollingForceNotifyInterval", "popPollingMapExpireTimeSeconds", "popReviveConcurrency",
            "popReviveMaxAttemptTimes", "popReviveMaxReturnSizePerRead", "popReviveSkipIfGroupAbsent",
            "reviveAckWaitMs", "reviveMaxSlow", "reviveScanTime", "useMessageFilterForNotification",
            "useSeparateRetryQueue";
        "what the disk brings is noted when it does" =>
            "sampleSteps", "timerColdDataCheckIntervalMs";
        "queues carry no Bloom filters; expressions look at the messages" =>
            "bitMapLengthConsumeQueueExt", "enableCalcFilterBitMap", "enableConsumeQueueExt",
            "mappedFileSizeConsumeQueueExt";
        "nothing is kept in RocksDB" =>
            "bottomMostCompressionTypeForConsumeQueueStore", "cleanRocksDBDirtyCQIntervalMin",
            "combineAssignOffsetCQType", "combineCQEnableCheckSelf", "combineCQLoadingCQTypes",
            "combineCQMaxExtraSearchCommitLogFiles", "combineCQPreferCQType", "combineCQUseRocksdbForLmq",
            "enableRocksDBLog", "enableSplitMetadata", "indexFileReadEnable", "indexFileWriteEnable",
            "indexRocksDBEnable", "iteratorWhenUseRocksdbConsumeQueue", "maxRocksDBIndexQueryDays",
            "memTableFlushIntervalMs", "persistConsumerOffsetIncrementally", "popConsumerFSServiceInit",
            "popConsumerKVServiceEnable", "popConsumerKVServiceInit", "popConsumerKVServiceLog",
            "realTimePersistRocksDBConfig", "rocksdbCompressionType", "rocksdbCQDoubleWriteEnable",
            "rocksdbFlushWalFrequency", "rocksdbWalFileRollingThreshold", "splitMetadataSize",
            "statRocksDBCQIntervalSec", "timerRecallToTimelineEnable", "timerRecallToTimeWheelEnable",
            "timerReputServiceCorePoolSize", "timerReputServiceMaxPoolSize", "timerReputServiceQueueCapacity",
            "timerRocksDBEnable", "timerRocksDBPrecisionMs", "timerRocksDBRollIntervalHours",
            "timerRocksDBRollMaxTps", "timerRocksDBRollRangeHours", "timerRocksDBStopScan",
            "timerRocksDBTimeExpiredMaxTps", "transactionCheckRocksdbCoreThreads",
            "transactionCheckRocksdbMaxThreads", "transactionCheckRocksdbQueueCapacity", "transRocksDBEnable",
            "transWriteOriginTransHalfEnable", "useSeparateStorePathForRocksdbCQ", "useSingleRocksDBForAllConfigs";
        "name servers are given by their addresses (namesrvAddr)" =>
            "compatibleWithOldNameSrv", "fetchNameSrvAddrByDnsLookup", "fetchNamesrvAddrByAddressServer",
            "fetchNamesrvAddrInterval", "updateNameServerAddrPeriod";
        "broadcasting consumers keep their offsets" =>
            "broadcastOffsetExpireMaxSecond", "broadcastOffsetExpireSecond", "enableBroadcastOffsetStore";
        "there is no replication yet" =>
            "allAckInSyncStateSet", "asyncLearner", "brokerElectionPriority", "brokerHeartbeatInterval",
            "brokerNotActiveTimeoutMillis", "checkSyncStateSetPeriod", "cleanOfflineBrokerInterval", "controllerAddr",
            "controllerHeartBeatTimeoutMills", "dLegerGroup", "dLegerPeers", "dLegerSelfId",
            "enableAutoInSyncReplicas", "enableBatchPush", "enableControllerMode", "enableRemoteEscape",
            "enableSlaveActingMaster", "fetchControllerAddrByDnsLookup", "haFlowControlEnable",
            "haHousekeepingInterval", "haMasterAddress", "haMaxGapNotInSync", "haMaxTimeSlaveNotCatchup",
            "haSendHeartbeatInterval", "haTransferBatchSize", "inSyncReplicas", "isBrokerContainer",
            "isInBrokerContainer", "lockInStrictMode", "maxHaTransferByteInSecond", "maxSlaveResendLength",
            "minInSyncReplicas", "offsetCheckInSlave", "preferredLeaderId", "replicasPerDiskPartition",
            "sendHeartbeatTimeoutMillis", "skipPreOnline", "slaveTimeout", "storePathBrokerIdentity",
            "storePathDLedgerCommitLog", "storePathEpochFile", "syncBrokerMemberGroupPeriod",
            "syncBrokerMetadataPeriod", "syncControllerMetadataPeriod", "syncFromLastFile",
            "syncMasterFlushOffsetWhenStartup", "totalReplicas";
        "all users are in memory, and a change counts at once" =>
            "aclCacheExpiredSecond", "aclCacheMaxNum", "aclCacheRefreshSecond", "statefulAuthorizationCacheExpiredSecond",
            "statefulAuthorizationCacheMaxNum", "userCacheExpiredSecond", "userCacheMaxNum", "userCacheRefreshSecond";
        "the broker sets it itself" =>
            "authConfigPath", "clusterName", "configName";
        "these statistics are not kept" =>
            "accountStatsEnable", "accountStatsPrintZeroValues", "commercialBaseCount", "commercialSizePerMsg",
            "consumerFallbehindThreshold", "disableConsumeIfConsumerReadSlowly", "enableDetailStat", "enableLmqStats",
            "enableScheduleMessageStats", "estimateAccumulation", "isolateLogEnable", "maxStatsIdleTimeInMinutes",
            "printChannelGroups", "printChannelGroupsMinNum", "sampleCountThreshold";
        "topics of the type LITE are not served" =>
            "enableLiteEventMode", "enableLitePopLog", "liteEventCheckInterval", "liteEventFullDispatchDelayTime",
            "liteEventFullDispatchDelayTimeForWildcardGroup", "liteLagCountMetricsEnable",
            "liteLagLatencyCollectEnable", "liteLagLatencyMetricsEnable", "liteLagLatencyTopK",
            "liteSubscriptionCheckInterval", "liteSubscriptionCheckTimeoutMills", "liteTtlCheckInterval",
            "maxClientEventCount", "maxLiteSubscriptionCount", "minLiteTTl";
        "it has no counterpart" =>
            "disappearTimeAfterStart", "enableCleanExpiredOffset", "enableLmqQuota", "enableShutdownGracefully",
            "metricsExportBatchMaxDataPoints", "pullBatchMaxMessageCount", "shutdownWaitTimeSeconds",
            "useStaticSubscription";
}

impl BrokerConfig {
    /// The address under which this broker is known to clients and name servers.
    pub fn broker_addr(&self) -> String {
        format!("{}:{}", self.broker_ip1, self.listen_port)
    }

    pub fn ha_port(&self) -> u16 {
        match self.ha_listen_port {
            0 => self.listen_port.wrapping_add(1),
            port => port,
        }
    }

    /// The address under which slaves find this broker.
    pub fn ha_addr(&self) -> String {
        format!("{}:{}", self.broker_ip2, self.ha_port())
    }

    /// The port that serves everything but pulls: two below the main port.
    pub fn fast_port(&self) -> Option<u16> {
        match self.listen_port.saturating_sub(2) {
            0 => None,
            port => Some(port),
        }
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "DEFAULT_BROKER".into() } else { name }
}

/// An address of this machine that others can reach: one that is not a loopback, else the loopback.
fn local_ip() -> String {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let v4 = interfaces
        .iter()
        .map(|interface| interface.ip())
        .filter(|ip| ip.is_ipv4() && !ip.is_loopback());
    let v6 = interfaces.iter().map(|interface| interface.ip()).filter(is_global_v6);
    v4.chain(v6)
        .next()
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .to_string()
}

fn is_global_v6(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if !v6.is_loopback() && !v6.is_unicast_link_local())
}

fn default_root() -> String {
    std::env::var("HOME").map_or_else(|_| "store".into(), |home| format!("{home}/store"))
}

#[cfg(test)]
mod tests {
    use oxmq_protocol::settings::Settings;

    use super::*;

    #[test]
    fn a_real_broker_conf_is_accepted() {
        let file = "brokerClusterName = DefaultCluster\nbrokerName = broker-a\nbrokerId = 0\ndeleteWhen = 04\n\
                    fileReservedTime = 48\nuseABSLock=false\nflushDiskType = SYNC_FLUSH\nlistenPort=30911\n";
        let mut config = BrokerConfig::default();
        let warnings = config.load("broker.conf", file.as_bytes()).unwrap();
        let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let why = "requests are served by a thread for each core and wait in no queue for a pool";
        assert_eq!(warnings, [format!("broker.conf:6: useABSLock has no effect: {why}")]);
        assert_eq!(config.flush_disk_type, FlushDiskType::SyncFlush);
        assert_eq!((config.fast_port(), config.ha_port()), (Some(30909), 30912));
    }

    #[test]
    fn exporters_have_names_and_numbers() {
        let mut config = BrokerConfig::default();
        for (text, kind) in [
            ("PROM", MetricsExporterType::Prom),
            ("0", MetricsExporterType::Disable),
            ("3", MetricsExporterType::Log),
        ] {
            config.set("metricsExporterType", text).unwrap();
            assert_eq!(config.metrics_exporter_type, kind);
        }
        assert!(config.set("metricsExporterType", "4").is_err());
    }

    #[test]
    fn every_key_is_declared_once() {
        let mut keys: Vec<_> = BrokerConfig::TABLE.iter().map(|setting| setting.key).collect();
        keys.extend(BrokerConfig::WITHOUT_EFFECT.iter().flat_map(|(_, keys)| *keys));
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
