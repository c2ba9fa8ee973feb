//! One file of accounts: plain_acl.yml (spec: config.md §3.2).
//!
//! What the broker does not know stays in the file when it changes it. Comments are lost, as in the original.

use oxmq_protocol::body::{DataVersion, PlainAccountConfig};
use serde_json::{Map, Value, json};

use super::account::{Account, AccountError};
use super::white_address::{WhiteAddress, WhiteAddressError};

/// Largest file that is read.
pub(super) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A file as it was written.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct AclFile(Map<String, Value>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclFileError {
    #[error("the yaml cannot be read: {0}")]
    Yaml(String),
    #[error("{0} is no list")]
    NoList(&'static str),
    #[error("an account is no mapping")]
    NoMapping,
    #[error("{0}")]
    Account(String),
}

impl From<AccountError> for AclFileError {
    fn from(error: AccountError) -> AclFileError {
        AclFileError::Account(error.to_string())
    }
}

impl From<WhiteAddressError> for AclFileError {
    fn from(error: WhiteAddressError) -> AclFileError {
        AclFileError::Account(error.to_string())
    }
}

impl AclFile {
    /// Reads and checks a file. An empty one has no accounts.
    pub(crate) fn parse(text: &str) -> Result<AclFile, AclFileError> {
        let value: Option<Value> = match text.trim() {
            "" => None,
            _ => serde_saphyr::from_str(text).map_err(|error| AclFileError::Yaml(first_line(&error.to_string())))?,
        };
        let file = match value {
            None | Some(Value::Null) => AclFile::default(),
            Some(Value::Object(members)) => AclFile(members),
            Some(_) => return Err(AclFileError::Yaml("it is no mapping".into())),
        };
        file.white_addresses()?;
        file.accounts()?;
        Ok(file)
    }

    pub(crate) fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.0).expect("values of json can be written as yaml")
    }

    pub(super) fn white_patterns(&self) -> Result<Vec<String>, AclFileError> {
        texts(&self.0, "globalWhiteRemoteAddresses").map(Option::unwrap_or_default)
    }

    pub(super) fn white_addresses(&self) -> Result<Vec<WhiteAddress>, AclFileError> {
        let patterns = self.white_patterns()?;
        Ok(patterns
            .iter()
            .map(|pattern| WhiteAddress::parse(pattern))
            .collect::<Result<_, _>>()?)
    }

    pub(crate) fn configs(&self) -> Result<Vec<PlainAccountConfig>, AclFileError> {
        let accounts = list(&self.0, "accounts")?.into_iter().flatten();
        accounts.map(config_of).collect()
    }

    pub(super) fn accounts(&self) -> Result<Vec<Account>, AclFileError> {
        let configs = self.configs()?.into_iter();
        Ok(configs.map(Account::new).collect::<Result<_, _>>()?)
    }

    pub(super) fn version(&self) -> DataVersion {
        let first = list(&self.0, "dataVersion")
            .ok()
            .flatten()
            .and_then(|list| list.first());
        let number = |name| first.and_then(|version| version[name].as_i64()).unwrap_or(0);
        DataVersion {
            counter: number("counter"),
            state_version: 0,
            timestamp: number("timestamp"),
        }
    }

    /// The file with this account in it; what `config` leaves open stays as it is.
    pub(crate) fn with_account(&self, config: &PlainAccountConfig, now: i64) -> AclFile {
        let mut accounts = self
            .0
            .get("accounts")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let known = accounts
            .iter()
            .position(|account| access_key(account) == config.access_key);
        let mut account = match known.map(|at| accounts.remove(at)) {
            Some(Value::Object(account)) => account,
            _ => Map::new(),
        };
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                account.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).map(Value::from);
        set("accessKey", Some(config.access_key.clone().into()));
        set("secretKey", text(&config.secret_key));
        set(
            "whiteRemoteAddress",
            config.white_remote_address.clone().map(Value::from),
        );
        set("admin", Some(config.admin.into()));
        set("defaultTopicPerm", text(&config.default_topic_perm));
        set("defaultGroupPerm", text(&config.default_group_perm));
        set("topicPerms", config.topic_perms.clone().map(Value::from));
        set("groupPerms", config.group_perms.clone().map(Value::from));
        accounts.push(Value::Object(account));
        self.with("accounts", accounts, now)
    }

    /// The file without this account, if it was there.
    pub(crate) fn without_account(&self, key: &str, now: i64) -> Option<AclFile> {
        let mut accounts = self.0.get("accounts")?.as_array()?.clone();
        let at = accounts.iter().position(|account| access_key(account) == key)?;
        accounts.remove(at);
        Some(self.with("accounts", accounts, now))
    }

    pub(super) fn with_white_addresses(&self, patterns: &[String], now: i64) -> AclFile {
        let patterns = patterns.iter().map(|pattern| Value::from(pattern.as_str())).collect();
        self.with("globalWhiteRemoteAddresses", patterns, now)
    }

    fn with(&self, name: &str, list: Vec<Value>, now: i64) -> AclFile {
        let mut version = self.version();
        version.advance(now);
        let mut members = self.0.clone();
        members.insert(name.to_owned(), list.into());
        let version = json!([{ "counter": version.counter, "timestamp": version.timestamp }]);
        members.insert("dataVersion".into(), version);
        AclFile(members)
    }
}

