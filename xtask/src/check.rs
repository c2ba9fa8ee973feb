//! `check` is what CI runs and writes nothing; `fix` formats and regenerates.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::snippets;

/// Format, lints with warnings denied, and the dependency policy.
pub(crate) fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    cargo(&["check", "--quiet", "-p", "oxmq-broker", "--no-default-features"])?;
    cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    snippets::check()?;
    deny()
}

/// Formats the code and rewrites the generated documents.
pub(crate) fn fix() -> Result<()> {
    cargo(&["fmt", "--all"])?;
    snippets::fix()?;
    run(Command::new("cargo")
        .args(["test", "--quiet", "--workspace", "documents_are_current"])
        .env("OXMQ_UPDATE", "1"))
}

/// `cargo deny`, installed below `target` where the machine does not have it.
fn deny() -> Result<()> {
    let policy = ["check", "licenses", "bans", "sources"];
    if Command::new("cargo")
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return cargo(&[&["deny"], &policy[..]].concat());
    }
    let installed = Path::new("target/tools/bin/cargo-deny");
    if !installed.exists() {
        cargo(&["install", "--quiet", "--locked", "--root", "target/tools", "cargo-deny"])?;
    }
    run(Command::new(installed).args(policy))
}

fn cargo(args: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(args))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} did not start"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
