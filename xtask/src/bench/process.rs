//! What a process has used, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// CPU time of all threads, user and system together, at the resolution of a clock tick.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).context("unexpected form of /proc/<pid>/stat")?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// The process's own: heap, stacks, private buffers.
    pub(crate) anonymous: u64,
    /// Pages of files, which the kernel can take back.
    pub(crate) mapped: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        Ok(Self::from_status(&fs::read_to_string(format!("/proc/{pid}/status"))?))
    }

    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            anonymous: self.anonymous.max(other.anonymous),
            mapped: self.mapped.max(other.mapped),
        }
    }

    fn from_status(status: &str) -> Self {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        Self {
            anonymous: bytes("RssAnon:"),
            mapped: bytes("RssFile:") + bytes("RssShmem:"),
        }
    }
}

/// Fields 14 and 15. The name of the program, field 2, may hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_any_program_name() {
        assert_eq!(cpu_ticks("7 (a) b c) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0 20"), Some(345));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_told_apart() {
        let status = "VmRSS:\t 9 kB\nRssAnon:\t    2 kB\nRssFile:\t 3 kB\nRssShmem:\t1 kB\n";
        assert_eq!(
            Memory::from_status(status),
            Memory {
                anonymous: 2048,
                mapped: 4096
            }
        );
    }
}
