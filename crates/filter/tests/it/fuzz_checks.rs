//! What the fuzz target does with its input. An ordinary test runs the same over the committed corpus.

use oxmq_filter::Expression;

/// An expression, a zero byte, and the properties of a message. It is refused at a place within it, or evaluates the
/// same way every time and in parentheses.
pub(crate) fn expression(data: &[u8]) {
    let (text, message) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"a\x015\x02b\x01x\x02"[..]),
    };
    let text = String::from_utf8_lossy(text);
    match Expression::compile(&text) {
        Ok(expression) => {
            let outcome = expression.evaluate(message);
            assert_eq!(expression.matches(message), outcome == oxmq_filter::Outcome::True);
            assert_eq!(expression.clone().evaluate(message), outcome);
        }
        Err(error) => assert!(error.position.line <= text.matches('\n').count() + 1, "{error}"),
    }
}
