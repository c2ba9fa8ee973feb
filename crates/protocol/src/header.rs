//! The header of a command in both serializations (spec: protocol.md §1.2, §2).

use std::borrow::Cow;
use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use thiserror::Error;

use crate::ext_fields::{ExtFields, FieldSet};
use crate::frame::{FRAME_PREFIX_BYTES, Frame, SerializeType};
use crate::requests::Request;
use crate::version::{CURRENT_VERSION, Language};

const RESPONSE_FLAG: i32 = 1;
const ONEWAY_FLAG: i32 = 2;

/// Everything of a command but its body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Request code, or response code when [`Header::is_response`].
    pub code: i32,
    pub language: Language,
    pub version: i32,
    /// Chosen by the requester, echoed in the response.
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<String>,
    pub ext_fields: ExtFields,
}

/// A header that cannot be read. The connection it came on is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error("the json header cannot be read: {0}")]
    Json(String),
    #[error("the binary header ends inside {0}")]
    Truncated(&'static str),
    #[error("the binary header has text that is not utf-8 in {0}")]
    NotText(&'static str),
}

/// A request or a response: header and body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemotingCommand {
    pub header: Header,
    pub body: Bytes,
}

impl Header {
    pub fn is_response(&self) -> bool {
        self.flag & RESPONSE_FLAG != 0
    }

    pub fn is_oneway(&self) -> bool {
        self.flag & ONEWAY_FLAG != 0
    }

    pub fn mark_oneway(&mut self) {
        self.flag |= ONEWAY_FLAG;
    }

    pub fn decode(serialize: SerializeType, bytes: &[u8]) -> Result<Header, HeaderError> {
        match serialize {
            SerializeType::Json => decode_json(bytes),
            SerializeType::RocketMq => decode_binary(bytes),
        }
    }

    pub fn encode(&self, serialize: SerializeType, out: &mut BytesMut) {
        match serialize {
            SerializeType::Json => encode_json(self, out),
            SerializeType::RocketMq => encode_binary(self, out),
        }
    }
}

impl RemotingCommand {
    /// A request of the table. The connection that sends it chooses the opaque.
    pub fn request<R: Request>(header: &R::Header, body: Bytes) -> RemotingCommand {
        let header = Header {
            code: R::CODE.code(),
            language: Language::JAVA,
            version: CURRENT_VERSION,
            ext_fields: ExtFields::of(header),
            ..Header::default()
        };
        RemotingCommand { header, body }
    }

    /// A response to the request with this opaque.
    pub fn response(opaque: i32, code: i32, remark: Option<String>) -> RemotingCommand {
        let header = Header {
            code,
            language: Language::JAVA,
            version: CURRENT_VERSION,
            opaque,
            flag: RESPONSE_FLAG,
            remark,
            ext_fields: ExtFields::new(),
        };
        RemotingCommand {
            header,
            body: Bytes::new(),
        }
    }

    /// The same response with typed fields.
    pub fn with_fields<F: FieldSet>(mut self, fields: &F) -> RemotingCommand {
        fields.write(&mut self.header.ext_fields);
        self
    }

    pub fn with_body(mut self, body: impl Into<Bytes>) -> RemotingCommand {
        self.body = body.into();
        self
    }

    pub fn decode(frame: Frame<'_>) -> Result<RemotingCommand, HeaderError> {
        let header = Header::decode(frame.serialize, frame.header)?;
        Ok(RemotingCommand {
            header,
            body: Bytes::copy_from_slice(frame.body),
        })
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, serialize: SerializeType, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, FRAME_PREFIX_BYTES);
        self.header.encode(serialize, out);
        finish_frame(out, start, serialize, self.body.len());
        out.extend_from_slice(&self.body);
    }
}

/// Fills in the prefix of a frame whose header was written at `start + FRAME_PREFIX_BYTES` and ends where `out` ends;
/// `body_bytes` are still to come.
pub fn finish_frame(out: &mut BytesMut, start: usize, serialize: SerializeType, body_bytes: usize) {
    let header_bytes = out.len() - start - FRAME_PREFIX_BYTES;
    let prefix = frame_prefix(header_bytes, serialize, body_bytes);
    out[start..start + FRAME_PREFIX_BYTES].copy_from_slice(&prefix);
}

/// The prefix of a frame with these lengths.
#[inline]
pub fn frame_prefix(header_bytes: usize, serialize: SerializeType, body_bytes: usize) -> [u8; FRAME_PREFIX_BYTES] {
    let total = (4 + header_bytes + body_bytes) as u32;
    let mark = header_bytes as u32 | (u32::from(serialize == SerializeType::RocketMq) << 24);
    let mut prefix = [0; FRAME_PREFIX_BYTES];
    prefix[..4].copy_from_slice(&total.to_be_bytes());
    prefix[4..].copy_from_slice(&mark.to_be_bytes());
    prefix
}

