//! Looking after a cluster, a file for each kind of thing: topics, groups and their offsets, brokers, name servers,
//! controllers, messages.
//!
//! Methods that end in `_on` ask the one broker at an address; the others find the brokers themselves. Every method fails
//! when a server cannot be reached or refuses; [`ClientError::response_code`] tells why.

mod access;
mod brokers;
mod clients;
mod controllers;
mod groups;
mod light_topics;
mod messages;
mod name_servers;
mod offsets;
mod topics;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use oxmq_protocol::body::{ClusterInfo, TopicRouteData};
use oxmq_protocol::requests::request;
use oxmq_protocol::{Request, json};
use oxmq_remoting::Reply;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ClientError;
use crate::instance::{Boundary, Instance, InstanceConfig};

/// Administrative calls. Clones share the connections.
#[derive(Clone)]
pub struct Admin {
    instance: Instance,
    timeout: Duration,
}

impl Admin {
    /// An admin client of its own. `name_server` is `host:port`, several with `;` between them.
    pub async fn connect(name_server: impl Into<String>) -> Result<Admin, ClientError> {
        let config = InstanceConfig {
            name_server: name_server.into(),
            ..InstanceConfig::default()
        };
        Ok(Admin::with_instance(Instance::start(config).await?))
    }

    /// Uses the connections of a producer or consumer.
    pub fn with_instance(instance: Instance) -> Admin {
        let timeout = instance.config().api_timeout;
        Admin { instance, timeout }
    }

    /// Closes the connections, for all that share them.
    pub async fn shutdown(&self) {
        self.instance.shutdown().await;
    }

    /// The client whose connections are used.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Waits so long for each answer instead of the instance's `api_timeout`.
    pub fn with_timeout(self, timeout: Duration) -> Admin {
        Admin { timeout, ..self }
    }

    /// Where a topic is, asked of a name server now.
    pub async fn topic_route(&self, topic: &str) -> Result<TopicRouteData, ClientError> {
        Ok(self.instance.refresh_route(topic).await?.data.clone())
    }

    /// Clusters, their brokers and the addresses of these.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, ClientError> {
        let reply = self
            .instance
            .call_name_server::<request::GetBrokerClusterInfo>(&())
            .await?;
        Ok(json::from_slice(&reply.body)?)
    }

    /// The masters of a cluster, by the names of their brokers.
    pub async fn masters(&self, cluster: &str) -> Result<Vec<String>, ClientError> {
        let info = self.cluster_info().await?;
        let masters: Vec<_> = info
            .brokers(cluster)
            .filter_map(|broker| broker.master())
            .map(str::to_owned)
            .collect();
        match masters.is_empty() {
            true => Err(no_cluster(cluster)),
            false => Ok(masters),
        }
    }

    /// The masters of the brokers that have a topic.
    pub async fn masters_of_topic(&self, topic: &str) -> Result<Vec<String>, ClientError> {
        let route = self.topic_route(topic).await?;
        let masters = route.broker_datas.iter().filter_map(|broker| broker.master());
        Ok(masters.map(str::to_owned).collect())
    }

    /// The first broker of a topic that answers tells for all.
    async fn any_broker_of_topic<R, T>(&self, topic: &str, header: &R::Header) -> Result<T, ClientError>
    where
        R: Request,
        T: DeserializeOwned,
    {
        let mut failed = ClientError::NoRoute {
            topic: topic.to_owned(),
        };
        for broker in &self.topic_route(topic).await?.broker_datas {
            let Some(addr) = broker.broker_addrs.values().next() else {
                continue;
            };
            match self.ask::<R, T>(addr, header).await {
                Ok(answer) => return Ok(answer),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn call<R: Request>(&self, addr: &str, header: &R::Header, body: Bytes) -> Result<Reply<R>, ClientError> {
        self.instance.call::<R>(addr, header, body, self.timeout).await
    }

    /// For what is answered with JSON.
    async fn ask<R: Request, T: DeserializeOwned>(&self, addr: &str, header: &R::Header) -> Result<T, ClientError> {
        let reply = self.call::<R>(addr, header, Bytes::new()).await?;
        Ok(json::from_slice(&reply.body)?)
    }

    /// For what is answered with nothing.
    async fn tell<R: Request>(&self, addr: &str, header: &R::Header) -> Result<(), ClientError> {
        self.call::<R>(addr, header, Bytes::new()).await.map(drop)
    }

    /// For what travels as JSON and is answered with nothing.
    async fn hand<R: Request<Header = ()>>(&self, addr: &str, body: &impl Serialize) -> Result<(), ClientError> {
        self.call::<R>(addr, &(), json::to_vec(body).into()).await.map(drop)
    }
}

fn no_cluster(cluster: &str) -> ClientError {
    ClientError::NoCluster {
        cluster: cluster.to_owned(),
    }
}
