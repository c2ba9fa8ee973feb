//! Whatever a peer sends: a clear response or a closed connection, no panic, bounded memory, and others do not notice.

mod bytes;
mod crowds;
mod exploits;
mod fields;
mod names;
