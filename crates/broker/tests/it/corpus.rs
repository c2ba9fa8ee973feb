//! Replays the committed corpus of the fuzz targets, and cuts and flips of it.

use std::fs;
use std::path::Path;

use crate::fuzz_checks;

type Check = fn(&[u8]);

#[test]
fn the_corpus_holds_no_surprise() {
    let targets: [(&str, Check); 2] = [
        ("acl_file", fuzz_checks::acl_file),
        ("auth_body", fuzz_checks::auth_body),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz");
    for (name, check) in targets {
        let mut count = 0;
        for entry in fs::read_dir(root.join(name)).unwrap() {
            let data = fs::read(entry.unwrap().path()).unwrap();
            check(&data);
            count += 1;
            for at in 0..data.len().min(400) {
                check(&data[..at]);
                for bit in [0x01, 0x10, 0x80] {
                    let mut flipped = data.clone();
                    flipped[at] ^= bit;
                    check(&flipped);
                }
            }
        }
        assert!(count > 2, "{count} inputs for {name}");
    }
}
