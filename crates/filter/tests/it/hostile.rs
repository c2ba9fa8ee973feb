//! Input that is meant to harm: it is refused or compiled, and evaluated, in bounded time and stack.

use bytes::BytesMut;
use oxmq_filter::{DEPTH_MAX, EXPRESSION_BYTES_MAX, Expression, Outcome};
use oxmq_protocol::properties;

fn is_too_deep(text: &str) -> bool {
    let error = Expression::compile(text).unwrap_err();
    error.problem.contains("deep")
}

#[test]
fn nesting_ends_at_its_bound() {
    for (open, close) in [("(", ")"), ("NOT ", ""), ("- ", ""), ("+", "")] {
        let nested = |count: usize| format!("{}a{} IS NULL", open.repeat(count), close.repeat(count));
        assert!(is_too_deep(&nested(DEPTH_MAX)), "{open}");
        assert!(is_too_deep(&nested(10_000)), "{open}");
    }
    for link in [" = a", " IS NULL", " <> b", " = (a)"] {
        assert!(is_too_deep(&format!("a{}", link.repeat(DEPTH_MAX))), "{link}");
    }
    let deep = format!("{}a{}", "(".repeat(DEPTH_MAX - 1), ")".repeat(DEPTH_MAX - 1));
    assert!(Expression::compile(&deep).is_ok());
}

#[test]
fn the_deepest_expression_needs_little_stack() {
    // Two levels of parsing and four nodes for each of these.
    let levels = DEPTH_MAX / 4 - 2;
    let deep = format!(
        "{}a = 1{}",
        "NOT (b = 1 OR b = 1 AND ".repeat(levels),
        ")".repeat(levels)
    );
    let thread = std::thread::Builder::new().stack_size(768 * 1024).spawn(move || {
        let expression = Expression::compile(&deep).unwrap();
        expression.evaluate(b"")
    });
    assert_eq!(thread.unwrap().join().unwrap(), Outcome::Null);
}

#[test]
fn chains_are_flat() {
    for link in [" OR a = 1", " AND b", " OR a BETWEEN 1 AND 2"] {
        let text = format!("a = 1{}", link.repeat((EXPRESSION_BYTES_MAX - 5) / link.len()));
        let expression = Expression::compile(&text).unwrap();
        assert!(expression.cost() > 10_000);
        expression.evaluate(b"a\x012\x02");
    }
}

#[test]
fn what_is_too_long_is_not_read() {
    for piece in ["(", "a OR ", "'", "/*", "NOT ", "-"] {
        let text = piece.repeat(1024 * 1024 / piece.len());
        let error = Expression::compile(&text).unwrap_err();
        assert!(error.problem.contains("are allowed"), "{error}");
    }
}

#[test]
fn many_names_and_many_properties_meet_quickly() {
    let names: Vec<_> = (0..6000).map(|number| format!("p{number}")).collect();
    let expression = Expression::compile(&names.join(" OR ")).unwrap();
    let mut map = BytesMut::new();
    for number in (0..2500).rev() {
        properties::write(&mut map, format!("p{number}").as_bytes(), b"x");
    }
    for _ in 0..100 {
        assert_eq!(expression.evaluate(&map), Outcome::Null);
    }
}

#[test]
fn a_search_is_linear() {
    let needle = format!("{}b", "a".repeat(20_000));
    let expression = Expression::compile(&format!("x CONTAINS '{needle}'")).unwrap();
    let mut map = BytesMut::new();
    properties::write(&mut map, b"x", "a".repeat(32_000).as_bytes());
    for _ in 0..20 {
        assert_eq!(expression.evaluate(&map), Outcome::False);
    }
}
