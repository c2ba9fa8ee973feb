//! Brokers: figures, settings, upkeep.

use bytes::Bytes;
use oxmq_protocol::body::{
    BrokerStatsData, CheckRocksdbCqWriteResult, ColdDataFlowInfo, ConsumeStatsList, EpochEntryCache, HaRuntimeInfo,
    KvTable, QueryConsumeQueueBody,
};
use oxmq_protocol::properties_file::{self, Property};
use oxmq_protocol::requests::{
    AddBrokerHeader, CheckRocksdbCqWriteHeader, ExportRocksdbConfigHeader, GetBrokerConsumeStatsHeader,
    QueryConsumeQueueHeader, ReadAheadModeHeader, RemoveBrokerHeader, ResetMasterFlushOffsetHeader,
    SwitchTimerEngineHeader, ViewBrokerStatsHeader, request,
};

use oxmq_protocol::response_code;
use oxmq_remoting::CallError;

use super::*;

impl Admin {
    /// A broker's figures about itself.
    pub async fn broker_runtime_info(&self, addr: &str) -> Result<KvTable, ClientError> {
        self.ask::<request::GetBrokerRuntimeInfo, _>(addr, &()).await
    }

    /// A broker's settings.
    pub async fn broker_config(&self, addr: &str) -> Result<Vec<Property>, ClientError> {
        let reply = self.call::<request::GetBrokerConfig>(addr, &(), Bytes::new()).await?;
        Ok(properties_text(&reply.body))
    }

    /// Changes settings of a broker. All or none are taken; it refuses what is not to be changed from afar.
    pub async fn update_broker_config(&self, addr: &str, settings: &[(&str, &str)]) -> Result<(), ClientError> {
        let body = Bytes::from(properties_file::write(settings.iter().copied()));
        self.call::<request::UpdateBrokerConfig>(addr, &(), body)
            .await
            .map(drop)
    }

    /// What a broker counted under a name, such as `TOPIC_PUT_NUMS` with the topic as key or `GROUP_GET_NUMS` with
    /// `topic@group`. Refused with 1 where nothing was counted.
    pub async fn broker_stats(&self, addr: &str, name: &str, key: &str) -> Result<BrokerStatsData, ClientError> {
        let header = ViewBrokerStatsHeader {
            stats_name: name.to_owned(),
            stats_key: key.to_owned(),
        };
        self.ask::<request::ViewBrokerStatsData, _>(addr, &header).await
    }

    /// How far every group of a broker is; with `is_order` only those that consume orderly.
    pub async fn broker_consume_stats(&self, addr: &str, is_order: bool) -> Result<ConsumeStatsList, ClientError> {
        let header = GetBrokerConsumeStatsHeader { is_order };
        self.ask::<request::GetBrokerConsumeStats, _>(addr, &header).await
    }

    /// Entries of a consume queue from an index on, and what the group's filter makes of them.
    pub async fn query_consume_queue(
        &self,
        addr: &str,
        header: &QueryConsumeQueueHeader,
    ) -> Result<QueryConsumeQueueBody, ClientError> {
        let reply = self
            .call::<request::QueryConsumeQueue>(addr, header, Bytes::new())
            .await?;
        // That there is no such entry is said with the code of success.
        if reply.body.is_empty() {
            let (code, remark) = (response_code::QUERY_NOT_FOUND, reply.remark.unwrap_or_default());
            return Err(CallError::Response { code, remark }.into());
        }
        Ok(json::from_slice(&reply.body)?)
    }

    /// Deletes what consume queues say of messages that are gone.
    pub async fn clean_expired_consume_queues(&self, addr: &str) -> Result<(), ClientError> {
        self.tell::<request::CleanExpiredConsumeQueue>(addr, &()).await
    }

    /// Deletes the consume queues of topics that are gone.
    pub async fn clean_unused_topics(&self, addr: &str) -> Result<(), ClientError> {
        self.tell::<request::CleanUnusedTopic>(addr, &()).await
    }

    /// Lets expired files of the commit log go now and not at the hour that is set.
    pub async fn delete_expired_commit_log(&self, addr: &str) -> Result<(), ClientError> {
        self.tell::<request::DeleteExpiredCommitLog>(addr, &()).await
    }

    /// Replication as a broker sees it.
    pub async fn ha_status(&self, addr: &str) -> Result<HaRuntimeInfo, ClientError> {
        self.ask::<request::GetBrokerHaStatus, _>(addr, &()).await
    }

    /// The epochs of a broker under a controller.
    pub async fn broker_epochs(&self, addr: &str) -> Result<EpochEntryCache, ClientError> {
        self.ask::<request::GetBrokerEpochCache, _>(addr, &()).await
    }

