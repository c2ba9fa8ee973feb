//! Compression of message bodies (spec: protocol.md §1.6) and of registration bodies.

use std::io::{self, Read, Write};

use thiserror::Error;

use crate::sys_flag::{COMPRESSED, COMPRESSION_MASK};

/// Java's default level for message bodies.
pub const DEFAULT_LEVEL: u32 = 5;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionType {
    /// The frame format of LZ4.
    Lz4,
    Zstd,
    /// RFC 1950. What senders mean that know of no types.
    #[default]
    Zlib,
}

/// A body that cannot be restored.
#[derive(Debug, Error)]
pub enum DecompressError {
    #[error("the body is not {0:?}: {1}")]
    Corrupt(CompressionType, io::Error),
    #[error("the body grows beyond {0} bytes")]
    TooLong(usize),
    #[error("{0:#x} names no kind of compression")]
    UnknownType(i32),
}

impl CompressionType {
    /// What a message's system flag says, when it says that the body is compressed.
    pub fn from_sys_flag(sys_flag: i32) -> Result<Option<CompressionType>, DecompressError> {
        if sys_flag & COMPRESSED == 0 {
            return Ok(None);
        }
        match sys_flag & COMPRESSION_MASK {
            0 | 0x300 => Ok(Some(CompressionType::Zlib)),
            0x100 => Ok(Some(CompressionType::Lz4)),
            0x200 => Ok(Some(CompressionType::Zstd)),
            other => Err(DecompressError::UnknownType(other)),
        }
    }

    /// The bits to set in the system flag of a message with such a body.
    pub fn sys_flag(self) -> i32 {
        COMPRESSED
            | match self {
                CompressionType::Lz4 => 0x100,
                CompressionType::Zstd => 0x200,
                CompressionType::Zlib => 0x300,
            }
    }

    /// `ZLIB`, `LZ4` or `ZSTD`, in any case.
    pub fn from_name(name: &str) -> Option<CompressionType> {
        match name.to_ascii_uppercase().as_str() {
            "ZLIB" => Some(CompressionType::Zlib),
            "LZ4" => Some(CompressionType::Lz4),
            "ZSTD" => Some(CompressionType::Zstd),
            _ => None,
        }
    }

    /// `level` counts from 0 to 9; LZ4 has none.
    pub fn compress(self, body: &[u8], level: u32) -> Vec<u8> {
        let compressed = match self {
            CompressionType::Zlib => deflate(body, level),
            CompressionType::Zstd => zstd::encode_all(body, level as i32),
            CompressionType::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder
                    .write_all(body)
                    .and_then(|()| encoder.finish().map_err(io::Error::from))
            }
        };
        compressed.expect("memory takes what is written")
    }

    /// Restores a body of at most `bytes_max`. What the input claims about its length does not count.
    pub fn decompress(self, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
        let mut out = Vec::new();
        let limit = bytes_max as u64 + 1;
        let result = match self {
            CompressionType::Zlib => flate2::read::ZlibDecoder::new(body).take(limit).read_to_end(&mut out),
            CompressionType::Lz4 => lz4_flex::frame::FrameDecoder::new(body)
                .take(limit)
                .read_to_end(&mut out),
            CompressionType::Zstd => {
                zstd::Decoder::with_buffer(body).and_then(|decoder| decoder.take(limit).read_to_end(&mut out))
            }
        };
        result.map_err(|error| DecompressError::Corrupt(self, error))?;
        match out.len() > bytes_max {
            true => Err(DecompressError::TooLong(bytes_max)),
            false => Ok(out),
        }
    }
}

fn deflate(body: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level.min(9)));
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [CompressionType; 3] = [CompressionType::Lz4, CompressionType::Zstd, CompressionType::Zlib];

    #[test]
    fn the_limit_holds_whatever_the_body_claims() {
        for kind in ALL {
            let bomb = kind.compress(&vec![0; 1 << 20], DEFAULT_LEVEL);
            assert!(
                matches!(kind.decompress(&bomb, 1000), Err(DecompressError::TooLong(1000))),
                "{kind:?}"
            );
            assert_eq!(kind.decompress(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        }
    }

    #[test]
    fn flags_name_the_kind() {
        for kind in ALL {
            assert_eq!(CompressionType::from_sys_flag(kind.sys_flag()).unwrap(), Some(kind));
        }
        assert_eq!(
            CompressionType::from_sys_flag(0x1).unwrap(),
            Some(CompressionType::Zlib)
        );
        assert_eq!(CompressionType::from_sys_flag(0x300).unwrap(), None);
        assert!(CompressionType::from_sys_flag(0x701).is_err());
    }

    proptest! {
        #[test]
        fn bodies_survive(body in proptest::collection::vec(any::<u8>(), 0..2000), level in 0..10u32) {
            for kind in ALL {
                let packed = kind.compress(&body, level);
                prop_assert_eq!(kind.decompress(&packed, body.len()).unwrap(), body.clone());
            }
        }

        #[test]
        fn rubbish_is_an_error_or_short(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in ALL {
                if let Ok(out) = kind.decompress(&body, 1000) {
                    prop_assert!(out.len() <= 1000);
                }
            }
        }
    }
}
