//! What other brokers keep in forms that are not read here: it is refused by name, before anything is written.

use std::path::Path;

use crate::disk::Disk;
use crate::error::OpenError;

/// Files that say that a database is in use, and what it is called.
const FOREIGN_FILES: [(&str, &str); 6] = [
    (
        "consumequeue_rocksdb/CURRENT",
        "RocksDB consume queues (storeType=defaultRocksDB)",
    ),
    (
        "consumequeue/CURRENT",
        "RocksDB consume queues (storeType=defaultRocksDB)",
    ),
    ("config/rdb/CURRENT", "RocksDB configuration (configManagerVersion=v2)"),
    (
        "config/topics/CURRENT",
        "RocksDB configuration (storeType=defaultRocksDB)",
    ),
    (
        "config/subscriptionGroups/CURRENT",
        "RocksDB configuration (storeType=defaultRocksDB)",
    ),
    (
        "config/consumerOffsets/CURRENT",
        "RocksDB configuration (storeType=defaultRocksDB)",
    ),
];

/// Databases that a broker makes in any case; what matters is whether something is in them.
const FOREIGN_DATABASES: [(&str, &str); 2] = [
    (
        "rocksdbstore",
        "timers, transactions or an index in RocksDB (timerRocksDBEnable, transRocksDBEnable, indexRocksDBEnable)",
    ),
    ("kvStore", "POP checkpoints in RocksDB (popConsumerKVServiceEnable)"),
];

pub(crate) fn refuse_foreign(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    for (file, feature) in FOREIGN_FILES {
        let path = root.join(file);
        if disk.exists(&path) {
            return Err(OpenError::Unsupported { path, feature });
        }
    }
    for (database, feature) in FOREIGN_DATABASES {
        let path = root.join(database);
        let files = disk.list(&path).unwrap_or_default();
        let has_records = |name: &str, len: u64| name.ends_with(".sst") || (name.ends_with(".log") && len > 0);
        if files.iter().any(|file| has_records(&file.name, file.len)) {
            return Err(OpenError::Unsupported { path, feature });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::disk::SimulatedDisk;

    fn refused(file: &str, bytes: &[u8]) -> Option<String> {
        let disk = SimulatedDisk::new();
        let path = Path::new("/store").join(file);
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = disk.create(&path).unwrap();
        file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
        let before = disk.operations();
        let refused = refuse_foreign(&disk, Path::new("/store")).err();
        assert_eq!(disk.operations(), before);
        refused.map(|error| error.to_string())
    }

    #[test]
    fn databases_in_use_are_refused_by_name() {
        for (file, feature) in FOREIGN_FILES {
            assert!(refused(file, b"MANIFEST-000001").unwrap().contains(feature));
        }
        for (database, feature) in FOREIGN_DATABASES {
            assert_eq!(refused(&format!("{database}/000004.log"), b""), None);
            assert!(
                refused(&format!("{database}/000004.log"), b"x")
                    .unwrap()
                    .contains(feature)
            );
            assert!(
                refused(&format!("{database}/000012.sst"), b"")
                    .unwrap()
                    .contains(feature)
            );
        }
        assert_eq!(refused("rocksdbstore/CURRENT", b"MANIFEST-000005"), None);
        assert_eq!(refused("consumequeue/CURRENT_TOPIC/0", b""), None);
    }
}
