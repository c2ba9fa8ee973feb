//! An account of plain_acl.yml, and what it may do.
//!
//! Permissions of a group are kept under its retry topic, as in the original: whoever may consume in the group may send to
//! that topic.

use std::net::IpAddr;

use hashbrown::HashMap;
use oxmq_protocol::body::{HeartbeatData, PlainAccountConfig};
use oxmq_protocol::topic::{self, TRACE_TOPIC};
use oxmq_protocol::{RequestCode, json};
use oxmq_remoting::signing::SigningKey;

use super::white_address::{WhiteAddress, WhiteAddressError};
use crate::access::request::SignedRequest;

/// Keys have more characters than this.
const KEY_LENGTH_MIN: usize = 6;

const PUB: u8 = 1;
const SUB: u8 = 2;

/// Why an account is refused, in the words of the original.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error("The accessKey={0} and secretKey cannot be null and length should longer than 6")]
    Keys(String),
    #[error(
        "Parse Resource format error for {0}.\nThe expected resource format is 'Res=Perm'. For example: topicA=SUB"
    )]
    PermFormat(String),
    #[error(
        "Parse resource permission error for {0}.\nThe expected permissions are 'SUB' or 'PUB' or 'SUB|PUB' or 'PUB|SUB'."
    )]
    Perm(String),
    #[error(transparent)]
    White(#[from] WhiteAddressError),
}

/// Why a request is refused, in the words of the original.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlainRefusal {
    #[error("No accessKey is configured")]
    NoAccessKey,
    #[error("No acl config for {0}")]
    Unknown(String),
    #[error("Check signature failed for accessKey={0}")]
    Signature(String),
    #[error("Need admin permission for request code={code}, but accessKey={access_key} is not")]
    NotAdmin { code: i32, access_key: String },
    #[error("No default permission for {0}")]
    Denied(String),
    #[error("the body cannot be read")]
    Body,
}

pub(crate) struct Account {
    pub(super) config: PlainAccountConfig,
    pub(super) white: WhiteAddress,
    pub(super) key: SigningKey,
    default_topic_perm: u8,
    default_group_perm: u8,
    /// By topic; groups by their retry topic.
    perms: HashMap<String, u8>,
}

/// What a request does to a topic, or to a group under its retry topic.
type Needs = Vec<(String, u8)>;

impl Account {
    pub(crate) fn new(config: PlainAccountConfig) -> Result<Account, AccountError> {
        let secret_key = config.secret_key.as_deref().unwrap_or_default();
        let is_long = |key: &str| key.encode_utf16().count() > KEY_LENGTH_MIN;
        if !is_long(&config.access_key) || !is_long(secret_key) {
            return Err(AccountError::Keys(config.access_key));
        }
        let mut perms = HashMap::new();
        for group in config.group_perms.iter().flatten() {
            let (group, perm) = split_perm(group)?;
            perms.insert(topic::retry_topic(group), read_perm(perm));
        }
        for topic in config.topic_perms.iter().flatten() {
            let (topic, perm) = split_perm(topic)?;
            perms.insert(topic.to_owned(), read_perm(perm));
        }
        Ok(Account {
            white: WhiteAddress::parse(config.white_remote_address.as_deref().unwrap_or_default())?,
            key: SigningKey::new(secret_key),
            default_topic_perm: config.default_topic_perm.as_deref().map_or(0, read_perm),
            default_group_perm: config.default_group_perm.as_deref().map_or(0, read_perm),
            perms,
            config,
        })
    }

    /// Stricter than reading a file: a permission that is none is refused.
    pub(crate) fn check(config: &PlainAccountConfig) -> Result<(), AccountError> {
        let perms = config.topic_perms.iter().chain(&config.group_perms).flatten();
        for perm in perms {
            let (_, value) = split_perm(perm)?;
            if value != "DENY" && read_perm(value) == 0 {
                return Err(AccountError::Perm(perm.clone()));
            }
        }
        Account::new(config.clone()).map(|_| ())
    }

