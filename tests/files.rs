//! Files as they lie around: names that are no text.

use crate::support::known::ACTIVE;
use crate::support::program::Place;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// Two names that would be one, if what is no UTF-8 in them were left out.
#[test]
fn files_whose_names_are_not_utf_8_are_read_once_each() {
    let place = Place::new();
    let half = ACTIVE.lines.len() / 2;
    let folder = place.path("in").join(OsStr::from_bytes(b"d\xe9p\xf4t"));
    fs::create_dir_all(&folder).unwrap();
    for (name, lines) in [(b"a\xff.jsonl", &ACTIVE.lines[..half]), (b"a\xfe.jsonl", &ACTIVE.lines[half..])] {
        fs::write(folder.join(OsStr::from_bytes(name)), lines.join("\n") + "\nno record").unwrap();
    }
    let url = |name: &str| format!("file://{}/d%E9p%F4t{name}", place.path("in").canonicalize().unwrap().display());
    let inputs = [
        "events=in".to_string(),
        format!("events={}", url("")),
        format!("events={} events={}", url("/a%FF.jsonl"), url("/a%FE.jsonl")),
        "'events=in/**/*.jsonl'".to_string(),
    ];
    for input in inputs {
        ACTIVE.check(&place, &format!("{input} -w 2"));
        let rejected = place.run(&format!("{} {input} --out out", ACTIVE.run())).succeeds();
        let rows = place.read("out/rejected.csv");
        for name in ["/a%FE.jsonl", "/a%FF.jsonl"] {
            let lines = if name.contains("FF") { half } else { ACTIVE.lines.len() - half };
            assert!(rows.contains(&format!("events,{},{},", url(name), lines + 1)), "{input}: {rows} {}", rejected.stderr);
        }
    }
    let failure = place.run(&format!("run active events={} --out none", url("/a%FD.jsonl"))).fails();
    failure.names(&["found no file", "a%FD.jsonl"]);
}
