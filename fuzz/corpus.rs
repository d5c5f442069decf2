//! Runs an entry point on its committed corpus. The crates with entry points include this file in
//! their tests.

use std::{fs, path::Path};

pub(super) fn run(target: &str, entry: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut ran = 0;
    for file in fs::read_dir(&corpus).expect("the corpus is committed") {
        entry(&fs::read(file.unwrap().path()).unwrap());
        ran += 1;
    }
    assert!(ran > 0, "{} is empty", corpus.display());
}
