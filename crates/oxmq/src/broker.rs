//! `oxmq broker`, `mqbroker`: a broker alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use oxmq_broker::{Broker, BrokerConfig};
use oxmq_protocol::settings::Settings;

use crate::settings_file;
use crate::signals::StopSignals;

/// The status with which RocketMQ ends when the name servers' addresses cannot be read: -3.
const BAD_NAME_SERVER: u8 = 253;

/// The status with which `exitOnStoreFailure` ends the process.
const STORE_FAILED: u8 = 3;

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let mut config = BrokerConfig::default();
    if let Some(path) = matches.get_one::<PathBuf>("configFile") {
        let path_text = std::path::absolute(path)?.to_string_lossy().into_owned();
        config.broker_config_path = Some(path_text);
        settings_file::load(&mut config, path)?;
    }
    if let Some(addrs) = matches.get_one::<String>("namesrvAddr") {
        config.set("namesrvAddr", addrs)?;
    }
    if matches.get_flag("printConfigItem") {
        oxmq_admin::print(&config.text());
        return Ok(ExitCode::SUCCESS);
    }
    if matches.get_flag("printImportantConfig") {
        oxmq_admin::print(&config.important_text());
        return Ok(ExitCode::SUCCESS);
    }
    let name_servers = config.namesrv_addr.clone().unwrap_or_default();
    if !name_servers.split(';').all(is_address) {
        eprintln!(
            "The Name Server Address[{name_servers}] illegal, please set it as follows, \
             \"127.0.0.1:9876;192.168.0.1:9876\""
        );
        return Ok(ExitCode::from(BAD_NAME_SERVER));
    }
    let signals = StopSignals::catch()?;
    let broker = Broker::start(config)?;
    let served = broker.broker().config();
    let (name, addr) = (&served.broker_name, served.broker_addr());
    let known_to = match name_servers.as_str() {
        "" => String::new(),
        addrs => format!(" and name server is {addrs}"),
    };
    say!("The broker[{name}, {addr}] boot success. serializeType=JSON{known_to}");
    drop(served);
    let store_failed = signals.wait_or(broker.store_failure())?;
    broker.shutdown();
    match store_failed {
        true => Ok(ExitCode::from(STORE_FAILED)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// `host:port`, or nothing between two `;`.
fn is_address(addr: &str) -> bool {
    let addr = addr.trim();
    let parts = addr.rsplit_once(':');
    addr.is_empty() || parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for (addr, expected) in [
            ("127.0.0.1:9876", true),
            ("mq-1.example.com:9876", true),
            ("[::1]:9876", true),
            ("", true),
            ("127.0.0.1", false),
            (":9876", false),
            ("host:port", false),
        ] {
            assert_eq!(is_address(addr), expected, "{addr}");
        }
    }
}
