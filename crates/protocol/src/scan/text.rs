//! Text inside a header, still in the form it has there.

use std::borrow::Cow;

use bytes::BufMut;

use super::Unscanned;
use crate::swar;

/// Text of a header where it lies. In JSON it may hold escapes, which the scanner has checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawText<'a> {
    raw: &'a [u8],
    form: Form,
}

/// As wide as a word: with a narrow field, copies of a text stall on its padding, a quarter of the time of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(usize)]
enum Form {
    #[default]
    Plain,
    Escaped,
}

impl<'a> RawText<'a> {
    /// Text without escapes. The bytes are UTF-8.
    pub(super) fn plain(raw: &'a [u8]) -> RawText<'a> {
        RawText { raw, form: Form::Plain }
    }

    /// Text with escapes that [`escape_at`] has accepted, each of them. The bytes are UTF-8.
    pub(super) fn with_escapes(raw: &'a [u8]) -> RawText<'a> {
        RawText {
            raw,
            form: Form::Escaped,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    fn is_escaped(&self) -> bool {
        self.form == Form::Escaped
    }

    /// The text itself, when it is written without escapes.
    pub fn as_plain(&self) -> Option<&'a [u8]> {
        (!self.is_escaped()).then_some(self.raw)
    }

    pub fn to_str(&self) -> Cow<'a, str> {
        if !self.is_escaped() {
            // Much faster than to look for what has to be replaced, where nothing has to.
            return std::str::from_utf8(self.raw).map_or_else(|_| String::from_utf8_lossy(self.raw), Cow::Borrowed);
        }
        let mut out = Vec::with_capacity(self.raw.len());
        self.unescape_into(&mut out);
        String::from_utf8_lossy(&out).into_owned().into()
    }

    /// Appends the text as it is meant. Never longer than it is here.
    #[inline]
    pub fn unescape_into(&self, out: &mut impl BufMut) {
        if !self.is_escaped() {
            out.put_slice(self.raw);
            return;
        }
        let mut rest = self.raw;
        while let Some(at) = swar::find(rest, b'\\') {
            out.put_slice(&rest[..at]);
            let (meant, bytes) = escape_at(&rest[at..]).expect("the scanner accepted this escape");
            match u8::try_from(meant) {
                Ok(ascii) if ascii < 0x80 => out.put_u8(ascii),
                _ => out.put_slice(meant.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            rest = &rest[at + bytes..];
        }
        out.put_slice(rest);
    }

    /// The number that the text is, in the plain decimal form in which clients write numbers.
    #[inline(always)]
    pub(super) fn number(&self) -> Result<i64, Unscanned> {
        const DIGITS_MAX: usize = 18;
        let (negative, digits) = match self.raw {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        if digits.is_empty() || digits.len() > DIGITS_MAX {
            return Err(Unscanned);
        }
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(Unscanned);
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        Ok(if negative { -number } else { number })
    }

    #[inline(always)]
    pub(super) fn int(&self) -> Result<i32, Unscanned> {
        i32::try_from(self.number()?).map_err(|_| Unscanned)
    }

    /// `true` or `1`; everything else is false, as in the decoder.
    pub(super) fn truth(&self) -> Result<bool, Unscanned> {
        match self.is_escaped() {
            true => Err(Unscanned),
            false => Ok(self.raw.eq_ignore_ascii_case(b"true") || self.raw == b"1"),
        }
    }
}

impl<'a> From<&'a str> for RawText<'a> {
    fn from(text: &'a str) -> RawText<'a> {
        RawText::plain(text.as_bytes())
    }
}

/// Equal when they mean the same, however it is written.
impl PartialEq for RawText<'_> {
    fn eq(&self, other: &RawText<'_>) -> bool {
        match self.is_escaped() || other.is_escaped() {
            false => self.raw == other.raw,
            true => self.to_str() == other.to_str(),
        }
    }
}

impl PartialEq<str> for RawText<'_> {
    fn eq(&self, other: &str) -> bool {
        match self.is_escaped() {
            false => self.raw == other.as_bytes(),
            true => self.to_str() == other,
        }
    }
}

/// The character that the escape at the start of `text` means, and its bytes. Halves of surrogate pairs are left to the
/// decoder.
#[inline]
pub(super) fn escape_at(text: &[u8]) -> Result<(char, usize), Unscanned> {
    // The separators of properties make up nearly all escapes there are.
    match text.first_chunk::<6>() {
        Some(b"\\u0001") => return Ok(('\u{1}', 6)),
        Some(b"\\u0002") => return Ok(('\u{2}', 6)),
        _ => {}
    }
    let meant = match text.get(1).ok_or(Unscanned)? {
        b'u' => {
            let digits = text.get(2..6).ok_or(Unscanned)?;
            let mut code = 0;
            for digit in digits {
                code = code << 4 | char::from(*digit).to_digit(16).ok_or(Unscanned)?;
            }
            return Ok((char::from_u32(code).ok_or(Unscanned)?, 6));
        }
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return Err(Unscanned),
    };
    Ok((meant, 2))
}
