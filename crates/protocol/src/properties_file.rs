//! Java's `.properties` files: the text form of every configuration file of RocketMQ (spec: config.md §1.1).
//!
//! Reading keeps order, duplicates and line numbers, so that a bad value can be shown where it stands. Files are
//! read as UTF-8 where they are valid UTF-8 and as ISO-8859-1 otherwise; written files are plain ASCII, which both
//! readings and Java agree on.

use std::fmt::Write;

/// One `key=value` of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub key: String,
    pub value: String,
    /// Where the entry starts, counted from 1.
    pub line: usize,
}

/// Every entry of a properties text, in its order. Nothing is an error to Java but a broken `\u` escape; that
/// is kept here as it stands.
pub fn parse(bytes: &[u8]) -> Vec<Property> {
    let text: String = match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    logical_lines(&text)
        .into_iter()
        .map(|(line, text)| {
            let (key, value) = split_entry(&text);
            Property {
                key: unescape(key),
                value: unescape(value),
                line,
            }
        })
        .collect()
}

/// A properties text that [`parse`] and Java read back as these pairs.
pub fn write<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        escape_into(&mut out, key, true);
        out.push('=');
        escape_into(&mut out, value, false);
        out.push('\n');
    }
    out
}

/// Lines without comments and blanks, continuations joined, escapes still in place, each with its number.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in natural_lines(text).enumerate() {
        let piece = natural.trim_start_matches([' ', '\t', '\u{c}']);
        let (number, mut line) = match open.take() {
            Some(started) => started,
            None if piece.is_empty() || piece.starts_with(['#', '!']) => continue,
            None => (index + 1, String::new()),
        };
        let backslashes = piece.len() - piece.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            line.push_str(&piece[..piece.len() - 1]);
            open = Some((number, line));
        } else {
            line.push_str(piece);
            lines.push((number, line));
        }
    }
    lines.extend(open.filter(|(_, line)| !line.is_empty()));
    lines
}

/// Java ends a line at `\n`, `\r` or `\r\n`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// The key ends at the first `=`, `:` or blank that is not escaped; blanks and one separator before the value go.
fn split_entry(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let key_end = line
        .find(|c| {
            let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\u{c}');
            escaped = !escaped && c == '\\';
            ends
        })
        .unwrap_or(line.len());
    let (key, rest) = line.split_at(key_end);
    let blanks = [' ', '\t', '\u{c}'];
    let rest = rest.trim_start_matches(blanks);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(blanks))
}

fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    // UTF-16 units, because `\u` may name either half of a surrogate pair.
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = rest.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut buffer));
            continue;
        }
        let unit = match rest.next() {
            Some('u') => match hex_unit(rest.as_str()) {
                Some(unit) => {
                    rest = rest.as_str()[4..].chars();
                    unit
                }
                None => u16::from(b'u'),
            },
            Some('t') => u16::from(b'\t'),
            Some('n') => u16::from(b'\n'),
            Some('r') => u16::from(b'\r'),
            Some('f') => 0xc,
            Some(other) => {
                units.extend_from_slice(other.encode_utf16(&mut buffer));
                continue;
            }
            None => break,
        };
        units.push(unit);
    }
    String::from_utf16_lossy(&units)
}

fn hex_unit(text: &str) -> Option<u16> {
    let digits = text.get(..4)?;
    let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| all_hex)
}

fn escape_into(out: &mut String, text: &str, is_key: bool) {
    for (index, c) in text.chars().enumerate() {
        match c {
            ' ' if is_key || index == 0 => out.push_str("\\ "),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            '\\' | '=' | ':' | '#' | '!' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04X}").expect("writing to a String cannot fail");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &[u8]) -> Vec<(String, String)> {
        let properties = parse(text).into_iter();
        properties.map(|property| (property.key, property.value)).collect()
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert_eq!(pairs(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn separators_blanks_and_comments_are_java_s() {
        check(
            "a=1\nb:2\nc 3\n  d = 4 \n",
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4 ")],
        );
        check("# no\n! no\n\n   # no\nkey", &[("key", "")]);
        check("a\\ b\\=c\\:=\\ d", &[("a b=c:", " d")]);
        check("a=1\rb=2\r\nc=3", &[("a", "1"), ("b", "2"), ("c", "3")]);
        check("a==1", &[("a", "=1")]);
    }

    #[test]
    fn a_backslash_continues_a_line_and_an_even_number_does_not() {
        check("a=1,\\\n   2\nb=x\\\\\nc=3", &[("a", "1,2"), ("b", "x\\"), ("c", "3")]);
        check("a=1\\", &[("a", "1")]);
        check("a=1\\\n# not a comment", &[("a", "1# not a comment")]);
    }

    #[test]
    fn unicode_comes_escaped_as_utf8_or_as_latin1() {
        check("a=\\u00e9\\ud83d\\ude00", &[("a", "é😀")]);
        check("a=é😀", &[("a", "é😀")]);
        assert_eq!(pairs(b"a=\xe9"), [("a".into(), "é".into())]);
        check("a=\\uzz", &[("a", "uzz")]);
    }

    #[test]
    fn lines_are_counted_where_entries_start() {
        let lines: Vec<_> = parse(b"# x\na=1\\\n2\n\nb=2\n").iter().map(|p| p.line).collect();
        assert_eq!(lines, [2, 5]);
    }

    /// `testdata/jdk.properties` was written by `java.util.Properties.store` of OpenJDK 17.
    #[test]
    fn what_the_jdk_wrote_is_read_and_written_back() {
        let file = include_bytes!("../testdata/jdk.properties");
        let mut read = pairs(file);
        read.sort();
        let expected = [
            (" leading", " and trailing "),
            ("empty", ""),
            ("escapes", "tab\tnewline\nreturn\rfeed\u{c}back\\slash"),
            ("key with = and : and #!", "a=b:c#d!e"),
            ("namesrvAddr", "10.0.0.1:9876;10.0.0.2:9876"),
            ("storePathRootDir", "C:\\data\\store"),
            ("unicode", "é 中文 😀"),
        ];
        let expected: Vec<(String, String)> = expected.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert_eq!(read, expected);

        let mut theirs: Vec<&str> = std::str::from_utf8(file)
            .unwrap()
            .lines()
            .filter(|l| !l.starts_with('#'))
            .collect();
        theirs.sort_unstable();
        let ours = write(expected.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let mut ours: Vec<&str> = ours.lines().collect();
        ours.sort_unstable();
        assert_eq!(ours, theirs);
    }

    proptest! {
        #[test]
        fn written_pairs_are_read_back(written in proptest::collection::vec((".+", ".*"), 0..8)) {
            let text = write(written.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            prop_assert_eq!(pairs(text.as_bytes()), written);
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            parse(&bytes);
        }
    }
}
