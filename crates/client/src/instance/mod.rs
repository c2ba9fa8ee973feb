//! One client in the eyes of the servers: connections, name servers, routes, heartbeats and what servers ask of it.
//!
//! Producers and consumers are [`Member`]s. The instance keeps their heartbeats going, tells them when a route has
//! changed and hands them the requests of brokers; everything else they do themselves, through [`Instance::remoting`].
//! It holds members weakly, so a member that is dropped without leaving is forgotten, not leaked.

mod config;
mod heartbeats;
mod inbound;
mod name_servers;
mod queue_offsets;
mod replies;
mod route;
mod routes;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use oxmq_protocol::body::{ConsumerData, ProducerData, TopicRouteData};
use oxmq_protocol::requests::{GetRouteInfoHeader, UnregisterClientHeader, request};
use oxmq_protocol::{RemotingCommand, Request, json, response_code, topic};
use oxmq_remoting::{RemotingClient, Reply};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::error::ClientError;
use crate::namespace::Namespace;
use crate::trace::Tracer;
use heartbeats::send_heartbeats;
use inbound::Inbound;
use name_servers::NameServers;
use replies::PendingReplies;
use routes::Routes;

pub use config::InstanceConfig;
use config::{client_id, fast_addr, own_ip};
pub use queue_offsets::Boundary;
pub(crate) use queue_offsets::queue_header;
pub use route::{BrokerAddr, TopicRoute};

/// What a member says of itself in heartbeats.
#[derive(Debug, Clone)]
pub enum MemberData {
    Producer(ProducerData),
    Consumer(ConsumerData),
}

/// The answer to a request of a broker; `None` ignores it.
pub type Answer = Pin<Box<dyn Future<Output = Option<RemotingCommand>> + Send>>;

/// A producer or consumer of an instance.
pub trait Member: Send + Sync + 'static {
    /// What heartbeats say of it.
    fn data(&self) -> MemberData;

    /// A route differs from the one known before.
    fn on_route_change(&self, _topic: &str) {}

    /// A broker asks something of this member's group.
    fn on_request(self: Arc<Self>, _request: RemotingCommand) -> Answer {
        Box::pin(std::future::ready(None))
    }
}

/// A running client; clones are the same client. Ends with [`Instance::shutdown`] or when the last clone is dropped.
#[derive(Clone)]
pub struct Instance(Arc<Shared>);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.0.client_id)
    }
}

/// An instance that may have ended.
#[derive(Clone)]
pub(crate) struct WeakInstance(Weak<Shared>);

impl WeakInstance {
    pub(crate) fn upgrade(&self) -> Option<Instance> {
        self.0.upgrade().map(Instance)
    }
}

struct Shared {
    config: InstanceConfig,
    namespace: Namespace,
    client_id: String,
    remoting: RemotingClient,
    name_servers: NameServers,
    routes: Routes,
    pending_replies: PendingReplies,
    tracer: Option<Tracer>,
    members: Mutex<HashMap<MemberKey, Weak<dyn Member>>>,
    /// By address, from the answers to heartbeats.
    broker_versions: Mutex<HashMap<String, i32>>,
    /// Asks for a heartbeat now. One slot: more wishes are the same wish.
    heartbeat_wish: mpsc::Sender<()>,
    /// Heartbeats go one after the other, so that none overtakes a newer one.
    heartbeats: tokio::sync::Mutex<()>,
    stopped: watch::Sender<bool>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum MemberKey {
    Producer(String),
    Consumer(String),
}

impl MemberKey {
    fn of(data: &MemberData) -> MemberKey {
        match data {
            MemberData::Producer(data) => MemberKey::Producer(data.group_name.clone()),
            MemberData::Consumer(data) => MemberKey::Consumer(data.group_name.clone()),
        }
    }
}

impl Instance {
    /// Starts the background tasks; nothing is asked of any server yet.
    pub async fn start(config: InstanceConfig) -> Result<Instance, ClientError> {
        let name_servers = NameServers::parse(&config.name_server)?;
        let ip = match config.client_ip {
            Some(ip) => ip,
            None => own_ip(name_servers.addrs()).await,
        };
        let (heartbeat_wish, heartbeat_wishes) = mpsc::channel(1);
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| Shared {
            client_id: client_id(ip, &config),
            namespace: config.namespace(),
            remoting: RemotingClient::new(config.remoting(), Some(Arc::new(Inbound(shared.clone())))),
            name_servers,
            routes: Routes::default(),
            pending_replies: PendingReplies::default(),
            tracer: config
                .trace
                .as_ref()
                .map(|trace| Tracer::start(trace, config.namespace(), WeakInstance(shared.clone()))),
            members: Mutex::default(),
            broker_versions: Mutex::default(),
            heartbeat_wish,
            heartbeats: tokio::sync::Mutex::default(),
            stopped: watch::Sender::new(false),
            config,
        });
        info!(client_id = shared.client_id, "client started");
        tokio::spawn(poll_routes(Arc::downgrade(&shared), shared.stopped.subscribe()));
        tokio::spawn(send_heartbeats(
            Arc::downgrade(&shared),
            heartbeat_wishes,
            shared.stopped.subscribe(),
        ));
        Ok(Instance(shared))
    }

