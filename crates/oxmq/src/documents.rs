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
         `oxmq_broker=debug,warn`; without it warnings and errors; \
         for log files see [logs.md](logs.md)).\n\
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

fn commands() -> String {
    format!(
        "# Commands of mqadmin\n\
         \n\
         Generated from the tables of commands (`crates/admin`); `cargo xtask fix` rewrites it.\n\
         \n\
         `oxmq admin COMMAND`, or `mqadmin COMMAND` where a link of that name leads to the executable. Names are found \
         in any case. Every command takes `-n`, `--namesrvAddr` (name servers, `host:port;host:port`; without it \
         `NAMESRV_ADDR`, else `127.0.0.1:9876`), `--json` (the answer as JSON) and `-h`, `--help`. It ends with 0 when \
         everything was done; otherwise with 1 and one line on standard error, where `CODE:` is what a server \
         answered. Bold headings are for terminals only, and not where `NO_COLOR` is set. \
         `oxmq completion bash` and `mqadmin completion bash` print what lets a shell complete names and options.\n\
         \n\
         {}",
        oxmq_admin::markdown().trim_end().to_owned() + "\n"
    )
}

#[test]
fn documents_are_current() {
    for (name, current) in [("configuration.md", configuration()), ("commands.md", commands())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        if std::env::var_os("OXMQ_UPDATE").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == current, "docs/{name} is stale: run cargo xtask fix");
    }
}
