//! Logs go to standard error: warnings and worse and the audit log, or what `OXMQ_LOG` asks for (`info`,
//! `oxmq_broker=debug,warn`). Where `OXMQ_LOG_DIR` names a folder they go to files as well, from `info` on unless `OXMQ_LOG`
//! says otherwise.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::log_files::{LogFiles, LogGuard, Rotation};

/// What is left is written when the guard is dropped. Without `audit` the audit log is shown to who asks for it only.
pub(crate) fn init(audit: bool) -> Option<LogGuard> {
    let mut mistakes = Vec::new();
    let wanted = std::env::var("OXMQ_LOG").unwrap_or_default();
    let parsed = match wanted.parse::<Targets>() {
        Ok(filter) if !wanted.is_empty() => Some(filter),
        Ok(_) => None,
        Err(error) => {
            mistakes.push(format!("OXMQ_LOG=\"{wanted}\" is not understood: {error}"));
            None
        }
    };
    let usual = |default| {
        let level = if audit { LevelFilter::INFO } else { default };
        let targets = Targets::new().with_default(default).with_target("audit", level);
        // There is nothing in it unless metricsExporterType asks for it.
        targets.with_target("metrics", LevelFilter::INFO)
    };
    let filter = |default| parsed.clone().unwrap_or_else(|| usual(default));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter(filter(LevelFilter::WARN));
    let (files, guard) = match open_files(&mut mistakes) {
        None => (None, None),
        Some((files, guard)) => {
            let files = fmt::layer().with_writer(files).with_ansi(false);
            (Some(files.with_filter(filter(LevelFilter::INFO))), Some(guard))
        }
    };
    tracing_subscriber::registry().with(lines).with(files).init();
    for mistake in mistakes {
        tracing::warn!("{mistake}");
    }
    guard
}

fn open_files(mistakes: &mut Vec<String>) -> Option<(LogFiles, LogGuard)> {
    let folder = PathBuf::from(std::env::var_os("OXMQ_LOG_DIR").filter(|folder| !folder.is_empty())?);
    let default = Rotation::default();
    let rotation = Rotation {
        bytes_max: number("OXMQ_LOG_FILE_BYTES", default.bytes_max, mistakes),
        kept: number("OXMQ_LOG_FILES", default.kept, mistakes).min(1000),
    };
    LogFiles::open(&folder, rotation)
        .inspect_err(|error| mistakes.push(format!("OXMQ_LOG_DIR={}: {error}", folder.display())))
        .ok()
}

fn number<T: FromStr>(name: &str, default: T, mistakes: &mut Vec<String>) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| {
        mistakes.push(format!("{name}=\"{text}\" is not a number of its range"));
        default
    })
}
