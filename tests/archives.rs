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

/// As with a folder: what is passed over is named, and nothing is taken for an empty input.
#[test]
fn an_archive_without_a_file_of_input_is_no_input() {
    let place = Place::new();
    let files = [("README.md", b"hi".to_vec()), ("docs/x", b"hi".to_vec())];
    place.write("n.zip", zip(&files));
    place.write("n.tar.gz", gzip(&tar(&files)));
    for name in ["n.zip", "n.tar.gz"] {
        for state in ["", "--state st"] {
            let failure = place.run(&format!("run online events={name} {state} --out out")).fails();
            failure.names(&[&format!("found no file in \"{name}\""), "passed over \"README.md\", \"docs/x\""]);
        }
        assert!(!place.has("out"));
    }
    place.write("in/n.zip", zip(&files));
    place.run("run online events=in").fails().names(&["found no file in \"in/n.zip\""]);
    place.write("in/good.csv", "2024-03-01 08:00:00,1,7,1,true\n");
    for state in ["", "--state st2"] {
        place.run(&format!("run online events=in {state} --out out")).succeeds();
    }
    // A folder that is the table may have a file that is none of it.
    place.write("drop/n.zip", zip(&files));
    place.run("run online --sync events=drop --state st3").succeeds();
}

/// As a file in a folder would be.
#[test]
fn a_file_in_an_archive_of_which_nothing_can_be_read_fails_the_run() {
    let place = Place::new();
    let good = ("good.csv", b"2024-03-01 08:00:00,1,7,1,true\n".to_vec());
    let bad = ("b/bad.csv", b"2024-03-01 08:00:00,one,7,1,true\nx,2,7,1,true\n".to_vec());
    for (place_of_bad, files) in [[bad.clone(), good.clone()], [good.clone(), bad.clone()]].iter().enumerate() {
        place.write("n.zip", zip(files));
        place.write("n.tar", tar(files));
        for name in ["n.zip", "n.tar"] {
            let failure = place.run(&format!("run online events={name} --out out -w 2")).fails();
            failure.names(&[&format!("any of the 2 records of \"{name}/b/bad.csv\""), "device_id \"one\" is no unsigned"]);
            place.run(&format!("run online events={name} --max-rejected 2 --out {place_of_bad}")).succeeds();
        }
    }
    for other in ["more.parquet", "more.zip"] {
        place.write("n.zip", zip(&[good.clone(), (other, b"PAR1".to_vec())]));
        place
            .run("run online events=n.zip --out out")
            .fails()
            .names(&[&format!("{other:?} in it is of a kind that is not read from archives")]);
    }
    assert!(!place.has("out"));
}

#[test]
fn two_files_of_one_name_in_a_zip_are_refused_by_it() {
    let place = Place::new();
    let event = |device: u8| format!("2024-03-01T08:00:00Z,{device},7,3,true\n").into_bytes();
    let twice = |names: [&str; 2], name: &str| {
        let bytes = zip(&[(names[0], event(1)), (names[1], event(2)), ("c.csv", event(3))]);
        // A writer refuses to do that.
        let mut text = bytes.clone();
        for at in 0..bytes.len() - names[1].len() {
            if bytes[at..].starts_with(names[1].as_bytes()) {
                text[at..at + names[1].len()].copy_from_slice(name.as_bytes());
            }
        }
        text
    };
    place.write("twice.zip", twice(["a.csv", "b.csv"], "a.csv"));
    place.run("run online events=twice.zip --out out").fails().names(&["could not read \"twice.zip\"", "two files \"a.csv\""]);
    // Of two zips one after the other, only the last can be found.
    let line = |device: u32| format!("2024-03-01T08:00:00Z,{device},7,3,true\n").into_bytes();
    let (first, second) = (zip(&[("a.csv", line(1))]), zip(&[("b.csv", line(2))]));
    place.write("chained.zip", [first, second.clone()].concat());
    place.run("run online events=chained.zip --out out").fails().names(&["could not read \"chained.zip\"", "another zip stands before it"]);
    place.run("check online events=chained.zip").fails().names(&["another zip stands before it"]);
    // A program that unpacks itself is read.
    place.write("program.zip", [b"#!/bin/sh\nexit 0\n".to_vec(), second].concat());
    let summary = place.run("run online events=program.zip --out program").succeeds().stderr;
    assert!(summary.contains("1 record,"), "{summary}");
    assert!(!place.has("out"));
    place.write("notes.zip", twice(["a.md", "b.md"], "a.md"));
    place.run("run online events=notes.zip --out out").succeeds();
}

