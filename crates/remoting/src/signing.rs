//! Signatures of requests, as the ACL hook of RocketMQ's clients makes them (spec: protocol.md §8.8).
//!
//! What is signed are the values of all fields but the signature, in the order of their names as Java compares text, and
//! then the body. The signature is the HMAC-SHA1 of that under the secret key, in base64.

use std::cmp::Ordering;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use oxmq_protocol::RemotingCommand;
use serde::Deserialize;
use sha1::Sha1;
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

pub const ACCESS_KEY: &str = "AccessKey";
pub const SIGNATURE: &str = "Signature";
pub const SECURITY_TOKEN: &str = "SecurityToken";
/// A field that clients up to [`UNSIGNED_UNIQUE_KEY_QUERY_VERSION`] send without signing it.
const UNIQUE_KEY_QUERY: &[u8] = b"_UNIQUE_KEY_QUERY";
/// Version ordinal of 4.9.3.
const UNSIGNED_UNIQUE_KEY_QUERY_VERSION: i32 = 399;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SIGNATURE_BYTES: usize = 28;

/// Who a client is. Nothing secret is shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    /// Of temporary credentials.
    pub security_token: Option<String>,
}

impl Credentials {
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Credentials {
        Credentials {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            security_token: None,
        }
    }

    /// Adds who sends the request, and the signature of everything it carries by then.
    pub fn sign(&self, request: &mut RemotingCommand) {
        let fields = &mut request.header.ext_fields;
        fields.set(ACCESS_KEY, self.access_key.as_str());
        if let Some(token) = &self.security_token {
            fields.set(SECURITY_TOKEN, token.as_str());
        }
        let mut content = Vec::new();
        let names_and_values = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let names_and_values: SmallVec<[_; 20]> = names_and_values.collect();
        let is_signed = |name: &[u8]| name != SIGNATURE.as_bytes();
        in_signing_order(&names_and_values, is_signed, |value| content.extend_from_slice(value));
        content.extend_from_slice(&request.body);
        drop(names_and_values);
        let signature = SigningKey::new(&self.secret_key).sign(&content);
        let signature = std::str::from_utf8(&signature).expect("base64 is text");
        fields.set(SIGNATURE, signature);
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Whether a field of a request from a peer of this version is part of what it has signed.
#[inline]
pub fn is_signed(name: &[u8], version: i32) -> bool {
    name != SIGNATURE.as_bytes() && (version > UNSIGNED_UNIQUE_KEY_QUERY_VERSION || name != UNIQUE_KEY_QUERY)
}

/// Hands over the values of the fields that are signed, in the order in which they are. Of those with one name the last
/// counts.
#[inline]
pub fn in_signing_order<V: Copy>(fields: &[(&[u8], V)], is_signed: impl Fn(&[u8]) -> bool, mut value: impl FnMut(V)) {
    let signed = fields.iter().enumerate().filter(|(_, (name, _))| is_signed(name));
    // A number for each: the start of its name, which alone decides the order of almost all, and where it stands.
    let mut sorted: SmallVec<[u128; 24]> = signed
        .map(|(at, (name, _))| u128::from(prefix(name)) << 64 | at as u128)
        .collect();
    sorted.sort_unstable();
    let place = |number: u128| number as usize;
    if sorted.windows(2).all(|pair| pair[0] >> 64 != pair[1] >> 64) {
        sorted.iter().for_each(|number| value(fields[place(*number)].1));
        return;
    }
    let name = |number: u128| fields[place(number)].0;
    // Stable, so that the last of one name stays the last.
    sorted.sort_by(|one, other| order(name(*one), name(*other)));
    for (at, number) in sorted.iter().enumerate() {
        if sorted.get(at + 1).is_none_or(|next| name(*next) != name(*number)) {
            value(fields[place(*number)].1);
        }
    }
}

/// The first bytes of a name. All that are not ASCII count as the same, greater than the others.
#[inline]
fn prefix(name: &[u8]) -> u64 {
    if let [letter @ 0..0x80] = name {
        return u64::from(*letter) << 56;
    }
    let mut bytes = [0; 8];
    for (out, byte) in bytes.iter_mut().zip(name) {
        *out = *byte;
    }
    if let Some(at) = bytes.iter().position(|byte| !byte.is_ascii()) {
        bytes[at..].fill(0xFF);
    }
    u64::from_be_bytes(bytes)
}

/// Text is compared by its UTF-16 units, which is another order than that of bytes beyond the first plane only.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    if one.is_ascii() && other.is_ascii() {
        return one.cmp(other);
    }
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    one.encode_utf16().cmp(other.encode_utf16())
}

/// A secret key made ready for many signatures.
pub struct SigningKey(Hmac<Sha1>);

impl SigningKey {
    pub fn new(secret_key: &str) -> SigningKey {
        SigningKey(Hmac::new_from_slice(secret_key.as_bytes()).expect("a key may be of any length"))
    }

    /// The signature in base64.
    #[inline]
    pub fn sign(&self, content: &[u8]) -> [u8; SIGNATURE_BYTES] {
        base64(&self.0.clone().chain_update(content).finalize().into_bytes())
    }

