//! What a command is called with, and how it fails.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use clap::ArgMatches;
use clap::parser::ValueSource;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use oxmq_client::{Admin, ClientError, Credentials, Instance, InstanceConfig};
use oxmq_protocol::{json, response_code, topic};
use oxmq_remoting::CallError;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

/// Where a name server is looked for that nobody names.
const DEFAULT_NAME_SERVER: &str = "127.0.0.1:9876";
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a command could not do what it was asked: in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code with which a server refused.
    pub code: Option<i32>,
    pub description: String,
}

pub(crate) type Done = Result<(), Failure>;

impl Failure {
    pub fn new(description: impl Into<String>) -> Failure {
        Failure {
            code: None,
            description: description.into(),
        }
    }

    pub(crate) fn with_code(code: i32, description: impl Into<String>) -> Failure {
        Failure {
            code: Some(code),
            description: description.into(),
        }
    }
}

/// Scripts look for `CODE: 17`, which mqadmin shows.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "CODE: {code} DESC: {}", self.description),
            None => f.write_str(&self.description),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Call(CallError::Response { code, remark }) => Failure::with_code(code, remark),
            ClientError::NoRoute { topic } => Failure::with_code(
                response_code::TOPIC_NOT_EXIST,
                format!("No topic route info in name server for the topic: {topic}"),
            ),
            other => Failure::new(other.to_string()),
        }
    }
}

/// A command line that was understood, and the connections for it.
pub(crate) struct Call {
    matches: ArgMatches,
    admin: OnceCell<Admin>,
    rounds: std::cell::Cell<u64>,
}

impl Call {
    pub(crate) fn new(matches: ArgMatches) -> Call {
        Call {
            matches,
            admin: OnceCell::new(),
            rounds: std::cell::Cell::new(0),
        }
    }

    /// Of a command that runs again and again.
    pub(crate) fn is_first_round(&self) -> bool {
        self.rounds.get() <= 1
    }

    pub(crate) fn begin_round(&self) {
        self.rounds.set(self.rounds.get() + 1);
    }

    /// The value of an option by its long name: what was given or the default.
    pub(crate) fn text(&self, long: &str) -> Option<&str> {
        self.matches.get_one::<String>(long).map(|text| text.trim())
    }

    /// The value of an option that not every command has that shares the code.
    pub(crate) fn text_if_declared(&self, long: &str) -> Option<&str> {
        let value = self.matches.try_get_one::<String>(long).ok().flatten();
        value.map(|text| text.trim())
    }

    /// The value of an option that has one always.
    pub(crate) fn required(&self, long: &str) -> &str {
        self.text(long).expect("the option is required or has a default")
    }

    pub(crate) fn is_given(&self, long: &str) -> bool {
        self.matches.value_source(long) == Some(ValueSource::CommandLine)
    }

    pub(crate) fn flag(&self, long: &str) -> bool {
        self.matches.get_flag(long)
    }

