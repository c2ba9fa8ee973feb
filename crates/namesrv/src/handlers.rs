//! The requests of a name server: each reads its header, asks the tables, and answers (spec: behaviour.md §1).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use oxmq_protocol::body::{
    BrokerMemberGroup, ClusterInfo, DataVersion, GetBrokerMemberGroupBody, KvTable, MASTER_ID, RegisterBrokerBody,
    TopicList, TopicRouteData,
};
use oxmq_protocol::requests::*;
use oxmq_protocol::settings::{Settings, UpdateError};
use oxmq_protocol::{FieldError, FieldSet, RemotingCommand, RequestCode, json, response_code};
use oxmq_remoting::{CommandHandler, Connection, ConnectionHandle, Outcome, audit};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::kv_config::{KvConfigError, ORDER_TOPIC_CONFIG};
use crate::route_table::{Refused, Registration};
use crate::save::save;
use crate::server::NameServer;

/// Text of the original, which people search the web for.
const ROUTE_HELP: &str = "See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

/// A longer registration, of some hundred topics, is read on another thread: with many topics that takes a while.
const REGISTER_INLINE_BYTES_MAX: usize = 64 << 10;

/// Bits of a topic's system flags.
const UNIT: i32 = 1;
const UNIT_SUB: i32 = 2;

