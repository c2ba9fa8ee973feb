//! Heartbeats: what the brokers hear of the members, again and again.

use std::sync::Weak;

use bytes::Bytes;
use hashbrown::HashMap;
use oxmq_protocol::body::{HeartbeatData, MASTER_ID};
use oxmq_protocol::json;
use oxmq_protocol::requests::request;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::debug;

use super::{MemberData, Shared};

impl Shared {
    pub(super) async fn heartbeat(&self) {
        let _heartbeats = self.heartbeats.lock().await;
        let mut data = HeartbeatData {
            client_id: self.client_id.clone(),
            ..HeartbeatData::default()
        };
        for member in self.live_members() {
            match member.data() {
                MemberData::Producer(producer) => data.producer_data_set.push(producer),
                MemberData::Consumer(consumer) => data.consumer_data_set.push(consumer),
            }
        }
        if data.producer_data_set.is_empty() && data.consumer_data_set.is_empty() {
            return;
        }
        let masters_only = data.consumer_data_set.is_empty();
        let body = Bytes::from(json::to_vec(&data));
        let timeout = self.config.api_timeout;
        let mut calls = JoinSet::new();
        for (_, broker) in self.routes.brokers() {
            if masters_only && broker.broker_id != MASTER_ID {
                continue;
            }
            let (remoting, body) = (self.remoting.clone(), body.clone());
            calls.spawn(async move {
                let called = remoting
                    .call::<request::HeartBeat>(&broker.addr, &(), body, timeout)
                    .await;
                (broker.addr, called)
            });
        }
        let mut versions = HashMap::new();
        for (addr, called) in calls.join_all().await {
            match called {
                Ok(reply) => drop(versions.insert(addr, reply.version)),
                Err(error) => debug!(addr, %error, "heartbeat failed"),
            }
        }
        *self.broker_versions.lock() = versions;
    }
}

pub(super) async fn send_heartbeats(
    shared: Weak<Shared>,
    mut wishes: mpsc::Receiver<()>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let Some(interval) = shared.upgrade().map(|shared| shared.config.heartbeat_broker_interval) else {
            return;
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = wishes.recv() => {}
            () = tokio::time::sleep(interval) => {}
        }
        if let Some(shared) = shared.upgrade() {
            shared.heartbeat().await;
        }
    }
}
