//! Replays the committed corpus of the fuzz target, and cuts and flips of it.

use std::fs;
use std::path::Path;

use crate::fuzz_checks;

#[test]
fn the_corpus_holds_no_surprise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz/expression");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let data = fs::read(entry.unwrap().path()).unwrap();
        fuzz_checks::expression(&data);
        count += 1;
        for at in 0..data.len().min(600) {
            fuzz_checks::expression(&data[..at]);
            fuzz_checks::expression(&data[at..]);
            for bit in [0x01, 0x10, 0x80] {
                let mut flipped = data.clone();
                flipped[at] ^= bit;
                fuzz_checks::expression(&flipped);
            }
        }
    }
    assert!(count >= 8, "{count} inputs");
}
