//! The binary protocol over TCP: a server whose connections live on single-threaded workers, and a client.
//!
//! A server is a [`Service`] (raw frames, one instance per worker, for hot paths) or a [`CommandHandler`] (decoded
//! commands, for everything else), started by [`serve`]. A [`RemotingClient`] calls servers by address.
//!
//! Promises: a peer that sends garbage loses its connection and nothing else; a peer that does not read is not read
//! from; every table and buffer has a bound named in [`ServerConfig`], [`ClientConfig`] or next to its owner.

mod acceptor;
mod audit;
mod buffers;
mod client;
mod command;
mod connection;
mod error;
mod log_limit;
mod pending;
mod reader;
mod server;
mod service;
pub mod signing;
mod stream;
mod tls;
mod worker;

pub use audit::audit;
pub use client::{ClientConfig, RemotingClient, Reply, RequestHandler};
pub use command::{CommandHandler, CommandService, Outcome, ReplyTo};
pub use connection::{Connection, ConnectionHandle, RequestGuard};
pub use error::CallError;
pub use log_limit::LogLimit;
pub use server::{ServeError, ServerConfig, ServerHandle, serve, serve_commands};
pub use service::{CloseReason, Service, ServiceFactory};
pub use signing::Credentials;
pub use tls::{ClientAuth, ClientTls, TlsConfig, TlsError, TlsMode, certificate_of_server, certificates_in_file};
pub use worker::{TurnRequest, WorkerContext, WorkerWaker};
