//! JSON as Java peers write and read it (spec: protocol.md §5.1).
//!
//! The original's JSON library goes beyond the standard: bare numbers and whole objects as member names, names without
//! quotes, single quotes, commas before a closing bracket. [`from_slice`] accepts all of that, [`to_vec`] writes the part
//! of it that Java peers need to see, and [`to_vec_standard`] the strict form that newer clients ask for in routes.

mod lenient;
mod relaxed;
mod writer;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub(crate) use lenient::{Scalar, number, numbers, text_enum};
pub use relaxed::relaxed;
pub(crate) use writer::OBJECT_KEY_MARK;

/// JSON that cannot be read as what was asked for.
#[derive(Debug, Error)]
#[error("the json cannot be read: {0}")]
pub struct JsonError(#[from] serde_json::Error);

/// Reads a body in either dialect.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(_) => Ok(serde_json::from_slice(&relaxed(bytes))?),
    }
}

/// Writes a body for Java peers: numbers and queues as member names stand without quotes.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    writer::write(value, writer::Dialect::Java)
}

/// Writes strict JSON in ASCII.
pub fn to_vec_standard<T: Serialize>(value: &T) -> Vec<u8> {
    writer::write(value, writer::Dialect::Standard)
}
