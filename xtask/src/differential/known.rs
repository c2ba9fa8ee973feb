//! The differences that are meant to be, each with its reason: `tests/differential/known.txt`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::answer::Difference;

/// The path of a line that covers an answer as a whole. Java's and our side are code and remark, a space between them.
const WHOLE_ANSWER: &str = "answer";

/// One line of the file: `operation | path | java | oxmq | reason`. The first four are compared as a whole; `*` stands
/// for any text.
struct Known {
    line: usize,
    cells: [String; 4],
    used: AtomicBool,
}

pub(super) struct KnownDifferences(Vec<Known>);

impl KnownDifferences {
    pub(super) fn load(path: &Path) -> anyhow::Result<KnownDifferences> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        KnownDifferences::parse(&text)
    }

    fn parse(text: &str) -> anyhow::Result<KnownDifferences> {
        let mut known = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let cells: Vec<_> = line.split(" | ").map(|cell| cell.trim().to_owned()).collect();
            ensure!(
                cells.len() == 5 && cells.iter().all(|cell| !cell.is_empty()),
                "line {}: not `operation | path | java | oxmq | reason`",
                index + 1
            );
            let [operation, path, java, oxmq, _] = <[String; 5]>::try_from(cells).unwrap_or_default();
            known.push(Known {
                line: index + 1,
                cells: [operation, path, java, oxmq],
                used: AtomicBool::new(false),
            });
        }
        Ok(KnownDifferences(known))
    }

    /// Whether a line covers this difference.
    pub(super) fn covers(&self, operation: &str, difference: &Difference) -> bool {
        let (java, oxmq) = (cell(&difference.java), cell(&difference.oxmq));
        self.cover([operation, &difference.path, &java, &oxmq])
    }

    /// Whether a line covers everything in which these answers differ.
    pub(super) fn covers_answer(&self, operation: &str, java: &Value, oxmq: &Value) -> bool {
        let told = |answer: &Value| format!("{} {}", cell(&answer["code"]), cell(&answer["remark"]));
        self.cover([operation, WHOLE_ANSWER, &told(java), &told(oxmq)])
    }

    fn cover(&self, cells: [&str; 4]) -> bool {
        let covering = self.0.iter().find(|known| {
            known
                .cells
                .iter()
                .zip(cells)
                .all(|(pattern, text)| matches(pattern, text))
        });
        covering
            .inspect(|known| known.used.store(true, Ordering::Relaxed))
            .is_some()
    }

    /// Lines that no difference has needed.
    pub(super) fn unused(&self) -> Vec<usize> {
        let unused = self.0.iter().filter(|known| !known.used.load(Ordering::Relaxed));
        unused.map(|known| known.line).collect()
    }
}

/// A value as it stands in a cell: text without quotes, on one line.
pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace('\n', "\\n").trim().to_owned()
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_covers_what_it_says_and_nothing_else() {
        let known =
            KnownDifferences::parse("# text\n\nsend | remark | *no such * | null | why\npull | body.* | 1 | 2 | why\n")
                .unwrap();
        let difference = |path: &str, java: Value, oxmq: Value| Difference {
            path: path.to_owned(),
            java,
            oxmq,
        };
        assert!(known.covers(
            "send",
            &difference("remark", json!("there is no such topic"), json!(null))
        ));
        assert!(!known.covers(
            "send",
            &difference("remark", json!("there is no such topic"), json!("x"))
        ));
        assert!(!known.covers("pull", &difference("body", json!(1), json!(2))));
        assert_eq!(known.unused(), [4]);
        assert!(KnownDifferences::parse("send | remark | a | b").is_err());
    }
}