    /// Java's `Boolean.parseBoolean`: anything but `true` is false.
    pub(crate) fn truth(&self, long: &str) -> Option<bool> {
        self.text(long).map(|text| text.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn number<T: FromStr>(&self, long: &str) -> Result<Option<T>, Failure> {
        let read = |text: &str| {
            let number = text.parse();
            number.map_err(|_| Failure::new(format!("--{long}: \"{text}\" is not a number of its range")))
        };
        self.text(long).map(read).transpose()
    }

    /// The number of an option that has one always.
    pub(crate) fn required_number<T: FromStr>(&self, long: &str) -> Result<T, Failure> {
        Ok(self.number(long)?.expect("the option is required or has a default"))
    }

    /// What a JSON file holds, in Java's dialect or the standard one.
    pub(crate) fn json_file<T: DeserializeOwned>(&self, long: &str) -> Result<T, Failure> {
        let path = self.required(long);
        let failed = |error: &dyn fmt::Display| Failure::new(format!("cannot read {path}: {error}"));
        let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
        json::from_slice(&bytes).map_err(|error| failed(&error))
    }

    /// A time in milliseconds since 1970: such a number, `now`, `currentTimeMillis` or `yyyy-MM-dd#HH:mm:ss:SSS`.
    pub(crate) fn time(&self, long: &str) -> Result<Option<i64>, Failure> {
        let read = |text: &str| read_time(text).ok_or_else(|| Failure::new(format!("--{long}: \"{text}\" is no time")));
        self.text(long).map(read).transpose()
    }

    /// The name servers asked, as given.
    pub(crate) fn name_server(&self) -> String {
        let given = self.text("namesrvAddr").map(str::to_owned);
        let given = given.or_else(|| std::env::var("NAMESRV_ADDR").ok());
        given
            .filter(|addrs| !addrs.is_empty())
            .unwrap_or_else(|| DEFAULT_NAME_SERVER.to_owned())
    }

    /// How servers are reached.
    pub(crate) fn instance_config(&self) -> Result<InstanceConfig, Failure> {
        let mut config = InstanceConfig {
            name_server: self.name_server(),
            api_timeout: TIMEOUT,
            ..InstanceConfig::default()
        };
        config.remoting.credentials = tools_credentials()?;
        Ok(config)
    }

    pub(crate) async fn admin(&self) -> Result<&Admin, Failure> {
        let connect = || async { Ok(Admin::with_instance(Instance::start(self.instance_config()?).await?)) };
        self.admin.get_or_try_init(connect).await
    }

    /// The brokers that `-b` or `-c` mean: the one, or every master of the cluster.
    pub(crate) async fn targets(&self) -> Result<Vec<String>, Failure> {
        match (self.text("brokerAddr"), self.text("clusterName")) {
            (Some(addr), _) => Ok(vec![addr.to_owned()]),
            (None, Some(cluster)) => Ok(self.admin().await?.masters(cluster).await?),
            (None, None) => Err(Failure::new("-b or -c is missing")),
        }
    }

    /// The topic whose route leads to a topic: the other one, where the option names it and the topic is a light queue or
    /// that of timers, which have no route.
    pub(crate) fn routed<'a>(&'a self, topic: &'a str, long: &str) -> &'a str {
        let has_none = topic::is_lmq(topic) || topic == topic::TIMER_TOPIC;
        self.text(long).filter(|_| has_none).unwrap_or(topic)
    }

    pub(crate) async fn close(&self) {
        if let Some(admin) = self.admin.get() {
            admin.shutdown().await;
        }
    }
}

/// Who the tool is to servers that ask: accessKey and secretKey of `$ROCKETMQ_HOME/conf/tools.yml`, if there is such a file.
fn tools_credentials() -> Result<Option<Credentials>, Failure> {
    let Some(home) = std::env::var_os("ROCKETMQ_HOME") else {
        return Ok(None);
    };
    let path = Path::new(&home).join("conf/tools.yml");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(read_credentials(&text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
    }
}

/// The file has `key: value` lines only.
fn read_credentials(text: &str) -> Option<Credentials> {
    let value = |key: &str| {
        let mut entries = text.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = entries.find(|(name, _)| name.trim() == key)?;
        let value = value.split(" #").next().unwrap_or_default().trim();
        Some(value.trim_matches(['"', '\'']).to_owned())
    };
    Some(Credentials::new(value("accessKey")?, value("secretKey")?))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

fn read_time(text: &str) -> Option<i64> {
    if text == "now" || text == "currentTimeMillis" {
        return Some(now());
    }
    let calendar = || {
        let (seconds, millis) = text.rsplit_once(':')?;
        let time: DateTime = DateTime::strptime("%Y-%m-%d#%H:%M:%S", seconds).ok()?;
        let zoned = time.to_zoned(TimeZone::system()).ok()?;
        Some(zoned.timestamp().as_millisecond() + millis.parse::<i64>().ok()?)
    };
    text.parse().ok().or_else(calendar)
}

/// A time as tables show it, in the local time zone.
pub(crate) fn seconds(time_ms: i64) -> String {
    local(time_ms, "%Y-%m-%d %H:%M:%S")
}

/// The same with milliseconds.
pub(crate) fn milliseconds(time_ms: i64) -> String {
    local(time_ms, "%Y-%m-%d %H:%M:%S,%3f")
}

/// The same without anything between.
pub(crate) fn compact_time(time_ms: i64) -> String {
    local(time_ms, "%Y%m%d%H%M%S%3f")
}

fn local(time_ms: i64, format: &str) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime(format).to_string(),
        Err(_) => time_ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_lines() {
        let read = read_credentials("# mine\naccessKey: rocketmq2\nsecretKey: '12345678' # old\n");
        assert_eq!(read, Some(Credentials::new("rocketmq2", "12345678")));
        assert_eq!(read_credentials("accessKey: alone\n"), None);
    }

    #[test]
    fn times_are_numbers_words_or_dates() {
        assert_eq!(read_time("-1"), Some(-1));
        assert!(read_time("now") > Some(1_700_000_000_000));
        let time = read_time("2025-09-01#10:00:00:123").unwrap();
        assert_eq!(milliseconds(time), "2025-09-01 10:00:00,123");
        assert_eq!(seconds(time), "2025-09-01 10:00:00");
        assert_eq!(read_time("yesterday"), None);
    }
}
