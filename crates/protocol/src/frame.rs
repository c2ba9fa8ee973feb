//! The frame around every command (spec: protocol.md §1.1).
//!
//! ```text
//! 0       4     totalLength  = 4 + headerLength + bodyLength   (does not count itself)
//! 4       4     (serializeType << 24) | headerLength
//! 8       H     header
//! 8+H     B     body
//! ```

use thiserror::Error;

/// Largest frame accepted, counting its leading length word, as in Java.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes before the header: total length and header length.
pub const FRAME_PREFIX_BYTES: usize = 8;

/// How the header of one frame is written. Each frame says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SerializeType {
    #[default]
    Json,
    RocketMq,
}

/// One complete frame, borrowed from a read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub serialize: SerializeType,
    pub header: &'a [u8],
    pub body: &'a [u8],
}

/// Why a connection cannot be read any further. There is no error frame: the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("frame of {0} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong(u64),
    #[error("frame length {0} leaves no room for the header length")]
    TooShort(i32),
    #[error("header length {header_bytes} is beyond the frame length {frame_bytes}")]
    HeaderBeyondFrame { header_bytes: usize, frame_bytes: usize },
    #[error("unknown serialize type {0}")]
    UnknownSerializeType(u8),
}

impl<'a> Frame<'a> {
    /// The frame at the start of `buffer` and the bytes it takes there, or `None` while it is incomplete.
    pub fn peek(buffer: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, FrameError> {
        let Some((total, rest)) = buffer.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let total = i32::from_be_bytes(*total);
        let Ok(frame_bytes) = usize::try_from(total) else {
            return Err(FrameError::TooShort(total));
        };
        if frame_bytes < 4 {
            return Err(FrameError::TooShort(total));
        }
        if frame_bytes + 4 > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(frame_bytes as u64 + 4));
        }
        let Some((mark, _)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let serialize = match mark[0] {
            0 => SerializeType::Json,
            1 => SerializeType::RocketMq,
            other => return Err(FrameError::UnknownSerializeType(other)),
        };
        let header_bytes = u32::from_be_bytes([0, mark[1], mark[2], mark[3]]) as usize;
        if header_bytes > frame_bytes - 4 {
            return Err(FrameError::HeaderBeyondFrame {
                header_bytes,
                frame_bytes,
            });
        }
        let Some(payload) = rest.get(4..frame_bytes) else {
            return Ok(None);
        };
        let (header, body) = payload.split_at(header_bytes);
        Ok(Some((
            Frame {
                serialize,
                header,
                body,
            },
            frame_bytes + 4,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_wherever_the_bytes_are_cut() {
        let bytes = [0, 0, 0, 9, 0, 0, 0, 2, b'{', b'}', 1, 2, 3];
        for cut in 0..bytes.len() {
            assert_eq!(Frame::peek(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let (frame, taken) = Frame::peek(&bytes).unwrap().unwrap();
        assert_eq!(
            (frame.header, frame.body, taken),
            (&b"{}"[..], &[1u8, 2, 3][..], bytes.len())
        );
    }

    #[test]
    fn lying_lengths_are_refused_before_their_bytes_arrive() {
        assert_eq!(Frame::peek(&[0xff, 0, 0, 0]), Err(FrameError::TooShort(-16777216)));
        assert_eq!(Frame::peek(&[0, 0, 0, 3]), Err(FrameError::TooShort(3)));
        assert_eq!(Frame::peek(&[1, 0, 0, 0]), Err(FrameError::TooLong(16777220)));
        assert_eq!(
            Frame::peek(&[0, 0, 0, 4, 7, 0, 0, 0]),
            Err(FrameError::UnknownSerializeType(7))
        );
        assert_eq!(
            Frame::peek(&[0, 0, 0, 6, 0, 0, 0, 3]),
            Err(FrameError::HeaderBeyondFrame {
                header_bytes: 3,
                frame_bytes: 6
            })
        );
    }
}
