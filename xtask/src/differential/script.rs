//! A script: requests as they go to both servers, with placeholders for what differs between runs or servers.
//!
//! In every text of a step `@` stands for the prefix of the actor's own names, and `<kind:n>` for the n-th newest thing
//! of this kind that the server's earlier answers told of (an offset id, a receipt handle, ...); `<now:n>` is a time, n milliseconds from now. A recorded script is a
//! file with one JSON object per line.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use oxmq_protocol::header::Header;
use oxmq_protocol::version::{CURRENT_VERSION, Language};
use oxmq_protocol::{ExtFields, FieldSet, RemotingCommand, Request};
use serde::{Deserialize, Serialize};

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Step {
    /// Its row in the table of operations, which says how answers are compared.
    pub(super) operation: String,
    pub(super) code: i32,
    pub(super) fields: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: Body,
    #[serde(default)]
    pub(super) to: Target,
    #[serde(default)]
    pub(super) call: Call,
    /// Before answers are compared, both must hold so many messages; what is delayed is waited for.
    #[serde(default)]
    pub(super) messages_min: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) enum Body {
    #[default]
    Empty,
    /// With placeholders.
    Text(String),
    Hex(String),
    /// So many letters x.
    Fill(usize),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Target {
    #[default]
    Broker,
    NameServer,
    /// The actor itself: what the broker has asked of it so far.
    Pushes,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Call {
    #[default]
    Wait,
    /// A send that is not answered; it is waited for until its queue has grown.
    OneWay,
    /// The next step is done while this one waits for its answer.
    Overlap,
}

impl Step {
    pub(super) fn new<R: Request>(operation: &str, header: &R::Header) -> Step {
        let mut step = Step::of_code(operation, R::CODE.code());
        step.set_all(header);
        step
    }

    pub(super) fn of_code(operation: &str, code: i32) -> Step {
        Step {
            operation: operation.to_owned(),
            code,
            fields: BTreeMap::new(),
            body: Body::Empty,
            to: Target::Broker,
            call: Call::Wait,
            messages_min: 0,
        }
    }

    fn set_all(&mut self, fields: &impl FieldSet) {
        let fields = ExtFields::of(fields);
        self.fields
            .extend(fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    pub(super) fn with(mut self, field: &str, value: impl ToString) -> Step {
        self.fields.insert(field.to_owned(), value.to_string());
        self
    }

    pub(super) fn text(mut self, body: impl Into<String>) -> Step {
        self.body = Body::Text(body.into());
        self
    }

    /// A body in Java's JSON.
    pub(super) fn json(self, body: &impl Serialize) -> Step {
        let json = oxmq_protocol::json::to_vec(body);
        self.text(String::from_utf8_lossy(&json))
    }

    pub(super) fn hex(mut self, body: &[u8]) -> Step {
        self.body = Body::Hex(body.iter().map(|byte| format!("{byte:02x}")).collect());
        self
    }

    pub(super) fn for_name_server(mut self) -> Step {
        self.to = Target::NameServer;
        self
    }

    /// The frame for one server.
    pub(super) fn command(&self, memory: &Memory, prefix: &str) -> RemotingCommand {
        let fill = |text: &str| memory.fill(text).replace('@', prefix);
        let header = Header {
            code: self.code,
            language: Language::JAVA,
            version: CURRENT_VERSION,
            ext_fields: self
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), fill(value)))
                .collect(),
            ..Header::default()
        };
        let body = match &self.body {
            Body::Empty => Bytes::new(),
            Body::Text(text) => fill(text).into(),
            Body::Hex(hex) => from_hex(hex).into(),
            Body::Fill(bytes) => vec![b'x'; *bytes].into(),
        };
        RemotingCommand { header, body }
    }

    /// The actor's names in this step: steps that share one are context of each other.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields
            .values()
            .map(String::as_str)
            .filter(|value| value.starts_with('@'))
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// What one server told an actor that later requests refer to.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<&'static str, Vec<String>>);

/// Stands for things that no answer has told of.
const UNKNOWN: &str = "987654321012";

impl Memory {
    pub(super) fn learn(&mut self, kind: &'static str, value: String) {
        self.0.entry(kind).or_default().push(value);
    }

    /// Replaces placeholders. Of a kind that nothing is known of yet, each stands for a number
    /// that nothing has.
    fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            match placeholder(rest) {
                Some(("now", millis, bytes)) => {
                    filled.push_str(&(crate::now_ms() + millis as i64).to_string());
                    rest = &rest[bytes..];
                }
                Some((kind, index, bytes)) => {
                    filled.push_str(self.value(kind, index).unwrap_or(UNKNOWN));
                    rest = &rest[bytes..];
                }
                None => {
                    filled.push('<');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    fn value(&self, kind: &str, index: usize) -> Option<&str> {
        let values = self.0.get(kind)?;
        let index = values.len() - 1 - index % values.len();
        values.get(index).map(String::as_str)
    }
}

/// `<kind:n>` at the start of the text: kind, n, and how long it is.
fn placeholder(text: &str) -> Option<(&str, usize, usize)> {
    let end = text.find('>')?;
    let (kind, index) = text[1..end].split_once(':')?;
    let is_kind = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase());
    is_kind.then_some((kind, index.parse().ok()?, end + 1))
}

pub(super) fn save(path: &Path, steps: &[Step]) -> anyhow::Result<()> {
    let mut lines = String::new();
    for step in steps {
        lines.push_str(&serde_json::to_string(step)?);
        lines.push('\n');
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, lines).with_context(|| path.display().to_string())
}

pub(super) fn load(path: &Path) -> anyhow::Result<Vec<Step>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), index + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_name_the_newest_first() {
        let mut memory = Memory::default();
        memory.learn("id", "A".into());
        memory.learn("id", "B".into());
        assert_eq!(memory.fill("x<id:0>y<id:1><id:2><other:0>"), "xByAB987654321012");
        assert_eq!(memory.fill("a < 3 AND b <> '<id>'"), "a < 3 AND b <> '<id>'");
    }

    #[test]
    fn a_step_survives_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let step = Step::of_code("send", 10).with("topic", "@a").hex(&[0, 255]);
        save(file.path(), std::slice::from_ref(&step)).unwrap();
        let loaded = load(file.path()).unwrap();
        assert_eq!(format!("{loaded:?}"), format!("{:?}", [step]));
        assert_eq!(loaded[0].command(&Memory::default(), "p-").body, [0, 255][..]);
    }
}