#[test]
fn a_tar_that_ends_between_two_files_is_cut_off() {
    let place = Place::new();
    let tar = tar(&[("a.csv", b"2024-03-01T08:00:00Z,1,7,3,true\n".to_vec()), ("notes.bin", vec![0; 2_048])]);
    let ends = [512, tar.len() - 1_024];
    for end in ends {
        let cut = &tar[..if end == 512 { 1_024 } else { end }];
        place.write("cut.tar", cut);
        place.write("cut.tar.gz", gzip(cut));
        for name in ["cut.tar", "cut.tar.gz"] {
            place.run(&format!("run online events={name} --out out")).fails().names(&["could not read", name, "it is cut off"]);
            assert!(!place.has("out"));
        }
    }
    place.write("one-block.tar", &tar[..tar.len() - 512]);
    place.run("run online events=one-block.tar --out out").succeeds();
}

#[test]
fn tars_one_after_the_other_are_read() {
    let place = Place::new();
    let half = ACTIVE.lines.len() / 2;
    let tars = [&ACTIVE.lines[..half], &ACTIVE.lines[half..]].map(|lines| tar(&[("a.jsonl", lines.join("\n").into_bytes())]));
    place.write("two.tar", tars.concat());
    place.write("two.tar.gz", gzip(&tars.concat()));
    ACTIVE.check(&place, "events=two.tar");
    ACTIVE.check(&place, "events=two.tar.gz");
    place.write("behind.tar", [tars[0].as_slice(), b"something else".repeat(100).as_slice()].concat());
    place.run(&format!("{} events=behind.tar --out out", ACTIVE.run())).fails().names(&["behind.tar"]);
}

/// A tar of a file and a link to something.
fn linked(kind: tar::EntryType, lines: &[String], target: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(kind);
    link.set_size(0);
    let text = lines.join("\n");
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    builder.append_link(&mut link.clone(), "days/last.jsonl", target).unwrap();
    builder.append_data(&mut header, "days/first.jsonl", text.as_bytes()).unwrap();
    builder.append_link(&mut link, "notes", "nowhere").unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn links_in_archives_lead_to_a_file_that_is_read_or_fail_the_run() {
    let place = Place::new();
    let mut cases = vec![
        ("hard.tar", linked(tar::EntryType::Link, &ACTIVE.lines, "days/first.jsonl"), true),
        ("soft.tar", linked(tar::EntryType::Symlink, &ACTIVE.lines, "first.jsonl"), true),
        ("lost.tar", linked(tar::EntryType::Symlink, &ACTIVE.lines, "../elsewhere.jsonl"), false),
        ("hard-lost.tar", linked(tar::EntryType::Link, &ACTIVE.lines, "first.jsonl"), false),
    ];
    for (name, target, is_read) in [("soft.zip", "first.jsonl", true), ("lost.zip", "none.jsonl", false)] {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("days/last.jsonl", target, SimpleFileOptions::default()).unwrap();
        writer.start_file("days/first.jsonl", SimpleFileOptions::default()).unwrap();
        writer.write_all(ACTIVE.lines.join("\n").as_bytes()).unwrap();
        cases.push((name, writer.finish().unwrap().into_inner(), is_read));
    }
    for (name, bytes, is_read) in cases {
        place.write(name, bytes);
        if is_read {
            ACTIVE.check(&place, &format!("events={name}"));
        } else {
            let failure = place.run(&format!("{} events={name} --out lost", ACTIVE.run())).fails();
            failure.names(&[name, "\"days/last.jsonl\" in it is a link to "]);
            assert!(!place.has("lost"), "{name}");
        }
    }
}

#[test]
fn sparse_files_in_tars_are_read_or_fail_the_run() {
    let place = Place::new();
    let text = ACTIVE.lines.join("\n");
    let octal = |number: usize| -> [u8; 12] { format!("{number:011o}\0").into_bytes().try_into().unwrap() };
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("events.jsonl").unwrap();
    header.set_size(text.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize = octal(text.len());
    gnu.sparse[0].offset = octal(0);
    gnu.sparse[0].numbytes = octal(text.len());
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, text.as_bytes()).unwrap();
    place.write("sparse.tar", builder.into_inner().unwrap());
    ACTIVE.check(&place, "events=sparse.tar");

    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("GNU.sparse.major", b"1".as_slice()), ("GNU.sparse.minor", b"0")]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    builder.append_data(&mut header, "events.jsonl", text.as_bytes()).unwrap();
    place.write("described.tar", builder.into_inner().unwrap());
    let failure = place.run(&format!("{} events=described.tar --out described", ACTIVE.run())).fails();
    failure.names(&["could not read \"described.tar\"", "\"events.jsonl\" in it is a sparse file"]);
    assert!(!place.has("described"));
}
