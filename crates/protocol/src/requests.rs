//! The request table: every request once, with its code, its header and the header of its reply
//! (spec: protocol.md §3). Server dispatch, client calls and logs all derive from it.

use crate::ext_fields::FieldSet;
use crate::field_set;

/// One row of the request table.
pub trait Request {
    const CODE: RequestCode;
    type Header: FieldSet;
    type Reply: FieldSet;
}

macro_rules! requests {
    ($( $(#[$meta:meta])* $name:ident = $code:literal: $header:ty => $reply:ty; )*) => {
        /// A request code that somebody sends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum RequestCode { $( $(#[$meta])* $name = $code, )* }

        impl RequestCode {
            /// Every row of the table.
            pub const ALL: &'static [RequestCode] = &[ $( RequestCode::$name, )* ];

            pub fn from_code(code: i32) -> Option<RequestCode> {
                match code {
                    $( $code => Some(RequestCode::$name), )*
                    _ => None,
                }
            }

            /// The names of the fields of its header.
            pub fn field_names(self) -> &'static [&'static str] {
                match self {
                    $( RequestCode::$name => <$header as FieldSet>::NAMES, )*
                }
            }
        }

        /// One marker per row, for calls that are generic over the request.
        pub mod request {
            $( #[derive(Debug, Clone, Copy)] pub struct $name; )*
        }

        $( impl Request for request::$name {
            const CODE: RequestCode = RequestCode::$name;
            type Header = $header;
            type Reply = $reply;
        } )*
    };
}

impl RequestCode {
    pub fn code(self) -> i32 {
        self as i32
    }
}

requests! {
    SendMessage = 10: SendMessageHeader => SendMessageReply;
    PullMessage = 11: PullMessageHeader => PullMessageReply;
    QueryMessage = 12: QueryMessageHeader => QueryMessageReply;
    QueryConsumerOffset = 14: QueryConsumerOffsetHeader => OffsetReply;
    UpdateConsumerOffset = 15: UpdateConsumerOffsetHeader => ();
    UpdateAndCreateTopic = 17: CreateTopicHeader => ();
    UpdateAndCreateTopicList = 18: () => ();
    GetAllTopicConfig = 21: PagedConfigHeader => GetAllTopicConfigReply;
    UpdateBrokerConfig = 25: () => ();
    GetBrokerConfig = 26: () => GetBrokerConfigReply;
    GetBrokerRuntimeInfo = 28: () => ();
    SearchOffsetByTimestamp = 29: SearchOffsetHeader => OffsetReply;
    GetMaxOffset = 30: QueueHeader => OffsetReply;
    GetMinOffset = 31: QueueHeader => OffsetReply;
    GetEarliestMsgStoreTime = 32: QueueHeader => TimestampReply;
    ViewMessageById = 33: ViewMessageHeader => ();
    HeartBeat = 34: () => HeartBeatReply;
    UnregisterClient = 35: UnregisterClientHeader => ();
    ConsumerSendMsgBack = 36: ConsumerSendMsgBackHeader => ();
    EndTransaction = 37: EndTransactionHeader => ();
    GetConsumerListByGroup = 38: ConsumerGroupHeader => ();
    CheckTransactionState = 39: CheckTransactionStateHeader => ();
    NotifyConsumerIdsChanged = 40: ConsumerGroupHeader => ();
    LockBatchMq = 41: () => ();
    UnlockBatchMq = 42: () => ();
    GetAllConsumerOffset = 43: () => ();
    GetAllDelayOffset = 45: () => ();
    GetTimerCheckPoint = 60: () => ();
    GetTimerMetrics = 61: () => ();
    CheckClientConfig = 46: () => ();
    UpdateAndCreateAclConfig = 50: PlainAccountHeader => ();
    DeleteAclConfig = 51: AccessKeyHeader => ();
    GetBrokerClusterAclInfo = 52: () => AclVersionReply;
    UpdateGlobalWhiteAddrsConfig = 53: GlobalWhiteAddrsHeader => ();
    GetBrokerClusterAclConfig = 54: () => ();
    PutKvConfig = 100: PutKvConfigHeader => ();
    GetKvConfig = 101: KvConfigHeader => GetKvConfigReply;
    DeleteKvConfig = 102: KvConfigHeader => ();
    RegisterBroker = 103: RegisterBrokerHeader => RegisterBrokerReply;
    UnregisterBroker = 104: BrokerHeader => ();
    GetRouteInfoByTopic = 105: GetRouteInfoHeader => ();
    GetBrokerClusterInfo = 106: () => ();
    UpdateAndCreateSubscriptionGroup = 200: () => ();
    GetAllSubscriptionGroupConfig = 201: PagedGroupHeader => GetAllSubscriptionGroupReply;
    GetTopicStatsInfo = 202: TopicHeader => ();
    GetConsumerConnectionList = 203: ConsumerGroupHeader => ();
    GetProducerConnectionList = 204: ProducerGroupHeader => ();
    WipeWritePermOfBroker = 205: BrokerNameHeader => WipeWritePermReply;
    GetAllTopicListFromNameserver = 206: () => ();
    DeleteSubscriptionGroup = 207: DeleteSubscriptionGroupHeader => ();
    GetConsumeStats = 208: GetConsumeStatsHeader => ();
    DeleteTopicInBroker = 215: TopicHeader => ();
    DeleteTopicInNamesrv = 216: DeleteTopicInNamesrvHeader => ();
    RegisterTopicInNamesrv = 217: TopicHeader => ();
    GetKvListByNamespace = 219: NamespaceHeader => ();
    ResetConsumerClientOffset = 220: ResetOffsetHeader => ();
    GetConsumerStatusFromClient = 221: ConsumerStatusHeader => ();
    InvokeBrokerToResetOffset = 222: ResetOffsetHeader => ();
    InvokeBrokerToGetConsumerStatus = 223: ConsumerStatusHeader => ();
    GetTopicsByCluster = 224: ClusterHeader => ();
    UpdateAndCreateSubscriptionGroupList = 225: () => ();
    QueryTopicConsumeByWho = 300: TopicHeader => ();
    QueryConsumeTimeSpan = 303: TopicGroupHeader => ();
    GetSystemTopicListFromNs = 304: () => ();
    GetSystemTopicListFromBroker = 305: () => ();
    CleanExpiredConsumeQueue = 306: () => ();
    GetConsumerRunningInfo = 307: GetConsumerRunningInfoHeader => ();
    QueryCorrectionOffset = 308: QueryCorrectionOffsetHeader => ();
    ConsumeMessageDirectly = 309: ConsumeMessageDirectlyHeader => ();
    SendMessageV2 = 310: SendMessageHeaderV2 => SendMessageReply;
    GetUnitTopicList = 311: () => ();
    GetHasUnitSubTopicList = 312: () => ();
    GetHasUnitSubUnunitTopicList = 313: () => ();
    CloneGroupOffset = 314: CloneGroupOffsetHeader => ();
    ViewBrokerStatsData = 315: ViewBrokerStatsHeader => ();
    CleanUnusedTopic = 316: () => ();
    GetBrokerConsumeStats = 317: GetBrokerConsumeStatsHeader => ();
    UpdateNamesrvConfig = 318: () => ();
    GetNamesrvConfig = 319: () => ();
    SendBatchMessage = 320: SendMessageHeaderV2 => SendMessageReply;
    QueryConsumeQueue = 321: QueryConsumeQueueHeader => ();
    QueryDataVersion = 322: BrokerHeader => QueryDataVersionReply;
    ResumeCheckHalfMessage = 323: ResumeCheckHalfMessageHeader => ();
    SendReplyMessage = 324: SendMessageHeader => SendMessageReply;
    SendReplyMessageV2 = 325: SendMessageHeaderV2 => SendMessageReply;
    PushReplyMessageToClient = 326: PushReplyHeader => ();
    AddWritePermOfBroker = 327: BrokerNameHeader => AddWritePermReply;
    GetAllProducerInfo = 328: () => ();
    DeleteExpiredCommitLog = 329: () => ();
    QueryTopicsByConsumer = 343: GroupHeader => ();
    QuerySubscriptionByConsumer = 345: TopicGroupHeader => ();
    GetTopicConfig = 351: TopicConfigHeader => ();
    GetSubscriptionGroupConfig = 352: GroupHeader => ();
    UpdateAndGetGroupForbidden = 353: GroupForbiddenHeader => ();
    CheckRocksdbCqWriteProgress = 354: CheckRocksdbCqWriteHeader => ();
    ExportRocksdbConfigToJson = 355: ExportRocksdbConfigHeader => ();
    LitePullMessage = 361: PullMessageHeader => PullMessageReply;
    QueryAssignment = 400: () => ();
    SetMessageRequestMode = 401: () => ();
    GetAllMessageRequestMode = 402: () => ();
    RecallMessage = 370: RecallMessageHeader => RecallMessageReply;
    UpdateAndCreateStaticTopic = 513: CreateTopicHeader => ();
    GetBrokerMemberGroup = 901: BrokerMemberGroupHeader => ();
    AddBroker = 902: AddBrokerHeader => ();
    RemoveBroker = 903: RemoveBrokerHeader => ();
    BrokerHeartbeat = 904: BrokerHeartbeatHeader => ();
    NotifyMinBrokerIdChange = 905: NotifyMinBrokerIdHeader => ();
    GetBrokerHaStatus = 907: () => ();
    ResetMasterFlushOffset = 908: ResetMasterFlushOffsetHeader => ();
    ControllerElectMaster = 1002: ElectMasterHeader => ElectMasterReply;
    ControllerGetMetadataInfo = 1005: () => ControllerMetadataReply;
    ControllerGetSyncStateData = 1006: () => ();
    GetBrokerEpochCache = 1007: () => ();
    UpdateControllerConfig = 1009: () => ();
    GetControllerConfig = 1010: () => ();
    CleanBrokerData = 1011: CleanBrokerDataHeader => ();
    UpdateColdDataFlowCtrConfig = 2001: () => ();
    RemoveColdDataFlowCtrConfig = 2002: () => ();
    GetColdDataFlowCtrInfo = 2003: () => ();
    SetCommitLogReadMode = 2004: ReadAheadModeHeader => ();
    AuthCreateUser = 3001: UserHeader => ();
    AuthUpdateUser = 3002: UserHeader => ();
    AuthDeleteUser = 3003: UserHeader => ();
    AuthGetUser = 3004: UserHeader => ();
    AuthListUser = 3005: ListUsersHeader => ();
    AuthCreateAcl = 3006: SubjectHeader => ();
    AuthUpdateAcl = 3007: SubjectHeader => ();
    AuthDeleteAcl = 3008: DeleteAclHeader => ();
    AuthGetAcl = 3009: SubjectHeader => ();
    AuthListAcl = 3010: ListAclsHeader => ();
    SwitchTimerEngine = 5001: SwitchTimerEngineHeader => ();
    PopMessage = 200050: PopMessageHeader => PopMessageReply;
    AckMessage = 200051: AckMessageHeader => ();
    PeekMessage = 200052: PeekMessageHeader => PopMessageReply;
    ChangeMessageInvisibleTime = 200053: ChangeInvisibleTimeHeader => ChangeInvisibleTimeReply;
    Notification = 200054: NotificationHeader => NotificationReply;
    PollingInfo = 200055: PollingInfoHeader => PollingInfoReply;
    PopRollback = 200056: () => ();
    GetBrokerLiteInfo = 200074: () => ();
    GetParentTopicInfo = 200075: TopicHeader => ();
    GetLiteTopicInfo = 200076: LiteTopicHeader => ();
    GetLiteClientInfo = 200077: LiteClientHeader => ();
    GetLiteGroupInfo = 200078: LiteGroupHeader => ();
    TriggerLiteDispatch = 200079: TriggerLiteDispatchHeader => ();
    BatchAckMessage = 200151: () => ();
}

impl From<SendMessageHeaderV2> for SendMessageHeader {
    fn from(short: SendMessageHeaderV2) -> SendMessageHeader {
        SendMessageHeader {
            producer_group: short.producer_group,
            topic: short.topic,
            default_topic: short.default_topic,
            default_topic_queue_nums: short.default_topic_queue_nums,
            queue_id: short.queue_id,
            sys_flag: short.sys_flag,
            born_timestamp: short.born_timestamp,
            flag: short.flag,
            properties: short.properties,
            reconsume_times: short.reconsume_times,
            unit_mode: short.unit_mode,
            batch: short.batch,
            max_reconsume_times: short.max_reconsume_times,
            broker_name: short.broker_name,
        }
    }
}

field_set! {
    /// 10 and 324. Java's `@CFNotNull` fields are plain types.
    pub struct SendMessageHeader {
        producer_group: String = "producerGroup",
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<String> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode",
        batch: bool = "batch",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
        broker_name: Option<String> = "bname",
    }

    /// 310, 320, 325: the fields of [`SendMessageHeader`] under one-letter names.
    pub struct SendMessageHeaderV2 {
        producer_group: String = "a",
        topic: String = "b",
        default_topic: String = "c",
        default_topic_queue_nums: i32 = "d",
        queue_id: i32 = "e",
        sys_flag: i32 = "f",
        born_timestamp: i64 = "g",
        flag: i32 = "h",
        properties: Option<String> = "i",
        reconsume_times: Option<i32> = "j",
        unit_mode: bool = "k",
        max_reconsume_times: Option<i32> = "l",
        batch: bool = "m",
        broker_name: Option<String> = "n",
    }

    /// 326: the reply message as the broker passes it on to whoever asked.
    pub struct PushReplyHeader {
        producer_group: String = "producerGroup",
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<String> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode",
        born_host: String = "bornHost",
        store_host: String = "storeHost",
        store_timestamp: i64 = "storeTimestamp",
    }

    pub struct SendMessageReply {
        msg_id: String = "msgId",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        transaction_id: Option<String> = "transactionId",
        batch_uniq_id: Option<String> = "batchUniqId",
        recall_handle: Option<String> = "recallHandle",
        region_id: Option<String> = "MSG_REGION",
        trace_on: Option<bool> = "TRACE_ON",
    }

    pub struct PullMessageHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        max_msg_nums: i32 = "maxMsgNums",
        sys_flag: i32 = "sysFlag",
        commit_offset: i64 = "commitOffset",
        suspend_timeout_millis: i64 = "suspendTimeoutMillis",
        subscription: Option<String> = "subscription",
        sub_version: i64 = "subVersion",
        expression_type: Option<String> = "expressionType",
        max_msg_bytes: Option<i32> = "maxMsgBytes",
        request_source: Option<i32> = "requestSource",
        lo: Option<bool> = "lo",
        broker_name: Option<String> = "bname",
    }

    pub struct PullMessageReply {
        suggest_which_broker_id: i64 = "suggestWhichBrokerId",
        next_begin_offset: i64 = "nextBeginOffset",
        min_offset: i64 = "minOffset",
        max_offset: i64 = "maxOffset",
        offset_delta: Option<i64> = "offsetDelta",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
        forbidden_type: Option<i32> = "forbiddenType",
    }

    /// `queueId` -1 asks for any queue. `initMode` says where a new group starts: 0 at the first message, 1 at the end.
    pub struct PopMessageHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
        invisible_time: i64 = "invisibleTime",
        poll_time: i64 = "pollTime",
        born_time: i64 = "bornTime",
        init_mode: i32 = "initMode",
        exp_type: Option<String> = "expType",
        exp: Option<String> = "exp",
        order: Option<bool> = "order",
        attempt_id: Option<String> = "attemptId",
        broker_name: Option<String> = "bname",
    }

    pub struct PopMessageReply {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
        rest_num: i64 = "restNum",
        start_offset_info: Option<String> = "startOffsetInfo",
        msg_offset_info: Option<String> = "msgOffsetInfo",
        order_count_info: Option<String> = "orderCountInfo",
    }

    /// `extraInfo` is the receipt handle.
    pub struct AckMessageHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
        broker_name: Option<String> = "bname",
    }

    pub struct PeekMessageHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
        consumer_group: String = "consumerGroup",
        broker_name: Option<String> = "bname",
    }

    pub struct ChangeInvisibleTimeHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
        invisible_time: i64 = "invisibleTime",
        suspend: Option<bool> = "suspend",
        broker_name: Option<String> = "bname",
    }

    pub struct ChangeInvisibleTimeReply {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
    }

    pub struct NotificationHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        poll_time: i64 = "pollTime",
        born_time: i64 = "bornTime",
        order: Option<bool> = "order",
        attempt_id: Option<String> = "attemptId",
        broker_name: Option<String> = "bname",
    }

    pub struct NotificationReply {
        has_msg: bool = "hasMsg",
        polling_full: bool = "pollingFull",
    }

    pub struct PollingInfoHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        broker_name: Option<String> = "bname",
    }

    pub struct PollingInfoReply {
        polling_num: i32 = "pollingNum",
    }

    pub struct QueryMessageHeader {
        topic: String = "topic",
        key: String = "key",
        max_num: i32 = "maxNum",
        begin_timestamp: i64 = "beginTimestamp",
        end_timestamp: i64 = "endTimestamp",
        unique_key_query: bool = "_UNIQUE_KEY_QUERY",
        index_type: Option<String> = "indexType",
        last_key: Option<String> = "lastKey",
    }

    pub struct QueryMessageReply {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset",
    }

    pub struct QueryConsumerOffsetHeader {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
        broker_name: Option<String> = "bname",
    }

    pub struct OffsetReply {
        offset: i64 = "offset",
    }

    pub struct TimestampReply {
        timestamp: i64 = "timestamp",
    }

    /// Missing group, queue or offset is answered with 29, so they are optional here.
    pub struct UpdateConsumerOffsetHeader {
        consumer_group: Option<String> = "consumerGroup",
        topic: Option<String> = "topic",
        queue_id: Option<i32> = "queueId",
        commit_offset: Option<i64> = "commitOffset",
        broker_name: Option<String> = "bname",
    }

    pub struct CreateTopicHeader {
        topic: String = "topic",
        default_topic: Option<String> = "defaultTopic",
        read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums",
        perm: i32 = "perm",
        topic_filter_type: String = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        order: bool = "order",
        attributes: Option<String> = "attributes",
        force: bool = "force",
    }

    pub struct PagedConfigHeader {
        topic_seq: Option<i32> = "topicSeq",
        data_version: Option<String> = "dataVersion",
        max_topic_num: Option<i32> = "maxTopicNum",
    }

    pub struct GetAllTopicConfigReply {
        total_topic_num: Option<i32> = "totalTopicNum",
    }

    pub struct PagedGroupHeader {
        group_seq: Option<i32> = "groupSeq",
        data_version: Option<String> = "dataVersion",
        max_group_num: Option<i32> = "maxGroupNum",
    }

    pub struct GetAllSubscriptionGroupReply {
        total_group_num: Option<i32> = "totalGroupNum",
    }

    pub struct GetBrokerConfigReply {
        version: String = "version",
    }

    /// `boundaryType` is `LOWER` or `UPPER`; anything else means `LOWER`.
    pub struct SearchOffsetHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        timestamp: i64 = "timestamp",
        boundary_type: Option<String> = "boundaryType",
        broker_name: Option<String> = "bname",
    }

    pub struct QueueHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        committed: Option<bool> = "committed",
        broker_name: Option<String> = "bname",
    }

    /// `offset` is the physical offset inside the offset message id.
    pub struct ViewMessageHeader {
        topic: Option<String> = "topic",
        offset: i64 = "offset",
    }

    pub struct HeartBeatReply {
        is_support_heart_beat_v2: Option<bool> = "IS_SUPPORT_HEART_BEAT_V2",
        is_sub_change: Option<bool> = "IS_SUB_CHANGE",
    }

    pub struct UnregisterClientHeader {
        client_id: String = "clientID",
        producer_group: Option<String> = "producerGroup",
        consumer_group: Option<String> = "consumerGroup",
        broker_name: Option<String> = "bname",
    }

    /// `offset` is the physical offset of the message that could not be consumed.
    pub struct ConsumerSendMsgBackHeader {
        offset: i64 = "offset",
        group: String = "group",
        delay_level: i32 = "delayLevel",
        origin_msg_id: Option<String> = "originMsgId",
        origin_topic: Option<String> = "originTopic",
        unit_mode: bool = "unitMode",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
        broker_name: Option<String> = "bname",
    }

    pub struct RecallMessageHeader {
        producer_group: Option<String> = "producerGroup",
        topic: String = "topic",
        recall_handle: String = "recallHandle",
    }

    /// `msgId` is the UNIQ_KEY of the message that is recalled.
    pub struct RecallMessageReply {
        msg_id: String = "msgId",
    }

    pub struct EndTransactionHeader {
        topic: Option<String> = "topic",
        producer_group: String = "producerGroup",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        commit_or_rollback: i32 = "commitOrRollback",
        from_transaction_check: bool = "fromTransactionCheck",
        msg_id: String = "msgId",
        transaction_id: Option<String> = "transactionId",
    }

    pub struct CheckTransactionStateHeader {
        topic: Option<String> = "topic",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        msg_id: Option<String> = "msgId",
        transaction_id: Option<String> = "transactionId",
        offset_msg_id: Option<String> = "offsetMsgId",
        broker_name: Option<String> = "bname",
    }

    /// `msg_id` is an offset message id.
    pub struct ResumeCheckHalfMessageHeader {
        topic: Option<String> = "topic",
        msg_id: String = "msgId",
    }

    pub struct ConsumerGroupHeader {
        consumer_group: String = "consumerGroup",
        broker_name: Option<String> = "bname",
    }

    pub struct ProducerGroupHeader {
        producer_group: String = "producerGroup",
    }

    pub struct PutKvConfigHeader {
        namespace: Option<String> = "namespace",
        key: Option<String> = "key",
        value: Option<String> = "value",
    }

    pub struct KvConfigHeader {
        namespace: Option<String> = "namespace",
        key: Option<String> = "key",
    }

    pub struct GetKvConfigReply {
        value: Option<String> = "value",
    }

    pub struct RegisterBrokerHeader {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        ha_server_addr: String = "haServerAddr",
        broker_id: i64 = "brokerId",
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> = "enableActingMaster",
        compressed: bool = "compressed",
        body_crc32: Option<i32> = "bodyCrc32",
        zone_name: Option<String> = "__ZONE_NAME",
    }

    pub struct RegisterBrokerReply {
        ha_server_addr: Option<String> = "haServerAddr",
        master_addr: Option<String> = "masterAddr",
    }

    /// 104 and 322.
    pub struct BrokerHeader {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }

    pub struct QueryDataVersionReply {
        changed: bool = "changed",
    }

    pub struct GetRouteInfoHeader {
        topic: String = "topic",
        accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
    }

    pub struct TopicHeader {
        topic: String = "topic",
        broker_name: Option<String> = "bname",
    }

    /// `lo` asks for the part of a static topic, too.
    pub struct TopicConfigHeader {
        topic: String = "topic",
        lo: Option<bool> = "lo",
        broker_name: Option<String> = "bname",
    }

    pub struct BrokerNameHeader {
        broker_name: String = "brokerName",
    }

    pub struct WipeWritePermReply {
        wipe_topic_count: i32 = "wipeTopicCount",
    }

    pub struct AddWritePermReply {
        add_topic_count: i32 = "addTopicCount",
    }

    /// 4.x tools say `removeOffset` where 5.x ones say `cleanOffset`.
    pub struct DeleteSubscriptionGroupHeader {
        group_name: String = "groupName",
        clean_offset: bool = "cleanOffset",
        remove_offset: Option<bool> = "removeOffset",
    }

    pub struct GetConsumeStatsHeader {
        consumer_group: String = "consumerGroup",
        topic: Option<String> = "topic",
        topic_list: Option<String> = "topicList",
    }

    pub struct DeleteTopicInNamesrvHeader {
        topic: String = "topic",
        cluster_name: Option<String> = "clusterName",
    }

    pub struct NamespaceHeader {
        namespace: Option<String> = "namespace",
    }

    /// 220 and 222. `queueId` -1 means every queue.
    pub struct ResetOffsetHeader {
        group: String = "group",
        topic: String = "topic",
        queue_id: Option<i32> = "queueId",
        offset: Option<i64> = "offset",
        timestamp: i64 = "timestamp",
        is_force: bool = "isForce",
    }

    pub struct ConsumerStatusHeader {
        topic: String = "topic",
        group: String = "group",
        client_addr: Option<String> = "clientAddr",
    }

    pub struct ClusterHeader {
        cluster: Option<String> = "cluster",
    }

    pub struct TopicGroupHeader {
        topic: Option<String> = "topic",
        group: String = "group",
    }

    pub struct GroupHeader {
        group: String = "group",
    }

    pub struct GetConsumerRunningInfoHeader {
        consumer_group: String = "consumerGroup",
        client_id: String = "clientId",
        jstack_enable: bool = "jstackEnable",
    }

    pub struct QueryCorrectionOffsetHeader {
        filter_groups: Option<String> = "filterGroups",
        compare_group: String = "compareGroup",
        topic: String = "topic",
    }

    pub struct ConsumeMessageDirectlyHeader {
        consumer_group: String = "consumerGroup",
        client_id: Option<String> = "clientId",
        msg_id: Option<String> = "msgId",
        broker_name: Option<String> = "brokerName",
        topic: Option<String> = "topic",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }

    pub struct CloneGroupOffsetHeader {
        src_group: String = "srcGroup",
        dest_group: String = "destGroup",
        topic: Option<String> = "topic",
        offline: bool = "offline",
    }

    pub struct ViewBrokerStatsHeader {
        stats_name: String = "statsName",
        stats_key: String = "statsKey",
    }

    pub struct GetBrokerConsumeStatsHeader {
        is_order: bool = "isOrder",
    }

    pub struct QueryConsumeQueueHeader {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        index: i64 = "index",
        count: i32 = "count",
        consumer_group: Option<String> = "consumerGroup",
    }

    pub struct GroupForbiddenHeader {
        group: String = "group",
        topic: String = "topic",
        readable: Option<bool> = "readable",
    }

    pub struct CheckRocksdbCqWriteHeader {
        topic: Option<String> = "topic",
        check_store_time: Option<i64> = "checkStoreTime",
    }

    /// `configType` is `topics`, `subscriptionGroups`, `consumerOffsets` or several with `;` between.
    pub struct ExportRocksdbConfigHeader {
        config_type: String = "configType",
    }

    pub struct AddBrokerHeader {
        config_path: Option<String> = "configPath",
    }

    pub struct RemoveBrokerHeader {
        broker_name: String = "brokerName",
        broker_cluster_name: String = "brokerClusterName",
        broker_id: i64 = "brokerId",
    }

    pub struct ResetMasterFlushOffsetHeader {
        master_flush_offset: i64 = "masterFlushOffset",
    }

    pub struct ElectMasterHeader {
        cluster_name: String = "clusterName",
        broker_name: String = "brokerName",
        broker_id: i64 = "brokerId",
        designate_elect: bool = "designateElect",
        invoke_time: i64 = "invokeTime",
    }

    pub struct ElectMasterReply {
        master_broker_id: Option<i64> = "masterBrokerId",
        master_address: Option<String> = "masterAddress",
        master_epoch: Option<i32> = "masterEpoch",
        sync_state_set_epoch: Option<i32> = "syncStateSetEpoch",
    }

    /// `peers` are separated by `;`.
    pub struct ControllerMetadataReply {
        group: Option<String> = "group",
        controller_leader_id: Option<String> = "controllerLeaderId",
        controller_leader_address: Option<String> = "controllerLeaderAddress",
        is_leader: bool = "isLeader",
        peers: Option<String> = "peers",
    }

    /// `brokerControllerIdsToClean` are separated by `;`.
    pub struct CleanBrokerDataHeader {
        cluster_name: Option<String> = "clusterName",
        broker_name: String = "brokerName",
        broker_controller_ids_to_clean: Option<String> = "brokerControllerIdsToClean",
        is_clean_living_broker: bool = "isCleanLivingBroker",
        invoke_time: i64 = "invokeTime",
    }

    /// `F` for files, `R` for RocksDB.
    pub struct SwitchTimerEngineHeader {
        engine: Option<String> = "E_T",
    }

    /// A light topic is the light queue `%LMQ%$parentTopic$liteTopic`.
    pub struct LiteTopicHeader {
        parent_topic: String = "parentTopic",
        lite_topic: String = "liteTopic",
    }

    /// The light topics of a client, so many at most.
    pub struct LiteClientHeader {
        parent_topic: String = "parentTopic",
        group: String = "group",
        client_id: String = "clientId",
        max_count: Option<i32> = "maxCount",
    }

    /// Of one light topic, or the `topK` with the most to consume.
    pub struct LiteGroupHeader {
        group: String = "group",
        lite_topic: Option<String> = "liteTopic",
        top_k: Option<i32> = "topK",
    }

    /// One client of a group, or all.
    pub struct TriggerLiteDispatchHeader {
        group: String = "group",
        client_id: Option<String> = "clientId",
    }

    /// 0 reads ahead as usual, 1 expects reads anywhere.
    pub struct ReadAheadModeHeader {
        read_ahead_mode: String = "READ_AHEAD_MODE",
    }

    pub struct BrokerMemberGroupHeader {
        cluster_name: String = "clusterName",
        broker_name: String = "brokerName",
    }

    pub struct BrokerHeartbeatHeader {
        cluster_name: String = "clusterName",
        broker_addr: String = "brokerAddr",
        broker_name: String = "brokerName",
        broker_id: Option<i64> = "brokerId",
        epoch: Option<i32> = "epoch",
        max_offset: Option<i64> = "maxOffset",
        confirm_offset: Option<i64> = "confirmOffset",
        heartbeat_timeout_mills: Option<i64> = "heartbeatTimeoutMills",
        election_priority: Option<i32> = "electionPriority",
    }

    /// 50: an account of plain_acl.yml. Permissions are `resource=PERMISSION`, separated by commas.
    pub struct PlainAccountHeader {
        access_key: String = "accessKey",
        secret_key: Option<String> = "secretKey",
        white_remote_address: Option<String> = "whiteRemoteAddress",
        admin: bool = "admin",
        default_topic_perm: Option<String> = "defaultTopicPerm",
        default_group_perm: Option<String> = "defaultGroupPerm",
        topic_perms: Option<String> = "topicPerms",
        group_perms: Option<String> = "groupPerms",
    }

    pub struct AccessKeyHeader {
        access_key: String = "accessKey",
    }

    /// The versions are JSON text.
    pub struct AclVersionReply {
        version: String = "version",
        all_acl_file_version: String = "allAclFileVersion",
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
    }

    pub struct GlobalWhiteAddrsHeader {
        global_white_addrs: String = "globalWhiteAddrs",
        acl_file_full_path: Option<String> = "aclFileFullPath",
    }

    pub struct UserHeader {
        username: Option<String> = "username",
    }

    pub struct ListUsersHeader {
        filter: Option<String> = "filter",
    }

    /// `User:<name>`.
    pub struct SubjectHeader {
        subject: Option<String> = "subject",
    }

    pub struct DeleteAclHeader {
        subject: Option<String> = "subject",
        policy_type: Option<String> = "policyType",
        resource: Option<String> = "resource",
    }

    pub struct ListAclsHeader {
        subject_filter: Option<String> = "subjectFilter",
        resource_filter: Option<String> = "resourceFilter",
    }

    pub struct NotifyMinBrokerIdHeader {
        min_broker_id: Option<i64> = "minBrokerId",
        broker_name: Option<String> = "brokerName",
        min_broker_addr: Option<String> = "minBrokerAddr",
        offline_broker_addr: Option<String> = "offlineBrokerAddr",
        ha_broker_addr: Option<String> = "haBrokerAddr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_code() {
        for row in RequestCode::ALL {
            assert_eq!(RequestCode::from_code(row.code()), Some(*row));
        }
        assert_eq!(RequestCode::from_code(7777), None);
    }
}
