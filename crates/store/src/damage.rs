//! Getting past damage: finding the next whole record of the log behind bytes that are none.
//!
//! A position counts only where a whole record names it as its own, so that the bodies of other records are not taken for
//! records, and what an older log left behind a cut is told by its age.

use std::io;

use oxmq_protocol::record::RecordRef;

use crate::commit_log::read_record;
use crate::log_scan::{self, Candidate, HEAD_BYTES};
use crate::segments::Segment;

/// Bytes searched at once.
const SEARCH_BYTES: usize = 1024 * 1024;

/// Where the log goes on in this file behind `from`: at a whole record before `limit`, or at the end of the file where a
/// blank says so. `None` when there is neither.
pub(crate) fn next_in_segment(segment: &Segment, from: i64, limit: i64) -> io::Result<Option<i64>> {
    let limit = limit.min(segment.end);
    let mut position = from;
    let mut buffer = vec![0; SEARCH_BYTES];
    while position < limit {
        let wanted = ((limit - position) as usize + HEAD_BYTES - 1).min((segment.end - position) as usize);
        let wanted = wanted.min(SEARCH_BYTES);
        let read = segment
            .file
            .read_at(&mut buffer[..wanted], (position - segment.base) as u64)?;
        match log_scan::find_candidate(&buffer[..read], position, segment.end) {
            Some(Candidate::Blank) => return Ok(Some(segment.end)),
            Some(Candidate::Record(at)) if at >= limit => return Ok(None),
            Some(Candidate::Record(at)) => {
                if read_record(segment, at, segment.end)?.is_some() {
                    return Ok(Some(at));
                }
                position = at + 1;
            }
            None if read < HEAD_BYTES => return Ok(None),
            None => position += (read - HEAD_BYTES + 1) as i64,
        }
    }
    Ok(None)
}

/// Whether the head of a record stands at this position, although the record is not whole.
pub(crate) fn is_head(segment: &Segment, physical_offset: i64) -> io::Result<bool> {
    let mut head = [0; HEAD_BYTES];
    let read = segment
        .file
        .read_at(&mut head, (physical_offset - segment.base) as u64)?;
    let found = log_scan::find_candidate(&head[..read], physical_offset, segment.end);
    Ok(found == Some(Candidate::Record(physical_offset)))
}

/// Whether a record of this size was written at this position, although it is not whole now.
pub(crate) fn was_record(segment: &Segment, physical_offset: i64, size: i32) -> io::Result<bool> {
    let mut head = [0; HEAD_BYTES];
    let read = segment
        .file
        .read_at(&mut head, (physical_offset - segment.base) as u64)?;
    Ok(read == HEAD_BYTES && log_scan::resembles(&head, physical_offset, size))
}

/// The bytes between two positions, if they have the shape of one record that says where it is. Its body may be wrong.
pub(crate) fn record_shaped(segment: &Segment, from: i64, to: i64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; (to.min(segment.end) - from).max(0) as usize];
    let read = segment.file.read_at(&mut bytes, (from - segment.base) as u64)?;
    let has_shape = RecordRef::parse(&bytes[..read])
        .is_ok_and(|record| record.physical_offset() == from && from + record.total_size() as i64 == to);
    Ok(has_shape.then_some(bytes))
}
