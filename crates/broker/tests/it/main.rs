//! A broker in this process, asked over its socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod admin;
mod consumers;
mod delays;
mod node;
mod offsets;
mod send_back;
