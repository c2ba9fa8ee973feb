//! The text form of message properties, `name 0x01 value 0x02 …` (spec: protocol.md §6.4).
//!
//! On the hot path the text stays as it is and [`iter`] walks over it; [`Properties`] is the decoded map of the rest.
//! Entries without a name, without a value or without the 0x01 between them do not exist for any reader. A repeated
//! name means its last value.

use std::ops::ControlFlow;

use bytes::{BufMut, BytesMut};

use crate::swar;

pub const NAME_VALUE_SEPARATOR: u8 = 1;
pub const PROPERTY_SEPARATOR: u8 = 2;

/// Longest text a stored message can hold: its length is a signed short.
pub const PROPERTIES_BYTES_MAX: usize = i16::MAX as usize;

/// The entries of a properties text, in their order, repeated ones included.
pub fn iter(text: &[u8]) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
    Entries { rest: text }
}

/// The value of `name`.
pub fn find<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    iter(text)
        .rfind(|(found, _)| *found == name.as_bytes())
        .map(|(_, value)| value)
}

/// Puts the value of each name into its place, `None` where there is no such property. For few names: each is compared
/// with all properties behind the first one that is wanted.
pub fn find_each<'a, 'n>(
    text: &'a [u8],
    names: impl Iterator<Item = &'n [u8]> + Clone,
    values: &mut [Option<&'a [u8]>],
) {
    values.fill(None);
    let mut missing = values.len();
    if missing == 0 {
        return;
    }
    // Only the first separator of an entry follows a name, and a name only the end of another entry.
    swar::each_from_last(text, NAME_VALUE_SEPARATOR, |middle| {
        for (name, place) in names.clone().zip(&mut *values) {
            if place.is_none() && ends_with_name(&text[..middle], name) {
                let rest = &text[middle + 1..];
                let value = &rest[..swar::find(rest, PROPERTY_SEPARATOR).unwrap_or(rest.len())];
                if !value.is_empty() {
                    *place = Some(value);
                    missing -= 1;
                }
            }
        }
        match missing {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
}

/// Whether the name of an entry, all of it, stands at the end.
#[inline]
fn ends_with_name(before: &[u8], name: &[u8]) -> bool {
    let Some(start) = before.len().checked_sub(name.len()) else {
        return false;
    };
    (start == 0 || before[start - 1] == PROPERTY_SEPARATOR) && &before[start..] == name
}

/// Appends one entry.
pub fn write(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 2);
    out.put_slice(name);
    out.put_u8(NAME_VALUE_SEPARATOR);
    out.put_slice(value);
    out.put_u8(PROPERTY_SEPARATOR);
}

struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        while !self.rest.is_empty() {
            let end = swar::find(self.rest, PROPERTY_SEPARATOR).unwrap_or(self.rest.len());
            let entry = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if let Some(entry) = split(entry) {
                return Some(entry);
            }
        }
        None
    }
}

impl<'a> DoubleEndedIterator for Entries<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        while !self.rest.is_empty() {
            let before = swar::rfind(self.rest, PROPERTY_SEPARATOR);
            let entry = &self.rest[before.map_or(0, |before| before + 1)..];
            self.rest = &self.rest[..before.unwrap_or(0)];
            if let Some(entry) = split(entry) {
                return Some(entry);
            }
        }
        None
    }
}

#[inline]
fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let middle = swar::find(entry, NAME_VALUE_SEPARATOR)?;
    let (name, value) = (&entry[..middle], &entry[middle + 1..]);
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

/// Properties in the order they were set.
#[derive(Debug, Clone, Default)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    pub fn new() -> Properties {
        Properties::default()
    }

    /// Reads the text form. Bytes that are not UTF-8 are replaced, as Java does.
    pub fn decode(text: &[u8]) -> Properties {
        let mut properties = Properties::new();
        for (name, value) in iter(text) {
            properties.set(
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            );
        }
        properties
    }

    /// Appends the text form.
    pub fn encode(&self, out: &mut BytesMut) {
        for (name, value) in self.iter() {
            write(out, name.as_bytes(), value.as_bytes());
        }
    }

    pub fn encoded_text(&self) -> String {
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        self.encode(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    pub fn encoded_bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + 2).sum()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets `name`, in its old place if it was there.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(found, _)| *found == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Equal when they hold the same entries: order carries no meaning.
impl PartialEq for Properties {
    fn eq(&self, other: &Properties) -> bool {
        self.0.len() == other.0.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl Eq for Properties {}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Properties {
        let mut properties = Properties::new();
        for (name, value) in entries {
            properties.set(name, value);
        }
        properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_separator_is_optional_and_broken_entries_are_skipped() {
        let text = b"KEYS\x01a b\x02x\x02\x01v\x02n\x01\x02\x02TAGS\x01t";
        let entries: Vec<_> = iter(text).collect();
        assert_eq!(entries, [(&b"KEYS"[..], &b"a b"[..]), (b"TAGS", b"t")]);
        assert_eq!(find(text, "TAGS"), Some(&b"t"[..]));
        assert_eq!(find(text, "x"), None);
    }

    #[test]
    fn the_last_of_equal_names_wins() {
        let text = b"A\x01old\x02B\x01b\x02A\x01new\x02";
        assert_eq!(find(text, "A"), Some(&b"new"[..]));
        assert_eq!(Properties::decode(text).get("A"), Some("new"));
    }

    #[test]
    fn a_value_may_hold_the_first_separator() {
        // Java looks for the first 0x01 of an entry; what follows belongs to the value.
        assert_eq!(find(b"A\x01b\x01c\x02", "A"), Some(&b"b\x01c"[..]));
    }

    proptest! {
        #[test]
        fn properties_survive_their_text(entries in proptest::collection::vec(("[^\u{1}\u{2}]{1,12}", "[^\u{1}\u{2}]{1,40}"), 0..12)) {
            let properties: Properties = entries.into_iter().collect();
            let mut text = BytesMut::new();
            properties.encode(&mut text);
            prop_assert_eq!(text.len(), properties.encoded_bytes());
            prop_assert_eq!(&Properties::decode(&text), &properties);
            for (name, value) in properties.iter() {
                prop_assert_eq!(find(&text, name), Some(value.as_bytes()));
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(prop_oneof![Just(1u8), Just(2u8), any::<u8>()], 0..80)) {
            let map = Properties::decode(&bytes);
            prop_assert!(map.len() <= iter(&bytes).count());
            let mut backwards: Vec<_> = iter(&bytes).rev().collect();
            backwards.reverse();
            prop_assert_eq!(iter(&bytes).collect::<Vec<_>>(), backwards);
        }

        #[test]
        fn names_are_found_together_as_one_by_one(
            text in proptest::collection::vec(prop_oneof![3 => Just(1u8), 3 => Just(2u8), 6 => b'a'..=b'c', 1 => any::<u8>()], 0..80),
            names in proptest::collection::vec("[a-c]{1,3}", 0..5),
        ) {
            let mut values = vec![Some(&b"old"[..]); names.len()];
            find_each(&text, names.iter().map(String::as_bytes), &mut values);
            let one_by_one: Vec<_> = names.iter().map(|name| find(&text, name)).collect();
            prop_assert_eq!(values, one_by_one);
        }
    }
}