fn config_of(account: &Value) -> Result<PlainAccountConfig, AclFileError> {
    let members = account.as_object().ok_or(AclFileError::NoMapping)?;
    let text = |name| members.get(name).and_then(scalar);
    Ok(PlainAccountConfig {
        access_key: text("accessKey").unwrap_or_default(),
        admin: text("admin").is_some_and(|admin| admin.eq_ignore_ascii_case("true")),
        default_group_perm: text("defaultGroupPerm"),
        default_topic_perm: text("defaultTopicPerm"),
        group_perms: texts(members, "groupPerms")?,
        secret_key: text("secretKey"),
        topic_perms: texts(members, "topicPerms")?,
        white_remote_address: text("whiteRemoteAddress"),
    })
}

fn access_key(account: &Value) -> String {
    scalar(&account["accessKey"]).unwrap_or_default()
}

fn list<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a Vec<Value>>, AclFileError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(_) => Err(AclFileError::NoList(name)),
    }
}

fn texts(members: &Map<String, Value>, name: &'static str) -> Result<Option<Vec<String>>, AclFileError> {
    let list = list(members, name)?;
    Ok(list.map(|list| list.iter().filter_map(scalar).collect()))
}

/// Keys made of digits are numbers to yaml.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Reports of the reader go over several lines and show the file, in which secrets stand.
fn first_line(report: &str) -> String {
    report.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGINAL: &str = include_str!("testdata/plain_acl.yml");

    #[test]
    fn the_file_of_the_original_is_read() {
        let file = AclFile::parse(ORIGINAL).unwrap();
        let configs = file.configs().unwrap();
        assert_eq!(file.white_patterns().unwrap(), ["10.10.103.*", "192.168.0.*"]);
        assert_eq!(configs[0].access_key, "RocketMQ");
        assert_eq!(configs[0].secret_key.as_deref(), Some("12345678"));
        assert_eq!(configs[0].white_remote_address, None);
        assert_eq!(configs[0].topic_perms.as_ref().unwrap().len(), 3);
        assert!(configs[1].admin && configs[1].topic_perms.is_none());
        assert_eq!(file.version(), DataVersion::default());
    }

    #[test]
    fn a_changed_file_says_the_same_of_everything_else() {
        let file = AclFile::parse(ORIGINAL).unwrap();
        let config = PlainAccountConfig {
            access_key: "RocketMQ".into(),
            secret_key: Some("87654321".into()),
            admin: true,
            ..PlainAccountConfig::default()
        };
        let changed = AclFile::parse(&file.with_account(&config, 7).to_yaml()).unwrap();
        let configs = changed.configs().unwrap();
        assert_eq!(changed.version().counter, 1);
        assert_eq!(changed.version().timestamp, 7);
        assert_eq!(configs[0], file.configs().unwrap()[1]);
        assert_eq!(configs[1].secret_key.as_deref(), Some("87654321"));
        assert_eq!(configs[1].group_perms, file.configs().unwrap()[0].group_perms);
        let fewer = changed.without_account("RocketMQ", 8).unwrap();
        assert_eq!((fewer.configs().unwrap().len(), fewer.version().counter), (1, 2));
        assert_eq!(fewer.without_account("RocketMQ", 9), None);
        let open = fewer.with_white_addresses(&["*".into()], 9);
        assert_eq!(open.white_addresses().unwrap(), [WhiteAddress::Everybody]);
    }

    #[test]
    fn what_is_no_list_of_accounts_is_refused_without_showing_it() {
        for wrong in [
            "accounts: 7",
            "[1]",
            "accounts:\n - 5",
            "accounts:\n - accessKey: short",
            "globalWhiteRemoteAddresses: [host]",
            "accounts:\n - {accessKey: abcdefgh, secretKey: topsecret, topicPerms: [x]}",
            "accounts: [\n - {secretKey: topsecret",
        ] {
            let error = AclFile::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("topsecret"), "{error}");
        }
        assert_eq!(AclFile::parse(" \n").unwrap(), AclFile::default());
    }

    proptest! {
        #[test]
        fn keys_survive_being_written(key in "[!-~]{7,20}", secret in "\\PC{7,20}") {
            let config = PlainAccountConfig {
                access_key: key.clone(),
                secret_key: Some(secret.clone()),
                ..PlainAccountConfig::default()
            };
            let written = AclFile::default().with_account(&config, 1).to_yaml();
            let read = AclFile::parse(&written).unwrap().configs().unwrap();
            prop_assert_eq!(&read[0].access_key, &key);
            prop_assert_eq!(read[0].secret_key.as_ref(), Some(&secret));
        }
    }
}
