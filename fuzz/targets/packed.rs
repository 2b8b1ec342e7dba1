//! Packed files and archives: the first byte says how, the rest is the file.

#![no_main]

use libfuzzer_sys::fuzz_target;

const ENDINGS: [&str; 9] = ["csv.gz", "csv.zst", "zip", "csv.bz2", "csv.xz", "tar", "tar.gz", "tar.zst", "jsonl.gz"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, packed)) = data.split_first() else { return };
    let ending = ENDINGS[usize::from(*choice) % ENDINGS.len()];
    // A refusal is an answer.
    retally_fuzz::read("online", "events", &format!("x.{ending}"), packed).ok();
});
