//! What a node yields for the properties of a message.

use std::cmp::Ordering;

use crate::expression::{Constant, Node, Order, Place, Search};
use crate::number::{double, integer};

/// The evaluation ends without a result.
#[derive(Debug)]
pub(crate) struct Aborted;

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'a [u8]),
}

type Slotted<'a> = [Option<&'a [u8]>];

/// The truth value of a condition, `None` for NULL.
pub(crate) fn truth(node: &Node, slots: &Slotted<'_>) -> Result<Option<bool>, Aborted> {
    Ok(match node {
        Node::Cast(slot) => slots[*slot].map(|_| false),
        Node::Not(condition) => truth(condition, slots)?.map(|value| !value),
        Node::And(conditions) => all_are(true, conditions, slots)?,
        Node::Or(conditions) => all_are(false, conditions, slots)?.map(|none| !none),
        Node::Equal(operands) => equal(value(&operands[0], slots)?, value(&operands[1], slots)?)?,
        Node::IsNull(operand) => Some(matches!(value(operand, slots)?, Value::Null)),
        Node::Order(order, operands) => {
            let left = value(&operands[0], slots)?;
            ordered(*order, left, &operands[1], slots)?
        }
        Node::Between(operands) => {
            let [of, low, high] = &**operands;
            let of = read_once(value(of, slots)?, low, high)?;
            match ordered(Order::GreaterOrEqual, of, low, slots)? {
                Some(false) => Some(false),
                above => match ordered(Order::LessOrEqual, of, high, slots)? {
                    Some(true) => above,
                    below => below,
                },
            }
        }
        Node::NotBetween(operands) => {
            let [of, low, high] = &**operands;
            let of = read_once(value(of, slots)?, low, high)?;
            match ordered(Order::Less, of, low, slots)? {
                Some(true) => Some(true),
                below => match ordered(Order::Greater, of, high, slots)? {
                    Some(false) => below,
                    above => above,
                },
            }
        }
        Node::In(list) => slots[list.slot].map(|value| {
            let found = list.values.binary_search_by(|known| known.as_bytes().cmp(value));
            found.is_ok() != list.negated
        }),
        // Where nothing is searched for, the value is not evaluated.
        Node::Search(search) if search.wanted.is_empty() => Some(false),
        Node::Search(search) => Some(search.finds(value(&search.value, slots)?)),
        Node::Constant(_) | Node::Property(_) | Node::Negate(_) => match value(node, slots)? {
            Value::Null => None,
            Value::Bool(value) => Some(value),
            _ => return Err(Aborted),
        },
    })
}

/// A text that is compared with two numbers of one type is read once as such.
#[inline(always)]
fn read_once<'a>(of: Value<'a>, low: &Node, high: &Node) -> Result<Value<'a>, Aborted> {
    let (Value::Text(text), Node::Constant(low), Node::Constant(high)) = (of, low, high) else {
        return Ok(of);
    };
    let number = match (low, high) {
        (Constant::Int(_), Constant::Int(_)) => integer(text).map(Value::Int),
        (Constant::Long(_), Constant::Long(_)) => integer(text).map(Value::Long),
        (Constant::Double(_), Constant::Double(_)) => double(text).map(Value::Double),
        _ => Some(of),
    };
    number.ok_or(Aborted)
}

/// Whether all conditions have this value: FALSE at the first that has the other one, else NULL if one is.
fn all_are(wanted: bool, conditions: &[Node], slots: &Slotted<'_>) -> Result<Option<bool>, Aborted> {
    let mut outcome = Some(true);
    for condition in conditions {
        match truth(condition, slots)? {
            Some(value) if value == wanted => {}
            Some(_) => return Ok(Some(false)),
            None => outcome = None,
        }
    }
    Ok(outcome)
}

#[inline(always)]
fn value<'a>(node: &'a Node, slots: &Slotted<'a>) -> Result<Value<'a>, Aborted> {
    Ok(match node {
        Node::Property(slot) => slots[*slot].map_or(Value::Null, Value::Text),
        Node::Constant(constant) => match constant {
            Constant::Null => Value::Null,
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Int(value) => Value::Int(*value),
            Constant::Long(value) => Value::Long(*value),
            Constant::Double(value) => Value::Double(*value),
            Constant::Text(value) => Value::Text(value.as_bytes()),
        },
        _ => return computed(node, slots),
    })
}

