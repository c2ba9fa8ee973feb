//! Tokens of an expression.

use crate::error::{ErrorAt, quote};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    End,
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
    Integer,
    Float,
    Text,
    Name,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Open,
    Comma,
    Close,
    Plus,
    Minus,
}

const KEYWORDS: [(&str, Token); 12] = [
    ("NOT", Token::Not),
    ("AND", Token::And),
    ("OR", Token::Or),
    ("BETWEEN", Token::Between),
    ("IN", Token::In),
    ("TRUE", Token::True),
    ("FALSE", Token::False),
    ("NULL", Token::Null),
    ("IS", Token::Is),
    ("CONTAINS", Token::Contains),
    ("STARTSWITH", Token::StartsWith),
    ("ENDSWITH", Token::EndsWith),
];

/// A token and the bytes it spans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexeme<'a> {
    pub(crate) token: Token,
    pub(crate) at: usize,
    pub(crate) text: &'a str,
}

/// Finds one token after the other. What stands behind the end of the expression is never looked at.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    pub(crate) fn next(&mut self) -> Result<Lexeme<'a>, ErrorAt> {
        self.skip_blanks()?;
        let rest = &self.text.as_bytes()[self.at..];
        let Some(first) = rest.first() else {
            return Ok(self.take(Token::End, 0));
        };
        let second = rest.get(1);
        let (token, len) = match (first, second) {
            (b'<', Some(b'>')) => (Token::NotEqual, 2),
            (b'<', Some(b'=')) => (Token::LessOrEqual, 2),
            (b'>', Some(b'=')) => (Token::GreaterOrEqual, 2),
            (b'<', _) => (Token::Less, 1),
            (b'>', _) => (Token::Greater, 1),
            (b'=', _) => (Token::Equal, 1),
            (b'(', _) => (Token::Open, 1),
            (b',', _) => (Token::Comma, 1),
            (b')', _) => (Token::Close, 1),
            (b'+', _) => (Token::Plus, 1),
            (b'-', _) => (Token::Minus, 1),
            (b'\'', _) => match text_len(rest) {
                Some(len) => (Token::Text, len),
                None => return Err(ErrorAt::new(self.at, "text without a closing quote")),
            },
            (b'0'..=b'9', _) | (b'.', Some(b'0'..=b'9')) => number(rest),
            (b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$', _) => {
                let len = count(rest, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'));
                (word(&rest[..len]), len)
            }
            _ => {
                let character = self.text[self.at..].chars().take(1).collect::<String>();
                let problem = format!("unexpected character {}", quote(&character));
                return Err(ErrorAt::new(self.at, problem));
            }
        };
        Ok(self.take(token, len))
    }

    fn take(&mut self, token: Token, len: usize) -> Lexeme<'a> {
        let at = self.at;
        self.at += len;
        Lexeme {
            token,
            at,
            text: &self.text[at..self.at],
        }
    }

    fn skip_blanks(&mut self) -> Result<(), ErrorAt> {
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            self.at += match rest {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0C, ..] => 1,
                // Without an end of line these are two minus signs.
                [b'-', b'-', comment @ ..] => match comment.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                    Some(len) => len + 3,
                    None => return Ok(()),
                },
                [b'/', b'*', comment @ ..] => match comment.windows(2).position(|pair| pair == b"*/") {
                    Some(len) => len + 4,
                    None => return Err(ErrorAt::new(self.at, "comment without an end")),
                },
                _ => return Ok(()),
            };
        }
    }
}

fn count(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| wanted(**byte)).count()
}

fn digits(bytes: &[u8]) -> usize {
    count(bytes, |byte| byte.is_ascii_digit())
}

fn word(name: &[u8]) -> Token {
    let keyword = KEYWORDS
        .iter()
        .find(|(keyword, _)| keyword.as_bytes().eq_ignore_ascii_case(name));
    keyword.map_or(Token::Name, |(_, token)| *token)
}

