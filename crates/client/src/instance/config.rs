//! How to reach the servers, and what to call oneself.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use oxmq_protocol::body::MessageModel;
use oxmq_remoting::ClientConfig;
use tokio::net::UdpSocket;

use crate::namespace::Namespace;
use crate::trace::TraceConfig;

/// How to reach the servers and what to call oneself.
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    /// `a:9876;b:9876`.
    pub name_server: String,
    /// Clients with one name on one host are one client to the broker: its members must be of different groups.
    /// `None` makes a name that nobody else has.
    pub instance_name: Option<String>,
    pub unit_name: Option<String>,
    /// Producers and consumers have topics and groups of this namespace: the servers see `namespace%topic`, the application
    /// `topic`. For servers that know namespaces only as part of names.
    pub namespace: Option<String>,
    /// Told to the servers with every request, while names stay as they are.
    pub namespace_v2: Option<String>,
    /// Calls that are no pulls go to the port of brokers that is kept free of pulls: their own less 2. Off by default.
    pub vip_channel_enabled: bool,
    /// The address to show; `None` takes the one that name servers see.
    pub client_ip: Option<IpAddr>,
    pub poll_name_server_interval: Duration,
    pub heartbeat_broker_interval: Duration,
    /// For everything but sends and pulls.
    pub api_timeout: Duration,
    pub remoting: ClientConfig,
    /// Traces what members send and consume. `None`, the default, does not.
    pub trace: Option<TraceConfig>,
}

impl Default for InstanceConfig {
    fn default() -> InstanceConfig {
        InstanceConfig {
            name_server: std::env::var("NAMESRV_ADDR").unwrap_or_default(),
            instance_name: None,
            unit_name: None,
            namespace: None,
            namespace_v2: None,
            vip_channel_enabled: false,
            client_ip: None,
            poll_name_server_interval: Duration::from_secs(30),
            heartbeat_broker_interval: Duration::from_secs(30),
            api_timeout: Duration::from_secs(3),
            remoting: ClientConfig::default(),
            trace: None,
        }
    }
}

/// A client that keeps its offsets in a file has this name, so that they are found again after a restart.
const DEFAULT_INSTANCE_NAME: &str = "DEFAULT";

impl InstanceConfig {
    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::new(self.namespace.as_deref())
    }

    /// How requests are written and sent.
    pub(super) fn remoting(&self) -> ClientConfig {
        let mut remoting = self.remoting.clone();
        if let Some(namespace) = self.namespace_v2.as_ref().filter(|name| !name.is_empty()) {
            let fields = [("nsd", "true"), ("ns", namespace)];
            let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            remoting.common_fields.extend(fields);
        }
        remoting
    }

    /// A name for a consumer that was not given one.
    pub(crate) fn for_model(mut self, model: MessageModel) -> InstanceConfig {
        if model == MessageModel::Broadcasting {
            self.instance_name
                .get_or_insert_with(|| DEFAULT_INSTANCE_NAME.to_owned());
        }
        self
    }
}

/// The port that a broker keeps free of pulls (spec: protocol.md §1.3).
pub(super) fn fast_addr(addr: &str) -> Option<String> {
    let (host, port) = addr.rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?.checked_sub(2)?;
    Some(format!("{host}:{port}"))
}

/// `ip@instanceName[@unitName]`.
pub(super) fn client_id(ip: IpAddr, config: &InstanceConfig) -> String {
    let name = config.instance_name.clone().unwrap_or_else(unique_instance_name);
    match &config.unit_name {
        Some(unit) => format!("{ip}@{name}@{unit}"),
        None => format!("{ip}@{name}"),
    }
}

fn unique_instance_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}#{}#{count}", std::process::id(), now.as_nanos())
}

/// The address from which packets to a name server go. Nothing is sent to find out.
pub(super) async fn own_ip(name_servers: &[String]) -> IpAddr {
    for addr in name_servers {
        for any in ["0.0.0.0:0", "[::]:0"] {
            let ip = async {
                let socket = UdpSocket::bind(any).await?;
                socket.connect(addr).await?;
                socket.local_addr()
            };
            if let Ok(local) = ip.await {
                return local.ip();
            }
        }
    }
    Ipv4Addr::LOCALHOST.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_without_pulls_is_two_below() {
        assert_eq!(fast_addr("1.2.3.4:10911").as_deref(), Some("1.2.3.4:10909"));
        assert_eq!(fast_addr("[::1]:10911").as_deref(), Some("[::1]:10909"));
        assert_eq!(fast_addr("host:1"), None);
        assert_eq!(fast_addr("host"), None);
    }
}