    /// What the servers call this client: address and name.
    pub fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// What it was started with.
    pub fn config(&self) -> &InstanceConfig {
        &self.0.config
    }

    /// The connections, for calls to brokers.
    pub fn remoting(&self) -> &RemotingClient {
        &self.0.remoting
    }

    /// Where the names of members belong. The methods of an instance itself take the names of the servers.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// What is told of messages, if anything is.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.0.tracer.as_ref()
    }

    /// Requests sent as messages that wait for their reply.
    pub(crate) fn pending_replies(&self) -> &PendingReplies {
        &self.0.pending_replies
    }

    /// As they were given.
    pub fn name_server_addrs(&self) -> &[String] {
        self.0.name_servers.addrs()
    }

    /// Asks one server.
    pub(crate) async fn call<R: Request>(
        &self,
        addr: &str,
        header: &R::Header,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Reply<R>, ClientError> {
        Ok(self.0.remoting.call::<R>(addr, header, body, timeout).await?)
    }

    /// Asks one name server; which one does not matter, they all know the same.
    pub async fn call_name_server<R: Request>(&self, header: &R::Header) -> Result<Reply<R>, ClientError> {
        let (remoting, timeout) = (&self.0.remoting, self.0.config.api_timeout);
        Ok(self.0.name_servers.call::<R>(remoting, header, timeout).await?)
    }

    /// The route of a topic that exists, from the cache or from a name server.
    pub async fn route(&self, topic: &str) -> Result<Arc<TopicRoute>, ClientError> {
        match self.0.known_route(topic) {
            Some(route) if !route.is_fallback => Ok(route),
            _ => self.0.refresh_route(topic, false).await,
        }
    }

    /// The route for sending. A topic that does not exist gets the queues that the first send would create.
    pub async fn publish_route(&self, topic: &str) -> Result<Arc<TopicRoute>, ClientError> {
        match self.0.known_route(topic) {
            Some(route) => Ok(route),
            None => self.0.refresh_route(topic, true).await,
        }
    }

    /// Asks a name server now, for instance because a broker said that it does not have the topic. What was known
    /// before stays known when this fails.
    pub async fn refresh_route(&self, topic: &str) -> Result<Arc<TopicRoute>, ClientError> {
        self.0.refresh_route(topic, false).await
    }

    /// The master of a broker group, for sends, locks and offsets. Known once a route has named it.
    pub fn master_addr(&self, broker_name: &str) -> Result<String, ClientError> {
        self.0.routes.master(broker_name).ok_or_else(|| no_broker(broker_name))
    }

    /// Where calls to this address of a broker go that are no pulls.
    pub(crate) fn fast_addr(&self, addr: String) -> String {
        match self.0.config.vip_channel_enabled {
            true => fast_addr(&addr).unwrap_or(addr),
            false => addr,
        }
    }

    /// The broker of a group with this id, or the next best one, for reads.
    pub fn broker_addr(&self, broker_name: &str, preferred_id: i64) -> Result<BrokerAddr, ClientError> {
        let found = self.0.routes.broker(broker_name, preferred_id);
        found.ok_or_else(|| no_broker(broker_name))
    }

    /// The version ordinal that a broker told in its last answer to a heartbeat.
    pub fn broker_version(&self, addr: &str) -> Option<i32> {
        self.0.broker_versions.lock().get(addr).copied()
    }

    /// Adds a member to heartbeats. One producer and one consumer per group.
    pub fn join<M: Member>(&self, member: &Arc<M>) -> Result<(), ClientError> {
        let key = MemberKey::of(&member.data());
        let mut members = self.0.members.lock();
        if members.get(&key).is_some_and(|other| other.strong_count() > 0) {
            let (MemberKey::Producer(group) | MemberKey::Consumer(group)) = key;
            return Err(ClientError::GroupTaken { group });
        }
        let member: Weak<dyn Member> = Arc::downgrade(member) as Weak<dyn Member>;
        members.insert(key, member);
        Ok(())
    }

    /// Takes a member out of heartbeats and tells every broker that it is gone.
    pub async fn leave(&self, member: &impl Member) {
        let key = MemberKey::of(&member.data());
        // Not while a heartbeat is under way that still names it.
        let _heartbeats = self.0.heartbeats.lock().await;
        self.0.members.lock().remove(&key);
        let (producer_group, consumer_group) = match key {
            MemberKey::Producer(group) => (Some(group), None),
            MemberKey::Consumer(group) => (None, Some(group)),
        };
        let header = UnregisterClientHeader {
            client_id: self.0.client_id.clone(),
            producer_group,
            consumer_group,
            broker_name: None,
        };
        let timeout = self.0.config.api_timeout;
        let mut calls = JoinSet::new();
        for (_, broker) in self.0.routes.brokers() {
            let (remoting, header) = (self.0.remoting.clone(), header.clone());
            calls.spawn(async move {
                let called = remoting
                    .call::<request::UnregisterClient>(&broker.addr, &header, Bytes::new(), timeout)
                    .await;
                if let Err(error) = called {
                    debug!(addr = broker.addr, %error, "broker was not told that a member left");
                }
            });
        }
        calls.join_all().await;
    }

    /// Sends heartbeats to the brokers of all known routes and waits for their answers.
    pub async fn heartbeat(&self) {
        self.0.heartbeat().await;
    }

    /// Lets the next heartbeat go now, in the background.
    pub fn request_heartbeat(&self) {
        // A full slot means that one is about to go; without a receiver the client has stopped.
        let _ = self.0.heartbeat_wish.try_send(());
    }

    /// Stops the background tasks and closes the connections. Members leave first.
    pub async fn shutdown(&self) {
        if let Some(tracer) = &self.0.tracer {
            tracer.flush().await;
        }
        self.0.stopped.send_replace(true);
        self.0.remoting.shutdown().await;
        info!(client_id = self.0.client_id, "client stopped");
    }
}

