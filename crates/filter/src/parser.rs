//! The grammar, lowest precedence first:
//!
//! ```text
//! or         = and { OR and }
//! and        = equality { AND equality }
//! equality   = comparison { ("=" | "<>") comparison | IS [NOT] NULL }
//! comparison = unary { (">" | ">=" | "<" | "<=") unary
//!                    | [NOT] (CONTAINS | STARTSWITH | ENDSWITH) text
//!                    | [NOT] BETWEEN unary AND unary
//!                    | [NOT] IN "(" text { "," text } ")" }
//! unary      = "+" unary | "-" unary | NOT unary | literal | name | "(" or ")"
//! ```
//!
//! As in the original, NOT and the signs bind tightest, and what follows a complete expression is ignored as long as its
//! first token is one.

use crate::DEPTH_MAX;
use crate::error::{ErrorAt, quote};
use crate::expression::{Constant, Expression, In, Node, Order, Place, Search, Slots};
use crate::lexer::{Lexeme, Lexer, Token};

pub(crate) fn parse(text: &str) -> Result<Expression, ErrorAt> {
    let mut lexer = Lexer::new(text);
    let mut parser = Parser {
        next: lexer.next()?,
        lexer,
        slots: Slots::default(),
        nesting: 0,
        tokens: 0,
    };
    let condition = parser.or()?.into_condition()?;
    Ok(Expression::new(condition.node, parser.slots, parser.tokens))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    next: Lexeme<'a>,
    slots: Slots,
    nesting: usize,
    tokens: usize,
}

