//! Who may do what: users and policies of 5.x, accounts of 4.x (spec: protocol.md §3.8, §8.8; config.md §3.2, §3.4).
//!
//! Both are off unless switched on, and then a request costs nothing here. Otherwise each request, on every port, is
//! judged before anything else looks at it: first whose it is (its signature), then whether its owner may do what it asks
//! for. The name server of the original knows no access control, and ours neither.
//!
//! A decision is made of a request, the address it came from, and one snapshot of the tables. So a change counts from the
//! next request on, also for connections that are open.

mod address;
mod ask;
mod gate;
pub mod harness;
mod migration;
pub(crate) mod plain;
pub(crate) mod policy;
pub(crate) mod request;
pub(crate) mod users;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use oxmq_protocol::json;
use oxmq_remoting::Credentials;
use oxmq_remoting::signing::{ACCESS_KEY, SIGNATURE};
use serde::Deserialize;

use crate::config::BrokerConfig;
use crate::config_file::ConfigFile;
use ask::UnreadableAsk;
pub(crate) use gate::Gate;
use plain::account::PlainRefusal;
use plain::{PlainAcl, PlainAclError};
use policy::Decision;
use request::SignedRequest;
use users::{Snapshot, User, UserChange, UserError, UserStatus, UserType, Users};

/// What the settings say of access, and the tables they ask for.
pub(crate) struct Access {
    authentication: bool,
    authorization: bool,
    /// Codes that are let through without a look at the signature, or at the policies.
    authentication_whitelist: BTreeSet<i32>,
    authorization_whitelist: BTreeSet<i32>,
    stateful: Option<Stateful>,
    cluster: String,
    /// There for whoever administers them, even while nothing is checked.
    pub(crate) users: Option<Users>,
    has_policies: bool,
    /// What the broker signs its own requests with.
    pub(crate) inner_credentials: Option<Credentials>,
    pub(crate) plain: Option<PlainAcl>,
}

/// How long a signature that was right vouches for its connection.
#[derive(Debug, Clone, Copy)]
struct Stateful {
    connections_max: usize,
    expires: Duration,
}

