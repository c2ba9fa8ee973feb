//! Generated documents. The test fails when one is stale and rewrites it when `OXMQ_UPDATE` is set.

use std::path::Path;

use oxmq_broker::BrokerConfig;
use oxmq_namesrv::NamesrvConfig;
use oxmq_protocol::settings::Settings;

fn configuration() -> String {
    format!(
        "# Configuration\n\
         \n\
         Generated from the settings tables (`config.rs` of each role); `cargo xtask fix` rewrites it.\n\
         \n\
         Settings have RocketMQ's keys and are read from properties files (`key=value`). A value that cannot be \
         read stops the start with file, line and reason. A key without effect is said once and otherwise ignored. \
         \"Live\" settings can be changed at run time and take effect at once, others that can be changed are \
         saved and take effect at the next start; paths, addresses and names are changed in the file only.\n\
         \n\
         `oxmq` alone reads `namesrv.conf` and `broker.conf` in its data folder when they are there. The environment \
         gives `NAMESRV_ADDR` (name servers of a broker) and `OXMQ_LOG` (what goes to standard error: `info`, \
         `oxmq_broker=debug,warn`; without it warnings and errors).\n\
         \n\
         ## Name server\n\
         \n\
         {}\n\
         ## Broker\n\
         \n\
         {}",
        NamesrvConfig::markdown(),
        BrokerConfig::markdown()
    )
}

#[test]
fn documents_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let current = configuration();
    if std::env::var_os("OXMQ_UPDATE").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == current,
        "docs/configuration.md is stale: run cargo xtask fix"
    );
}