fn no_broker(broker_name: &str) -> ClientError {
    ClientError::NoBroker {
        broker_name: broker_name.to_owned(),
    }
}

impl Shared {
    fn known_route(&self, topic: &str) -> Option<Arc<TopicRoute>> {
        self.routes.slot(topic).route.load_full()
    }

    async fn refresh_route(&self, topic: &str, allow_fallback: bool) -> Result<Arc<TopicRoute>, ClientError> {
        let slot = self.routes.slot(topic);
        let before = slot.route.load_full();
        let route = {
            let _fetching = slot.fetching.lock().await;
            let meanwhile = slot.route.load_full();
            if let Some(route) = meanwhile.filter(|now| before.as_ref().is_none_or(|before| !Arc::ptr_eq(before, now)))
            {
                return Ok(route);
            }
            let was_real = before.as_ref().is_some_and(|route| !route.is_fallback);
            let route = Arc::new(self.fetch_route(topic, allow_fallback && !was_real).await?);
            slot.route.store(Some(Arc::clone(&route)));
            route
        };
        if before.as_ref() != Some(&route) {
            self.route_changed(topic);
        }
        Ok(route)
    }

    async fn fetch_route(&self, topic: &str, allow_fallback: bool) -> Result<TopicRoute, ClientError> {
        match self.ask_route(topic).await {
            Ok(data) => Ok(TopicRoute::new(topic, data)),
            Err(error) if error.response_code() != Some(response_code::TOPIC_NOT_EXIST) => Err(error),
            Err(_) if allow_fallback && topic != topic::AUTO_CREATE_TOPIC => {
                let data = self
                    .ask_route(topic::AUTO_CREATE_TOPIC)
                    .await
                    .map_err(|_| no_route(topic))?;
                Ok(TopicRoute::fallback(topic, data))
            }
            Err(_) => Err(no_route(topic)),
        }
    }

    async fn ask_route(&self, topic: &str) -> Result<TopicRouteData, ClientError> {
        let header = GetRouteInfoHeader {
            topic: topic.to_owned(),
            accept_standard_json_only: Some(true),
        };
        let reply = self
            .name_servers
            .call::<request::GetRouteInfoByTopic>(&self.remoting, &header, self.config.api_timeout)
            .await?;
        Ok(json::from_slice(&reply.body)?)
    }

    fn route_changed(&self, topic: &str) {
        debug!(topic, "route changed");
        for member in self.live_members() {
            member.on_route_change(topic);
        }
        // A broker that is new in the route has to hear of the members.
        let _ = self.heartbeat_wish.try_send(());
    }

    async fn refresh_all_routes(&self) {
        for topic in self.routes.topics() {
            let Some(route) = self.known_route(&topic) else {
                continue;
            };
            if let Err(error) = self.refresh_route(&topic, route.is_fallback).await {
                debug!(topic, %error, "route not refreshed");
            }
        }
    }

    fn live_members(&self) -> Vec<Arc<dyn Member>> {
        self.members.lock().values().filter_map(Weak::upgrade).collect()
    }
}

fn no_route(topic: &str) -> ClientError {
    ClientError::NoRoute {
        topic: topic.to_owned(),
    }
}

async fn poll_routes(shared: Weak<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        let Some(interval) = shared.upgrade().map(|shared| shared.config.poll_name_server_interval) else {
            return;
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(interval) => {}
        }
        if let Some(shared) = shared.upgrade() {
            shared.refresh_all_routes().await;
        }
    }
}
