//! A request as access control sees it: all its fields where they lie, whoever has read them.

use std::borrow::Cow;

use oxmq_protocol::Header;
use oxmq_protocol::scan::{RawText, ScannedFields};
use oxmq_remoting::signing::{in_signing_order, is_signed};

pub(crate) struct SignedRequest<'a> {
    pub(crate) code: i32,
    version: i32,
    fields: Cow<'a, [(&'a [u8], RawText<'a>)]>,
}

impl<'a> SignedRequest<'a> {
    pub(crate) fn of_scanned(scanned: &'a ScannedFields<'_>) -> SignedRequest<'a> {
        SignedRequest {
            code: scanned.code(),
            version: scanned.version(),
            fields: scanned.as_slice().into(),
        }
    }

    pub(crate) fn of_header(header: &'a Header) -> SignedRequest<'a> {
        let fields = header.ext_fields.iter();
        SignedRequest {
            code: header.code,
            version: header.version,
            fields: fields.map(|(name, value)| (name.as_bytes(), value.into())).collect(),
        }
    }

    pub(crate) fn has_no_fields(&self) -> bool {
        self.fields.is_empty()
    }

    #[inline]
    pub(crate) fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        // Most fields have a name of one letter: its first byte tells it without a call.
        let is_it = |known: &[u8]| known.first() == name.as_bytes().first() && known == name.as_bytes();
        let (_, value) = self.fields.iter().rev().find(|(known, _)| is_it(known))?;
        Some(value.to_str())
    }

    /// Replaces `out` with what a signature of this request is made of.
    #[inline]
    pub(crate) fn write_content(&self, body: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let is_signed = |name: &[u8]| is_signed(name, self.version);
        in_signing_order(&self.fields, is_signed, |value| value.unescape_into(out));
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use oxmq_protocol::{ExtFields, RemotingCommand};
    use oxmq_remoting::Credentials;
    use oxmq_remoting::signing::{SIGNATURE, SigningKey};

    use super::*;

    pub(crate) fn command(code: i32, fields: &[(&str, &str)]) -> RemotingCommand {
        let mut command = RemotingCommand::default();
        command.header.code = code;
        command.header.version = 500;
        command.header.ext_fields = fields.iter().copied().collect::<ExtFields>();
        command
    }

    #[test]
    fn what_a_client_signs_is_what_is_checked() {
        let mut command = command(310, &[("b", "t\u{1}é"), ("a", "g"), ("n", "")]).with_body("body");
        Credentials::new("me", "secret").sign(&mut command);
        let request = SignedRequest::of_header(&command.header);
        let mut content = b"old".to_vec();
        request.write_content(b"body", &mut content);
        let signature = request.get(SIGNATURE).unwrap();
        assert!(SigningKey::new("secret").verify(&content, signature.as_bytes()));
        assert!(!SigningKey::new("other").verify(&content, signature.as_bytes()));
        request.write_content(b"bodY", &mut content);
        assert!(!SigningKey::new("secret").verify(&content, signature.as_bytes()));
    }
}
