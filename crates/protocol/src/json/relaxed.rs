//! Rewrites the relaxed dialect to strict JSON, in one pass over the text.
//!
//! The pass moves brackets, commas and names; it does not judge what it cannot read. Text that is no JSON in either
//! dialect comes out as something that the strict parser refuses.

use std::borrow::Cow;

/// Objects and arrays inside each other, as deep as any body of the protocol and then some.
const DEPTH_MAX: usize = 64;

/// The same value as strict JSON. Objects in the place of names become text that holds their JSON. Members that are
/// `null` are left out: to Java they are the same as absent.
pub fn relaxed(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut rewriter = Rewriter {
        input: bytes,
        at: 0,
        out: Vec::with_capacity(bytes.len() + bytes.len() / 4),
    };
    match rewriter.value(0, true) {
        Some(()) => {
            // What follows the value stays, so that the parser sees it and complains.
            rewriter.skip_space();
            rewriter.out.extend_from_slice(&bytes[rewriter.at..]);
            Cow::Owned(rewriter.out)
        }
        None => Cow::Borrowed(bytes),
    }
}

struct Rewriter<'a> {
    input: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl<'a> Rewriter<'a> {
    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// The next byte that is not white space.
    fn next_mark(&mut self) -> Option<u8> {
        self.skip_space();
        self.peek()
    }

    /// Copies one value. `None`: this is beyond us. Objects as names hold no further objects as names, which keeps the
    /// escapes from multiplying.
    fn value(&mut self, depth: usize, object_names: bool) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.next_mark()? {
            b'{' => self.object(depth, object_names),
            b'[' => self.array(depth, object_names),
            b'"' | b'\'' => self.text(),
            _ => {
                let word = self.word()?;
                match word {
                    b"NaN" | b"undefined" => self.out.extend_from_slice(b"null"),
                    _ => self.out.extend_from_slice(word),
                }
                Some(())
            }
        }
    }

    fn object(&mut self, depth: usize, object_names: bool) -> Option<()> {
        self.at += 1;
        self.out.push(b'{');
        let mut first = true;
        loop {
            match self.next_mark()? {
                b'}' => break,
                b',' => {
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            let before = self.out.len();
            if !first {
                self.out.push(b',');
            }
            self.name(depth, object_names)?;
            if self.next_mark()? != b':' {
                return None;
            }
            self.at += 1;
            self.out.push(b':');
            let value_at = self.out.len();
            self.value(depth + 1, object_names)?;
            if &self.out[value_at..] == b"null" {
                self.out.truncate(before);
            } else {
                first = false;
            }
            self.end_of_item(b'}')?;
        }
        self.at += 1;
        self.out.push(b'}');
        Some(())
    }

    fn array(&mut self, depth: usize, object_names: bool) -> Option<()> {
        self.at += 1;
        self.out.push(b'[');
        let mut first = true;
        loop {
            match self.next_mark()? {
                b']' => break,
                b',' => {
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            if !first {
                self.out.push(b',');
            }
            first = false;
            self.value(depth + 1, object_names)?;
            self.end_of_item(b']')?;
        }
        self.at += 1;
        self.out.push(b']');
        Some(())
    }

    /// Behind an item comes a comma or the closing bracket.
    fn end_of_item(&mut self, closing: u8) -> Option<()> {
        let mark = self.next_mark()?;
        (mark == b',' || mark == closing).then_some(())
    }

    fn name(&mut self, depth: usize, object_names: bool) -> Option<()> {
        match self.next_mark()? {
            b'"' | b'\'' => self.text(),
            b'{' if object_names => {
                let start = self.out.len();
                self.object(depth + 1, false)?;
                let object = self.out.split_off(start);
                self.out.push(b'"');
                for byte in object {
                    push_escaped(&mut self.out, byte);
                }
                self.out.push(b'"');
                Some(())
            }
            _ => {
                let word = self.word()?;
                self.out.push(b'"');
                self.out.extend_from_slice(word);
                self.out.push(b'"');
                Some(())
            }
        }
    }

    /// Text in either kind of quotes.
    fn text(&mut self) -> Option<()> {
        let quote = self.peek()?;
        self.at += 1;
        self.out.push(b'"');
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'\\' => {
                    let escaped = self.peek()?;
                    self.at += 1;
                    if escaped != b'\'' {
                        self.out.push(b'\\');
                    }
                    self.out.push(escaped);
                }
                _ if byte == quote => break,
                _ => push_escaped(&mut self.out, byte),
            }
        }
        self.out.push(b'"');
        Some(())
    }

    /// A number, a keyword or a name without quotes.
    fn word(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        while self.peek().is_some_and(is_word_byte) {
            self.at += 1;
        }
        (self.at > start).then(|| &self.input[start..self.at])
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'$')
}

/// One byte of text that stands inside double quotes.
fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn check(input: &str, strict: &str) {
        let out = relaxed(input.as_bytes());
        assert_eq!(std::str::from_utf8(&out).unwrap(), strict, "from {input}");
        serde_json::from_slice::<Value>(&out).unwrap();
    }

    #[test]
    fn the_dialect_becomes_strict() {
        check(
            r#"{0:"a",-1:'b "c"',name:true}"#,
            r#"{"0":"a","-1":"b \"c\"","name":true}"#,
        );
        check(r#"[1,2,,3,] "#, "[1,2,3]");
        check(r#"{"a":null,"b":1,}"#, r#"{"b":1}"#);
        check(r#"{"a":NaN,"x":[NaN]}"#, r#"{"x":[null]}"#);
        check(r#"{'it\'s':"\u00e9"}"#, r#"{"it's":"\u00e9"}"#);
        check("{\"a\":\"tab\there\"}", r#"{"a":"tab\u0009here"}"#);
    }

    #[test]
    fn objects_as_names_become_text() {
        check(
            r#"{{"brokerName":"b0","queueId":0,"topic":"t"}:{"maxOffset":1}}"#,
            r#"{"{\"brokerName\":\"b0\",\"queueId\":0,\"topic\":\"t\"}":{"maxOffset":1}}"#,
        );
    }

    #[test]
    fn depth_and_escapes_are_bounded() {
        let deep = "[".repeat(100_000);
        assert!(matches!(relaxed(deep.as_bytes()), Cow::Borrowed(_)));
        let names = "{".repeat(60);
        assert!(matches!(relaxed(names.as_bytes()), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn strict_json_keeps_its_meaning(keys in proptest::collection::vec(".{0,8}", 0..6), numbers: Vec<i64>, text in ".{0,20}") {
            let members = keys.into_iter().map(|key| (key, Value::from(text.clone())));
            let value = serde_json::json!({"members": members.collect::<serde_json::Map<_, _>>(), "numbers": numbers});
            let bytes = serde_json::to_vec(&value).unwrap();
            let same: Value = serde_json::from_slice(&relaxed(&bytes)).unwrap();
            prop_assert_eq!(same, value);
        }

        #[test]
        fn anything_goes_in(bytes in "[{}\\[\\]:,'\"a0\\\\ ]{0,60}") {
            prop_assert!(relaxed(bytes.as_bytes()).len() <= 16 * bytes.len() + 16);
        }
    }
}
