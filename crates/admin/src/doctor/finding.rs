//! What is wrong, why that matters and what to do.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Messages are lost, refused or not consumed, or will be soon.
    Error,
    /// Something will go wrong one day.
    Warning,
    /// Could be better; changes nothing about the exit code.
    Advice,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// The same for all findings of a kind.
    pub check: &'static str,
    /// With numbers.
    pub seen: String,
    pub why: &'static str,
    /// A command where there is one.
    pub fix: String,
}

/// Collects what checks find.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn error(&mut self, check: &'static str, seen: String, why: &'static str, fix: impl Into<String>) {
        self.add(Severity::Error, check, seen, why, fix.into());
    }

    pub fn warning(&mut self, check: &'static str, seen: String, why: &'static str, fix: impl Into<String>) {
        self.add(Severity::Warning, check, seen, why, fix.into());
    }

    pub fn advice(&mut self, check: &'static str, seen: String, why: &'static str, fix: impl Into<String>) {
        self.add(Severity::Advice, check, seen, why, fix.into());
    }

    pub fn add(&mut self, severity: Severity, check: &'static str, seen: String, why: &'static str, fix: String) {
        self.0.push(Finding {
            severity,
            check,
            seen,
            why,
            fix,
        });
    }
}

/// Names as one text, the first of them where there are many.
pub(super) fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.into_iter().collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}
