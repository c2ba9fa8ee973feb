//! A compiled expression.
//!
//! Nodes keep the order of evaluation of the original, because an evaluation that is not reached cannot fail. Each
//! distinct property has a slot; the properties of a message are put into slots in one pass before the evaluation.

use oxmq_protocol::properties;

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
    /// The names in the order of the slots.
    names: Vec<Box<str>>,
    /// The slots in the order of the names.
    sorted: Vec<usize>,
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
    #[inline]
    pub fn matches(&self, properties: &[u8]) -> bool {
        self.evaluate(properties) == Outcome::True
    }

    pub fn evaluate(&self, properties: &[u8]) -> Outcome {
        let outcome = self
            .slots
            .with_values(properties, |values| truth(&self.condition, values));
        match outcome {
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
        match self.sorted.binary_search_by(|slot| (*self.names[*slot]).cmp(name)) {
            Ok(at) => self.sorted[at],
            Err(at) => {
                let slot = self.names.len();
                self.names.push(name.into());
                self.sorted.insert(at, slot);
                slot
            }
        }
    }

    /// Calls `look` with the values of the properties in their slots.
    fn with_values<'a, T>(&self, properties: &'a [u8], look: impl FnOnce(&[Option<&'a [u8]>]) -> T) -> T {
        if self.names.len() <= SLOTS_FEW {
            let values = &mut [None; SLOTS_FEW][..self.names.len()];
            properties::find_each(properties, self.names.iter().map(|name| name.as_bytes()), values);
            return look(values);
        }
        let mut values = vec![None; self.names.len()];
        for (name, value) in properties::iter(properties) {
            let found = self
                .sorted
                .binary_search_by(|slot| self.names[*slot].as_bytes().cmp(name));
            if let Ok(at) = found {
                values[self.sorted[at]] = Some(value);
            }
        }
        look(&values)
    }
}