/// Why a request is not served, in the words of the original.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denial {
    #[error("The authenticationMetadataProvider is not configured")]
    NoUsers,
    #[error("The authorizationMetadataProvider is not configured")]
    NoPolicies,
    #[error("username cannot be null.")]
    NoUserName,
    #[error("User:{0} is not found.")]
    Unknown(String),
    #[error("User:{0} is disabled.")]
    Disabled(String),
    #[error("check signature failed.")]
    Signature,
    #[error("Authorization failed. Please verify your access rights and try again.")]
    Nobody,
    #[error("User:{0} not found.")]
    NotFound(String),
    #[error(transparent)]
    Unreadable(#[from] UnreadableAsk),
    #[error("User:{user} has no permission to access {resource} from {from}, {why}")]
    Policy {
        user: String,
        resource: String,
        from: IpAddr,
        why: &'static str,
    },
    #[error("org.apache.rocketmq.acl.common.AclException: {0}")]
    Plain(#[from] PlainRefusal),
}

/// Why a broker does not start with these settings of access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("{key}={value}: only the providers and strategies of RocketMQ itself are known")]
    Class { key: &'static str, value: String },
    #[error("{key}: {why}")]
    Setting { key: &'static str, why: String },
    #[error("aclEnable=true: where conf/plain_acl.yml is has to be said by rocketmqHome or $ROCKETMQ_HOME")]
    Home,
    #[error(transparent)]
    Plain(#[from] Box<PlainAclError>),
    #[error("auth.json: {0}")]
    Users(#[from] io::Error),
}

#[derive(Deserialize)]
struct InitUser {
    username: String,
    password: String,
}

impl Access {
    pub(crate) fn open(config: &BrokerConfig, file: ConfigFile, now: i64) -> Result<Access, AccessError> {
        let keeps = |key, class: &String, known| is_class(key, class, known);
        let has_users = keeps(
            "authenticationMetadataProvider",
            &config.authentication_metadata_provider,
            &["LocalAuthenticationMetadataProvider"],
        )?;
        let has_policies = keeps(
            "authorizationMetadataProvider",
            &config.authorization_metadata_provider,
            &["LocalAuthorizationMetadataProvider"],
        )?;
        let access = Access {
            authentication: config.authentication_enabled,
            authorization: config.authorization_enabled,
            authentication_whitelist: codes(&config.authentication_whitelist),
            authorization_whitelist: codes(&config.authorization_whitelist),
            stateful: stateful(config)?,
            cluster: config.broker_cluster_name.clone(),
            users: has_users.then(|| Users::open(file)).transpose()?,
            has_policies,
            inner_credentials: inner_credentials(config)?,
            plain: plain(config)?,
        };
        if (access.authentication || access.authorization) && !(has_users && has_policies) {
            tracing::warn!(
                "authenticationMetadataProvider and authorizationMetadataProvider are not both set: requests are refused"
            );
        }
        access.create_initial_users(config, now)?;
        if config.migrate_auth_from_v1_enabled {
            access.migrate(config, now)?;
        }
        Ok(access)
    }

    /// Nothing is checked.
    pub(crate) fn is_off(&self) -> bool {
        !self.authentication && !self.authorization && self.plain.is_none()
    }

    pub(crate) fn persist(&self) -> io::Result<()> {
        self.users.as_ref().map_or(Ok(()), Users::persist)
    }

    /// Whether policies can be kept, which takes both providers.
    pub(crate) fn policies(&self) -> Option<&Users> {
        self.users.as_ref().filter(|_| self.has_policies)
    }

    fn create_initial_users(&self, config: &BrokerConfig, now: i64) -> Result<(), AccessError> {
        let wrong = |key| {
            move |why: String| AccessError::Setting {
                key,
                why: format!("{why}; the value is not shown"),
            }
        };
        let mut initial = Vec::new();
        if !config.init_authentication_user.trim().is_empty() {
            let key = "initAuthenticationUser";
            let user = json::from_slice::<InitUser>(config.init_authentication_user.as_bytes());
            let user = user.map_err(|_| wrong(key)(r#"it should be {"username":"…","password":"…"}"#.into()))?;
            initial.push((key, user.username, user.password));
        }
        if let Some(inner) = self.inner_credentials.clone() {
            initial.push((
                "innerClientAuthenticationCredentials",
                inner.access_key,
                inner.secret_key,
            ));
        }
        for (key, name, password) in initial {
            let users = self.users.as_ref().ok_or_else(|| AccessError::Setting {
                key,
                why: "authenticationMetadataProvider is not set".into(),
            })?;
            let new = UserChange {
                password: Some(password),
                user_type: Some(UserType::Super),
                status: None,
            };
            match users.create(&name, new, now) {
                Ok(()) | Err(UserError::Exists) => {}
                Err(error) => return Err(wrong(key)(error.to_string())),
            }
        }
        Ok(self.persist()?)
    }

    /// Whether a request may pass. `vouched` says whether its connection has proved lately to be this user's.
    fn check(
        &self,
        request: &SignedRequest<'_>,
        body: &[u8],
        from: IpAddr,
        content: &mut Vec<u8>,
        vouched: impl FnOnce(&str, u64, &mut dyn FnMut() -> bool) -> bool,
    ) -> Result<(), Denial> {
        if let Some(plain) = &self.plain {
            plain.check(request, body, from, content)?;
        }
        if !self.authentication && !self.authorization {
            return Ok(());
        }
        let snapshot = self.users.as_ref().map(Users::snapshot);
        let caller = Caller::of(request, snapshot.as_deref().map(|snapshot| &**snapshot));
        if self.authentication && !self.authentication_whitelist.contains(&request.code) {
            caller.authenticate(request, body, content, vouched)?;
        }
        if self.authorization && !self.authorization_whitelist.contains(&request.code) {
            self.authorize(&caller, request, body, from)?;
        }
        Ok(())
    }

    fn authorize(
        &self,
        caller: &Caller<'_>,
        request: &SignedRequest<'_>,
        body: &[u8],
        from: IpAddr,
    ) -> Result<(), Denial> {
        let asks = ask::asks(request, body, &self.cluster)?;
        if asks.is_empty() {
            return Ok(());
        }
        let name = caller.name.as_deref().ok_or(Denial::Nobody)?;
        caller.users.ok_or(Denial::NoUsers)?;
        let user = caller.user.ok_or_else(|| Denial::NotFound(name.to_owned()))?;
        if user.user_type == UserType::Super {
            return Ok(());
        }
        if !self.has_policies {
            return Err(Denial::NoPolicies);
        }
        for ask in &asks {
            let why = match user.rules.decide(ask, from) {
                Some(Decision::Allow) => continue,
                Some(Decision::Deny) => "the decision is deny.",
                None => "no matched policies.",
            };
            return Err(Denial::Policy {
                user: name.to_owned(),
                resource: ask.to_string(),
                from,
                why,
            });
        }
        Ok(())
    }

    /// Whether who asks for this may see passwords: he has proved who he is, and may administer users or everything.
    pub(crate) fn shows_passwords(&self, code: i32, name: Option<&str>) -> bool {
        let is_super = || {
            name.and_then(|name| self.user(name))
                .is_some_and(|user| user.user_type == UserType::Super)
        };
        self.authentication
            && !self.authentication_whitelist.contains(&code)
            && (self.authorization && !self.authorization_whitelist.contains(&code) || is_super())
    }

    /// The user of this name.
    pub(crate) fn user(&self, name: &str) -> Option<std::sync::Arc<User>> {
        self.users.as_ref()?.snapshot().get(name).cloned()
    }
}

/// Who a request says it is from.
struct Caller<'a> {
    name: Option<Cow<'a, str>>,
    /// Nothing where none are kept.
    users: Option<&'a Snapshot>,
    user: Option<&'a User>,
}

impl<'a> Caller<'a> {
    fn of(request: &'a SignedRequest<'_>, users: Option<&'a Snapshot>) -> Caller<'a> {
        let name = request.get(ACCESS_KEY);
        let user = users.zip(name.as_deref()).and_then(|(users, name)| users.get(name));
        Caller {
            user: user.map(|user| &**user),
            name,
            users,
        }
    }

    fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        body: &[u8],
        content: &mut Vec<u8>,
        vouched: impl FnOnce(&str, u64, &mut dyn FnMut() -> bool) -> bool,
    ) -> Result<(), Denial> {
        let users = self.users.ok_or(Denial::NoUsers)?;
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or(Denial::NoUserName)?;
        let user = self.user.ok_or_else(|| Denial::Unknown(name.to_owned()))?;
        if user.status == UserStatus::Disable {
            return Err(Denial::Disabled(name.to_owned()));
        }
        let mut is_signed = || {
            request.write_content(body, content);
            let signature = request.get(SIGNATURE).unwrap_or_default();
            user.key.verify(content, signature.as_bytes())
        };
        match vouched(name, users.number, &mut is_signed) {
            true => Ok(()),
            false => Err(Denial::Signature),
        }
    }
}

fn inner_credentials(config: &BrokerConfig) -> Result<Option<Credentials>, AccessError> {
    let text = config.inner_client_authentication_credentials.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let credentials = json::from_slice(text.as_bytes()).map_err(|_| AccessError::Setting {
        key: "innerClientAuthenticationCredentials",
        why: r#"it should be {"accessKey":"…","secretKey":"…"}; the value is not shown"#.into(),
    })?;
    Ok(Some(credentials))
}

fn plain(config: &BrokerConfig) -> Result<Option<PlainAcl>, AccessError> {
    if !config.acl_enable {
        return Ok(None);
    }
    let home = config.rocketmq_home.as_deref().ok_or(AccessError::Home)?;
    Ok(Some(PlainAcl::open(Path::new(home), &config.acl_plain_file)?))
}

fn stateful(config: &BrokerConfig) -> Result<Option<Stateful>, AccessError> {
    for (key, value, known) in [
        (
            "authenticationProvider",
            &config.authentication_provider,
            &["DefaultAuthenticationProvider"][..],
        ),
        (
            "authorizationProvider",
            &config.authorization_provider,
            &["DefaultAuthorizationProvider"],
        ),
        (
            "authorizationStrategy",
            &config.authorization_strategy,
            &["StatelessAuthorizationStrategy", "StatefulAuthorizationStrategy"],
        ),
        (
            "authenticationStrategy",
            &config.authentication_strategy,
            &["StatelessAuthenticationStrategy", "StatefulAuthenticationStrategy"],
        ),
    ] {
        is_class(key, value, known)?;
    }
    let is_stateful = config
        .authentication_strategy
        .ends_with("StatefulAuthenticationStrategy");
    Ok(is_stateful.then(|| Stateful {
        connections_max: config.stateful_authentication_cache_max_num,
        expires: Duration::from_secs(config.stateful_authentication_cache_expired_second),
    }))
}

/// Whether a class of RocketMQ is named; an error if it is another's.
fn is_class(key: &'static str, value: &str, known: &[&str]) -> Result<bool, AccessError> {
    let name = value.trim();
    let simple_name = name.rsplit('.').next().unwrap_or_default();
    match (name, known.contains(&simple_name)) {
        ("", _) => Ok(false),
        (_, true) => Ok(true),
        (_, false) => Err(AccessError::Class {
            key,
            value: value.to_owned(),
        }),
    }
}

/// Codes with commas between them. What is no number names a gRPC request, which there is none of here.
fn codes(list: &str) -> BTreeSet<i32> {
    list.split(',').filter_map(|code| code.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests;
