//! The settings of a name server (spec: config.md §4, §6.1).

use std::path::PathBuf;
use std::thread;

use oxmq_remoting::settings_with_tls;

settings_with_tls! {
    /// Settings of a name server.
    pub struct NamesrvConfig {
        /// The address to listen on.
        bind_address: String = "bindAddress" => "0.0.0.0".into(), important();
        /// The port to listen on.
        listen_port: u16 = "listenPort" => 9876, local(), important();
        /// Threads that serve connections.
        server_worker_threads: usize = "serverWorkerThreads" => processors(), range(1..=1024), shown("number of processors");
        /// A connection on which nothing moves for so long is closed.
        server_channel_max_idle_time_seconds: u64 = "serverChannelMaxIdleTimeSeconds" => 120, unit("s"), range(1..=86_400);
        /// Where the installation is. Accepted for the sake of existing files; nothing is read from there.
        rocketmq_home: Option<String> = "rocketmqHome" => std::env::var("ROCKETMQ_HOME").ok(), shown("$ROCKETMQ_HOME");
        /// The file of the key-value configuration.
        kv_config_path: String = "kvConfigPath" => in_home("kvConfig.json"), shown("$HOME/namesrv/kvConfig.json"), important();
        /// Where settings that are changed at run time are saved; the file given with -c unless it says otherwise.
        config_store_path: String = "configStorePath" => in_home("namesrv.properties"), shown("$HOME/namesrv/namesrv.properties"), important();
        /// Further settings that cannot be changed over the network, separated by `;`. Paths and addresses never can.
        config_black_list: String = "configBlackList" => "configBlackList;configStorePath;kvConfigPath".into();
        /// How often brokers that were not heard in time are looked for.
        scan_not_active_broker_interval_ms: u64 = "scanNotActiveBrokerInterval" => 5_000, unit("ms"), range(10..=3_600_000), live();
        /// Answer route queries with the order configuration of the topic.
        order_message_enable: bool = "orderMessageEnable" => false, live();
        /// Answer registrations with the order configuration of all topics.
        return_order_topic_config_to_broker: bool = "returnOrderTopicConfigToBroker" => true, live();
        /// Show the slave that leads a group without master as its master.
        support_acting_master: bool = "supportActingMaster" => false, live();
        /// Allow the list of all topics (code 206).
        enable_all_topic_list: bool = "enableAllTopicList" => true, live();
        /// Allow the lists of topics by cluster and unit (codes 224, 311 to 313).
        enable_topic_list: bool = "enableTopicList" => true, live();
        /// Tell brokers when the smallest broker id of their group changes (code 905).
        notify_min_broker_id_changed: bool = "notifyMinBrokerIdChanged" => false, live();
        /// Answer no route queries until brokers had time to register.
        need_wait_for_service: bool = "needWaitForService" => false, live();
        /// The time that needWaitForService gives them.
        wait_seconds_for_service: u64 = "waitSecondsForService" => 45, unit("s"), range(0..=86_400), live();
        /// Forget topics of a broker that its registration does not name any more.
        delete_topic_with_broker_registration: bool = "deleteTopicWithBrokerRegistration" => false, live();
    }
    without_effect:
        "requests are served by a thread for each core and wait in no queue for a pool" =>
            "clientAsyncSemaphoreValue", "clientCallbackExecutorThreads", "clientOnewaySemaphoreValue",
            "clientRequestThreadPoolNums", "clientRequestThreadPoolQueueCapacity", "clientWorkerThreads",
            "defaultThreadPoolNums", "defaultThreadPoolQueueCapacity", "disableCallbackExecutor",
            "serverAsyncSemaphoreValue", "serverCallbackExecutorThreads", "serverOnewaySemaphoreValue",
            "serverSelectorThreads", "unRegisterBrokerQueueCapacity";
        "connections are not made with Netty" =>
            "channelNotActiveInterval", "clientChannelMaxIdleTimeSeconds", "clientCloseSocketIfTimeout",
            "clientPooledByteBufAllocatorEnable", "clientSocketRcvBufSize", "clientSocketSndBufSize",
            "connectTimeoutMillis", "disableNettyWorkerGroup", "enableReconnectForGoAway", "isScanAvailableNameSrv",
            "maxReconnectIntervalTimeSeconds", "serverNettyWorkerGroupEnable", "serverPooledByteBufAllocatorEnable",
            "serverSocketBacklog", "serverSocketRcvBufSize", "serverSocketSndBufSize", "socksProxyConfig",
            "useEpollNativeSelector", "writeBufferHighWaterMark", "writeBufferLowWaterMark";
        "there is no replication yet" =>
            "enableControllerInNamesrv";
        "it has no counterpart" =>
            "clusterTest", "enableShutdownGracefully", "productEnvName", "shutdownWaitTimeSeconds";
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn in_home(file: &str) -> String {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    home.join("namesrv").join(file).to_string_lossy().into_owned()
}
