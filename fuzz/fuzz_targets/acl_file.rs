#![no_main]
#[path = "../../crates/broker/tests/it/fuzz_checks.rs"]
#[expect(dead_code, reason = "the other target's check")]
mod fuzz_checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_checks::acl_file(data));
