//! Stored messages and batches of the original.

use bytes::{Bytes, BytesMut};
use oxmq_protocol::batch;
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::record::{self, RecordFields, RecordRef};
use oxmq_tests::golden::frames;

/// Replies whose body is a row of stored messages.
fn bodies_of_messages() -> impl Iterator<Item = Bytes> {
    let replies = frames().filter(|frame| {
        !frame.is_request
            && frame.code == 0
            && matches!(frame.request, Some(11 | 361 | 12 | 33))
            && !frame.body.is_empty()
    });
    let requests = frames().filter(|frame| frame.is_request && frame.code == 39);
    replies.chain(requests).map(|frame| Bytes::from(frame.body))
}

#[test]
fn records_of_java_are_written_as_java_writes_them() {
    let mut count = 0;
    for body in bodies_of_messages() {
        let mut rest = &body[..];
        while !rest.is_empty() {
            let theirs = RecordRef::parse(rest).unwrap();
            rest = &rest[theirs.total_size()..];
            theirs.verify_crc().unwrap();
            let mut ours = BytesMut::new();
            record::encode(&mut ours, &RecordFields::of(&theirs), |out| {
                out.extend_from_slice(theirs.properties())
            })
            .unwrap();
            record::patch(
                &mut ours,
                theirs.queue_offset(),
                theirs.physical_offset(),
                theirs.store_timestamp(),
            );
            assert_eq!(&ours[..], theirs.as_bytes());
            count += 1;
        }
    }
    assert!(count > 20, "only {count} records were seen");
}

#[test]
fn messages_of_java_are_decoded() {
    for body in bodies_of_messages() {
        for message in decode_messages(&body, true).unwrap() {
            assert!(!message.topic.is_empty() && message.store_timestamp > 1_700_000_000_000);
            assert!(message.unique_id().is_some(), "{message:?}");
        }
    }
}

#[test]
fn batches_of_java_are_read_to_their_end() {
    let mut count = 0;
    for frame in frames().filter(|frame| frame.is_request && frame.code == 320) {
        for item in batch::items(&frame.body) {
            let item = item.unwrap();
            assert!(!item.body.is_empty() && oxmq_protocol::properties::find(item.properties, "UNIQ_KEY").is_some());
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} items were seen");
}
