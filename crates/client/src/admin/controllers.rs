//! Controllers. Any of them knows the leader, which alone answers everything else.

use bytes::Bytes;
use oxmq_protocol::body::{BrokerReplicasInfo, ElectedMaster};
use oxmq_protocol::properties_file::{self, Property};
use oxmq_protocol::requests::{
    CleanBrokerDataHeader, ControllerMetadataReply, ElectMasterHeader, ElectMasterReply, request,
};

use super::brokers::properties_text;
use super::*;

impl Admin {
    /// Who leads, and who else there is.
    pub async fn controller_metadata(&self, controller: &str) -> Result<ControllerMetadataReply, ClientError> {
        let reply = self
            .call::<request::ControllerGetMetadataInfo>(controller, &(), Bytes::new())
            .await?;
        Ok(reply.fields)
    }

    async fn controller_leader(&self, controller: &str) -> Result<String, ClientError> {
        let leader = self.controller_metadata(controller).await?.controller_leader_address;
        leader.ok_or_else(|| ClientError::Config(format!("the controller {controller} knows no leader")))
    }

    /// Which replicas of these brokers are in sync.
    pub async fn sync_state_data(
        &self,
        controller: &str,
        broker_names: &[String],
    ) -> Result<BrokerReplicasInfo, ClientError> {
        let leader = self.controller_leader(controller).await?;
        let body = Bytes::from(json::to_vec(&broker_names));
        let reply = self
            .call::<request::ControllerGetSyncStateData>(&leader, &(), body)
            .await?;
        Ok(json::from_slice(&reply.body)?)
    }

    /// Makes a replica the master of its broker.
    pub async fn elect_master(
        &self,
        controller: &str,
        header: &ElectMasterHeader,
    ) -> Result<(ElectMasterReply, ElectedMaster), ClientError> {
        let leader = self.controller_leader(controller).await?;
        let reply = self
            .call::<request::ControllerElectMaster>(&leader, header, Bytes::new())
            .await?;
        let members = json::from_slice(&reply.body)?;
        Ok((reply.fields, members))
    }

    /// Lets controllers forget replicas of a broker.
    pub async fn clean_broker_data(&self, controller: &str, header: &CleanBrokerDataHeader) -> Result<(), ClientError> {
        let leader = self.controller_leader(controller).await?;
        self.tell::<request::CleanBrokerData>(&leader, header).await
    }

    /// A controller's settings.
    pub async fn controller_config(&self, controller: &str) -> Result<Vec<Property>, ClientError> {
        let reply = self
            .call::<request::GetControllerConfig>(controller, &(), Bytes::new())
            .await?;
        Ok(properties_text(&reply.body))
    }

    /// Changes a setting of a controller.
    pub async fn update_controller_config(&self, controller: &str, key: &str, value: &str) -> Result<(), ClientError> {
        let body = Bytes::from(properties_file::write([(key, value)]));
        self.call::<request::UpdateControllerConfig>(controller, &(), body)
            .await
            .map(drop)
    }
}
