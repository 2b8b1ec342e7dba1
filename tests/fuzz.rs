//! Mutated files of every format, for every dataflow of records: each is read or refused by name, nothing panics, nothing goes on for ever,
//! and every record is accepted or refused.
//!
//! Seeded; a failure names the seed. `scripts/fuzz` runs as many rounds as one has time for.

use crate::support::packed::{gzip, zstd};
use crate::support::parquet;
use crate::support::program::Place;
use crate::support::whole_file;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::io::Write;
use std::path::Path;

/// Rounds of each format and packing, when nothing else is asked for.
const ROUNDS: u64 = 500;
/// Rounds that each start the program.
const PROGRAM_ROUNDS: u64 = 60;

/// Small inputs, with quotes, blank lines and refused lines among them.
fn samples() -> Vec<(&'static str, &'static str, &'static str, String)> {
    let csv =
        "timestamp,device_id,user_id,server_id,connected\n2024-03-01T08:00:00Z,1,7,1,true\n\n2024-03-01 09:00:00,2,\"7\",1,f\nx,1,1,1,1\n";
    let servers = "id;created_at;destroyed_at\n1;2024-01-01;\n2;2024-01-01 00:00:00;NULL\n";
    let data = "timestamp;sensor_uuid;sensor_value\n2024-03-01 08:00;15a4c814-5cd1-4b30-432e-429ad517812c;12,5\n1709280000;15a4c814-5cd1-4b30-432e-429ad517812c;-1e3\n";
    let object = r#"{"timestamp":"2024-03-01T08:00:00Z","device_id":1,"user_id":7,"server_id":1,"connected":true}"#;
    let log = r#"{"time":"2024-03-01T08:00:00Z","logId":"a0000000-0000-4000-8000-000000000001","type":"SetName","name":"L\u00e9 \"x\""}"#;
    let app = r#"{"event_name":"user_engagement","event_timestamp":"1709348400000000","user_pseudo_id":"A1","event_params":[{"key":"engagement_time_msec","value":{"int_value":"5000"}}],"device":{"time_zone_offset_seconds":-18000}}"#;
    let lines = |object: &str| format!("{object}\n\n{object}{object}\n[{object}]\n{{}}\n");
    let texts = [
        csv.to_string() + &csv.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>().repeat(20),
        servers.into(),
        data.into(),
        lines(object),
        format!("{{\"n\":[1],\"Records\":[{object},\n{object}]}}"),
        format!("[{log},\n {log}]\n[{log}]"),
        lines(app),
    ];
    let sample = |((dataflow, input, ending), text)| (dataflow, input, ending, text);
    whole_file::KINDS.into_iter().zip(texts).map(sample).collect()
}

