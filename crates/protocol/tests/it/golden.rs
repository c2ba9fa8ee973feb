//! Reads the golden frames.

use oxmq_protocol::SerializeType;
use serde_json::Value;

pub(crate) struct GoldenFrame {
    pub(crate) file: &'static str,
    /// The code of the request, on a response too.
    pub(crate) request: Option<i32>,
    pub(crate) is_request: bool,
    pub(crate) code: i32,
    pub(crate) serialize: SerializeType,
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

const FILES: [(&str, &str); 4] = [
    (
        "java-5.5.0-json",
        include_str!("../../testdata/golden/java-5.5.0-json.jsonl"),
    ),
    (
        "java-5.5.0-binary",
        include_str!("../../testdata/golden/java-5.5.0-binary.jsonl"),
    ),
    (
        "java-4.9-json",
        include_str!("../../testdata/golden/java-4.9-json.jsonl"),
    ),
    (
        "go-python-json",
        include_str!("../../testdata/golden/go-python-json.jsonl"),
    ),
];

/// Every frame of every file.
pub(crate) fn frames() -> impl Iterator<Item = GoldenFrame> {
    FILES
        .iter()
        .flat_map(|(file, text)| text.lines().map(move |line| frame(file, line)))
}

fn frame(file: &'static str, line: &str) -> GoldenFrame {
    let line: Value = serde_json::from_str(line).unwrap();
    GoldenFrame {
        file,
        request: line["request"].as_i64().map(|code| code as i32),
        is_request: line["kind"] == "request",
        code: line["code"].as_i64().unwrap() as i32,
        serialize: match line["serialize"].as_str().unwrap() {
            "JSON" => SerializeType::Json,
            _ => SerializeType::RocketMq,
        },
        header: part(&line, "header"),
        body: part(&line, "body"),
    }
}

fn part(line: &Value, name: &str) -> Vec<u8> {
    match line[name].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(line[format!("{name}_base64")].as_str().unwrap()),
    }
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut bits = 0u32;
    for (index, symbol) in text.bytes().filter(|symbol| *symbol != b'=').enumerate() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("{other} in base64"),
        };
        bits = bits << 6 | u32::from(value);
        if index % 4 != 0 {
            bytes.push((bits >> (6 - 2 * (index % 4))) as u8);
        }
    }
    bytes
}
