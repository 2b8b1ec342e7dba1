//! What others put into names and texts can't steer the terminal: it is shown as escapes.

use crate::support::program::{Place, Ran};
use std::io::{Cursor, Read, Write};
use std::net::TcpListener;
use zip::write::SimpleFileOptions;

/// It clears the screen, begins a line of its own, and turns the order of what follows.
const STEERING: &str = "a\u{1b}[2J\u{9b}31m\nerror: b\u{202e}c\u{200b}";

fn is_plain(ran: &Ran) {
    for text in [&ran.stdout, &ran.stderr] {
        let steering =
            text.chars().find(|character| character.is_control() && *character != '\n' || "\u{202e}\u{200b}".contains(*character));
        assert_eq!(steering, None, "{text:?}");
        assert!(!text.contains("\nerror: b"), "a line of its own: {text}");
    }
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn names_of_files_in_archives() {
    let place = Place::new();
    let good = "2024-03-01T08:00:00Z,1,7,3,true\n";
    let named = |ending: &str| format!("{STEERING}{ending}");
    place.write("passed.zip", archive(&[("a.csv", good), (&named(".txt"), "x")]));
    place.write("refused.zip", archive(&[(&named(".csv"), &format!("{good}{STEERING},1,1,1,true\n"))]));
    place.write("header.zip", archive(&[(&named(".csv"), "timestamp,device_id,x\u{1b}\n1,2,3\n")]));
    for words in [
        "run online events=passed.zip --out out",
        "run online events=refused.zip",
        "run online events=refused.zip --max-rejected 0",
        "run online events=header.zip",
        "check online events=passed.zip",
        "check online events=refused.zip",
        "check online events=header.zip",
    ] {
        is_plain(&place.run(words));
    }
    // A file keeps its bytes.
    place.run("run online events=refused.zip --out out").succeeds();
    assert!(place.read("out/rejected.csv").contains('\u{1b}'));
}

#[test]
fn names_of_files_in_folders_and_words_of_the_command_line() {
    let place = Place::new();
    place.write(&format!("in/{STEERING}.csv"), format!("{STEERING},1\n"));
    place.write("in/ok.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    place.write(&format!("in/{STEERING}.txt"), "");
    place.write("events.json", format!("{{\"{}\":1}}\n", STEERING.replace('\n', "")));
    for words in [
        "run online events=in".to_string(),
        "check online events=in".into(),
        "run online events=events.json".into(),
        "check online events=events.json".into(),
        format!("run online 'events={STEERING}'"),
        format!("run online events=in/ok.csv --out '{STEERING}'"),
        format!("run online events=in/ok.csv --tables '{STEERING}'"),
        format!("generate online --days 1 --devices 1 --out '{STEERING}'"),
    ] {
        is_plain(&place.run(&words));
    }
    // The parser repeats lines as they are.
    let word = STEERING.replace('\n', "");
    for words in [format!("run '{word}'"), format!("'{word}'"), format!("run online events=in/ok.csv -w '{word}'")] {
        is_plain(&place.run(&words));
    }
}

/// A file of CSV that is opened as a spreadsheet runs nothing.
#[test]
fn spreadsheets_run_nothing_where_that_is_asked_for() {
    let place = Place::new();
    place.write("events.csv", "=1+1,1,1,1,true\n2024-03-01T08:00:00Z,1,7,3,true\n");
    place.run("run online events=events.csv --out plain").succeeds();
    assert!(place.read("plain/rejected.csv").contains(",\"=1+1,1,1,1,true\"\n"), "{}", place.read("plain/rejected.csv"));
    place.run("run online events=events.csv --out safe --csv-safe").succeeds();
    assert!(place.read("safe/rejected.csv").contains(",\"'=1+1,1,1,1,true\"\n"), "{}", place.read("safe/rejected.csv"));
    // Ids are texts of others, too.
    place.write("ids.csv", "timestamp,device_id,user_id,server_id,connected\n2024-03-01T08:00:00Z,=cmd,@u,-s,true\n");
    place.run("run online events=ids.csv --ids text --out ids --csv-safe").succeeds();
    let intervals = place.read("ids/online_intervals.csv");
    assert!(intervals.contains("\n'=cmd,'@u,'-s,2024-03-01T08:00:00Z,"), "{intervals}");
    for other in ["", "--out out --format json", "--out sqlite:tables.sqlite"] {
        let failure = place.run(&format!("run online events=events.csv --csv-safe {other}")).fails_as_wrong_usage();
        assert!(failure.names(&["--csv-safe is of CSV files"]).hint.is_some());
    }
}

#[test]
fn words_of_servers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            if client.read(&mut [0; 4 << 10]).is_err() {
                return;
            }
            let head = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", STEERING.len());
            client.write_all(head.as_bytes()).and_then(|()| client.write_all(STEERING.as_bytes())).ok();
        }
    });
    let place = Place::new();
    place.write("data.csv", "2024-03-01T08:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,1\n");
    let ran = place.run(&format!("run sensors data=data.csv -w 1 --points http://{address} --out out"));
    is_plain(&ran);
    ran.fails().names(&["403: a"]);
}
