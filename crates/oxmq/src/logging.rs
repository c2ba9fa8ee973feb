//! Logs go to standard error: warnings and worse, or what `OXMQ_LOG` asks for (`info`, `oxmq_broker=debug,warn`).

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

pub(crate) fn init() {
    let wanted = std::env::var("OXMQ_LOG").unwrap_or_default();
    let (filter, mistake) = match wanted.parse::<Targets>() {
        Ok(filter) if !wanted.is_empty() => (filter, None),
        Ok(_) => (Targets::new().with_default(LevelFilter::WARN), None),
        Err(error) => (Targets::new().with_default(LevelFilter::WARN), Some(error)),
    };
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).with(filter).init();
    if let Some(error) = mistake {
        tracing::warn!("OXMQ_LOG=\"{wanted}\" is not understood: {error}");
    }
}
