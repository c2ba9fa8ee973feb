#![no_main]
#[path = "../../crates/protocol/tests/it/fuzz_checks.rs"]
#[expect(dead_code, reason = "the other targets' checks")]
mod fuzz_checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_checks::settings(data));
