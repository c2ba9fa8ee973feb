//! Laws that hold for all expressions and messages.

use bytes::BytesMut;
use oxmq_filter::{Expression, Outcome};
use oxmq_protocol::properties;
use proptest::prelude::*;

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c", "TAGS"]).prop_map(str::to_owned),
        4 => prop::sample::select(vec![
            "=", "<>", "<", "<=", ">", ">=", "AND", "OR", "NOT", "IS NULL", "IS NOT NULL", "IN ('x', 'y')", "BETWEEN", "(", ")", "-", "+",
            "CONTAINS 'x'", "NOT STARTSWITH 'y'",
        ]).prop_map(str::to_owned),
        3 => (0..20i64).prop_map(|number| number.to_string()),
        1 => "'[a-z0-9']{0,3}'",
        1 => prop::sample::select(vec!["TRUE", "FALSE", "NULL", "1.5", "-- x\n", "/**/"]).prop_map(str::to_owned),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let value = prop_oneof![3 => "[abc]", 2 => (0..12i32).prop_map(|number| number.to_string())];
    let leaf = prop_oneof![
        (
            "[abc]",
            prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]),
            value
        )
            .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (
            "[abc]",
            prop::sample::select(vec!["IS NULL", "IS NOT NULL", "IN ('3', 'x')", "CONTAINS '1'"])
        )
            .prop_map(|(a, op)| format!("{a} {op}")),
        ("[abc]", 0..9i32, 9..12i32).prop_map(|(a, low, high)| format!("{a} BETWEEN {low} AND {high}")),
        "[abc]".prop_map(|name| name),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("NOT ({inner})")),
            (inner.clone(), prop::sample::select(vec!["AND", "OR"]), inner)
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        ]
    })
}

fn message() -> impl Strategy<Value = BytesMut> {
    let value = prop_oneof![3 => (0..12i32).prop_map(|number| number.to_string()), 1 => "[x-z]{1,2}"];
    prop::collection::vec(("[abcde]", value), 0..5).prop_map(|entries| {
        let mut map = BytesMut::new();
        for (name, value) in entries {
            properties::write(&mut map, name.as_bytes(), value.as_bytes());
        }
        map
    })
}

fn evaluate(text: &str, message: &[u8]) -> Outcome {
    Expression::compile(text).unwrap().evaluate(message)
}

/// What a law says does not hold for evaluations that end early: the order decides which those are.
fn complete(outcomes: &[Outcome]) -> bool {
    !outcomes.contains(&Outcome::Aborted)
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,60}", message in message()) {
        if let Ok(expression) = Expression::compile(&text) {
            expression.evaluate(&message);
        }
    }

    #[test]
    fn any_tokens_are_compiled_or_refused_at_a_place_in_them(tokens in prop::collection::vec(token(), 0..25), message in message()) {
        let text = tokens.join(" ");
        match Expression::compile(&text) {
            Ok(expression) => { expression.evaluate(&message); }
            Err(error) => {
                let line = text.split('\n').nth(error.position.line - 1);
                prop_assert!(line.is_some_and(|line| error.position.column <= line.chars().count() + 1), "{}", error);
            }
        }
    }

    #[test]
    fn any_bytes_are_evaluated(text in condition(), message in prop::collection::vec(prop_oneof![Just(1u8), Just(2), Just(b'a'), any::<u8>()], 0..60)) {
        evaluate(&text, &message);
    }

    #[test]
    fn the_last_of_equal_properties_counts(text in condition(), message in prop::collection::vec(prop_oneof![2 => Just(1u8), 2 => Just(2), 8 => b'a'..=b'd', 2 => b'0'..=b'9'], 0..60)) {
        let mut map = BytesMut::new();
        properties::Properties::decode(&message).encode(&mut map);
        prop_assert_eq!(evaluate(&text, &message), evaluate(&text, &map));
    }

    #[test]
    fn not_twice_is_nothing(text in condition(), message in message()) {
        prop_assert_eq!(evaluate(&format!("NOT (NOT ({text}))"), &message), evaluate(&format!("({text}) AND TRUE"), &message));
    }

    #[test]
    fn de_morgan_holds(left in condition(), right in condition(), message in message()) {
        let and = evaluate(&format!("NOT (({left}) AND ({right}))"), &message);
        let or = evaluate(&format!("(NOT ({left})) OR (NOT ({right}))"), &message);
        prop_assert_eq!(and, or);
    }

    #[test]
    fn order_of_members_matters_only_to_failures(left in condition(), right in condition(), message in message()) {
        for op in ["AND", "OR"] {
            let outcomes = [
                evaluate(&format!("({left}) {op} ({right})"), &message),
                evaluate(&format!("({right}) {op} ({left})"), &message),
            ];
            prop_assert!(!complete(&outcomes) || outcomes[0] == outcomes[1]);
        }
    }

    #[test]
    fn between_is_two_comparisons(low in 0..12i32, width in 0..5i32, message in message()) {
        let high = low + width;
        prop_assert_eq!(evaluate(&format!("a BETWEEN {low} AND {high}"), &message), evaluate(&format!("a >= {low} AND a <= {high}"), &message));
        prop_assert_eq!(evaluate(&format!("a NOT BETWEEN {low} AND {high}"), &message), evaluate(&format!("a < {low} OR a > {high}"), &message));
    }

    #[test]
    fn blanks_and_comments_change_nothing(text in condition(), message in message()) {
        let spaced = text.replace(' ', " /* - ' */\t-- x'\n");
        prop_assert_eq!(evaluate(&spaced, &message), evaluate(&text, &message));
    }
}
