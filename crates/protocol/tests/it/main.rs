//! The codecs against frames of the original and against a corpus of bad input.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod allocations;
mod bodies;
mod corpus;
mod fuzz_checks;
mod headers;
mod messages;
