//! Checks of this machine: disks, memory, limits, clock, settings file, certificates.

use super::facts::{Broker, Certificate, ConfigProblemKind, Facts, Host, StoreDir};
use super::finding::{Findings, Severity};
use crate::text::{bytes, span, time};

/// Fewer free i-nodes in percent are a warning.
const FILES_FREE_MIN: u64 = 5;
/// Above these, the kernel lets so much gather that writing it out stalls everybody.
const DIRTY_RATIO_MAX: u64 = 60;
const DIRTY_BACKGROUND_RATIO_MAX: u64 = 50;
const SWAPPINESS_MAX: u64 = 10;
const SWAP_USED_MIN_BYTES: u64 = 256 << 20;
/// A broker with a few topics and clients needs less; each queue and connection is a file.
const FILES_LIMIT_MIN: u64 = 16 * 1024;
const NETWORK_FILE_SYSTEMS: [&str; 9] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "glusterfs",
    "ceph",
];
const DAY_MS: i64 = 86_400_000;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    facts
        .stores
        .iter()
        .for_each(|store| check_store(facts, store, findings));
    check_memory(&facts.host, findings);
    check_limits(&facts.host, findings);
    if facts.host.is_clock_synchronized == Some(false) {
        findings.warning(
            "clock-not-synchronized",
            "nothing keeps the clock of this host right".into(),
            "delays, timers, retention and searches by time go by the broker's clock; after a step they are early or late",
            "timedatectl set-ntp true",
        );
    }
    check_config(facts, findings);
    facts
        .certificates
        .iter()
        .for_each(|certificate| check_certificate(facts.now_ms, certificate, findings));
}

fn check_store(facts: &Facts, store: &StoreDir, findings: &mut Findings) {
    let path = store.path.display();
    let used = |total: u64, free: u64| (total - free.min(total)) as f64 * 100.0 / total.max(1) as f64;
    let used_percent = used(store.total_bytes, store.free_bytes);
    let broker = facts
        .brokers
        .iter()
        .find(|broker| Some(&broker.addr) == store.of.as_ref());
    disk(
        &format!("{path}"),
        used_percent,
        &bytes(store.free_bytes),
        stages(broker),
        findings,
    );
    if store.files_total > 0 && store.files_free * 100 < store.files_total * FILES_FREE_MIN {
        findings.warning(
            "inodes-nearly-used",
            format!("{path}: {} of {} i-nodes are free", store.files_free, store.files_total),
            "each queue has a file: without i-nodes no topic and no queue can be created",
            "delete unused topics (oxmq admin cleanUnusedTopic) or make the file system anew with more i-nodes",
        );
    }
    if let Some(limit) = facts.host.max_map_count.filter(|limit| store.files + 1024 > *limit) {
        findings.error(
            "max-map-count",
            format!("{path} has {} files, vm.max_map_count is {limit}", store.files),
            "a broker maps its files; beyond the limit it cannot open one more",
            format!("sysctl -w vm.max_map_count={}", (store.files * 4).max(262_144)),
        );
    }
    let Some(mount) = &store.mount else { return };
    let has = |option: &str| mount.options.iter().any(|known| known == option);
    let (point, kind) = (&mount.point, &mount.file_system);
    if has("ro") {
        findings.error(
            "store-read-only",
            format!("{point} ({kind}) is mounted read-only"),
            "no message can be stored; file systems become so after errors of the disk",
            format!("dmesg | grep -i {kind}; then mount -o remount,rw {point}"),
        );
    }
    if NETWORK_FILE_SYSTEMS.contains(&kind.as_str()) {
        findings.warning(
            "store-on-network",
            format!("{path} lies on {point}, which is {kind}"),
            "locks, mapped files and syncs of network file systems do not promise what those of disks do",
            "move storePathRootDir to a local disk",
        );
    }
    if matches!(kind.as_str(), "tmpfs" | "ramfs") {
        findings.error(
            "store-in-memory",
            format!("{path} lies on {point}, which is {kind}"),
            "every message is gone when the machine restarts, whatever flushDiskType says",
            "move storePathRootDir to a disk",
        );
    }
    if has("nobarrier") || has("barrier=0") {
        findings.error(
            "mount-without-barriers",
            format!("{point} ({kind}) is mounted with nobarrier"),
            "a synced message may still be in the cache of the disk: a power cut takes acknowledged messages",
            format!("mount -o remount,barrier=1 {point}, and in /etc/fstab"),
        );
    }
    if has("data=writeback") {
        findings.warning(
            "mount-writeback",
            format!("{point} ({kind}) is mounted with data=writeback"),
            "after a power cut files may end with old data of other files where they were growing",
            "use data=ordered in /etc/fstab and mount anew",
        );
    }
    if has("sync") {
        findings.warning(
            "mount-sync",
            format!("{point} ({kind}) is mounted with sync"),
            "every write waits for the disk, also with ASYNC_FLUSH",
            format!("mount -o remount,async {point}, and in /etc/fstab"),
        );
    }
    if has("strictatime") {
        findings.advice(
            "mount-atime",
            format!("{point} ({kind}) is mounted with strictatime"),
            "every read of old messages becomes a write",
            format!("mount -o remount,noatime {point}, and in /etc/fstab"),
        );
    }
}

