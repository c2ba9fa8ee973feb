//! A compiled expression.
//!
//! Nodes keep the order of evaluation of the original, because an evaluation that is not reached cannot fail. Each
//! distinct property has a slot; the properties of a message are put into slots in one pass before the evaluation.

use oxmq_protocol::properties;
use smallvec::SmallVec;

use crate::error::{CompileError, ErrorAt};
use crate::evaluate::{Aborted, truth};
use crate::parser;
use crate::{EXPRESSION_BYTES_MAX, error::Position};

/// Slots that are searched one by one.
const SLOTS_FEW: usize = 8;

/// A compiled expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    condition: Node,
    slots: Slots,
    cost: usize,
}

/// What an expression makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    True,
    False,
    Null,
    /// A text was no number where one was needed, or types were compared that cannot be.
    Aborted,
}

/// Conditions yield a truth value, the others a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Constant(Constant),
    Property(usize),
    /// Minus; NULL of what is no number.
    Negate(Box<Node>),
    /// A property where a condition is needed: FALSE, as properties are texts, or NULL.
    Cast(usize),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Equal(Box<[Node; 2]>),
    IsNull(Box<Node>),
    Order(Order, Box<[Node; 2]>),
    /// The value, the low and the high bound.
    Between(Box<[Node; 3]>),
    NotBetween(Box<[Node; 3]>),
    In(In),
    Search(Search),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct In {
    pub(crate) slot: usize,
    /// Sorted.
    pub(crate) values: Vec<Box<str>>,
    pub(crate) negated: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Search {
    pub(crate) value: Box<Node>,
    pub(crate) place: Place,
    pub(crate) wanted: Box<str>,
    pub(crate) negated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    Start,
    End,
}

/// The properties that an expression reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Slots {
    /// Names with their slots, in the order of the names.
    names: Vec<(Box<str>, usize)>,
}

impl Expression {
    pub fn compile(text: &str) -> Result<Expression, CompileError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(CompileError {
                problem: format!(
                    "the expression has {} bytes, {EXPRESSION_BYTES_MAX} are allowed",
                    text.len()
                ),
                position: Position { line: 1, column: 1 },
            });
        }
        parser::parse(text).map_err(|error: ErrorAt| error.locate(text))
    }

    pub(crate) fn new(condition: Node, slots: Slots, cost: usize) -> Expression {
        Expression { condition, slots, cost }
    }

    /// Whether a message with these properties, in their text form, is wanted.
    pub fn matches(&self, properties: &[u8]) -> bool {
        self.evaluate(properties) == Outcome::True
    }

    pub fn evaluate(&self, properties: &[u8]) -> Outcome {
        let values = self.slots.fill(properties);
        match truth(&self.condition, &values) {
            Ok(Some(true)) => Outcome::True,
            Ok(Some(false)) => Outcome::False,
            Ok(None) => Outcome::Null,
            Err(Aborted) => Outcome::Aborted,
        }
    }

    /// How many tokens it was made of, to which the time of an evaluation is proportional.
    pub fn cost(&self) -> usize {
        self.cost
    }
}

impl Slots {
    pub(crate) fn slot_of(&mut self, name: &str) -> usize {
        match self.names.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(at) => self.names[at].1,
            Err(at) => {
                let slot = self.names.len();
                self.names.insert(at, (name.into(), slot));
                slot
            }
        }
    }

    /// From the last property to the first: of equal names the last one counts, and nothing is read beyond what is wanted.
    fn fill<'a>(&self, properties: &'a [u8]) -> SmallVec<[Option<&'a [u8]>; SLOTS_FEW]> {
        let mut values = SmallVec::from_elem(None, self.names.len());
        let mut missing = self.names.len();
        let mut entries = properties::iter(properties).rev();
        while missing > 0 {
            let Some((name, value)) = entries.next() else {
                break;
            };
            let found = if self.names.len() <= SLOTS_FEW {
                self.names.iter().position(|(wanted, _)| wanted.as_bytes() == name)
            } else {
                self.names
                    .binary_search_by(|(known, _)| known.as_bytes().cmp(name))
                    .ok()
            };
            if let Some(at) = found {
                let slot: &mut Option<&[u8]> = &mut values[self.names[at].1];
                missing -= usize::from(slot.is_none());
                slot.get_or_insert(value);
            }
        }
        values
    }
}
