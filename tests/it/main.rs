//! A name server and a broker in this process, used well and badly.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod assignment;
mod doctor;
mod explain;
mod hostile;
mod routes;
mod scale;
mod support;