    /// Tells a slave where its master's log ended when that started.
    pub async fn reset_master_flush_offset(&self, addr: &str, physical_offset: i64) -> Result<(), ClientError> {
        let header = ResetMasterFlushOffsetHeader {
            master_flush_offset: physical_offset,
        };
        self.tell::<request::ResetMasterFlushOffset>(addr, &header).await
    }

    /// What groups read of cold messages and how much they may.
    pub async fn cold_data_flow_control(&self, addr: &str) -> Result<ColdDataFlowInfo, ClientError> {
        self.ask::<request::GetColdDataFlowCtrInfo, _>(addr, &()).await
    }

    /// Sets how many bytes a group may read of cold messages in five seconds.
    pub async fn set_cold_data_threshold(&self, addr: &str, group: &str, threshold: i64) -> Result<(), ClientError> {
        let body = properties_file::write([(group, &*threshold.to_string())]);
        self.call::<request::UpdateColdDataFlowCtrConfig>(addr, &(), body.into())
            .await
            .map(drop)
    }

    /// Lets a group read cold messages like others.
    pub async fn remove_cold_data_threshold(&self, addr: &str, group: &str) -> Result<(), ClientError> {
        let body = Bytes::from(group.to_owned());
        self.call::<request::RemoveColdDataFlowCtrConfig>(addr, &(), body)
            .await
            .map(drop)
    }

    /// How the system is to read ahead in the commit log: 0 as usual, 1 not at all. Returns what the broker says to it.
    pub async fn set_read_ahead_mode(&self, addr: &str, mode: i32) -> Result<String, ClientError> {
        let header = ReadAheadModeHeader {
            read_ahead_mode: mode.to_string(),
        };
        let reply = self
            .call::<request::SetCommitLogReadMode>(addr, &header, Bytes::new())
            .await?;
        Ok(reply.remark.unwrap_or_default())
    }

    /// Lets a broker compare its consume queues in files with those in RocksDB, of one topic or of all, from a store time
    /// on.
    pub async fn check_rocksdb_queues(
        &self,
        addr: &str,
        topic: Option<&str>,
        from_ms: i64,
    ) -> Result<CheckRocksdbCqWriteResult, ClientError> {
        let header = CheckRocksdbCqWriteHeader {
            topic: topic.map(str::to_owned),
            check_store_time: Some(from_ms),
        };
        self.ask::<request::CheckRocksdbCqWriteProgress, _>(addr, &header).await
    }

    /// Lets a broker write tables of its RocksDB as JSON into its own folder; `kinds` are `topics`, `subscriptionGroups`
    /// and `consumerOffsets` with `;` between.
    pub async fn export_rocksdb_config(&self, addr: &str, kinds: &str) -> Result<(), ClientError> {
        let header = ExportRocksdbConfigHeader {
            config_type: kinds.to_owned(),
        };
        self.tell::<request::ExportRocksdbConfigToJson>(addr, &header).await
    }

    /// Lets timer messages take another engine: `F` for files, `R` for RocksDB.
    pub async fn switch_timer_engine(&self, addr: &str, engine: &str) -> Result<(), ClientError> {
        let header = SwitchTimerEngineHeader {
            engine: Some(engine.to_owned()),
        };
        self.tell::<request::SwitchTimerEngine>(addr, &header).await
    }

    /// Lets a broker move what it knows of popped messages out of RocksDB.
    pub async fn export_pop_records(&self, addr: &str) -> Result<(), ClientError> {
        self.tell::<request::PopRollback>(addr, &()).await
    }

    /// Starts a broker in a container, whose file of settings lies on the container's machine.
    pub async fn add_broker(&self, container: &str, config_path: &str) -> Result<(), ClientError> {
        let header = AddBrokerHeader {
            config_path: Some(config_path.to_owned()),
        };
        self.tell::<request::AddBroker>(container, &header).await
    }

    /// Stops a broker of a container.
    pub async fn remove_broker(&self, container: &str, header: &RemoveBrokerHeader) -> Result<(), ClientError> {
        self.tell::<request::RemoveBroker>(container, header).await
    }
}

/// Settings as they travel: `key=value` lines without any escapes.
pub(super) fn properties_text(body: &[u8]) -> Vec<Property> {
    let text = String::from_utf8_lossy(body);
    let entries = text.lines().enumerate().filter_map(|(index, line)| {
        let (key, value) = line.split_once('=')?;
        Some(Property {
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            line: index + 1,
        })
    });
    entries.collect()
}
