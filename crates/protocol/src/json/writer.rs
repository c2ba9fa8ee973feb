//! Writes values in the dialect of the reader.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Stands before the JSON text of an object that is to be a member name. It is no character, so no name begins with it.
pub(crate) const OBJECT_KEY_MARK: char = '\u{FDD0}';

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Java,
    Standard,
}

pub(super) fn write<T: Serialize>(value: &T, dialect: Dialect) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let formatter = DialectFormatter {
        dialect,
        name: Name::None,
    };
    value
        .serialize(&mut Serializer::with_formatter(&mut out, formatter))
        .expect("bodies have a json form and memory takes it");
    out
}

/// What of a member name has been seen. Its quotes are held back until it is known whether they are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    /// Not inside a name.
    None,
    /// The opening quote is due before the first piece.
    Opening,
    Text,
    Number,
    Object,
}

struct DialectFormatter {
    dialect: Dialect,
    name: Name,
}

impl DialectFormatter {
    /// Called before each piece of text: writes the quote that was held back, or takes off the mark of an object.
    fn open_name<'a, W: ?Sized + io::Write>(&mut self, writer: &mut W, piece: &'a str) -> io::Result<&'a str> {
        if self.name != Name::Opening {
            return Ok(piece);
        }
        if self.dialect == Dialect::Java
            && let Some(object) = piece.strip_prefix(OBJECT_KEY_MARK)
        {
            self.name = Name::Object;
            return Ok(object);
        }
        self.name = Name::Text;
        writer.write_all(b"\"")?;
        Ok(piece.strip_prefix(OBJECT_KEY_MARK).unwrap_or(piece))
    }

    fn whole<W: ?Sized + io::Write>(&mut self, writer: &mut W, number: i64) -> io::Result<()> {
        if self.name == Name::Opening {
            self.name = Name::Number;
        }
        let bare = self.dialect == Dialect::Java || self.name == Name::None;
        match bare {
            true => write!(writer, "{number}"),
            false => write!(writer, "\"{number}\""),
        }
    }
}

impl Formatter for DialectFormatter {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.name = Name::Opening;
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.name = Name::None;
        Ok(())
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.name {
            Name::None => writer.write_all(b"\""),
            _ => Ok(()),
        }
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.name {
            Name::Opening => writer.write_all(b"\"\""),
            Name::None | Name::Text => writer.write_all(b"\""),
            Name::Number | Name::Object => Ok(()),
        }
    }

    fn write_i32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i32) -> io::Result<()> {
        self.whole(writer, value.into())
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.whole(writer, value)
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let fragment = self.open_name(writer, fragment)?;
        if self.dialect == Dialect::Java || fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(ascii) if ascii.is_ascii() => writer.write_all(&[ascii])?,
                _ => write!(writer, "\\u{unit:04X}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.open_name(writer, "")?;
        let quoted = self.name != Name::Object;
        match escape {
            // The name is JSON text already: its quotes and backslashes are meant as they are.
            CharEscape::Quote if !quoted => writer.write_all(b"\""),
            CharEscape::ReverseSolidus if !quoted => writer.write_all(b"\\"),
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"\\/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{to_vec, to_vec_standard};
    use crate::body::{MessageQueue, QueueMap};

    fn check<T: serde::Serialize>(value: &T, java: &str, standard: &str) {
        assert_eq!(String::from_utf8(to_vec(value)).unwrap(), java);
        assert_eq!(String::from_utf8(to_vec_standard(value)).unwrap(), standard);
    }

    #[test]
    fn numbers_as_names_are_bare_for_java() {
        let map: BTreeMap<i64, &str> = [(0, "a"), (-1, "b")].into();
        check(&map, r#"{-1:"b",0:"a"}"#, r#"{"-1":"b","0":"a"}"#);
        let nested: BTreeMap<i32, BTreeMap<i32, i64>> = [(1, [(2, 3)].into())].into();
        check(&nested, "{1:{2:3}}", r#"{"1":{"2":3}}"#);
    }

    #[test]
    fn text_is_escaped_as_the_reader_wants_it() {
        let map: BTreeMap<&str, &str> = [("", "é\u{1}\"\\\n"), ("\"", "😀")].into();
        check(
            &map,
            "{\"\":\"é\\u0001\\\"\\\\\\n\",\"\\\"\":\"😀\"}",
            "{\"\":\"\\u00E9\\u0001\\\"\\\\\\n\",\"\\\"\":\"\\uD83D\\uDE00\"}",
        );
    }

    #[test]
    fn queues_as_names_are_objects_for_java() {
        let queue = MessageQueue::new("or\"d\\ers", "b0", 3);
        let map: QueueMap<i64> = [(queue, 7)].into_iter().collect();
        check(
            &map,
            r#"{{"brokerName":"b0","queueId":3,"topic":"or\"d\\ers"}:7}"#,
            r#"{"{\"brokerName\":\"b0\",\"queueId\":3,\"topic\":\"or\\\"d\\\\ers\"}":7}"#,
        );
    }
}
