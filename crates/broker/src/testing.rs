//! Records for tests.

use bytes::BytesMut;
use oxmq_protocol::properties;
use oxmq_protocol::record::{self, RecordFields};

/// A message as it is stored.
pub(crate) fn stored(fields: &RecordFields<'_>, properties: &[(&str, &str)]) -> BytesMut {
    let mut out = BytesMut::new();
    record::encode(&mut out, fields, |out| {
        for (name, value) in properties {
            properties::write(out, name.as_bytes(), value.as_bytes());
        }
    })
    .unwrap();
    out
}
