//! The codecs against frames of the original and against a corpus of bad input.

mod bodies;
mod golden;
mod headers;
mod messages;
