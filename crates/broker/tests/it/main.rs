//! A broker in this process, asked over its socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod admin;
mod cold_reads;
mod consumers;
mod corpus;
mod crash_points;
mod damage;
mod delays;
mod duplicates;
mod filters;
mod fuzz_checks;
mod golden;
mod harness;
mod kinds;
mod log_lines;
mod metrics;
mod node;
mod offsets;
mod pops;
mod power_cuts;
mod pulls;
mod quotas;
mod registration;
mod reply_messages;
mod retention;
mod scrape;
mod send_back;
mod sends;
mod shell;
mod slow_requests;
mod tables;
mod timers;
mod transactions;