/// The longest text literal, whose quotes are doubled. When the last doubled quote has no closing one behind it, its
/// first half closes.
fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut longest = None;
    let mut at = 1;
    while let Some(len) = bytes.get(at..)?.iter().position(|byte| *byte == b'\'') {
        let end = at + len + 1;
        longest = Some(end);
        if bytes.get(end) != Some(&b'\'') {
            break;
        }
        at = end + 1;
    }
    longest
}

/// The longest number at the start: integers have no leading zeros, floats may.
fn number(bytes: &[u8]) -> (Token, usize) {
    let whole = digits(bytes);
    let mut float = 0;
    if bytes.get(whole) == Some(&b'.') {
        float = whole + 1 + digits(&bytes[whole + 1..]);
    }
    let mantissa = if float > 0 { float } else { whole };
    if let Some(exponent) = exponent_len(&bytes[mantissa..]) {
        float = mantissa + exponent;
    }
    match (float, bytes[0]) {
        (1.., _) => (Token::Float, float),
        (0, b'0') => (Token::Integer, 1),
        (0, _) => match bytes.get(whole) {
            Some(b'l' | b'L') => (Token::Integer, whole + 1),
            _ => (Token::Integer, whole),
        },
    }
}

fn exponent_len(bytes: &[u8]) -> Option<usize> {
    let sign = match bytes {
        [b'e' | b'E', b'+' | b'-', ..] => 1,
        [b'e' | b'E', ..] => 0,
        _ => return None,
    };
    let digits = digits(&bytes[1 + sign..]);
    (digits > 0).then_some(1 + sign + digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(Token, &str)]) {
        let mut lexer = Lexer::new(text);
        let mut found = Vec::new();
        loop {
            let lexeme = lexer.next().unwrap();
            if lexeme.token == Token::End {
                break;
            }
            found.push((lexeme.token, lexeme.text));
        }
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn numbers_are_as_long_as_they_can_be() {
        use Token::{Float, Integer, Name};
        check(
            "5 5L 0 12l",
            &[(Integer, "5"), (Integer, "5L"), (Integer, "0"), (Integer, "12l")],
        );
        check(
            "007 0l",
            &[
                (Integer, "0"),
                (Integer, "0"),
                (Integer, "7"),
                (Integer, "0"),
                (Name, "l"),
            ],
        );
        check(
            "007.5 5. .5 5E10 5.e-3",
            &[
                (Float, "007.5"),
                (Float, "5."),
                (Float, ".5"),
                (Float, "5E10"),
                (Float, "5.e-3"),
            ],
        );
        check(
            "5E 1.5.5",
            &[(Integer, "5"), (Name, "E"), (Float, "1.5"), (Float, ".5")],
        );
    }

    #[test]
    fn quotes_are_doubled_inside_of_texts() {
        use Token::Text;
        check("'a''b' ''''", &[(Text, "'a''b'"), (Text, "''''")]);
        assert_eq!(text_len(b"'a''"), Some(3));
        assert_eq!(text_len(b"'a"), None);
        assert_eq!(text_len(b"''"), Some(2));
    }

    #[test]
    fn comments_are_blanks() {
        use Token::{Equal, Integer, Minus, Name};
        check("a -- rest\n= /* ** / */5", &[(Name, "a"), (Equal, "="), (Integer, "5")]);
        check("a --b", &[(Name, "a"), (Minus, "-"), (Minus, "-"), (Name, "b")]);
        check("/**//***/a", &[(Name, "a")]);
        assert!(Lexer::new("/* a").next().is_err() && Lexer::new("/*/").next().is_err());
        assert!(Lexer::new("a.b").next().is_ok() && Lexer::new(".b").next().is_err());
    }

    #[test]
    fn keywords_have_no_case() {
        check(
            "nOt startswith $x",
            &[
                (Token::Not, "nOt"),
                (Token::StartsWith, "startswith"),
                (Token::Name, "$x"),
            ],
        );
    }
}
