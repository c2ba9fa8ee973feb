//! Reused buffers of one worker: a connection owns one only while it holds bytes.

use std::cell::RefCell;

use bytes::BytesMut;

/// Fresh buffers start with room for a handful of replies.
const BUFFER_BYTES: usize = 4 * 1024;
/// Larger buffers are given back to the allocator.
const POOLED_BYTES_MAX: usize = 256 * 1024;
const POOLED_COUNT_MAX: usize = 32;

#[derive(Default)]
pub(crate) struct BufferPool(RefCell<Vec<BytesMut>>);

impl BufferPool {
    /// An empty buffer with some room.
    pub(crate) fn take(&self) -> BytesMut {
        self.0
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        let mut pooled = self.0.borrow_mut();
        buffer.clear();
        // A buffer that was cut at the front by partial writes may have little room left.
        let useful = (BUFFER_BYTES..=POOLED_BYTES_MAX).contains(&buffer.capacity());
        if useful && pooled.len() < POOLED_COUNT_MAX {
            pooled.push(buffer);
        }
    }
}
