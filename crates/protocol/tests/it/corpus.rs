//! Replays the committed corpus of the fuzz targets, and cuts and flips of it.

use oxmq_tests::golden::frames;
use std::fs;
use std::path::Path;

use crate::fuzz_checks::TARGETS;

#[test]
fn the_corpus_holds_no_surprise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz");
    for (name, check) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(root.join(name)).unwrap() {
            let data = fs::read(entry.unwrap().path()).unwrap();
            check(&data);
            count += 1;
            for at in 0..data.len().min(600) {
                check(&data[..at]);
                for bit in [0x01, 0x10, 0x80] {
                    let mut flipped = data.clone();
                    flipped[at] ^= bit;
                    check(&flipped);
                }
            }
        }
        assert!(count > 0, "no inputs for {name}");
    }
}

#[test]
fn golden_headers_and_bodies_hold_no_surprise() {
    for frame in frames() {
        for (_, check) in TARGETS {
            check(&frame.header);
            check(&frame.body);
        }
    }
}
