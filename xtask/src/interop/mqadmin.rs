//! The original's `mqadmin` in one scenario, its output compared with what it prints against the original.

use super::{Outcome, programs};
use crate::servers::Cluster;

const VERSION: &str = "5.5.0";

pub(super) fn build() -> anyhow::Result<()> {
    programs::build_java(VERSION)
}

pub(super) fn run(_cluster: &Cluster, _bless: bool) -> anyhow::Result<Outcome> {
    Ok(Outcome::Skipped)
}