/// Shares of the disk in percent from which a broker deletes, deletes by force and refuses.
pub(super) fn stages(broker: Option<&Broker>) -> [f64; 3] {
    let set = |key, default: f64| broker.and_then(|broker| broker.setting_number(key)).unwrap_or(default);
    // RocketMQ has the first in percent, the others as parts of one.
    let percent = |value: f64| if value <= 1.0 { value * 100.0 } else { value };
    [
        set("diskMaxUsedSpaceRatio", 75.0),
        percent(set("diskSpaceCleanForciblyRatio", 0.85)),
        percent(set("diskSpaceWarningLevelRatio", 0.9)),
    ]
}

/// A disk by the stages of a broker.
pub(super) fn disk(what: &str, used: f64, free: &str, stages: [f64; 3], findings: &mut Findings) {
    let [deletes, by_force, refuses] = stages;
    let (severity, does) = match used {
        used if used >= refuses => (Severity::Error, "messages are refused"),
        used if used >= by_force => (Severity::Error, "files are deleted whether or not they are consumed"),
        used if used >= deletes => (Severity::Warning, "files are deleted before fileReservedTime is over"),
        _ => return,
    };
    findings.add(
        severity,
        "disk-full",
        format!("{what}: {used:.0} % of the disk is used, {free} are free: {does} (stages {deletes:.0}, {by_force:.0}, {refuses:.0} %)"),
        "a broker deletes early, then by force, and refuses messages at last (diskMaxUsedSpaceRatio, diskSpaceCleanForciblyRatio, diskSpaceWarningLevelRatio)",
        "add disk, lower fileReservedTime (oxmq admin updateBrokerConfig -k fileReservedTime -v HOURS), or delete what is expired now: oxmq admin deleteExpiredCommitLog".into(),
    );
}

