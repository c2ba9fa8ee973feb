//! `oxmq namesrv`, `mqnamesrv`: a name server alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use oxmq_namesrv::NamesrvConfig;
use oxmq_protocol::settings::Settings;

use crate::settings_file;
use crate::signals::StopSignals;

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let mut config = NamesrvConfig::default();
    if let Some(path) = matches.get_one::<PathBuf>("configFile") {
        config.config_store_path = std::path::absolute(path)?.to_string_lossy().into_owned();
        settings_file::load(&mut config, path)?;
    }
    if matches.get_flag("printConfigItem") {
        oxmq_admin::print(&config.text());
        return Ok(ExitCode::SUCCESS);
    }
    let signals = StopSignals::catch()?;
    let namesrv = oxmq_namesrv::start(config)?;
    let addr = namesrv.local_addr();
    say!("The Name Server boot success. serializeType=JSON, address {addr}");
    signals.wait()?;
    namesrv.shutdown();
    Ok(ExitCode::SUCCESS)
}
