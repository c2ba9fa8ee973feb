//! The fields of any request where they lie, for checks that need all of them.

use smallvec::SmallVec;

use super::request::{Gather, with_gatherer};
use super::text::RawText;
use super::{ScannedFixed, ScannedHeader, Unscanned, binary, json};
use crate::frame::SerializeType;
use crate::version::Language;

/// More fields than any client sends: a header with more is left to the decoder.
const FIELDS_MAX: usize = 64;

/// A header of any kind with its fields, in the order they came.
#[derive(Debug, Clone)]
pub struct ScannedFields<'a> {
    fixed: ScannedFixed,
    fields: SmallVec<[(&'a [u8], RawText<'a>); 20]>,
}

/// Reads a header, or leaves it to [`crate::Header::decode`].
#[inline]
pub fn scan_fields(serialize: SerializeType, header: &[u8]) -> Result<ScannedFields<'_>, Unscanned> {
    match serialize {
        SerializeType::Json => json::fields(header),
        SerializeType::RocketMq => binary::fields(header),
    }
}

impl<'a> ScannedFields<'a> {
    pub(super) fn new(fixed: ScannedFixed) -> ScannedFields<'a> {
        ScannedFields {
            fixed,
            fields: SmallVec::new(),
        }
    }

    pub(super) fn fixed(&mut self, fixed: ScannedFixed) {
        self.fixed = fixed;
    }

    #[inline(always)]
    pub(super) fn push(&mut self, name: &'a [u8], value: RawText<'a>) -> Result<(), Unscanned> {
        if self.fields.len() == FIELDS_MAX {
            return Err(Unscanned);
        }
        self.fields.push((name, value));
        Ok(())
    }

    pub fn code(&self) -> i32 {
        self.fixed.code
    }

    pub fn version(&self) -> i32 {
        self.fixed.version
    }

    pub fn opaque(&self) -> i32 {
        self.fixed.opaque
    }

    pub fn is_response(&self) -> bool {
        self.fixed.flag & 1 != 0
    }

    pub fn is_oneway(&self) -> bool {
        self.fixed.flag & 2 != 0
    }

    /// Names are UTF-8 without escapes.
    pub fn as_slice(&self) -> &[(&'a [u8], RawText<'a>)] {
        &self.fields
    }

    /// What [`super::scan`] makes of the same header.
    pub fn header(&self) -> Result<ScannedHeader<'a>, Unscanned> {
        let request = with_gatherer!(self.fixed.code, G => {
            let mut gather = G::default();
            for &(name, value) in &self.fields {
                gather.set(name, value)?;
            }
            gather.finish()
        })?;
        Ok(self.fixed.with_request(request))
    }
}

impl Default for ScannedFields<'_> {
    fn default() -> Self {
        ScannedFields::new(ScannedFixed {
            code: 0,
            language: Language::OTHER,
            version: 0,
            opaque: 0,
            flag: 0,
        })
    }
}
