//! Reads the headers of the hot requests, send (10, 310, 320) and pull (11, 361), without allocating.
//!
//! The scanner looks at the bytes once and borrows everything. It understands what real clients send; a header that is
//! in any way unusual is [`Unscanned`] and the caller falls back to [`crate::Header::decode`], which also finds the
//! words for what is wrong with it. So the scanner never has an opinion of its own: when it answers, it answers what
//! the decoder would.

mod binary;
mod fields;
mod json;
mod request;
mod stops;
mod text;

use crate::frame::SerializeType;
use crate::version::Language;
pub use fields::{ScannedFields, scan_fields};
pub use request::{ScannedPull, ScannedSend};
pub use text::RawText;

/// The header of a hot request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScannedHeader<'a> {
    pub code: i32,
    pub language: Language,
    pub version: i32,
    pub opaque: i32,
    pub flag: i32,
    pub request: ScannedRequest<'a>,
}

/// What a header says besides its fields.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ScannedFixed {
    code: i32,
    language: Language,
    version: i32,
    opaque: i32,
    flag: i32,
}

impl ScannedFixed {
    #[inline(always)]
    fn with_request(self, request: ScannedRequest<'_>) -> ScannedHeader<'_> {
        ScannedHeader {
            code: self.code,
            language: self.language,
            version: self.version,
            opaque: self.opaque,
            flag: self.flag,
            request,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScannedRequest<'a> {
    Send(ScannedSend<'a>),
    Pull(ScannedPull<'a>),
}

/// The header is none that the scanner reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unscanned;

/// Reads a header, or leaves it to [`crate::Header::decode`].
#[inline]
pub fn scan(serialize: SerializeType, header: &[u8]) -> Result<ScannedHeader<'_>, Unscanned> {
    match serialize {
        SerializeType::Json => json::scan(header),
        SerializeType::RocketMq => binary::scan(header),
    }
}

impl ScannedHeader<'_> {
    pub fn is_response(&self) -> bool {
        self.flag & 1 != 0
    }

    pub fn is_oneway(&self) -> bool {
        self.flag & 2 != 0
    }
}

#[cfg(test)]
mod tests;