    /// Whether the account may do this, once it is known to be its owner who asks.
    pub(crate) fn permits(&self, request: &SignedRequest<'_>, body: &[u8]) -> Result<(), PlainRefusal> {
        let needs = needs(request, body)?;
        // Traces may be sent by everybody who is known.
        if needs.iter().any(|(topic, perm)| topic == TRACE_TOPIC && *perm == PUB) {
            return Ok(());
        }
        if needs_admin(request.code) && !self.config.admin {
            return Err(PlainRefusal::NotAdmin {
                code: request.code,
                access_key: self.config.access_key.clone(),
            });
        }
        if self.perms.is_empty() && self.config.admin {
            return Ok(());
        }
        for (name, needed) in needs {
            let group = topic::group_of_retry(&name);
            let default = match group {
                Some(_) => self.default_group_perm,
                None => self.default_topic_perm,
            };
            if self.perms.get(&name).unwrap_or(&default) & needed == 0 {
                return Err(PlainRefusal::Denied(match group {
                    Some(group) => format!("group:{group}"),
                    None => format!("topic:{name}"),
                }));
            }
        }
        Ok(())
    }

    pub(super) fn is_welcome_from(&self, ip: IpAddr) -> bool {
        self.white.matches(ip)
    }
}

/// Requests of administrators only. Those about this very list are not among them in the original, whose accounts could
/// read the secret keys of all others (CVE-2024-23321).
fn needs_admin(code: i32) -> bool {
    use RequestCode as Code;
    let Some(code) = Code::from_code(code) else {
        return false;
    };
    matches!(
        code,
        Code::UpdateAndCreateTopic
            | Code::UpdateAndCreateTopicList
            | Code::UpdateBrokerConfig
            | Code::DeleteTopicInBroker
            | Code::UpdateAndCreateSubscriptionGroup
            | Code::UpdateAndCreateSubscriptionGroupList
            | Code::DeleteSubscriptionGroup
            | Code::UpdateAndCreateAclConfig
            | Code::DeleteAclConfig
            | Code::UpdateGlobalWhiteAddrsConfig
            | Code::GetBrokerClusterAclConfig
    )
}

fn needs(request: &SignedRequest<'_>, body: &[u8]) -> Result<Needs, PlainRefusal> {
    let field = |name: &str| request.get(name).map(|value| value.into_owned());
    let group = |name: &str| field(name).map(|group| (topic::retry_topic(&group), SUB));
    let topic = |name: &str| field(name).map(|topic| (topic, SUB));
    let send = |topic_field: &str, group_field: &str| match field(topic_field) {
        Some(name) if topic::is_retry(&name) => group(group_field),
        name => name.map(|name| (name, PUB)),
    };
    let needs = match request.code {
        10 => vec![send("topic", "group")],
        310 | 320 => vec![send("b", "a")],
        36 => vec![group("group")],
        11 | 361 => vec![topic("topic"), group("consumerGroup")],
        12 => vec![topic("topic")],
        35 | 38 => vec![group("consumerGroup")],
        15 => vec![group("consumerGroup"), topic("topic")],
        200_050..=200_054 => vec![topic("topic"), group("consumerGroup")],
        34 => return heartbeat(body),
        _ => return Ok(Needs::new()),
    };
    Ok(needs.into_iter().flatten().collect())
}

fn heartbeat(body: &[u8]) -> Result<Needs, PlainRefusal> {
    let data: HeartbeatData = json::from_slice(body).map_err(|_| PlainRefusal::Body)?;
    let mut needs = Needs::new();
    for consumer in data.consumer_data_set {
        needs.push((topic::retry_topic(&consumer.group_name), SUB));
        let subscribed = consumer.subscription_data_set.into_iter();
        needs.extend(subscribed.map(|subscription| (subscription.topic, SUB)));
    }
    Ok(needs)
}

fn split_perm(text: &str) -> Result<(&str, &str), AccountError> {
    let mut parts = text.split('=').filter(|part| !part.is_empty());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(perm), None) => Ok((name.trim(), perm.trim())),
        _ => Err(AccountError::PermFormat(text.to_owned())),
    }
}