fn computed<'a>(node: &'a Node, slots: &Slotted<'a>) -> Result<Value<'a>, Aborted> {
    Ok(match node {
        Node::Negate(operand) => match value(operand, slots)? {
            Value::Int(value) => Value::Int(value.wrapping_neg()),
            Value::Long(value) => Value::Long(value.wrapping_neg()),
            Value::Double(value) => Value::Double(-value),
            Value::Null | Value::Bool(_) | Value::Text(_) => Value::Null,
        },
        _ => truth(node, slots)?.map_or(Value::Null, Value::Bool),
    })
}

fn equal(left: Value<'_>, right: Value<'_>) -> Result<Option<bool>, Aborted> {
    match (left, right) {
        (Value::Null, Value::Null) => Ok(Some(true)),
        (Value::Null, _) => Ok(None),
        (_, Value::Null) => Ok(Some(false)),
        (Value::Text(left), Value::Text(right)) => Ok(Some(left == right)),
        _ => compare(left, right).map(|ordering| Some(ordering == Ordering::Equal)),
    }
}

/// The right side is not evaluated when the left one is NULL.
fn ordered<'a>(order: Order, left: Value<'a>, right: &'a Node, slots: &Slotted<'a>) -> Result<Option<bool>, Aborted> {
    if matches!(left, Value::Null) {
        return Ok(None);
    }
    let ordering = match (left, value(right, slots)?) {
        (_, Value::Null) => return Ok(None),
        (Value::Text(left), Value::Text(right)) => {
            let (left, right) = (double(left).ok_or(Aborted)?, double(right).ok_or(Aborted)?);
            left.total_cmp(&right)
        }
        (left, right) => compare(left, right)?,
    };
    Ok(Some(match order {
        Order::Less => ordering.is_lt(),
        Order::LessOrEqual => ordering.is_le(),
        Order::Greater => ordering.is_gt(),
        Order::GreaterOrEqual => ordering.is_ge(),
    }))
}

/// Neither is NULL. Texts become what they are compared with. Doubles are totally ordered, as `Double.compareTo` does.
#[inline(always)]
fn compare(left: Value<'_>, right: Value<'_>) -> Result<Ordering, Aborted> {
    use Value::{Bool, Double, Int, Long, Text};
    Ok(match (left, right) {
        (Bool(left), Bool(right)) => left.cmp(&right),
        (Text(left), Text(right)) => left.cmp(right),
        (Int(left), Int(right)) => left.cmp(&right),
        (Int(left), Long(right)) => i64::from(left).cmp(&right),
        (Long(left), Int(right)) => left.cmp(&i64::from(right)),
        (Long(left), Long(right)) => left.cmp(&right),
        (Double(left), Double(right)) => left.total_cmp(&right),
        (Int(left), Double(right)) => f64::from(left).total_cmp(&right),
        (Double(left), Int(right)) => left.total_cmp(&f64::from(right)),
        (Long(left), Double(right)) => (left as f64).total_cmp(&right),
        (Double(left), Long(right)) => left.total_cmp(&(right as f64)),

        (Text(left), Int(right)) => integer::<i32>(left).ok_or(Aborted)?.cmp(&right),
        (Text(left), Long(right)) => integer::<i64>(left).ok_or(Aborted)?.cmp(&right),
        (Text(left), Double(right)) => double(left).ok_or(Aborted)?.total_cmp(&right),
        (Text(left), Bool(right)) => left.eq_ignore_ascii_case(b"true").cmp(&right),
        (Int(left), Text(right)) => left.cmp(&integer(right).ok_or(Aborted)?),
        (Long(left), Text(right)) => left.cmp(&integer(right).ok_or(Aborted)?),
        (Double(left), Text(right)) => left.total_cmp(&double(right).ok_or(Aborted)?),
        (Bool(_), Text(_)) => return Err(Aborted),

        // Of types without a common one the left is less.
        _ => Ordering::Less,
    })
}

impl Search {
    /// FALSE, negated or not, for what is no text.
    fn finds(&self, value: Value<'_>) -> bool {
        let Value::Text(text) = value else {
            return false;
        };
        let wanted = self.wanted.as_bytes();
        let found = match self.place {
            Place::Start => text.starts_with(wanted),
            Place::End => text.ends_with(wanted),
            // Linear in both, unlike a search in bytes.
            Place::Anywhere => String::from_utf8_lossy(text).contains(&*self.wanted),
        };
        found != self.negated
    }
}
