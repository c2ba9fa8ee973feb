//! Workloads on parts of the message model, one module each.

pub(super) mod filter;
pub(super) mod idle;
pub(super) mod orderly;
pub(super) mod pops;
pub(super) mod timers;
pub(super) mod transactions;
