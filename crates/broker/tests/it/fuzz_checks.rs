//! What the fuzz targets of access control do with their input. An ordinary test runs the same over the committed corpus.

use oxmq_broker::access_harness;

/// A file of accounts is refused, or says the same when it was written and read again.
pub(crate) fn acl_file(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        access_harness::acl_file(text);
    }
}

/// The body of a request about users or policies is refused, or kept in a form that reads as the same.
pub(crate) fn auth_body(data: &[u8]) {
    access_harness::auth_body(data);
}