/// A node, where it starts, and how deep it is. Boxed, so that frames of the recursion stay small.
struct Parsed {
    node: Node,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Box<Parsed>, ErrorAt> {
        let mut left = self.and()?;
        while self.eat(Token::Or)? {
            let right = self.and()?.into_condition()?;
            left = left.into_condition()?.chain(right, Node::Or)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Box<Parsed>, ErrorAt> {
        let mut left = self.equality()?;
        while self.eat(Token::And)? {
            let right = self.equality()?.into_condition()?;
            left = left.into_condition()?.chain(right, Node::And)?;
        }
        Ok(left)
    }

    fn equality(&mut self) -> Result<Box<Parsed>, ErrorAt> {
        let mut left = self.comparison()?;
        loop {
            left = match self.next.token {
                Token::Equal | Token::NotEqual => {
                    let negated = self.bump()?.token == Token::NotEqual;
                    let right = self.comparison()?;
                    check_equality(&left, &right)?;
                    let equal = left.join([right], |[left, right]| Node::Equal(Box::new([left, right])))?;
                    if negated { equal.not()? } else { equal }
                }
                Token::Is => {
                    self.bump()?;
                    let negated = self.eat(Token::Not)?;
                    self.expect(Token::Null, "NULL")?;
                    let is_null = left.join([], |[operand]| Node::IsNull(Box::new(operand)))?;
                    if negated { is_null.not()? } else { is_null }
                }
                _ => return Ok(left),
            };
        }
    }

    fn comparison(&mut self) -> Result<Box<Parsed>, ErrorAt> {
        let mut left = self.unary()?;
        loop {
            let order = match self.next.token {
                Token::Less => Some(Order::Less),
                Token::LessOrEqual => Some(Order::LessOrEqual),
                Token::Greater => Some(Order::Greater),
                Token::GreaterOrEqual => Some(Order::GreaterOrEqual),
                _ => None,
            };
            if let Some(order) = order {
                self.bump()?;
                let right = self.unary()?;
                check_order(&left)?;
                check_order(&right)?;
                left = left.join([right], |[left, right]| Node::Order(order, Box::new([left, right])))?;
                continue;
            }
            let negated = self.eat(Token::Not)?;
            left = match self.next.token {
                Token::Contains => self.search(left, Place::Anywhere, negated)?,
                Token::StartsWith => self.search(left, Place::Start, negated)?,
                Token::EndsWith => self.search(left, Place::End, negated)?,
                Token::Between => self.between(left, negated)?,
                Token::In => self.in_list(&left, negated)?,
                _ if negated => return Err(self.unexpected("CONTAINS, STARTSWITH, ENDSWITH, BETWEEN or IN")),
                _ => return Ok(left),
            };
        }
    }

    fn search(&mut self, value: Box<Parsed>, place: Place, negated: bool) -> Result<Box<Parsed>, ErrorAt> {
        self.bump()?;
        let wanted = self.text()?;
        value.join([], |[value]| {
            Node::Search(Search {
                value: Box::new(value),
                place,
                wanted,
                negated,
            })
        })
    }

    fn between(&mut self, value: Box<Parsed>, negated: bool) -> Result<Box<Parsed>, ErrorAt> {
        self.bump()?;
        let low = self.unary()?;
        self.expect(Token::And, "AND")?;
        let high = self.unary()?;
        for operand in [&value, &low, &high] {
            check_order(operand)?;
        }
        if !negated && is_above(&low.node, &high.node) {
            return Err(ErrorAt::new(
                low.at,
                "the lower bound of BETWEEN is above the upper one",
            ));
        }
        let node = if negated { Node::NotBetween } else { Node::Between };
        value.join([low, high], |operands| node(Box::new(operands)))
    }

    fn in_list(&mut self, value: &Parsed, negated: bool) -> Result<Box<Parsed>, ErrorAt> {
        self.bump()?;
        self.expect(Token::Open, "\"(\"")?;
        let mut values = vec![self.text()?];
        while self.eat(Token::Comma)? {
            values.push(self.text()?);
        }
        self.expect(Token::Close, "\",\" or \")\"")?;
        let Node::Property(slot) = value.node else {
            return Err(ErrorAt::new(value.at, "the left side of IN is no property"));
        };
        values.sort_unstable();
        values.dedup();
        Ok(Parsed::leaf(value.at, Node::In(In { slot, values, negated })))
    }

    fn unary(&mut self) -> Result<Box<Parsed>, ErrorAt> {
        if self.nesting == DEPTH_MAX {
            return Err(too_deep(self.next.at));
        }
        self.nesting += 1;
        let at = self.next.at;
        let mut parsed = match self.next.token {
            Token::Plus => {
                self.bump()?;
                self.unary()?
            }
            Token::Minus => {
                self.bump()?;
                self.unary()?.join([], |[operand]| Node::Negate(Box::new(operand)))?
            }
            Token::Not => {
                self.bump()?;
                self.unary()?.into_condition()?.not()?
            }
            Token::Open => {
                self.bump()?;
                let inner = self.or()?;
                self.expect(Token::Close, "\")\"")?;
                inner
            }
            _ => self.operand()?,
        };
        self.nesting -= 1;
        parsed.at = at;
        Ok(parsed)
    }

    fn operand(&mut self) -> Result<Box<Parsed>, ErrorAt> {
        let Lexeme { token, at, text } = self.next;
        let node = match token {
            Token::Name => Node::Property(self.slots.slot_of(text)),
            Token::True => Node::Constant(Constant::Bool(true)),
            Token::False => Node::Constant(Constant::Bool(false)),
            Token::Null => Node::Constant(Constant::Null),
            Token::Integer => Node::Constant(integer(at, text)?),
            Token::Float => Node::Constant(float(at, text)?),
            Token::Text => Node::Constant(Constant::Text(unquoted(text))),
            _ => return Err(self.unexpected("a property, a value or \"(\"")),
        };
        self.bump()?;
        Ok(Parsed::leaf(at, node))
    }

    fn text(&mut self) -> Result<Box<str>, ErrorAt> {
        self.expect(Token::Text, "a text in quotes")
            .map(|lexeme| unquoted(lexeme.text))
    }

    fn bump(&mut self) -> Result<Lexeme<'a>, ErrorAt> {
        let following = self.lexer.next()?;
        self.tokens += 1;
        Ok(std::mem::replace(&mut self.next, following))
    }

    fn eat(&mut self, token: Token) -> Result<bool, ErrorAt> {
        let found = self.next.token == token;
        if found {
            self.bump()?;
        }
        Ok(found)
    }

    fn expect(&mut self, token: Token, expected: &str) -> Result<Lexeme<'a>, ErrorAt> {
        match self.next.token == token {
            true => self.bump(),
            false => Err(self.unexpected(expected)),
        }
    }

    fn unexpected(&self, expected: &str) -> ErrorAt {
        let problem = match self.next.token {
            Token::End => format!("expected {expected}, found the end"),
            _ => format!("expected {expected}, found {}", quote(self.next.text)),
        };
        ErrorAt::new(self.next.at, problem)
    }
}

impl Parsed {
    fn new(at: usize, node: Node, depth: usize) -> Box<Parsed> {
        Box::new(Parsed { node, at, depth })
    }

    fn leaf(at: usize, node: Node) -> Box<Parsed> {
        Parsed::new(at, node, 1)
    }

    /// A node above this one and others.
    fn join<const MORE: usize, const ALL: usize>(
        self: Box<Self>,
        others: [Box<Parsed>; MORE],
        build: impl FnOnce([Node; ALL]) -> Node,
    ) -> Result<Box<Parsed>, ErrorAt> {
        let at = self.at;
        let deepest = others.iter().map(|other| other.depth).fold(self.depth, usize::max);
        if deepest == DEPTH_MAX {
            return Err(too_deep(at));
        }
        let mut nodes = std::iter::once(self).chain(others).map(|parsed| parsed.node);
        let nodes = std::array::from_fn(|_| nodes.next().expect("as many nodes as operands"));
        Ok(Parsed::new(at, build(nodes), deepest + 1))
    }

