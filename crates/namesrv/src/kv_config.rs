//! The key-value configuration: namespaces of keys, kept in memory and in one file (spec: behaviour.md §1.9).
//!
//! Readers never wait for the disk. A change is visible at once and answered when the file has it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::save::{backup_of, save};

/// Where operators put the queue counts of ordered topics: topic → `brokerA:4;brokerB:4`.
pub(crate) const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Bound of all keys and values together, so that nobody fills the memory through code 100.
const TABLE_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(crate) type KvTable = BTreeMap<String, BTreeMap<String, String>>;

pub(crate) struct KvConfig {
    path: PathBuf,
    table: RwLock<KvTable>,
    /// Held from a change of the table until the file has it, so that files are written in the order of changes.
    saving: Mutex<()>,
}

#[derive(Debug, Error)]
pub enum KvConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot save {path}: {source}")]
    Save { path: PathBuf, source: io::Error },
    #[error("the key-value configuration would be larger than {TABLE_BYTES_MAX} bytes")]
    Full,
}

#[derive(Serialize, Deserialize, Default)]
struct KvFile {
    #[serde(rename = "configTable", default)]
    config_table: KvTable,
}

impl KvConfig {
    /// Reads the file, or its previous version where the file is damaged or missing; neither is an empty table.
    pub(crate) fn open(path: PathBuf) -> Result<KvConfig, KvConfigError> {
        let table = match (read(&path), read(&backup_of(&path))) {
            (Ok(Some(table)), _) => table,
            (damaged, Ok(Some(table))) => {
                tracing::error!(path = %path.display(), error = ?damaged.err(), "the version before is used");
                table
            }
            (Ok(None), Ok(None)) => KvTable::new(),
            (Err(source), _) | (_, Err(source)) => return Err(KvConfigError::Read { path, source }),
        };
        Ok(KvConfig {
            path,
            table: RwLock::new(table),
            saving: Mutex::new(()),
        })
    }

    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.table.read().get(namespace)?.get(key).cloned()
    }

    pub(crate) fn namespace(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.table.read().get(namespace).cloned()
    }

    /// Waits for the disk.
    pub(crate) fn put(&self, namespace: String, key: String, value: String) -> Result<(), KvConfigError> {
        let _saving = self.saving.lock();
        let added = namespace.len() + key.len() + value.len();
        if self.bytes() + added > TABLE_BYTES_MAX {
            return Err(KvConfigError::Full);
        }
        self.table.write().entry(namespace).or_default().insert(key, value);
        self.save()
    }

    /// Waits for the disk.
    pub(crate) fn delete(&self, namespace: &str, key: &str) -> Result<(), KvConfigError> {
        let _saving = self.saving.lock();
        let removed = match self.table.write().get_mut(namespace) {
            Some(keys) => keys.remove(key),
            None => None,
        };
        match removed {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    fn save(&self) -> Result<(), KvConfigError> {
        let file = KvFile {
            config_table: self.table.read().clone(),
        };
        let json = serde_json::to_vec(&file).expect("a table of text always has a json form");
        save(&self.path, &json).map_err(|source| KvConfigError::Save {
            path: self.path.clone(),
            source,
        })
    }

    fn bytes(&self) -> usize {
        let table = self.table.read();
        let keys =
            |keys: &BTreeMap<String, String>| keys.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        table
            .iter()
            .map(|(namespace, table)| namespace.len() + keys(table))
            .sum()
    }
}

/// `None` when there is no such file.
fn read(path: &std::path::Path) -> io::Result<Option<KvTable>> {
    match std::fs::read(path) {
        Ok(json) if json.is_empty() => Ok(None),
        Ok(json) => {
            let file: KvFile = serde_json::from_slice(&json)?;
            Ok(Some(file.config_table))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kv: &KvConfig, key: &str, value: &str) {
        kv.put("ns".into(), key.into(), value.into()).unwrap();
    }

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvConfig.json");
        let kv = KvConfig::open(path.clone()).unwrap();
        put(&kv, "a", "1");
        put(&kv, "b", "值");
        kv.delete("ns", "a").unwrap();
        kv.delete("ns", "never there").unwrap();

        let kv = KvConfig::open(path.clone()).unwrap();
        assert_eq!(kv.get("ns", "a"), None);
        assert_eq!(kv.get("ns", "b").as_deref(), Some("值"));
        assert_eq!(kv.namespace("other"), None);
        assert_eq!(
            std::fs::read(&path).unwrap(),
            r#"{"configTable":{"ns":{"b":"值"}}}"#.as_bytes()
        );
    }

    #[test]
    fn a_damaged_file_is_replaced_by_its_previous_version_or_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvConfig.json");
        let kv = KvConfig::open(path.clone()).unwrap();
        put(&kv, "a", "1");
        put(&kv, "a", "2");
        std::fs::write(&path, b"{\"configTable\":{").unwrap();
        assert_eq!(
            KvConfig::open(path.clone()).unwrap().get("ns", "a").as_deref(),
            Some("1")
        );
        std::fs::write(backup_of(&path), b"{").unwrap();
        assert!(KvConfig::open(path).is_err());
    }
}