/// JSON header as peers write it: numbers and booleans may stand where Java writes text, unknown keys are ignored.
#[derive(Deserialize)]
struct JsonHeader<'a> {
    #[serde(default)]
    code: i32,
    #[serde(default, borrow)]
    language: Option<JsonText<'a>>,
    #[serde(default)]
    version: i32,
    #[serde(default)]
    opaque: i32,
    #[serde(default)]
    flag: i32,
    #[serde(default)]
    remark: Option<String>,
    #[serde(default, rename = "extFields")]
    ext_fields: Option<JsonFields>,
}

/// Text, or a scalar that stands for it.
enum JsonText<'a> {
    Text(Cow<'a, str>),
    Whole(i64),
    Other(String),
    Nothing,
}

impl JsonText<'_> {
    fn into_text(self) -> Option<String> {
        match self {
            JsonText::Text(text) => Some(text.into_owned()),
            JsonText::Whole(number) => Some(number.to_string()),
            JsonText::Other(text) => Some(text),
            JsonText::Nothing => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonText<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<JsonText<'a>, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = JsonText<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text, a number or a boolean")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<JsonText<'de>, E> {
                Ok(JsonText::Text(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<JsonText<'de>, E> {
                Ok(JsonText::Text(text.to_owned().into()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<JsonText<'de>, E> {
                Ok(JsonText::Whole(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<JsonText<'de>, E> {
                Ok(i64::try_from(number).map_or_else(|_| JsonText::Other(number.to_string()), JsonText::Whole))
            }
            fn visit_f64<E>(self, number: f64) -> Result<JsonText<'de>, E> {
                Ok(JsonText::Other(number.to_string()))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<JsonText<'de>, E> {
                Ok(JsonText::Other(truth.to_string()))
            }
            fn visit_unit<E>(self) -> Result<JsonText<'de>, E> {
                Ok(JsonText::Nothing)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `extFields` in the order they came, without the ones that are `null`.
struct JsonFields(ExtFields);

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<JsonFields, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = JsonFields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of text")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
                let mut fields = ExtFields::new();
                while let Some((name, value)) = map.next_entry::<String, JsonText<'de>>()? {
                    if let Some(value) = value.into_text() {
                        fields.set(name, value);
                    }
                }
                Ok(JsonFields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn decode_json(bytes: &[u8]) -> Result<Header, HeaderError> {
    let json: JsonHeader<'_> = serde_json::from_slice(bytes).map_err(|error| HeaderError::Json(error.to_string()))?;
    let language = match json.language {
        Some(JsonText::Text(name)) => Language::from_name(&name),
        Some(JsonText::Whole(code)) => Language::from_code(code),
        _ => Language::OTHER,
    };
    Ok(Header {
        code: json.code,
        language,
        version: json.version,
        opaque: json.opaque,
        flag: json.flag,
        remark: json.remark,
        ext_fields: json.ext_fields.map(|fields| fields.0).unwrap_or_default(),
    })
}

/// Keys in the order Java writes them. `extFields` is always present: Java clients dereference it in send replies.
fn encode_json(header: &Header, out: &mut BytesMut) {
    out.put_slice(b"{\"code\":");
    put_number(out, header.code);
    out.put_slice(b",\"extFields\":{");
    for (index, (name, value)) in header.ext_fields.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        put_json_text(out, name);
        out.put_u8(b':');
        put_json_text(out, value);
    }
    out.put_slice(b"},\"flag\":");
    put_number(out, header.flag);
    out.put_slice(b",\"language\":\"");
    out.put_slice(header.language.name().as_bytes());
    out.put_slice(b"\",\"opaque\":");
    put_number(out, header.opaque);
    if let Some(remark) = &header.remark {
        out.put_slice(b",\"remark\":");
        put_json_text(out, remark);
    }
    out.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    put_number(out, header.version);
    out.put_u8(b'}');
}

fn put_number(out: &mut BytesMut, number: i32) {
    write!(out, "{number}").expect("a buffer takes text");
}

/// Text with quotes around it. Most of it needs no escapes and goes in as it is.
fn put_json_text(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        out.put_slice(&rest[..at]);
        match rest[at] {
            quoted @ (b'"' | b'\\') => out.put_slice(&[b'\\', quoted]),
            control => write!(out, "\\u{control:04x}").expect("a buffer takes text"),
        }
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

/// Cuts pieces off a binary header; running out of bytes is an error that names the field.
struct BinaryReader<'a>(&'a [u8]);

impl<'a> BinaryReader<'a> {
    fn take(&mut self, bytes: usize, field: &'static str) -> Result<&'a [u8], HeaderError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(HeaderError::Truncated(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], HeaderError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(HeaderError::Truncated(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn short(&mut self, field: &'static str) -> Result<i16, HeaderError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    fn int(&mut self, field: &'static str) -> Result<i32, HeaderError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    /// Text with its length before it. Length 0 reads as nothing: an empty value does not survive this form.
    fn text(&mut self, bytes: i32, field: &'static str) -> Result<Option<String>, HeaderError> {
        let bytes = usize::try_from(bytes).map_err(|_| HeaderError::Truncated(field))?;
        if bytes == 0 {
            return Ok(None);
        }
        let text = std::str::from_utf8(self.take(bytes, field)?).map_err(|_| HeaderError::NotText(field))?;
        Ok(Some(text.to_owned()))
    }
}

fn decode_binary(bytes: &[u8]) -> Result<Header, HeaderError> {
    let mut reader = BinaryReader(bytes);
    let mut header = Header {
        code: reader.short("code")?.into(),
        language: Language(reader.array::<1>("language")?[0]),
        version: reader.short("version")?.into(),
        opaque: reader.int("opaque")?,
        flag: reader.int("flag")?,
        ..Header::default()
    };
    let remark_bytes = reader.int("remark")?;
    header.remark = reader.text(remark_bytes, "remark")?;
    let fields_bytes = usize::try_from(reader.int("extFields")?).map_err(|_| HeaderError::Truncated("extFields"))?;
    let mut fields = BinaryReader(reader.take(fields_bytes, "extFields")?);
    while !fields.0.is_empty() {
        let name_bytes = fields.short("an extFields name")?;
        let name = fields.text(name_bytes.into(), "an extFields name")?;
        let value_bytes = fields.int("an extFields value")?;
        let value = fields.text(value_bytes, "an extFields value")?;
        if let (Some(name), Some(value)) = (name, value) {
            header.ext_fields.set(name, value);
        }
    }
    Ok(header)
}

fn encode_binary(header: &Header, out: &mut BytesMut) {
    out.put_i16(header.code as i16);
    out.put_u8(header.language.0);
    out.put_i16(header.version as i16);
    out.put_i32(header.opaque);
    out.put_i32(header.flag);
    let remark = header.remark.as_deref().unwrap_or_default();
    out.put_i32(remark.len() as i32);
    out.extend_from_slice(remark.as_bytes());
    let length_at = out.len();
    out.put_i32(0);
    for (name, value) in header.ext_fields.iter() {
        out.put_i16(name.len() as i16);
        out.extend_from_slice(name.as_bytes());
        out.put_i32(value.len() as i32);
        out.extend_from_slice(value.as_bytes());
    }
    let fields_bytes = (out.len() - length_at - 4) as i32;
    out[length_at..length_at + 4].copy_from_slice(&fields_bytes.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::{GetRouteInfoHeader, request};

    fn sample() -> RemotingCommand {
        let header = GetRouteInfoHeader {
            topic: "orders\u{1}\"é".into(),
            accept_standard_json_only: Some(true),
        };
        let mut command =
            RemotingCommand::request::<request::GetRouteInfoByTopic>(&header, Bytes::from_static(b"body"));
        command.header.opaque = 31;
        command.header.remark = Some("why".into());
        command
    }

    #[test]
    fn a_command_survives_both_serializations() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let mut out = BytesMut::new();
            sample().encode(serialize, &mut out);
            let (frame, taken) = Frame::peek(&out).unwrap().unwrap();
            assert_eq!((taken, frame.serialize), (out.len(), serialize));
            assert_eq!(RemotingCommand::decode(frame).unwrap(), sample());
        }
    }

    #[test]
    fn scalars_stand_for_text_in_json_fields() {
        let header = br#"{"code":11,"extFields":{"queueId":0,"unit":false,"gone":null},"flag":0,"language":"GO","opaque":7,"x":[1]}"#;
        let header = Header::decode(SerializeType::Json, header).unwrap();
        let fields: Vec<_> = header.ext_fields.iter().collect();
        assert_eq!(fields, [("queueId", "0"), ("unit", "false")]);
        assert_eq!(header.language, Language::GO);
    }

    #[test]
    fn a_binary_header_cut_anywhere_is_an_error() {
        let mut out = BytesMut::new();
        sample().header.encode(SerializeType::RocketMq, &mut out);
        for cut in 0..out.len() {
            assert!(
                Header::decode(SerializeType::RocketMq, &out[..cut]).is_err(),
                "cut at {cut}"
            );
        }
    }
}