    /// One more member of a chain of AND or OR, or the first two.
    #[expect(clippy::boxed_local, reason = "as everywhere here")]
    fn chain(self: Box<Self>, right: Box<Parsed>, kind: fn(Vec<Node>) -> Node) -> Result<Box<Parsed>, ErrorAt> {
        let Parsed { node, at, depth } = *self;
        match (node, kind(Vec::new())) {
            (Node::And(mut members), Node::And(_)) | (Node::Or(mut members), Node::Or(_)) => {
                if right.depth == DEPTH_MAX {
                    return Err(too_deep(right.at));
                }
                members.push(right.node);
                Ok(Parsed::new(at, kind(members), depth.max(right.depth + 1)))
            }
            (node, _) => Parsed::new(at, node, depth).join([right], |members: [Node; 2]| kind(members.into())),
        }
    }

    fn not(self: Box<Self>) -> Result<Box<Parsed>, ErrorAt> {
        self.join([], |[condition]| Node::Not(Box::new(condition)))
    }

    fn is_condition(&self) -> bool {
        match &self.node {
            Node::Constant(constant) => matches!(constant, Constant::Null | Constant::Bool(_)),
            Node::Property(_) | Node::Negate(_) => false,
            _ => true,
        }
    }

    fn into_condition(self: Box<Self>) -> Result<Box<Parsed>, ErrorAt> {
        match self.node {
            Node::Property(slot) => Ok(Parsed::leaf(self.at, Node::Cast(slot))),
            _ if self.is_condition() => Ok(self),
            _ => Err(ErrorAt::new(
                self.at,
                "this is no condition: it is neither true nor false",
            )),
        }
    }
}

fn too_deep(at: usize) -> ErrorAt {
    ErrorAt::new(at, format!("nested more than {DEPTH_MAX} deep"))
}

fn check_equality(left: &Parsed, right: &Parsed) -> Result<(), ErrorAt> {
    for operand in [left, right] {
        if operand.node == Node::Constant(Constant::Null) {
            return Err(ErrorAt::new(operand.at, "NULL cannot be compared, write IS NULL"));
        }
    }
    match (&left.node, &right.node) {
        (Node::Constant(Constant::Bool(_)), Node::Constant(value)) if !matches!(value, Constant::Bool(_)) => {
            Err(ErrorAt::new(right.at, "a truth value is compared with something else"))
        }
        _ => Ok(()),
    }
}

/// Only numbers, and what may become one, have an order.
fn check_order(operand: &Parsed) -> Result<(), ErrorAt> {
    let has_order = match &operand.node {
        Node::Constant(constant) => matches!(constant, Constant::Int(_) | Constant::Long(_) | Constant::Double(_)),
        _ => !operand.is_condition(),
    };
    match has_order {
        true => Ok(()),
        false => Err(ErrorAt::new(operand.at, "only properties and numbers can be ordered")),
    }
}

/// Of two constants, which are numbers.
fn is_above(low: &Node, high: &Node) -> bool {
    use Constant::{Double, Int, Long};
    let (Node::Constant(low), Node::Constant(high)) = (low, high) else {
        return false;
    };
    let whole = |constant: &Constant| match constant {
        Int(value) => Some(i64::from(*value)),
        Long(value) => Some(*value),
        _ => None,
    };
    let number = |constant: &Constant| match constant {
        Double(value) => *value,
        other => whole(other).unwrap_or(0) as f64,
    };
    match (whole(low), whole(high)) {
        (Some(low), Some(high)) => low > high,
        _ => number(low) > number(high),
    }
}

fn integer(at: usize, text: &str) -> Result<Constant, ErrorAt> {
    let digits = text.trim_end_matches(['l', 'L']);
    let value: Result<i64, _> = digits.parse();
    match value {
        Ok(value) => Ok(i32::try_from(value).map_or(Constant::Long(value), Constant::Int)),
        Err(_) => Err(ErrorAt::new(at, format!("{} is beyond 64 bits", quote(text)))),
    }
}

/// Zero is below the smallest double for the original.
fn float(at: usize, text: &str) -> Result<Constant, ErrorAt> {
    match text.parse() {
        Ok(value) if value > 0.0 && value < f64::INFINITY => Ok(Constant::Double(value)),
        _ => Err(ErrorAt::new(
            at,
            format!("{} is not between the smallest and the largest double", quote(text)),
        )),
    }
}

fn unquoted(text: &str) -> Box<str> {
    let inner = &text[1..text.len() - 1];
    inner.replace("''", "'").into()
}
