//! Refused expressions and what is said of them.

use oxmq_filter::Expression;

#[test]
fn an_error_says_what_and_where() {
    for (text, expected) in [
        (
            "",
            "expected a property, a value or \"(\", found the end at line 1, column 1",
        ),
        (
            "a >",
            "expected a property, a value or \"(\", found the end at line 1, column 4",
        ),
        (
            "a = 1 AND\n  b > 'x'",
            "only properties and numbers can be ordered at line 2, column 7",
        ),
        ("ä = 1", "unexpected character \"ä\" at line 1, column 1"),
        ("x = 'ä' AND @", "unexpected character \"@\" at line 1, column 13"),
        ("(a = 1", "expected \")\", found the end at line 1, column 7"),
        ("a = NULL", "NULL cannot be compared, write IS NULL at line 1, column 5"),
        ("a IS 5", "expected NULL, found \"5\" at line 1, column 6"),
        ("a IN (5)", "expected a text in quotes, found \"5\" at line 1, column 7"),
        (
            "a IN ('x' 'y')",
            "expected \",\" or \")\", found \"'y'\" at line 1, column 11",
        ),
        ("5 IN ('x')", "the left side of IN is no property at line 1, column 1"),
        (
            "a NOT LIKE 'x'",
            "expected CONTAINS, STARTSWITH, ENDSWITH, BETWEEN or IN, found \"LIKE\" at line 1, column 7",
        ),
        (
            "a BETWEEN 5 AND 3",
            "the lower bound of BETWEEN is above the upper one at line 1, column 11",
        ),
        ("a = 'it", "text without a closing quote at line 1, column 5"),
        ("a = 1 /* b", "comment without an end at line 1, column 7"),
        (
            "a = 99999999999999999999",
            "\"99999999999999999999\" is beyond 64 bits at line 1, column 5",
        ),
        (
            "a > 0.0",
            "\"0.0\" is not between the smallest and the largest double at line 1, column 5",
        ),
        (
            "TRUE = 5",
            "a truth value is compared with something else at line 1, column 8",
        ),
        (
            "b OR 5",
            "this is no condition: it is neither true nor false at line 1, column 6",
        ),
    ] {
        assert_eq!(Expression::compile(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn long_tokens_are_quoted_in_part() {
    let text = format!("a IS {}", "ü".repeat(3).replace('ü', "x").repeat(100));
    let error = Expression::compile(&text).unwrap_err().to_string();
    assert!(error.len() < 120 && error.contains("xxx…\""), "{error}");
}
