//! Stores that OxMQ does not take over: it says so by name, and leaves them as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use super::chain::Plan;
use super::traffic::Traffic;
use super::version::Version;
use super::wire::Wire;
use crate::servers::{Cluster, Options, Server};

/// Settings of the original under which it keeps parts of the store in RocksDB, and what OxMQ calls that.
const FORMS: [(&str, &str, &str); 1] = [("storeType", "defaultRocksDB", "RocksDB")];

pub(super) async fn run(plan: Plan) -> anyhow::Result<String> {
    let oxmq = Server::Oxmq {
        binary: plan.oxmq.clone(),
    };
    for (key, value, name) in FORMS {
        let mut options = Options::new(oxmq.clone(), plan.port, &plan.dir);
        options.broker = Server::Java(Version::V5_5_0.name());
        let mut cluster = Cluster::start(options.broker_property(key, value))?;
        let mut traffic = Traffic::new(Version::V4_7_1, plan.seed);
        let wire = Wire::new(plan.broker_addr());
        traffic.prepare(&wire).await?;
        traffic.send_plain_anywhere(&wire).await?;
        cluster.stop_broker()?;
        cluster.replace_broker(oxmq.clone());
        let before = contents(&cluster.store_dir())?;
        // Also where the settings say nothing of it.
        for setting in [value, "default"] {
            cluster.set_property(key, setting);
            let Err(error) = cluster.start_broker() else {
                bail!("a store with {key}={value} was taken over, with {key}={setting}");
            };
            let said = format!("{error:#}");
            ensure!(said.contains(name), "{key}={value} was refused with {said}");
            // It has ended.
            let _ = cluster.kill_broker();
            ensure!(
                contents(&cluster.store_dir())? == before,
                "the store with {key}={value} was refused, and changed"
            );
        }
    }
    Ok(format!(
        "{} kinds of stores are refused by name and not changed",
        FORMS.len()
    ))
}

/// Every file below a folder, with what is in it.
fn contents(dir: &Path) -> anyhow::Result<BTreeMap<PathBuf, Option<u32>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(contents(&path)?);
            found.insert(path, None);
        } else {
            let sum = crc32fast::hash(&fs::read(&path)?);
            found.insert(path, Some(sum));
        }
    }
    Ok(found)
}