    /// Whether `signature` is the one of `content`. How long it takes does not tell how much of it is right.
    #[inline]
    pub fn verify(&self, content: &[u8], signature: &[u8]) -> bool {
        let words = |text: &[u8]| -> [u32; SIGNATURE_BYTES / 4] {
            std::array::from_fn(|at| u32::from_ne_bytes(std::array::from_fn(|byte| text[4 * at + byte])))
        };
        signature.len() == SIGNATURE_BYTES && words(&self.sign(content)).ct_eq(&words(signature)).into()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// The 20 bytes of a digest, padded to 21 for the sake of the last group.
fn base64(digest: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let mut text = [b'='; SIGNATURE_BYTES];
    for (group, out) in digest.chunks(3).zip(text.chunks_exact_mut(4)) {
        let bits = u32::from_be_bytes([0, group[0], group[1], group.get(2).copied().unwrap_or(0)]);
        for (at, digit) in out.iter_mut().take(group.len() + 1).enumerate() {
            *digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use oxmq_protocol::ExtFields;

    use super::*;

    fn signature(credentials: &Credentials, fields: &[(&str, &str)], body: &'static str) -> String {
        let mut request = RemotingCommand {
            body: Bytes::from_static(body.as_bytes()),
            ..RemotingCommand::default()
        };
        request.header.ext_fields = fields.iter().copied().collect::<ExtFields>();
        credentials.sign(&mut request);
        request.header.ext_fields.get(SIGNATURE).unwrap().to_owned()
    }

    /// `AclClientRPCHook` of 5.5.0 made both signatures.
    #[test]
    fn we_sign_as_the_java_client() {
        let fields = [
            ("a", "pg"),
            ("b", "orders"),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", "1"),
            ("f", "0"),
            ("g", "1795209615493"),
            ("h", "0"),
            ("i", "KEYS\u{1}k\u{2}TAGS\u{1}é\u{2}"),
            ("j", "0"),
            ("k", "false"),
            ("m", "false"),
            ("\u{ff5e}", "wide"),
            ("\u{1f600}", "face"),
        ];
        let plain = Credentials::new("rocketmq2", "12345678");
        assert_eq!(signature(&plain, &fields, "hello"), "6biD8V6qnQt5fny12PAzEG0Z3kM=");
        let mut with_token = Credentials::new("alice", "sécret €");
        with_token.security_token = Some("token-1".into());
        assert_eq!(signature(&with_token, &fields, "hello"), "pwnxjFEHwoBLdVDjvOx1VpsX8Yo=");
    }

    /// A send of the C++ client, whose keys are empty unless set.
    #[test]
    fn we_sign_as_the_cpp_client() {
        let properties =
            "KEYS\u{1}k0\u{2}TAGS\u{1}t\u{2}UNIQ_KEY\u{1}0100007F0000DCB80000053BCA6B0100\u{2}WAIT\u{1}true\u{2}";
        let fields = [
            ("OnsChannel", "ALIYUN"),
            ("batch", "0"),
            ("bornTimestamp", "1795209615493"),
            ("defaultTopic", "TBW102"),
            ("defaultTopicQueueNums", "4"),
            ("flag", "0"),
            ("producerGroup", "pg"),
            ("properties", properties),
            ("queueId", "0"),
            ("reconsumeTimes", "0"),
            ("sysFlag", "0"),
            ("topic", "PyT1795209615"),
            ("unitMode", "0"),
        ];
        let nobody = Credentials::default();
        assert_eq!(signature(&nobody, &fields, "hi0"), "bn47gYrlGfv6ahPdRTA8cmuRIvk=");
    }

    #[test]
    fn the_last_of_repeated_fields_is_signed_and_order_is_that_of_java() {
        let key = SigningKey::new("secret");
        let fields = [
            ("longer than eight bytes 2", "9"),
            ("longer than eight bytes 1", "8"),
            ("b", "old"),
            ("\u{ff5e}", "wide"),
            ("\u{1f600}", "face"),
            ("a", "1"),
            ("b", "new"),
        ];
        let fields = fields.map(|(name, value)| (name.as_bytes(), value));
        let mut content = String::new();
        in_signing_order(&fields, |_| true, |value| content.push_str(value));
        assert_eq!(content, "1new89facewide");
        assert!(key.verify(content.as_bytes(), &key.sign(content.as_bytes())));
        assert!(!key.verify(b"1old89facewide", &key.sign(content.as_bytes())));
        assert!(!key.verify(content.as_bytes(), b""));
    }

    #[test]
    fn old_clients_do_not_sign_the_mark_of_queries_by_unique_key() {
        assert!(!is_signed(b"_UNIQUE_KEY_QUERY", 399) && is_signed(b"_UNIQUE_KEY_QUERY", 400));
        assert!(!is_signed(b"Signature", 500) && is_signed(b"AccessKey", 0));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?} {:?}", Credentials::new("me", "hidden"), SigningKey::new("hidden"));
        assert!(shown.contains("me") && !shown.contains("hidden"), "{shown}");
    }
}
