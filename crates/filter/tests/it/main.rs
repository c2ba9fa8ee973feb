//! Expressions through the public interface: against the original's results, by laws, and with hostile input.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod corpus;
mod errors;
mod facts;
mod fuzz_checks;
mod hostile;
mod properties;
