//! `cargo xtask flips`: flips random bits in the files of a store, one at a time, and checks that each is noticed or
//! harmless. The ordinary tests do some hundreds.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::servers;

const USAGE: &str = "\
usage: cargo xtask flips [options]
  --flips N   bits to flip (10000)
  --seed N    which (1)";

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let (mut flips, mut seed) = (10_000u64, 1u64);
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().map(|value| value.parse().context(USAGE)).transpose()?;
        match (name.as_str(), value) {
            ("--flips", Some(value)) => flips = value,
            ("--seed", Some(value)) => seed = value,
            _ => bail!(USAGE),
        }
    }
    let began = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    servers::run(
        Command::new(cargo)
            .args(["test", "--quiet", "--package", "oxmq-store", "--test", "it"])
            .arg("flips::")
            .env("OXMQ_FLIPS", flips.to_string())
            .env("OXMQ_FLIP_SEED", seed.to_string()),
    )?;
    println!(
        "{flips} bits flipped in {:.0} s: each noticed or harmless",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
