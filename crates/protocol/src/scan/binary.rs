//! The binary form of a header (spec: protocol.md §2.2).

use super::fields::ScannedFields;
use super::request::{Gather, with_gatherer};
use super::text::RawText;
use super::{ScannedFixed, ScannedHeader, ScannedRequest, Unscanned};
use crate::version::Language;

pub(super) fn scan(header: &[u8]) -> Result<ScannedHeader<'_>, Unscanned> {
    let (fixed, fields) = split(header)?;
    let request = with_gatherer!(fixed.code, G => gather::<G<'_>>(fields))?;
    Ok(fixed.with_request(request))
}

pub(super) fn fields(header: &[u8]) -> Result<ScannedFields<'_>, Unscanned> {
    let (fixed, fields) = split(header)?;
    let mut scanned = ScannedFields::new(fixed);
    each(fields, |name, value| scanned.push(name, value))?;
    Ok(scanned)
}

/// What stands before the fields, and the fields.
fn split(header: &[u8]) -> Result<(ScannedFixed, &[u8]), Unscanned> {
    let (fixed, rest) = header.split_first_chunk::<17>().ok_or(Unscanned)?;
    let [c0, c1, language, v0, v1, o0, o1, o2, o3, f0, f1, f2, f3, remark @ ..] = *fixed;
    let remark_bytes = usize::try_from(i32::from_be_bytes(remark)).map_err(|_| Unscanned)?;
    if remark_bytes != 0 {
        return Err(Unscanned);
    }
    let (fields_bytes, fields) = rest.split_first_chunk::<4>().ok_or(Unscanned)?;
    let fields_bytes = usize::try_from(i32::from_be_bytes(*fields_bytes)).map_err(|_| Unscanned)?;
    let fixed = ScannedFixed {
        code: i32::from(i16::from_be_bytes([c0, c1])),
        language: Language(language),
        version: i16::from_be_bytes([v0, v1]).into(),
        opaque: i32::from_be_bytes([o0, o1, o2, o3]),
        flag: i32::from_be_bytes([f0, f1, f2, f3]),
    };
    Ok((fixed, fields.get(..fields_bytes).ok_or(Unscanned)?))
}

fn gather<'a, G: Gather<'a>>(fields: &'a [u8]) -> Result<ScannedRequest<'a>, Unscanned> {
    let mut gather = G::default();
    each(fields, |name, value| gather.set(name, value))?;
    gather.finish()
}

#[inline(always)]
fn each<'a>(
    mut fields: &'a [u8],
    mut found: impl FnMut(&'a [u8], RawText<'a>) -> Result<(), Unscanned>,
) -> Result<(), Unscanned> {
    let all_ascii = fields.is_ascii();
    while !fields.is_empty() {
        let (length, rest) = fields.split_first_chunk::<2>().ok_or(Unscanned)?;
        let (name, rest) = take(rest, i16::from_be_bytes(*length).into())?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(Unscanned)?;
        let (value, rest) = take(rest, i32::from_be_bytes(*length))?;
        fields = rest;
        if !all_ascii && (std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err()) {
            return Err(Unscanned);
        }
        // Length 0 reads as nothing in this form.
        if !name.is_empty() && !value.is_empty() {
            found(name, RawText::plain(value))?;
        }
    }
    Ok(())
}

fn take(bytes: &[u8], length: i32) -> Result<(&[u8], &[u8]), Unscanned> {
    let length = usize::try_from(length).map_err(|_| Unscanned)?;
    bytes.split_at_checked(length).ok_or(Unscanned)
}
