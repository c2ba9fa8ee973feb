//! Why an expression is refused, and where.

use std::fmt;

use thiserror::Error;

/// Characters of an offending token that a message quotes.
const QUOTED_MAX: usize = 40;

/// A place in an expression, both counted from 1 in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Says what is wrong, then where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{problem} at {position}")]
pub struct CompileError {
    pub problem: String,
    pub position: Position,
}

/// An error before its offset has been turned into a position.
#[derive(Debug)]
pub(crate) struct ErrorAt {
    pub(crate) problem: String,
    pub(crate) at: usize,
}

impl ErrorAt {
    pub(crate) fn new(at: usize, problem: impl Into<String>) -> ErrorAt {
        ErrorAt {
            problem: problem.into(),
            at,
        }
    }

    pub(crate) fn locate(self, text: &str) -> CompileError {
        CompileError {
            problem: self.problem,
            position: Position::of(text, self.at),
        }
    }
}

impl Position {
    /// Of the character that starts at this byte.
    pub(crate) fn of(text: &str, at: usize) -> Position {
        let before = &text[..text.floor_char_boundary(at)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A piece of the expression for a message.
pub(crate) fn quote(piece: &str) -> String {
    match piece.char_indices().nth(QUOTED_MAX) {
        Some((cut, _)) => format!("\"{}…\"", &piece[..cut]),
        None => format!("\"{piece}\""),
    }
}
