//! Wire and record formats of RocketMQ: frames, headers, request table, bodies, messages.
//!
//! No I/O and no async: bytes in, values out. Everything that reads foreign bytes returns an error instead of
//! panicking and allocates at most a small multiple of its input.

pub mod allocate;
mod base64;
pub mod batch;
pub mod body;
pub mod compression;
pub mod delay_level;
pub mod ext_fields;
pub mod frame;
pub mod hash;
pub mod header;
pub mod json;
pub mod message;
pub mod message_id;
pub mod perm;
pub mod pop;
pub mod properties;
pub mod properties_file;
pub mod property;
pub mod recall_handle;
pub mod record;
pub mod requests;
pub mod response_code;
pub mod scan;
pub mod settings;
mod swar;
pub mod sys_flag;
pub mod topic;
pub mod version;

pub use ext_fields::{ExtFields, FieldError, FieldSet};
pub use frame::{Frame, FrameError, SerializeType};
pub use header::{Header, HeaderError, RemotingCommand};
pub use message::{Message, MessageExt};
pub use requests::{Request, RequestCode};
