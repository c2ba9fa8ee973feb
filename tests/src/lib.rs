//! Whole-system tests: name server, broker and client of one process, and peers that misbehave. The tests are in
//! `it/`; programs of other clients are in `interop/`.