fn mutate(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    const TOKENS: [&[u8]; 24] = [
        b"\"",
        b"\n",
        b"\r",
        b"\r\n",
        b",",
        b";",
        b"\t",
        b"|",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b"\\ud800",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"#",
        b"sep=;\n",
        b"NaN",
        b"-1e999",
        b"99999999999999999999",
        b"2024-13-45T99:99:99Z",
        b"\"\"\"",
    ];
    for _ in 0..random.random_range(1..6u32) {
        let at = random.random_range(0..=bytes.len());
        let until = (at + random.random_range(0..40usize)).min(bytes.len());
        match random.random_range(0..6u32) {
            0 if at < bytes.len() => bytes[at] = random.random(),
            1 => drop(bytes.drain(at..until)),
            2 => {
                let part = bytes[at..until].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes.truncate(at.max(1)),
            _ => {
                let token = TOKENS.choose(random).unwrap();
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
}

fn zipped(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Mutates a file's bytes before they are packed, or after.
fn round(place: &Path, sample: &(&'static str, &'static str, &'static str, String), packing: &str, seed: u64) -> Option<bool> {
    let (dataflow, input, ending, text) = sample;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let before = packing.is_empty() || random.random_ratio(1, 2);
    let mut bytes = text.clone().into_bytes();
    if before {
        mutate(&mut bytes, &mut random);
    }
    bytes = match packing {
        ".gz" => gzip(&bytes),
        ".zst" => zstd(&bytes),
        ".zip" => zipped(&format!("x.{ending}"), &bytes),
        _ => bytes,
    };
    if !before {
        mutate(&mut bytes, &mut random);
    }
    let path = place.join(format!("x.{ending}{packing}"));
    std::fs::write(&path, bytes).unwrap();
    whole_file::read(dataflow, input, &path).ok().map(|accepted| accepted > 0)
}

fn rounds(otherwise: u64) -> u64 {
    std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn mutated_files_are_read_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let (mut all, mut read, mut accepted) = (0, 0, 0);
    for sample in samples() {
        for packing in ["", ".gz", ".zst", ".zip"] {
            for seed in 0..rounds(ROUNDS) {
                let result = std::panic::catch_unwind(|| round(place.path(), &sample, packing, seed));
                let result = result.unwrap_or_else(|_| panic!("seed {seed} of {} {}.{}{packing}", sample.0, sample.1, sample.2));
                all += 1;
                read += u64::from(result.is_some());
                accepted += u64::from(result == Some(true));
            }
        }
    }
    // Mutations that are all refused, or all harmless, would test nothing.
    assert!(read > all / 4 && read < all && accepted > all / 8, "{read} of {all} are read, {accepted} with a record");
}

/// By the program itself: the library that decodes Parquet panics at some damages, which is to be an error like others.
#[test]
fn mutated_parquet_is_read_or_refused() {
    let place = Place::new();
    let lines: Vec<String> = (0..200).map(|device| format!("2024-03-01T08:00:00Z,{device},7,1,true")).collect();
    let app = parquet::AppEvent { user: "ann".into(), micros: 1_709_348_400_000_000, valuable: true, offset: 0 };
    let (mut read, mut refused) = (0, 0);
    for (dataflow, bytes) in [("online", parquet::events(&lines, 50)), ("active", parquet::app_events(&[app]))] {
        for seed in 0..rounds(PROGRAM_ROUNDS) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut mutated = bytes.clone();
            for _ in 0..random.random_range(1..6u32) {
                let at = random.random_range(0..mutated.len());
                mutated[at] = random.random();
            }
            place.write("x.parquet", mutated);
            let ran = place.run(&format!("check {dataflow} events=x.parquet"));
            assert!(!ran.stderr.contains("panicked"), "seed {seed} of {dataflow}: {}", ran.stderr);
            match ran.code {
                Some(0) => read += 1,
                Some(1) => refused += 1,
                code => panic!("seed {seed} of {dataflow} ends with {code:?}: {}", ran.stderr),
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} are read, {refused} are refused");
}

/// What libFuzzer's targets begin with is read: each a file behind the byte that says what it is. `FUZZ_SEEDS` names where they are wanted.
#[test]
fn seeds_of_the_targets_are_read() {
    let place = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("FUZZ_SEEDS").map_or_else(|| place.path().join("seeds"), Into::into);
    let seed = |target: &str, choice: usize, (dataflow, input, ending): (&str, &str, &str), bytes: &[u8]| {
        let path = place.path().join(format!("x.{ending}"));
        std::fs::write(&path, bytes).unwrap();
        let accepted = whole_file::read(dataflow, input, &path);
        assert!(accepted.as_ref().is_ok_and(|accepted| *accepted > 0), "{target} {choice}: {accepted:?}");
        std::fs::create_dir_all(folder.join(target)).unwrap();
        std::fs::write(folder.join(target).join(format!("seed-{choice}")), [&[u8::try_from(choice).unwrap()], bytes].concat()).unwrap();
    };
    let samples = samples();
    for (choice, (dataflow, input, ending, text)) in samples.iter().enumerate() {
        seed("text", choice, (dataflow, input, ending), text.as_bytes());
    }
    let csv = samples[0].3.as_bytes();
    for (choice, (ending, packed)) in [("csv.gz", gzip(csv)), ("csv.zst", zstd(csv)), ("zip", zipped("x.csv", csv))].into_iter().enumerate()
    {
        seed("packed", choice, ("online", "events", ending), &packed);
    }
    let lines: Vec<String> = (0..20).map(|device| format!("2024-03-01T08:00:00Z,{device},7,1,true")).collect();
    let app = parquet::AppEvent { user: "ann".into(), micros: 1_709_348_400_000_000, valuable: true, offset: 0 };
    seed("parquet", 0, ("online", "events", "parquet"), &parquet::events(&lines, 10));
    seed("parquet", 1, ("active", "events", "parquet"), &parquet::app_events(&[app]));
}
