//! Mutated files of every format, for every dataflow of records: each is read or refused by name, nothing panics, nothing goes on for ever,
//! and every record is accepted or refused.
//!
//! Seeded; a failure names the seed. `scripts/fuzz` runs as many rounds as one has time for.

use crate::support::packed::{gzip, zstd};
use crate::support::parquet;
use crate::support::program::Place;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use retally::ingest::batch::{Arrival, Batch, Part, Source};
use retally::ingest::plan;
use retally::ingest::read::FileOpener;
use retally::registry;
use retally_core::calendar::Calendar;
use retally_core::contract::Input;
use retally_core::split::{Format, Opener, Packing};
use retally_core::time::Moment;
use std::io::Write;
use std::path::Path;

/// Rounds of each format, when nothing else is asked for.
const ROUNDS: u64 = 60;
/// A file of some thousand bytes takes a few reads.
const READS_MAX: usize = 100_000;

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
    vec![
        ("online", "events", "csv", csv.to_string() + &csv.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>().repeat(20)),
        ("online", "servers", "csv", servers.into()),
        ("sensors", "data", "csv", data.into()),
        ("online", "events", "jsonl", lines(object)),
        ("online", "events", "json", format!("{{\"n\":[1],\"Records\":[{object},\n{object}]}}")),
        ("usage", "events", "json", format!("[{log},\n {log}]\n[{log}]")),
        ("active", "events", "jsonl", lines(app)),
    ]
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

/// Reads a file to its end. Returns how many records it has, when it was not refused as a whole.
fn read(input: &Input, dataflow: &str, path: &Path) -> Result<(u64, bool), String> {
    let mut definition = registry::dataflow(dataflow).unwrap().definition();
    let place = definition.inputs.iter().position(|known| known.name == input.name).unwrap();
    definition.inputs[place] = input.clone();
    let batch = Batch { parts: vec![Part { input: place, sign: 1, source: Source::Path(path.display().to_string()) }] };
    let arrival = Arrival { accept_from: Moment::NOT_BEFORE, accept_until: Moment::LAST };
    let plan = plan::plan(&definition, &batch, arrival).map_err(|error| error.to_string())?;
    let context = input.context(Calendar::utc());
    let (mut accepted, mut refused) = (0, 0);
    for split in &plan.splits {
        let mut reader = FileOpener::default().open(split, input).map_err(|error| error.message)?;
        let mut reads = 0;
        loop {
            let more = reader.read(&mut |line| {
                let record = line.record.map_err(Into::into).and_then(|raw| (input.read)(raw, &context));
                match record {
                    Ok(_) => accepted += 1,
                    Err(reason) => {
                        assert!(!reason.is_empty());
                        refused += 1;
                    }
                }
            });
            let more = more.map_err(|error| error.message)?;
            reads += 1;
            assert!(reads < READS_MAX, "it goes on and on");
            if !more {
                break;
            }
        }
    }
    // Without quotes, every line of CSV that is not blank is a record, but for those before the first one.
    let lined = plan
        .splits
        .iter()
        .all(|split| matches!(split.format, Format::Csv(_)) && split.packing == Packing::Plain && split.encoding.is_none());
    if let ([split], true) = (plan.splits.as_slice(), lined) {
        let bytes = std::fs::read(path).unwrap();
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        if let Format::Csv(columns) = &split.format
            && !text.contains(&b'"')
        {
            let rest = text.get(columns.head_bytes as usize..).unwrap_or_default();
            let lines = rest.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count() as u64;
            assert_eq!(accepted + refused, lines, "accepted and refused, and lines");
        }
    }
    Ok((accepted + refused, accepted > 0))
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
        ".zip" => {
            let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            zip.start_file(format!("x.{ending}"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&bytes).unwrap();
            zip.finish().unwrap().into_inner()
        }
        _ => bytes,
    };
    if !before {
        mutate(&mut bytes, &mut random);
    }
    let path = place.join(format!("x.{ending}{packing}"));
    std::fs::write(&path, bytes).unwrap();
    let definition = registry::dataflow(dataflow).unwrap().definition();
    let input = definition.inputs.iter().find(|known| known.name == *input).unwrap();
    read(input, dataflow, &path).ok().map(|(_, accepted)| accepted)
}

fn rounds() -> u64 {
    std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

#[test]
fn mutated_files_are_read_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let (mut all, mut read, mut accepted) = (0, 0, 0);
    for sample in samples() {
        for packing in ["", ".gz", ".zst", ".zip"] {
            for seed in 0..rounds() {
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
        for seed in 0..rounds() {
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
