//! What a command says: lines for people, facts for programs.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::table::Table;
use crate::text::Style;

#[derive(Default)]
pub(crate) struct Answer {
    lines: Vec<Line>,
    facts: Map<String, Value>,
}

struct Line {
    text: String,
    is_heading: bool,
}

impl Answer {
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.lines.push(Line {
            text: text.into(),
            is_heading: false,
        });
    }

    pub(crate) fn heading(&mut self, text: impl Into<String>) {
        self.lines.push(Line {
            text: text.into(),
            is_heading: true,
        });
    }

    pub(crate) fn fact(&mut self, name: &str, value: impl Serialize) {
        self.facts.insert(name.to_owned(), to_value(value));
    }

    /// Every member of an object.
    pub(crate) fn facts(&mut self, object: impl Serialize) {
        if let Value::Object(members) = to_value(object) {
            self.facts.extend(members);
        }
    }

    /// One more member of the list of this name.
    pub(crate) fn add(&mut self, name: &str, value: impl Serialize) {
        let list = self.facts.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(to_value(value));
        }
    }

    /// A sentence that says that something was done to a server.
    pub(crate) fn done(&mut self, addr: &str, sentence: impl Into<String>) {
        self.say(sentence);
        self.add("done", addr);
    }

    /// A table, and the same as a list of objects; tables of one name add up.
    pub(crate) fn table(&mut self, name: &str, table: &Table) {
        self.heading(table.heading());
        self.rows(name, table);
    }

    /// The same without the line of names.
    pub(crate) fn rows(&mut self, name: &str, table: &Table) {
        let list = self.facts.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.extend(table.objects());
        }
        table.lines().for_each(|line| self.say(line));
    }

    pub(crate) fn text(&self, style: &Style) -> String {
        let mut text = String::new();
        for line in &self.lines {
            match line.is_heading {
                true => text += &style.bold(&line.text),
                false => text += &line.text,
            }
            text.push('\n');
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let text = serde_json::to_string_pretty(&self.facts);
        text.expect("a map of values has a json form") + "\n"
    }
}

/// Bodies have a JSON form, so that this is `null` for nothing but what cannot be.
fn to_value(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
