//! `oxmq` alone: name server and broker in one process, on the loopback unless told otherwise, with all files under one
//! folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;
use oxmq_broker::{Broker, BrokerConfig, BrokerHandle};
use oxmq_namesrv::{NamesrvConfig, NamesrvHandle};

use crate::settings_file;
use crate::signals::StopSignals;

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let folder: &PathBuf = matches.get_one("data").expect("it has a default");
    let bind: &Ipv4Addr = matches.get_one("bind").expect("it has a default");
    let signals = StopSignals::catch()?;
    let servers = Standalone::start(Options::new(folder, *bind))?;
    say!("OxMQ {} is serving.\n", env!("CARGO_PKG_VERSION"));
    servers.print_addresses("");
    say!("\nClients need the address of the name server only. Ctrl-C stops.");
    signals.wait()?;
    servers.shutdown();
    Ok(ExitCode::SUCCESS)
}

/// Where a [`Standalone`] listens and keeps its files.
pub(crate) struct Options {
    pub(crate) folder: PathBuf,
    pub(crate) bind: Ipv4Addr,
    pub(crate) namesrv_port: u16,
    pub(crate) broker_port: u16,
    pub(crate) change_broker: fn(&mut BrokerConfig),
}

impl Options {
    pub(crate) fn new(folder: &Path, bind: Ipv4Addr) -> Options {
        Options {
            folder: folder.to_owned(),
            bind,
            namesrv_port: 9876,
            broker_port: 10911,
            change_broker: |_| {},
        }
    }
}

/// A name server and a broker that knows it.
pub(crate) struct Standalone {
    namesrv: NamesrvHandle,
    broker: BrokerHandle,
    folder: PathBuf,
}

impl Standalone {
    /// Port 0 means any that is free. Settings files in the folder have the last word.
    pub(crate) fn start(options: Options) -> anyhow::Result<Standalone> {
        let folder = std::path::absolute(&options.folder)?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let namesrv = oxmq_namesrv::start(namesrv_config(&folder, &options)?)?;
        let broker = Broker::start(broker_config(&folder, &options, namesrv.local_addr())?)?;
        Ok(Standalone {
            namesrv,
            broker,
            folder: options.folder,
        })
    }

    pub(crate) fn namesrv_addr(&self) -> SocketAddr {
        reachable(self.namesrv.local_addr())
    }

    /// `about_data` follows the folder.
    pub(crate) fn print_addresses(&self, about_data: &str) {
        let config = self.broker.broker().config();
        say!("  name server  {}", self.namesrv.local_addr());
        say!(
            "  broker       {}   {} of {}",
            config.broker_addr(),
            config.broker_name,
            config.broker_cluster_name
        );
        say!("  data         {}{about_data}", self.folder.display());
    }

    pub(crate) fn shutdown(self) {
        self.broker.shutdown();
        self.namesrv.shutdown();
    }
}

fn namesrv_config(folder: &Path, options: &Options) -> anyhow::Result<NamesrvConfig> {
    let file = folder.join("namesrv.conf");
    let mut config = NamesrvConfig {
        bind_address: options.bind.to_string(),
        listen_port: options.namesrv_port,
        kv_config_path: text(&folder.join("kvConfig.json")),
        config_store_path: text(&file),
        ..NamesrvConfig::default()
    };
    if file.exists() {
        settings_file::load(&mut config, &file)?;
    }
    Ok(config)
}

fn broker_config(folder: &Path, options: &Options, namesrv: SocketAddr) -> anyhow::Result<BrokerConfig> {
    let file = folder.join("broker.conf");
    let mut config = BrokerConfig {
        broker_name: "broker-a".into(),
        bind_address: options.bind.to_string(),
        listen_port: options.broker_port,
        namesrv_addr: Some(reachable(namesrv).to_string()),
        store_path_root_dir: text(&folder.join("store")),
        broker_config_path: Some(text(&file)),
        ..BrokerConfig::default()
    };
    if !options.bind.is_unspecified() {
        config.broker_ip1 = options.bind.to_string();
        config.broker_ip2 = options.bind.to_string();
    }
    (options.change_broker)(&mut config);
    if file.exists() {
        settings_file::load(&mut config, &file)?;
    }
    Ok(config)
}

/// An address to connect to: where a server listens on every address, the loopback will do.
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip().is_unspecified() {
        true => (Ipv4Addr::LOCALHOST, addr.port()).into(),
        false => addr,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
