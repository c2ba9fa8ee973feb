//! The JSON form of a header (spec: protocol.md §2.1).

use super::fields::ScannedFields;
use super::request::{Gather, with_gatherer};
use super::stops::Stops;
use super::text::{RawText, escape_at};
use super::{ScannedFixed, ScannedHeader, ScannedRequest, Unscanned};
use crate::version::Language;

pub(super) fn scan(header: &[u8]) -> Result<ScannedHeader<'_>, Unscanned> {
    let mut request = None;
    let fixed = members(header, |cursor, code| {
        // Only the code tells what the fields mean. All clients write it first.
        let code = code.ok_or(Unscanned)?;
        let found = with_gatherer!(code, G => cursor.gather::<G<'_>>())?;
        once(&mut request, found)
    })?;
    Ok(fixed.with_request(request.ok_or(Unscanned)?))
}

pub(super) fn fields(header: &[u8]) -> Result<ScannedFields<'_>, Unscanned> {
    let mut scanned = ScannedFields::default();
    let mut seen = None;
    let fixed = members(header, |cursor, _| {
        once(&mut seen, ())?;
        cursor.fields(|name, value| scanned.push(name, value))
    })?;
    scanned.fixed(fixed);
    Ok(scanned)
}

/// The members of the outer object; `read_fields` gets the cursor at `extFields`, and the code if it has come by then.
#[inline(always)]
fn members<'a>(
    header: &'a [u8],
    mut read_fields: impl FnMut(&mut Cursor<'a>, Option<i32>) -> Result<(), Unscanned>,
) -> Result<ScannedFixed, Unscanned> {
    if std::str::from_utf8(header).is_err() {
        return Err(Unscanned);
    }
    let mut cursor = Cursor {
        bytes: header,
        at: 0,
        stops: Stops::new(header),
    };
    let mut members = Members::default();
    cursor.expect(b'{')?;
    let mut first = true;
    while let Some(name) = cursor.member(&mut first)? {
        match name {
            b"extFields" => read_fields(&mut cursor, members.code)?,
            name => members.read(&mut cursor, name)?,
        }
    }
    cursor.end()?;
    Ok(ScannedFixed {
        code: members.code.ok_or(Unscanned)?,
        language: members.language.unwrap_or(Language::OTHER),
        version: members.version.unwrap_or(0),
        opaque: members.opaque.unwrap_or(0),
        flag: members.flag.unwrap_or(0),
    })
}

/// The members of the outer object that have come so far.
#[derive(Default)]
struct Members {
    code: Option<i32>,
    language: Option<Language>,
    version: Option<i32>,
    opaque: Option<i32>,
    flag: Option<i32>,
    remark_seen: bool,
}

impl Members {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'_>, name: &[u8]) -> Result<(), Unscanned> {
        match name {
            b"code" => once(&mut self.code, cursor.int()?),
            b"flag" => once(&mut self.flag, cursor.int()?),
            b"opaque" => once(&mut self.opaque, cursor.int()?),
            b"version" => once(&mut self.version, cursor.int()?),
            b"language" => {
                let text = cursor.text()?.as_plain().ok_or(Unscanned)?;
                once(&mut self.language, language(text))
            }
            b"remark" => {
                if self.remark_seen {
                    return Err(Unscanned);
                }
                self.remark_seen = true;
                cursor.text().map(|_| ())
            }
            _ => cursor.scalar().map(|_| ()),
        }
    }
}

/// A member that comes twice is an error to the decoder.
#[inline]
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Unscanned> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Unscanned),
    }
}

