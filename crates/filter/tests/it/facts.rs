//! What Java's filter made of random expressions (`testdata/java-5.5.0.tsv`, written by
//! `tests/interop/java/filter/FilterFacts.java`). `OXMQ_FILTER_FACTS` names another file of that form.

use std::path::Path;

use bytes::BytesMut;
use oxmq_filter::{Expression, Outcome};
use oxmq_protocol::properties;

fn outcomes(expression: &str, maps: &[BytesMut]) -> String {
    let Ok(expression) = Expression::compile(expression) else {
        return "!".into();
    };
    let letter = |map: &BytesMut| match expression.evaluate(map) {
        Outcome::True => 'T',
        Outcome::False => 'F',
        Outcome::Null => 'N',
        Outcome::Aborted => 'A',
    };
    maps.iter().map(letter).collect()
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('f') => '\u{c}',
                other => other.unwrap_or('\\'),
            },
            other => other,
        });
    }
    out
}

#[test]
fn results_are_those_of_java() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/java-5.5.0.tsv");
    let path = std::env::var_os("OXMQ_FILTER_FACTS").map_or(committed, Into::into);
    let facts = std::fs::read_to_string(path).unwrap();
    let mut maps = Vec::new();
    let (mut compiled, mut wrong) = (0, Vec::new());
    for line in facts.lines() {
        let (expected, rest) = line.split_once('\t').unwrap_or((line, ""));
        if expected == "#" {
            let mut map = BytesMut::new();
            for entry in rest.split('\t').filter(|entry| !entry.is_empty()) {
                let (name, value) = entry.split_once('=').unwrap();
                properties::write(&mut map, name.as_bytes(), value.as_bytes());
            }
            maps.push(map);
            continue;
        }
        compiled += usize::from(expected != "!");
        let found = outcomes(&unescape(rest), &maps);
        if found != expected {
            wrong.push(format!("{rest}\n  java {expected}\n  here {found}"));
        }
    }
    assert!(
        maps.len() == 24 && compiled >= 1000,
        "{} maps, {compiled} expressions",
        maps.len()
    );
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}
