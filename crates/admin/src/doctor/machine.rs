//! Looks at this machine: `/proc`, disks, certificate files. What the system does not tell stays unknown.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use oxmq_protocol::properties_file;
use oxmq_remoting::certificates_in_file;

use super::certificate::not_after_ms;
use super::facts::{BrokerProcess, Certificate, Host, Mount, StoreDir};

/// A folder with more files is not counted to its end.
const FILES_MAX: u64 = 200_000;
const TLS_FILE: &str = "/etc/rocketmq/tls.properties";

pub(super) fn host() -> Host {
    let kernel = |name: &str| number(&format!("/proc/sys/vm/{name}"));
    let memory = |name: &str| meminfo(&read("/proc/meminfo")?, name);
    let swap_total = memory("SwapTotal");
    Host {
        memory_bytes: memory("MemTotal"),
        swap_total_bytes: swap_total,
        swap_used_bytes: swap_total
            .zip(memory("SwapFree"))
            .map(|(total, free)| total.saturating_sub(free)),
        swappiness: kernel("swappiness"),
        dirty_ratio: kernel("dirty_ratio"),
        dirty_background_ratio: kernel("dirty_background_ratio"),
        max_map_count: kernel("max_map_count"),
        is_clock_synchronized: is_clock_synchronized(),
        brokers: broker_processes(),
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// A line `Name:   123 kB`.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The kernel's own flag, which `timedatectl` reads; unknown on systems without it.
fn is_clock_synchronized() -> Option<bool> {
    let told = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output()
        .ok()?;
    match String::from_utf8_lossy(&told.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn broker_processes() -> Vec<BrokerProcess> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_broker = |pid: &u32| read(&format!("/proc/{pid}/cmdline")).is_some_and(|line| is_broker(&line));
    pids.filter(is_broker)
        .map(|pid| BrokerProcess {
            pid,
            files_limit: read(&format!("/proc/{pid}/limits")).and_then(|text| files_limit(&text)),
            // Of another user's process it is not told.
            open_files: fs::read_dir(format!("/proc/{pid}/fd"))
                .ok()
                .map(|files| files.count() as u64),
        })
        .collect()
}

/// Arguments with zero bytes between them.
fn is_broker(command_line: &str) -> bool {
    let args: Vec<&str> = command_line.split('\0').collect();
    let program = args[0].rsplit('/').next().unwrap_or_default();
    let is_standalone = args.get(1).is_none_or(|arg| arg.is_empty() || arg.starts_with("--"));
    match program {
        "mqbroker" => true,
        "oxmq" => args.get(1) == Some(&"broker") || is_standalone,
        "java" => args.iter().any(|arg| arg.ends_with(".broker.BrokerStartup")),
        _ => false,
    }
}

fn files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    Some(soft.parse().unwrap_or(u64::MAX))
}

/// A folder of messages; `None` if it is not there.
pub(super) fn store_dir(path: &Path) -> Option<StoreDir> {
    let path = fs::canonicalize(path).ok()?;
    let space = rustix::fs::statvfs(&path).ok()?;
    Some(StoreDir {
        total_bytes: usable(space.f_blocks, space.f_bfree, space.f_bavail) * space.f_frsize,
        free_bytes: space.f_bavail * space.f_frsize,
        files_total: space.f_files,
        files_free: space.f_ffree,
        mount: read("/proc/self/mounts").and_then(|mounts| mount_of(&mounts, &path)),
        files: count_files(&path),
        of: None,
        path,
    })
}

/// What is used and what may still be: what the file system keeps back is neither, as brokers count.
fn usable(blocks: u64, free: u64, available: u64) -> u64 {
    blocks.saturating_sub(free) + available
}

/// The last mount whose point leads to the path.
fn mount_of(mounts: &str, path: &Path) -> Option<Mount> {
    let parse = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let point = fields.next()?.replace("\\040", " ");
        let file_system = fields.next()?.to_owned();
        let options = fields.next()?.split(',').map(str::to_owned).collect();
        Some(Mount {
            point,
            file_system,
            options,
        })
    };
    let leading = mounts
        .lines()
        .filter_map(parse)
        .filter(|mount| path.starts_with(&mount.point));
    leading.max_by_key(|mount| mount.point.len())
}

fn count_files(root: &Path) -> u64 {
    let mut folders = vec![root.to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => count += 1,
                Err(_) => {}
            }
            if count >= FILES_MAX {
                return count;
            }
        }
    }
    count
}

/// What a broker's settings file says about this machine.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) stores: Vec<PathBuf>,
    pub(super) certificates: BTreeSet<PathBuf>,
}

