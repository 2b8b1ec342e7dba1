//! Files in archives: the same tables as from a folder, and what is wrong with them.

use crate::support::known::{ACTIVE, ONLINE};
use crate::support::packed::gzip;
use crate::support::program::Place;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;

type Files<'a> = [(&'a str, Vec<u8>)];

fn zip(files: &Files<'_>) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tar(files: &Files<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The same records in files of every kind that an archive may hold, with others among them.
fn parts(lines: &[String]) -> Vec<(&'static str, Vec<u8>)> {
    let half = lines.len() / 2;
    let text = |lines: &[String]| lines.join("\n").into_bytes();
    let longest = "deep/down/a-name-that-is-longer-than-the-one-hundred-bytes-that-the-first-tars-had-room-for/and/then/some/part.jsonl";
    vec![
        ("README", b"no input".to_vec()),
        ("first.json", format!("[{}]", lines[..half].join(",\n")).into_bytes()),
        ("empty.json", Vec::new()),
        (".hidden.jsonl", b"no input".to_vec()),
        ("__MACOSX/._first.json", b"no input".to_vec()),
        (longest, text(&lines[half..half + 10])),
        ("packed.ndjson.gz", gzip(&text(&lines[half + 10..]))),
    ]
}

#[test]
fn archives_are_read_like_folders() {
    let place = Place::new();
    let files = parts(&ACTIVE.lines);
    let tar = tar(&files);
    place.write("a.zip", zip(&files));
    place.write("b.tar.gz", gzip(&tar));
    place.write("c.TGZ", gzip(&tar));
    place.write("d.tar.zst", zstd::encode_all(tar.as_slice(), 1).unwrap());
    place.write("e.tar", tar);
    for archive in ["a.zip", "b.tar.gz", "c.TGZ", "d.tar.zst", "e.tar"] {
        ACTIVE.check(&place, &format!("events={archive} -w 2"));
    }
    ACTIVE.check(&place, "events=. -w 2");
    let ran = place.run(&format!("{} events=a.zip --out out", ACTIVE.run())).succeeds();
    assert!(ran.stderr.contains("passed over 1 files whose names are not those of input, \"a.zip/README\" the first"), "{}", ran.stderr);
}

#[test]
fn csv_in_archives_has_headers_and_delimiters_of_its_own() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let (events, servers) = (place.read("all/events.csv"), place.read("all/servers.csv"));
    let swapped = servers.replace(',', ";");
    place.write("events.zip", zip(&[("a/events.csv", events.into_bytes())]));
    place.write("servers.tar", tar(&[("servers.csv", swapped.into_bytes())]));
    ONLINE.check(&place, "events=events.zip servers=servers.tar");
    let mixed = [("a.csv", b"timestamp,device_id,user_id,server_id,connected\n".to_vec()), ("b.csv", b"2024-03-01,1,7,3,true\n".to_vec())];
    place.write("mixed.zip", zip(&mixed));
    place.run("run online events=mixed.zip").fails().names(&["\"b.csv\"", "no header", "\"a.csv\""]);
    place.run("run online events=mixed.zip --header first").succeeds();
}

/// A zip that is cut into several splits, each of which knows the lines of its files.
#[test]
fn refused_lines_name_their_file_in_the_archive() {
    let place = Place::new();
    let noise = |seed: u64| -> Vec<u8> {
        // Lines that do not shrink much.
        let lines = (0..60_000u64).map(|line| {
            let number = (line + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(line.rotate_left(31));
            format!("2024-03-01T08:00:{:02}.{:06}Z,{number},{},3,true\n", number % 60, number % 1_000_000, number >> 40)
        });
        (lines.collect::<String>() + "bad\n").into_bytes()
    };
    let files: Vec<(String, Vec<u8>)> = (0..8).map(|file| (format!("{file}.csv"), noise(file))).collect();
    let named: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    place.write("all.zip", zip(&named));
    place.write("all.tar", tar(&named));
    assert!(std::fs::metadata(place.path("all.zip")).unwrap().len() > 9 << 20, "large enough to be cut twice");
    for archive in ["all.zip", "all.tar"] {
        place.run(&format!("run online events={archive} --tables online_issues --out out -w 2")).succeeds();
        let rows = (0..8).map(|file| {
            format!("events,{archive}/{file}.csv,60001,\"timestamp \"\"bad\"\" is not a time like 2026-01-31T12:34:56Z\",bad\n")
        });
        assert_eq!(place.read("out/rejected.csv"), "input,source,line,reason,raw\n".to_string() + &rows.collect::<String>());
        let failure = place.run(&format!("run online events={archive} --tables online_issues --out no --max-rejected 7")).fails();
        failure.names(&[&format!("{archive}/"), ".csv:60001: timestamp"]);
    }
}

#[test]
fn archives_that_are_cut_or_none() {
    let place = Place::new();
    let files =
        [("events.csv", b"2024-03-01T08:00:00Z,1,7,3,true\n".repeat(30_000)), ("more.csv", b"2024-03-01T08:00:00Z,1,7,3,true\n".to_vec())];
    let (zip, tar) = (zip(&files), tar(&files));
    let mut damaged = zip.clone();
    damaged[60..70].fill(0xff);
    place.write("cut.zip", &zip[..zip.len() / 2]);
    place.write("damaged.zip", damaged);
    place.write("none.zip", "PK is not enough");
    place.write("cut.tar", &tar[..tar.len() / 3]);
    place.write("none.tar", "a text of more than no bytes, but not of a tar".repeat(100));
    place.write("cut.tar.gz", &gzip(&tar)[..2_000]);
    place.write("none.tar.gz", "not packed");
    for archive in ["cut.zip", "damaged.zip", "none.zip", "cut.tar", "none.tar", "cut.tar.gz", "none.tar.gz"] {
        let failure = place.run(&format!("run online events={archive} --out out -w 2")).fails().names(&["could not read", archive]);
        assert!(failure.hint.is_some_and(|hint| hint.contains("nothing was written")), "{archive}");
        assert!(!place.has("out"), "{archive}");
    }
    place.write("empty.zip", self::zip(&[]));
    place.write("empty.tar", self::tar(&[]));
    place.run("run online events=empty.zip events=empty.tar --out out").succeeds();
    place.run("run online events=events.zip.gz --out out").fails().names(&["found no file"]);
}
