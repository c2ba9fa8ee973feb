//! SQL92 expressions over message properties (spec: behaviour.md §4.4).
//!
//! An [`Expression`] is compiled once and then asked about many messages. It reads the properties where they lie in the
//! stored record and allocates nothing. Results are those of the original, its odd ones included: three-valued logic,
//! texts converted to the type of what they are compared with, and evaluations that end without a result because such
//! a conversion fails. A message matches when the result is TRUE.
//!
//! Any text is compiled or refused in time and memory proportional to its length; neither compiling nor evaluating
//! recurses deeper than [`DEPTH_MAX`].
//!
//! Differences to the original: an expression is at most [`EXPRESSION_BYTES_MAX`] long and [`DEPTH_MAX`] deep (the
//! original fails when its stack is full), and digits of other scripts are no numbers.

mod bloom;
mod error;
mod evaluate;
mod expression;
mod lexer;
mod number;
mod parser;

pub use bloom::BloomFilter;
pub use error::{CompileError, Position};
pub use expression::{Expression, Outcome};

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of parentheses and operators. Chains of AND and of OR are flat.
pub const DEPTH_MAX: usize = 256;
