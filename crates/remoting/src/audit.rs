//! The audit log: a line for each administrative change, with who asked for what and how it ended. Secrets are left out.

use std::net::SocketAddr;

use oxmq_protocol::settings::{HIDDEN, names_secret};
use oxmq_protocol::{RemotingCommand, RequestCode, json, properties_file};
use serde_json::Value;

use crate::signing;

/// A longer body is told by its length alone: a list of topics may have megabytes.
const BODY_BYTES_MAX: usize = 4096;

/// Writes the line, with the target `audit`. `refused` is why nothing was changed.
pub fn audit(code: RequestCode, command: &RemotingCommand, from: SocketAddr, refused: Option<&str>) {
    let who = command.header.ext_fields.get(signing::ACCESS_KEY).unwrap_or_default();
    let fields = fields_text(command);
    let body = body_text(&command.body);
    let body = body.as_ref().map(tracing::field::display);
    let (number, result) = (code.code(), refused.unwrap_or("done"));
    tracing::info!(target: "audit", who, %from, request = ?code, code = number, fields, body, result);
}

fn fields_text(command: &RemotingCommand) -> String {
    let all = command.header.ext_fields.iter();
    let fields =
        all.filter(|(name, _)| ![signing::ACCESS_KEY, signing::SIGNATURE, signing::SECURITY_TOKEN].contains(name));
    let fields: Vec<_> = fields
        .map(|(name, value)| entry(name, value, is_secret(name)))
        .collect();
    fields.join(" ")
}

/// JSON or properties, as requests have them.
fn body_text(body: &[u8]) -> Option<String> {
    match body.len() {
        0 => return None,
        length if length > BODY_BYTES_MAX => return Some(format!("{length} bytes")),
        _ => {}
    }
    if let Ok(mut value @ (Value::Object(_) | Value::Array(_))) = json::from_slice(body) {
        hide(&mut value);
        return Some(value.to_string());
    }
    let entries = properties_file::parse(body).into_iter().map(|property| {
        let is_secret = names_secret(&property.key);
        let line = entry(&property.key, &property.value, is_secret);
        // A value does not make a line of its own, nor does it speak to the terminal.
        line.escape_debug().to_string()
    });
    Some(entries.collect::<Vec<_>>().join(" "))
}

fn entry(name: &str, value: &str, is_secret: bool) -> String {
    match (is_secret, value) {
        (_, "") => name.to_owned(),
        (true, _) => format!("{name}={HIDDEN}"),
        (false, _) => format!("{name}={value}"),
    }
}

/// Access keys are names of users, and no secrets.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "token"].iter().any(|part| name.contains(part))
}

fn hide(value: &mut Value) {
    match value {
        Value::Array(members) => members.iter_mut().for_each(hide),
        Value::Object(members) => {
            for (name, member) in members {
                match is_secret(name) {
                    true => *member = Value::from(HIDDEN),
                    false => hide(member),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use oxmq_protocol::requests::request::GetBrokerRuntimeInfo;

    use super::*;

    #[test]
    fn bodies_are_told_without_secrets() {
        let check = |body: &str, expected: &str| assert_eq!(body_text(body.as_bytes()).unwrap(), expected);
        check(
            r#"{"username":"shop","password":"till-42","nested":[{"secretKey":{"a":1}}]}"#,
            r#"{"nested":[{"secretKey":"******"}],"password":"******","username":"shop"}"#,
        );
        // The dialect of Java's library.
        check("{groupName:'billing',1:2}", r#"{"1":2,"groupName":"billing"}"#);
        check(
            "fileReservedTime=48\ntls.server.keyPassword=abc\n",
            "fileReservedTime=48 tls.server.keyPassword=******",
        );
        check("archive=1048576", "archive=1048576");
        check("archive", "archive");
        check("regionId=a\\nWARN forged", "regionId=a\\nWARN forged");
        check(&"x".repeat(BODY_BYTES_MAX + 1), "4097 bytes");
        assert_eq!(body_text(b""), None);
    }

    #[test]
    fn fields_are_told_without_signatures_and_secrets() {
        let mut command = RemotingCommand::request::<GetBrokerRuntimeInfo>(&(), Bytes::new());
        for (name, value) in [
            ("accessKey", "shop"),
            ("secretKey", "till-42"),
            (signing::ACCESS_KEY, "admin"),
            (signing::SIGNATURE, "abc="),
        ] {
            command.header.ext_fields.set(name, value);
        }
        assert_eq!(fields_text(&command), "accessKey=shop secretKey=******");
    }
}
