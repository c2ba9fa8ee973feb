//! Repository chores as ordinary Rust: `cargo xtask <command>`.
//!
//! Each command is one module; everything that starts servers goes through `servers`.

use std::time::{SystemTime, UNIX_EPOCH};

mod bench;
mod check;
mod crash;
mod differential;
mod flips;
mod interchange;
mod interop;
mod random;
mod servers;
mod snippets;

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match command.as_str() {
        "check" => check::check(),
        "fix" => check::fix(),
        "crash" => crash::run(&rest),
        "bench" => bench::run(&rest),
        "flips" => flips::run(&rest),
        "differential" => differential::run(&rest),
        "interchange" => interchange::run(&rest),
        "interop" => interop::run(&rest),
        "scale" => bench::scale::run(&rest),
        "peer" => interop::peer::run(&rest),
        _ => {
            eprintln!(
                "usage: cargo xtask check|fix|crash|flips|bench|scale|interchange|interop|differential [options]"
            );
            std::process::exit(2);
        }
    }
}