fn language(name: &[u8]) -> Language {
    match name {
        b"JAVA" => Language::JAVA,
        b"GO" => Language::GO,
        other => std::str::from_utf8(other).map_or(Language::OTHER, Language::from_name),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Runs ahead of `at` from quote to quote. White space made of control characters is a stop as well, so a header
    /// that is laid out over lines is not for us.
    stops: Stops<'a>,
}

impl<'a> Cursor<'a> {
    /// The next byte that is not white space.
    #[inline(always)]
    fn peek(&mut self) -> Result<u8, Unscanned> {
        loop {
            match *self.bytes.get(self.at).ok_or(Unscanned)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Ok(byte),
            }
        }
    }

    #[inline(always)]
    fn expect(&mut self, wanted: u8) -> Result<(), Unscanned> {
        if self.peek()? != wanted {
            return Err(Unscanned);
        }
        self.at += 1;
        Ok(())
    }

    /// Only white space may follow.
    fn end(&mut self) -> Result<(), Unscanned> {
        match self.peek() {
            Ok(_) => Err(Unscanned),
            Err(Unscanned) => Ok(()),
        }
    }

    /// The name of the next member; the cursor is at its value then. Nothing behind the last one.
    #[inline(always)]
    fn member(&mut self, first: &mut bool) -> Result<Option<&'a [u8]>, Unscanned> {
        let mark = self.peek()?;
        if mark == b'}' {
            self.at += 1;
            return Ok(None);
        }
        if !*first {
            self.expect(b',')?;
        }
        *first = false;
        let name = self.text()?.as_plain().ok_or(Unscanned)?;
        self.expect(b':')?;
        Ok(Some(name))
    }

    #[inline(always)]
    fn gather<G: Gather<'a>>(&mut self) -> Result<ScannedRequest<'a>, Unscanned> {
        let mut gather = G::default();
        self.fields(|name, value| gather.set(name, value))?;
        gather.finish()
    }

    #[inline(always)]
    fn fields(
        &mut self,
        mut found: impl FnMut(&'a [u8], RawText<'a>) -> Result<(), Unscanned>,
    ) -> Result<(), Unscanned> {
        self.expect(b'{')?;
        let mut first = true;
        while let Some(name) = self.member(&mut first)? {
            if let Some(value) = self.scalar()? {
                found(name, value)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn text(&mut self) -> Result<RawText<'a>, Unscanned> {
        self.peek()?;
        if self.stops.next()? != self.at || self.bytes[self.at] != b'"' {
            return Err(Unscanned);
        }
        let start = self.at + 1;
        let mut escaped = false;
        loop {
            self.at = self.stops.next()?;
            match self.bytes[self.at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    let (_, bytes) = escape_at(&self.bytes[self.at..])?;
                    if matches!(self.bytes[self.at + 1], b'"' | b'\\') {
                        self.stops.next()?;
                    }
                    self.at += bytes;
                }
                _ => return Err(Unscanned),
            }
        }
        let raw = &self.bytes[start..self.at];
        self.at += 1;
        Ok(match escaped {
            false => RawText::plain(raw),
            true => RawText::with_escapes(raw),
        })
    }

    /// A number as JSON writes whole ones.
    #[inline(always)]
    fn whole(&mut self) -> Result<RawText<'a>, Unscanned> {
        self.peek()?;
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        let digits = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        // No leading zeros, and no -0, which is a float to the decoder.
        let zero_first = self.bytes.get(digits) == Some(&b'0');
        if zero_first && (self.at > digits + 1 || digits > start) {
            return Err(Unscanned);
        }
        if matches!(self.bytes.get(self.at), Some(b'.' | b'e' | b'E')) {
            return Err(Unscanned);
        }
        let number = RawText::plain(&self.bytes[start..self.at]);
        number.number()?;
        Ok(number)
    }

    #[inline(always)]
    fn int(&mut self) -> Result<i32, Unscanned> {
        self.whole()?.int()
    }

    /// Text, or a scalar that stands for it; nothing for `null`.
    #[inline(always)]
    fn scalar(&mut self) -> Result<Option<RawText<'a>>, Unscanned> {
        match self.peek()? {
            b'"' => self.text().map(Some),
            b't' => self.word(b"true").map(Some),
            b'f' => self.word(b"false").map(Some),
            b'n' => self.word(b"null").map(|_| None),
            _ => self.whole().map(Some),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<RawText<'a>, Unscanned> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Unscanned);
        }
        self.at += word.len();
        Ok(RawText::plain(word))
    }
}