/// Why a request was not done. The one place where these become response codes.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Header(#[from] FieldError),
    #[error("the body cannot be read: {0}")]
    Body(String),
    #[error("crc32 not match")]
    Crc,
    #[error("register broker failed")]
    Refused(#[from] Refused),
    #[error("namespace or key is null")]
    NoKvKey,
    #[error("{0}")]
    NotFound(String),
    #[error("No topic route info in name server for the topic: {0}\n{ROUTE_HELP}")]
    NoRoute(String),
    #[error("name server not ready")]
    NotReady,
    #[error("disable")]
    Disabled,
    #[error("Can not update config in black list.")]
    BlackList,
    #[error("{0}")]
    Setting(String),
    #[error(transparent)]
    Kv(#[from] KvConfigError),
    #[error("cannot save the settings: {0}")]
    Save(std::io::Error),
    #[error("the task was interrupted")]
    Interrupted,
}

impl RequestError {
    fn code(&self) -> i32 {
        match self {
            RequestError::NoRoute(_) => response_code::TOPIC_NOT_EXIST,
            RequestError::NotFound(_) => response_code::QUERY_NOT_FOUND,
            RequestError::BlackList => response_code::NO_PERMISSION,
            _ => response_code::SYSTEM_ERROR,
        }
    }
}

type Answer = Result<RemotingCommand, RequestError>;

impl CommandHandler for NameServer {
    fn handle(&self, connection: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome {
        let asked = is_administrative(code).then(|| command.clone());
        let outcome = self.dispatch(connection, code, command);
        match asked {
            Some(asked) => audited(code, asked, connection.peer_addr(), outcome),
            None => outcome,
        }
    }

    fn on_close(&self, connection: &Rc<Connection>) {
        self.connection_closed(connection.id());
    }
}

impl NameServer {
    fn dispatch(&self, connection: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome {
        let answer = match code {
            RequestCode::GetRouteInfoByTopic => self.get_route_info_by_topic(&command),
            RequestCode::RegisterBroker => return self.register_broker(connection, command),
            RequestCode::UnregisterBroker => self.unregister_broker(&command),
            RequestCode::BrokerHeartbeat => self.broker_heartbeat(&command),
            RequestCode::QueryDataVersion => self.query_data_version(&command),
            RequestCode::GetBrokerMemberGroup => self.get_broker_member_group(&command),
            RequestCode::GetBrokerClusterInfo => Ok(self.get_broker_cluster_info()),
            RequestCode::RegisterTopicInNamesrv => self.register_topic(&command),
            RequestCode::DeleteTopicInNamesrv => self.delete_topic(&command),
            RequestCode::WipeWritePermOfBroker => self.wipe_write_perm_of_broker(&command),
            RequestCode::AddWritePermOfBroker => self.add_write_perm_of_broker(&command),
            RequestCode::GetAllTopicListFromNameserver => self.get_all_topic_list(),
            RequestCode::GetTopicsByCluster => self.get_topics_by_cluster(&command),
            RequestCode::GetSystemTopicListFromNs => Ok(self.get_system_topic_list()),
            RequestCode::GetUnitTopicList => self.topics_by_flag(|flag| flag & UNIT != 0),
            RequestCode::GetHasUnitSubTopicList => self.topics_by_flag(|flag| flag & UNIT_SUB != 0),
            RequestCode::GetHasUnitSubUnunitTopicList => {
                self.topics_by_flag(|flag| flag & (UNIT | UNIT_SUB) == UNIT_SUB)
            }
            RequestCode::GetKvConfig => self.get_kv_config(&command),
            RequestCode::GetKvListByNamespace => self.get_kv_list_by_namespace(&command),
            RequestCode::PutKvConfig => return self.put_kv_config(&command),
            RequestCode::DeleteKvConfig => return self.delete_kv_config(&command),
            RequestCode::UpdateNamesrvConfig => return self.update_namesrv_config(&command),
            RequestCode::GetNamesrvConfig => Ok(success().with_body(self.config.read().text())),
            _ => return Outcome::Unsupported,
        };
        reply(answer).into()
    }

    fn get_route_info_by_topic(&self, command: &RemotingCommand) -> Answer {
        let header: GetRouteInfoHeader = fields(command)?;
        let config = self.config.read();
        if config.need_wait_for_service && self.now_ms() < config.wait_seconds_for_service * 1000 {
            return Err(RequestError::NotReady);
        }
        let route = self.table.read().route(&header.topic, config.support_acting_master);
        let Some(mut route) = route else {
            return Err(RequestError::NoRoute(header.topic));
        };
        if config.order_message_enable {
            route.order_topic_conf = self.kv.get(ORDER_TOPIC_CONFIG, &header.topic);
        }
        drop(config);
        // The original writes a route again in its own dialect after it filtered it.
        let zone = requested_zone(command);
        if let Some(zone) = zone {
            retain_zone(&mut route, zone);
            return Ok(success().with_body(json::to_vec(&route)));
        }
        let standard_only = header.accept_standard_json_only == Some(true);
        Ok(success().with_body(route.encode(command.header.version, standard_only)))
    }

    fn register_broker(&self, connection: &Rc<Connection>, command: RemotingCommand) -> Outcome {
        if command.body.len() <= REGISTER_INLINE_BYTES_MAX {
            return reply(self.register_broker_of(connection.handle(), &command)).into();
        }
        let (own, connection) = (Weak::clone(&self.own), Rc::clone(connection));
        let (server, handle) = (Weak::clone(&own), connection.handle());
        let task = tokio::task::spawn_blocking(move || {
            let server = server.upgrade().ok_or(RequestError::Interrupted)?;
            server.register_broker_of(handle, &command)
        });
        Outcome::later(async move {
            let answer = task.await.unwrap_or(Err(RequestError::Interrupted));
            // Its end was noticed before there was anything to take back.
            if let Some(server) = own.upgrade().filter(|_| connection.is_closed()) {
                server.connection_closed(connection.id());
            }
            reply(answer)
        })
    }

    fn register_broker_of(&self, connection: ConnectionHandle, command: &RemotingCommand) -> Answer {
        let header: RegisterBrokerHeader = fields(command)?;
        let crc = header.body_crc32.unwrap_or(0);
        if crc != 0 && (crc32fast::hash(&command.body) & 0x7fff_ffff) as i32 != crc {
            return Err(RequestError::Crc);
        }
        let body = RegisterBrokerBody::decode(&command.body, command.header.version)
            .map_err(|error| RequestError::Body(error.to_string()))?;
        let topics = body.topic_config_serialize_wrapper;
        let config = self.config.read();
        let registration = Registration {
            cluster: header.cluster_name,
            broker_name: header.broker_name,
            broker_addr: header.broker_addr,
            broker_id: header.broker_id,
            ha_server_addr: header.ha_server_addr,
            zone_name: header.zone_name,
            enable_acting_master: header.enable_acting_master,
            timeout_ms: header.heartbeat_timeout_millis,
            connection: connection.id(),
            data_version: topics.data_version,
            topics: topics.topic_config_table.into_values().collect(),
            mappings: topics.topic_queue_mapping_info_map,
            filter_servers: body.filter_server_list,
            drop_missing_topics: config.delete_topic_with_broker_registration,
        };
        let returns_order_conf = config.return_order_topic_config_to_broker;
        drop(config);
        let (broker_name, broker_addr) = (registration.broker_name.clone(), registration.broker_addr.clone());
        let registered = self.register(connection, registration);
        let registered = registered.inspect_err(|refused| {
            warn!(broker_name, broker_addr, %refused, "registration refused");
        })?;
        if registered.is_first {
            info!(broker_name, broker_addr, "broker registered");
        }
        let response = success().with_fields(&RegisterBrokerReply {
            ha_server_addr: registered.ha_server_addr,
            master_addr: registered.master_addr,
        });
        let order_conf = returns_order_conf
            .then(|| self.kv.namespace(ORDER_TOPIC_CONFIG))
            .flatten();
        Ok(match order_conf {
            Some(table) => response.with_body(json::to_vec(&KvTable { table })),
            None => response,
        })
    }

    fn unregister_broker(&self, command: &RemotingCommand) -> Answer {
        let header: BrokerHeader = fields(command)?;
        info!(
            broker_name = header.broker_name,
            broker_addr = header.broker_addr,
            "broker unregisters"
        );
        let changes = self.table.write().unregister(&header.broker_name, &header.broker_addr);
        self.announce(changes);
        Ok(success())
    }

    fn broker_heartbeat(&self, command: &RemotingCommand) -> Answer {
        let header: BrokerHeartbeatHeader = fields(command)?;
        self.table.write().heartbeat(self.now_ms(), &header.broker_addr);
        Ok(success())
    }

    fn query_data_version(&self, command: &RemotingCommand) -> Answer {
        let header: BrokerHeader = fields(command)?;
        let theirs: DataVersion = body(command)?;
        let mut table = self.table.write();
        table.heartbeat(self.now_ms(), &header.broker_addr);
        let ours = table.data_version(&header.broker_addr);
        let changed = ours != Some(theirs);
        let response = success().with_fields(&QueryDataVersionReply { changed });
        Ok(match ours {
            Some(ours) => response.with_body(json::to_vec(&ours)),
            None => response,
        })
    }

    fn get_broker_member_group(&self, command: &RemotingCommand) -> Answer {
        let header: BrokerMemberGroupHeader = fields(command)?;
        let table = self.table.read();
        let data = table
            .group(&header.broker_name)
            .map(|group| group.to_broker_data(&header.broker_name));
        let broker_member_group = BrokerMemberGroup {
            broker_addrs: data.map(|data| data.broker_addrs).unwrap_or_default(),
            broker_name: header.broker_name,
            cluster: header.cluster_name,
        };
        Ok(success().with_body(json::to_vec(&GetBrokerMemberGroupBody { broker_member_group })))
    }

    fn get_broker_cluster_info(&self) -> RemotingCommand {
        let table = self.table.read();
        let mut info = ClusterInfo::default();
        for (name, group) in table.groups() {
            let in_cluster = info.cluster_addr_table.entry(group.cluster.clone()).or_default();
            in_cluster.insert(name.to_string());
            info.broker_addr_table
                .insert(name.to_string(), group.to_broker_data(name));
        }
        success().with_body(json::to_vec(&info))
    }

    fn register_topic(&self, command: &RemotingCommand) -> Answer {
        let header: TopicHeader = fields(command)?;
        let route: TopicRouteData = body(command)?;
        self.table.write().register_topic(&header.topic, route.queue_datas);
        Ok(success())
    }

    fn delete_topic(&self, command: &RemotingCommand) -> Answer {
        let header: DeleteTopicInNamesrvHeader = fields(command)?;
        let cluster = header.cluster_name.filter(|cluster| !cluster.is_empty());
        self.table.write().delete_topic(&header.topic, cluster.as_deref());
        Ok(success())
    }

    fn wipe_write_perm_of_broker(&self, command: &RemotingCommand) -> Answer {
        let header: BrokerNameHeader = fields(command)?;
        let wipe_topic_count = self.table.write().wipe_write_permission(&header.broker_name);
        Ok(success().with_fields(&WipeWritePermReply { wipe_topic_count }))
    }

    fn add_write_perm_of_broker(&self, command: &RemotingCommand) -> Answer {
        let header: BrokerNameHeader = fields(command)?;
        let add_topic_count = self.table.write().add_write_permission(&header.broker_name);
        Ok(success().with_fields(&AddWritePermReply { add_topic_count }))
    }

    fn get_all_topic_list(&self) -> Answer {
        if !self.config.read().enable_all_topic_list {
            return Err(RequestError::Disabled);
        }
        Ok(topic_list(self.table.read().topics(), None))
    }

    fn get_topics_by_cluster(&self, command: &RemotingCommand) -> Answer {
        let header: ClusterHeader = fields(command)?;
        if !self.config.read().enable_topic_list {
            return Err(RequestError::Disabled);
        }
        Ok(topic_list(
            self.table.read().topics_of_cluster(&header.cluster.unwrap_or_default()),
            None,
        ))
    }

    fn topics_by_flag(&self, fits: impl Fn(i32) -> bool) -> Answer {
        if !self.config.read().enable_topic_list {
            return Err(RequestError::Disabled);
        }
        Ok(topic_list(self.table.read().topics_by_flag(fits), None))
    }

    fn get_system_topic_list(&self) -> RemotingCommand {
        let table = self.table.read();
        let names = table.clusters().into_iter().flat_map(|(cluster, brokers)| {
            let names: Vec<String> = brokers.into_iter().map(str::to_owned).collect();
            std::iter::once(cluster.to_owned()).chain(names)
        });
        let names: BTreeSet<String> = names.collect();
        let addr = table.groups().find_map(|(_, group)| group.addrs.values().next());
        topic_list(names, addr.map(|addr| addr.to_string()))
    }

    fn get_kv_config(&self, command: &RemotingCommand) -> Answer {
        let KvConfigHeader { namespace, key } = fields(command)?;
        let both = namespace.as_ref().zip(key.as_ref());
        let value = both.and_then(|(namespace, key)| self.kv.get(namespace, key));
        let not_found = || {
            let (namespace, key) = (or_null(namespace.as_ref()), or_null(key.as_ref()));
            RequestError::NotFound(format!("No config item, Namespace: {namespace} Key: {key}"))
        };
        let value = Some(value.ok_or_else(not_found)?);
        Ok(success().with_fields(&GetKvConfigReply { value }))
    }

    fn get_kv_list_by_namespace(&self, command: &RemotingCommand) -> Answer {
        let NamespaceHeader { namespace } = fields(command)?;
        let table = namespace.as_deref().and_then(|namespace| self.kv.namespace(namespace));
        let not_found =
            || RequestError::NotFound(format!("No config item, Namespace: {}", or_null(namespace.as_ref())));
        let table = table.ok_or_else(not_found)?;
        Ok(success().with_body(json::to_vec(&KvTable { table })))
    }

    fn put_kv_config(&self, command: &RemotingCommand) -> Outcome {
        let header: Result<PutKvConfigHeader, RequestError> = fields(command);
        let kv = Arc::clone(&self.kv);
        blocking(move || {
            let PutKvConfigHeader { namespace, key, value } = header?;
            let (Some(namespace), Some(key)) = (namespace, key) else {
                return Err(RequestError::NoKvKey);
            };
            kv.put(namespace, key, value.unwrap_or_default())?;
            Ok(success())
        })
    }

    fn delete_kv_config(&self, command: &RemotingCommand) -> Outcome {
        let header: Result<KvConfigHeader, RequestError> = fields(command);
        let kv = Arc::clone(&self.kv);
        blocking(move || {
            let KvConfigHeader { namespace, key } = header?;
            let Some((namespace, key)) = namespace.zip(key) else {
                return Ok(success());
            };
            kv.delete(&namespace, &key)?;
            Ok(success())
        })
    }

    fn update_namesrv_config(&self, command: &RemotingCommand) -> Outcome {
        let (config, properties) = (Arc::clone(&self.config), command.body.clone());
        let saving = Arc::clone(&self.saving_config);
        blocking(move || {
            let _saving = saving.lock();
            let mut changed = config.read().clone();
            let black_list = changed.config_black_list.clone();
            changed.update(&properties, &black_list).map_err(|error| match error {
                UpdateError::NotRemote(_) => RequestError::BlackList,
                UpdateError::Bad(bad) => RequestError::Setting(bad.to_string()),
            })?;
            save(
                Path::new(&changed.config_store_path),
                changed.to_properties().as_bytes(),
            )
            .map_err(RequestError::Save)?;
            *config.write() = changed;
            Ok(success())
        })
    }
}

/// Whether it changes what operators have set. Brokers send none of these.
fn is_administrative(code: RequestCode) -> bool {
    use RequestCode as Code;
    matches!(
        code,
        Code::PutKvConfig
            | Code::DeleteKvConfig
            | Code::UpdateNamesrvConfig
            | Code::DeleteTopicInNamesrv
            | Code::WipeWritePermOfBroker
            | Code::AddWritePermOfBroker
    )
}

/// Writes a line to the audit log when the outcome is known.
fn audited(code: RequestCode, asked: RemotingCommand, from: SocketAddr, outcome: Outcome) -> Outcome {
    let write = move |reply: RemotingCommand| {
        let has_failed = reply.header.code != response_code::SUCCESS;
        let refused = has_failed.then(|| reply.header.remark.as_deref().unwrap_or_default());
        audit(code, &asked, from, refused);
        reply
    };
    match outcome {
        Outcome::Reply(reply) => write(reply).into(),
        Outcome::Later(reply) => Outcome::later(async move { write(reply.await) }),
        other => other,
    }
}

/// The answer as a response; its opaque is filled in where it is sent.
fn reply(answer: Answer) -> RemotingCommand {
    answer.unwrap_or_else(|error| RemotingCommand::response(0, error.code(), Some(error.to_string())))
}

fn success() -> RemotingCommand {
    RemotingCommand::response(0, response_code::SUCCESS, None)
}

fn fields<F: FieldSet>(command: &RemotingCommand) -> Result<F, RequestError> {
    Ok(F::read(&command.header.ext_fields)?)
}

fn body<T: DeserializeOwned>(command: &RemotingCommand) -> Result<T, RequestError> {
    json::from_slice(&command.body).map_err(|error| RequestError::Body(error.to_string()))
}

/// A name in a remark. An absent one, which the binary header makes of an empty one, is no error to the original.
fn or_null(name: Option<&String>) -> &str {
    name.map_or("null", String::as_str)
}

/// Runs what waits for the disk away from the worker.
fn blocking(run: impl FnOnce() -> Answer + Send + 'static) -> Outcome {
    let task = tokio::task::spawn_blocking(run);
    Outcome::later(async { reply(task.await.unwrap_or(Err(RequestError::Interrupted))) })
}

fn topic_list(topic_list: BTreeSet<String>, broker_addr: Option<String>) -> RemotingCommand {
    success().with_body(json::to_vec(&TopicList {
        topic_list,
        broker_addr,
    }))
}

/// The zone whose brokers alone the client wants to see.
fn requested_zone(command: &RemotingCommand) -> Option<&str> {
    let fields = &command.header.ext_fields;
    fields
        .get("__ZONE_MODE")
        .filter(|mode| mode.eq_ignore_ascii_case("true"))?;
    fields.get("__ZONE_NAME").filter(|zone| !zone.trim().is_empty())
}

/// Keeps the brokers of a zone. Groups without a master stay: a client must find the slave to read from.
fn retain_zone(route: &mut TopicRouteData, zone: &str) {
    route.broker_datas.retain(|broker| {
        let name = broker.zone_name.as_deref().unwrap_or_default();
        !broker.broker_addrs.contains_key(&MASTER_ID) || name.eq_ignore_ascii_case(zone)
    });
    let kept: BTreeSet<&str> = route
        .broker_datas
        .iter()
        .map(|broker| broker.broker_name.as_str())
        .collect();
    route
        .queue_datas
        .retain(|queues| kept.contains(queues.broker_name.as_str()));
}
