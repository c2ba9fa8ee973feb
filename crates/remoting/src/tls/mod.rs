//! TLS of listeners and of outgoing connections, with RocketMQ's settings (spec: protocol.md §1.3, config.md).
//!
//! A listener tells TLS from plain connections by their first byte: 0x16 begins a handshake, and no frame begins so.
//! Certificates, keys and trust come from files that are looked at again while the process runs: new connections get what
//! is in them, connections that are open keep what they have. Files that cannot be used, or of which only some have been
//! replaced, change nothing but the log.
//!
//! As RocketMQ's clients, ours do not compare names in certificates with addresses unless they are told to: brokers go by
//! the addresses that name servers give.

mod client;
mod inspect;
mod material;
mod server;
mod settings;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oxmq_protocol::settings::SettingError;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use thiserror::Error;

pub use client::ClientTls;
pub use inspect::{certificate_of_server, certificates_in_file};
pub(crate) use server::ServerTls;
pub use settings::{ClientAuth, TlsConfig, TlsMode};

/// How often files are looked at. What has changed is used once two looks have seen the same.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no TLS with these settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlsError {
    #[error("cannot use {path}: {why}")]
    File { path: String, why: String },
    /// A setting that others make necessary has no value.
    #[error("{0} is not set")]
    Unset(&'static str),
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("TLS: {0}")]
    Refused(String),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> TlsError {
        TlsError::Refused(error.to_string())
    }
}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
}
