//! Frames that were captured between stock clients, tools and servers: `crates/protocol/testdata/golden`.

use oxmq_protocol::SerializeType;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct GoldenFrame {
    pub file: &'static str,
    /// `namesrv` or `master`: whom the client talked to.
    pub server: String,
    /// The code of the request, on a response too.
    pub request: Option<i32>,
    pub is_request: bool,
    pub code: i32,
    pub serialize: SerializeType,
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    /// Bodies that are no text are written in base64.
    pub has_text_body: bool,
}

const FILES: [(&str, &str); 4] = [
    (
        "java-5.5.0-json",
        include_str!("../../crates/protocol/testdata/golden/java-5.5.0-json.jsonl"),
    ),
    (
        "java-5.5.0-binary",
        include_str!("../../crates/protocol/testdata/golden/java-5.5.0-binary.jsonl"),
    ),
    (
        "java-4.9-json",
        include_str!("../../crates/protocol/testdata/golden/java-4.9-json.jsonl"),
    ),
    (
        "go-python-json",
        include_str!("../../crates/protocol/testdata/golden/go-python-json.jsonl"),
    ),
];

/// Every frame of every file.
pub fn frames() -> impl Iterator<Item = GoldenFrame> {
    FILES
        .iter()
        .flat_map(|(file, text)| text.lines().map(move |line| frame(file, line)))
}

fn frame(file: &'static str, line: &str) -> GoldenFrame {
    let line: Value = serde_json::from_str(line).unwrap();
    GoldenFrame {
        file,
        server: line["server"].as_str().unwrap_or_default().to_owned(),
        request: line["request"].as_i64().map(|code| code as i32),
        is_request: line["kind"] == "request",
        code: line["code"].as_i64().unwrap() as i32,
        serialize: match line["serialize"].as_str().unwrap() {
            "JSON" => SerializeType::Json,
            _ => SerializeType::RocketMq,
        },
        header: part(&line, "header"),
        body: part(&line, "body"),
        has_text_body: line["body"].is_string(),
    }
}

fn part(line: &Value, name: &str) -> Vec<u8> {
    match line[name].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(line[format!("{name}_base64")].as_str().unwrap_or_default()),
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