/// What is no permission denies.
fn read_perm(text: &str) -> u8 {
    match text.trim() {
        "PUB" => PUB,
        "SUB" => SUB,
        "PUB|SUB" | "SUB|PUB" => PUB | SUB,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::request::tests::command;

    fn account(change: impl FnOnce(&mut PlainAccountConfig)) -> Account {
        let mut config = PlainAccountConfig {
            access_key: "rocketmq".into(),
            secret_key: Some("12345678".into()),
            ..PlainAccountConfig::default()
        };
        change(&mut config);
        Account::new(config).unwrap()
    }

    fn refused(account: &Account, code: i32, fields: &[(&str, &str)]) -> Option<String> {
        let command = command(code, fields);
        let request = SignedRequest::of_header(&command.header);
        account.permits(&request, b"").err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn what_is_named_goes_before_the_defaults() {
        let account = account(|config| {
            config.default_topic_perm = Some("DENY".into());
            config.default_group_perm = Some("SUB".into());
            config.topic_perms = Some(
                ["topicA=DENY", "topicB=PUB|SUB", "topicC=SUB"]
                    .map(String::from)
                    .to_vec(),
            );
            config.group_perms = Some(["groupA=DENY", "groupB=PUB|SUB"].map(String::from).to_vec());
        });
        let send = |topic| refused(&account, 310, &[("a", "p"), ("b", topic)]);
        assert_eq!(
            send("topicA").as_deref(),
            Some("No default permission for topic:topicA")
        );
        assert_eq!(send("topicB"), None);
        assert_eq!(
            send("topicC").as_deref(),
            Some("No default permission for topic:topicC")
        );
        assert_eq!(send("other").as_deref(), Some("No default permission for topic:other"));
        assert_eq!(send(TRACE_TOPIC), None);
        let pull = |topic, group| refused(&account, 11, &[("topic", topic), ("consumerGroup", group)]);
        assert_eq!(pull("topicC", "any"), None);
        assert_eq!(
            pull("topicC", "groupA").as_deref(),
            Some("No default permission for group:groupA")
        );
        assert_eq!(refused(&account, 36, &[("group", "groupB")]), None);
        let refusal = "Need admin permission for request code=17, but accessKey=rocketmq is not";
        assert_eq!(refused(&account, 17, &[("topic", "x")]).as_deref(), Some(refusal));
    }

    #[test]
    fn administrators_without_permissions_of_their_own_may_do_everything() {
        let all = account(|config| config.admin = true);
        assert_eq!(refused(&all, 310, &[("a", "p"), ("b", "any")]), None);
        let some = account(|config| {
            config.admin = true;
            config.topic_perms = Some(vec!["t=PUB".into()]);
        });
        assert_eq!(refused(&some, 17, &[("topic", "x")]), None);
        assert!(refused(&some, 310, &[("a", "p"), ("b", "any")]).is_some());
    }

    /// CVE-2024-23321.
    #[test]
    fn accounts_that_are_no_administrators_neither_read_nor_change_accounts() {
        let account = account(|config| config.default_topic_perm = Some("PUB|SUB".into()));
        for code in [50, 51, 53, 54] {
            assert!(
                refused(&account, code, &[("accessKey", "rocketmq")]).is_some(),
                "{code}"
            );
        }
    }

    #[test]
    fn accounts_that_are_none_are_refused() {
        let check = |perm: &str, keys: (&str, &str)| {
            Account::check(&PlainAccountConfig {
                access_key: keys.0.into(),
                secret_key: Some(keys.1.into()),
                topic_perms: Some(vec![perm.into()]),
                ..PlainAccountConfig::default()
            })
        };
        assert_eq!(check("t=PUB", ("1234567", "1234567")), Ok(()));
        assert_eq!(check("t=DENY", ("1234567", "1234567")), Ok(()));
        assert!(matches!(
            check("t=PUB", ("123456", "1234567")),
            Err(AccountError::Keys(_))
        ));
        assert!(matches!(
            check("t", ("1234567", "1234567")),
            Err(AccountError::PermFormat(_))
        ));
        assert!(matches!(
            check("t=ALL", ("1234567", "1234567")),
            Err(AccountError::Perm(_))
        ));
    }
}
