//! The body of a batch send, 320 (spec: protocol.md §6.3): items one behind the other, nothing between them.
//!
//! ```text
//! totalSize i32   magic i32 (0)   bodyCrc i32 (0)   flag i32
//! bodyLength i32  body            propertiesLength i16  properties
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::message::Message;

/// An item with neither body nor properties.
pub const ITEM_BYTES_MIN: usize = 22;

/// One item where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchItem<'a> {
    pub flag: i32,
    pub body: &'a [u8],
    /// As text, for [`crate::properties`].
    pub properties: &'a [u8],
}

/// A batch that is cut or lies about its lengths. Nothing of it is used then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the batch is broken at byte {0}")]
pub struct BatchError(pub usize);

/// The items of a batch body. Ends after the first error.
pub fn items(body: &[u8]) -> impl Iterator<Item = Result<BatchItem<'_>, BatchError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= body.len() {
            return None;
        }
        match item(&body[at..]) {
            Some((item, bytes)) => {
                at += bytes;
                Some(Ok(item))
            }
            None => {
                let error = BatchError(at);
                at = body.len();
                Some(Err(error))
            }
        }
    })
}

/// The item at the start of `bytes` and its size.
fn item(bytes: &[u8]) -> Option<(BatchItem<'_>, usize)> {
    let (total, _) = bytes.split_first_chunk::<4>()?;
    let total = usize::try_from(i32::from_be_bytes(*total)).ok()?;
    let item = bytes.get(..total)?;
    let (fixed, rest) = item.split_first_chunk::<20>()?;
    let flag = i32::from_be_bytes(fixed[12..16].try_into().ok()?);
    let body_bytes = usize::try_from(i32::from_be_bytes(fixed[16..20].try_into().ok()?)).ok()?;
    let (body, rest) = rest.split_at_checked(body_bytes)?;
    let (length, properties) = rest.split_first_chunk::<2>()?;
    let is_whole = usize::try_from(i16::from_be_bytes(*length)) == Ok(properties.len());
    is_whole.then_some((BatchItem { flag, body, properties }, total))
}

/// The batch body of messages. Their properties must fit a record each, which the sender has checked.
pub fn encode(messages: &[Message]) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        let properties_bytes = message.properties.encoded_bytes();
        let total = ITEM_BYTES_MIN + message.body.len() + properties_bytes;
        out.reserve(total);
        out.put_i32(total as i32);
        out.put_bytes(0, 8);
        out.put_i32(message.flag);
        out.put_i32(message.body.len() as i32);
        out.put_slice(&message.body);
        out.put_i16(properties_bytes as i16);
        message.properties.encode(&mut out);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_message() -> impl Strategy<Value = Message> {
        (
            proptest::collection::vec(any::<u8>(), 0..50),
            any::<i32>(),
            "[a-z]{1,9}",
        )
            .prop_map(|(body, flag, tag)| {
                let mut message = Message::new("t", body).with_tags(tag);
                message.flag = flag;
                message
            })
    }

    proptest! {
        #[test]
        fn batches_survive_their_bytes(messages in proptest::collection::vec(any_message(), 0..6)) {
            let body = encode(&messages);
            let read: Vec<_> = items(&body).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), messages.len());
            for (item, message) in read.iter().zip(&messages) {
                prop_assert_eq!((item.flag, item.body), (message.flag, &message.body[..]));
                prop_assert_eq!(&crate::properties::Properties::decode(item.properties), &message.properties);
            }
            for cut in 0..body.len() {
                let items: Vec<_> = items(&body[..cut]).collect();
                prop_assert!(items.len() <= messages.len());
            }
        }

        #[test]
        fn hostile_batches_end(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(items(&body).count() <= body.len() / 4 + 1);
        }
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let body = encode(&[Message::new("t", "body")]);
        for (at, value) in [
            (3, 21),
            (0, 0xff),
            (16, 0x7f),
            (19, 200),
            (body.len() - 2, 0xff),
            (body.len() - 1, 9),
        ] {
            let mut broken = body.to_vec();
            broken[at] = value;
            assert_eq!(items(&broken).last(), Some(Err(BatchError(0))), "byte {at}");
        }
    }
}