fn check_memory(host: &Host, findings: &mut Findings) {
    if let Some(ratio) = host.dirty_ratio.filter(|ratio| *ratio > DIRTY_RATIO_MAX) {
        let of = host
            .memory_bytes
            .map_or_else(String::new, |all| format!(", up to {}", bytes(all * ratio / 100)));
        findings.warning(
            "dirty-ratio",
            format!("vm.dirty_ratio is {ratio} %{of}"),
            "so much may wait to be written; then every writer stands still until it is on disk",
            "sysctl -w vm.dirty_ratio=20 vm.dirty_background_ratio=5",
        );
    }
    if let Some(ratio) = host
        .dirty_background_ratio
        .filter(|ratio| *ratio > DIRTY_BACKGROUND_RATIO_MAX)
    {
        findings.warning(
            "dirty-background-ratio",
            format!("vm.dirty_background_ratio is {ratio} %"),
            "the kernel begins to write late and then much at once, which shows as slow sends",
            "sysctl -w vm.dirty_background_ratio=5",
        );
    }
    let swap = host.swap_total_bytes.unwrap_or(0);
    if let Some(used) = host
        .swap_used_bytes
        .filter(|used| *used >= SWAP_USED_MIN_BYTES && *used * 10 >= swap)
    {
        findings.warning(
            "swap-in-use",
            format!("{} of {} swap are in use", bytes(used), bytes(swap)),
            "a page that has to come back from swap holds a send up for as long as the disk takes",
            "find what takes the memory (ps aux --sort -rss | head), then swapoff -a && swapon -a",
        );
    }
    if let Some(swappiness) = host.swappiness.filter(|value| swap > 0 && *value > SWAPPINESS_MAX) {
        findings.advice(
            "swappiness",
            format!("vm.swappiness is {swappiness} and there are {} swap", bytes(swap)),
            "the kernel swaps processes out to cache more of the files that a broker writes once and seldom reads",
            "sysctl -w vm.swappiness=1",
        );
    }
}

fn check_limits(host: &Host, findings: &mut Findings) {
    for broker in &host.brokers {
        let Some(limit) = broker.files_limit else { continue };
        let (pid, open) = (broker.pid, broker.open_files.unwrap_or(0));
        let raise = "LimitNOFILE=655350 in its systemd unit, or ulimit -n 655350 before it starts";
        if open * 10 >= limit * 8 {
            findings.error(
                "open-files",
                format!("the broker with pid {pid} has {open} of {limit} files open"),
                "without file descriptors it can neither accept connections nor open queues",
                raise,
            );
        } else if limit < FILES_LIMIT_MIN {
            findings.warning(
                "open-files-limit",
                format!("the broker with pid {pid} may open {limit} files ({open} are open)"),
                "each queue and each connection is an open file",
                raise,
            );
        }
    }
}

fn check_config(facts: &Facts, findings: &mut Findings) {
    for problem in &facts.config {
        let seen = format!("line {}: {}: {}", problem.line, problem.key, problem.text);
        match problem.kind {
            ConfigProblemKind::Wrong => findings.error(
                "config-wrong",
                seen,
                "a server does not start with this file",
                "oxmq config check FILE says what is allowed",
            ),
            ConfigProblemKind::Unknown => findings.warning(
                "config-unknown",
                seen,
                "a key that nobody reads looks like a setting: what it should set has its default",
                "correct the name, or delete the line",
            ),
            ConfigProblemKind::WithoutEffect => findings.advice(
                "config-without-effect",
                seen,
                "it is accepted so that files of Java brokers can be used as they are, and does nothing here",
                "delete the line once no Java broker uses the file",
            ),
        }
    }
}

fn check_certificate(now_ms: i64, certificate: &Certificate, findings: &mut Findings) {
    let left = certificate.not_after_ms - now_ms;
    let severity = match left {
        left if left < 7 * DAY_MS => Severity::Error,
        left if left < 30 * DAY_MS => Severity::Warning,
        _ => return,
    };
    let until = time(certificate.not_after_ms);
    let seen = match left {
        left if left < 0 => format!(
            "the certificate of {} expired {until}, {} ago",
            certificate.of,
            span(-left)
        ),
        left => format!(
            "the certificate of {} expires {until}, in {}",
            certificate.of,
            span(left)
        ),
    };
    let fix = "write the new certificate and key over the files of tls.server.certPath and tls.server.keyPath: servers take them within moments, no restart";
    findings.add(
        severity,
        "certificate-expiry",
        seen,
        "clients that verify certificates cannot connect any more",
        fix.into(),
    );
}