/// The same for the file with TLS settings that it names, or the usual one.
pub(super) fn config_file(path: Option<&Path>) -> ConfigFile {
    let mut told = ConfigFile::default();
    let own = path.map(load).unwrap_or_default();
    let value = |settings: &[(String, String)], key: &str| {
        let set = settings.iter().rfind(|(known, _)| known == key)?;
        Some(set.1.clone()).filter(|value| !value.is_empty())
    };
    told.stores.extend(
        ["storePathRootDir", "storePathCommitLog"]
            .iter()
            .filter_map(|key| value(&own, key))
            .map(PathBuf::from),
    );
    let tls = load(Path::new(
        &value(&own, "tls.config.file").unwrap_or_else(|| TLS_FILE.into()),
    ));
    let either = |key: &str| value(&tls, key).or_else(|| value(&own, key));
    // In this mode no file is used.
    if either("tls.test.mode.enable").as_deref() == Some("false") {
        let keys = [
            "tls.server.certPath",
            "tls.server.trustCertPath",
            "tls.client.certPath",
            "tls.client.trustCertPath",
        ];
        told.certificates
            .extend(keys.iter().filter_map(|key| either(key)).map(PathBuf::from));
    }
    told
}

fn load(path: &Path) -> Vec<(String, String)> {
    let properties = fs::read(path)
        .map(|bytes| properties_file::parse(&bytes))
        .unwrap_or_default();
    properties
        .into_iter()
        .map(|property| (property.key, property.value))
        .collect()
}

/// The certificate in a file that expires first.
pub(super) fn certificate(path: &Path) -> Result<Certificate, String> {
    let of = path.display().to_string();
    let all = certificates_in_file(path).map_err(|error| format!("{of}: {error}"))?;
    let first = all.iter().filter_map(|der| not_after_ms(der)).min();
    let not_after_ms = first.ok_or_else(|| format!("{of}: no certificate in it"))?;
    Ok(Certificate { of, not_after_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_understood() {
        assert_eq!(
            meminfo("MemTotal:  10 kB\nSwapTotal:       2097148 kB\n", "SwapTotal"),
            Some(2_147_479_552)
        );
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(files_limit(limits), Some(1024));
        assert_eq!(files_limit("Max open files unlimited unlimited files"), Some(u64::MAX));
        let brokers = [
            "/opt/oxmq\0broker\0-c\0b.conf\0",
            "oxmq\0--data\0/x\0",
            "oxmq\0",
            "java\0-Xmx4g\0org.apache.rocketmq.broker.BrokerStartup\0",
        ];
        assert_eq!(brokers.map(is_broker), [true; 4]);
        assert_eq!(["oxmq\0doctor\0", "bash\0", ""].map(is_broker), [false; 3]);
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw,noatime 0 0\n/dev/b /data\\0401 xfs ro,nobarrier 0 0\nproc /proc proc rw 0 0\n";
        let mount = mount_of(mounts, Path::new("/data 1/store")).unwrap();
        assert_eq!((mount.file_system.as_str(), mount.options.len()), ("xfs", 2));
        assert_eq!(mount_of(mounts, Path::new("/data/store")).unwrap().point, "/");
    }

    #[test]
    fn what_the_file_system_keeps_back_is_not_used() {
        assert_eq!(usable(252, 230, 70), 22 + 70);
        assert_eq!(usable(100, 100, 100), 100);
    }

    #[test]
    fn this_machine_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("commitlog")).unwrap();
        fs::write(dir.path().join("commitlog/0"), "x").unwrap();
        let store = store_dir(dir.path()).unwrap();
        assert_eq!(store.files, 1);
        assert!(store.total_bytes > 0 && store.mount.is_some());
        assert!(store_dir(Path::new("/does/not/exist")).is_none());
        assert!(host().memory_bytes.is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_settings_file_leads_to_folders_and_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let (config, tls) = (dir.path().join("broker.conf"), dir.path().join("tls.properties"));
        fs::write(&tls, "tls.server.certPath=/x/new.pem\ntls.test.mode.enable=false\n").unwrap();
        let text = format!(
            "storePathRootDir=/x/store\ntls.server.certPath=/x/old.pem\ntls.config.file={}\n",
            tls.display()
        );
        fs::write(&config, text).unwrap();
        let told = config_file(Some(&config));
        assert_eq!(told.stores, [PathBuf::from("/x/store")]);
        assert_eq!(told.certificates, BTreeSet::from([PathBuf::from("/x/new.pem")]));
    }
}
