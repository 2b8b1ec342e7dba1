//! Runs that go on where the last one ended: `--state` and `--sync`.

use crate::brushing::sorted;
use crate::databases::Database;
use crate::processes;
use crate::support::known::{ACTIVE, EVENTS, Known, ONLINE, SERVERS, TEXT_IDS, USAGE, rows, same, shuffled, table};
use crate::support::packed::gzip;
use crate::support::parquet;
use crate::support::program::{Place, Ran};
use crate::support::sqlite_file::SqliteFile;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Runs with a state, and compares the tables with those of a run over all records.
#[track_caller]
fn check(place: &Place, known: &Known, words: &str) -> Ran {
    fs::remove_dir_all(place.path("out")).ok();
    let ran = place.run(&format!("{} --state state --out out {words}", known.run())).succeeds();
    same(place, "out", known);
    ran
}

/// Runs with a state.
#[track_caller]
fn add(place: &Place, known: &Known, words: &str) -> Ran {
    place.run(&format!("{} --state state {words}", known.run())).succeeds()
}

#[test]
fn parts_that_come_in_runs_of_their_own_give_the_tables_of_one_run() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 4);
    for (part, workers) in parts.iter().zip([1, 2, 3]) {
        add(&place, &ONLINE, &format!("{part} -w {workers}"));
    }
    // Several batches at once, all of a part a second time, and servers that nobody named as required.
    let last = check(&place, &ONLINE, &format!("{} --then events=part1/events.csv -w 2", parts[3]));
    assert!(last.stderr.contains("took up state: 3 batches with "), "{}", last.stderr);
    assert!(last.stderr.contains("batch 4: ") && last.stderr.contains("batch 5: "), "{}", last.stderr);
    assert!(last.stderr.contains("wrote online_daily to sqlite:"), "{}", last.stderr);
    // What was delivered need not be there any more.
    parts.iter().enumerate().for_each(|(part, _)| fs::remove_dir_all(place.path(&format!("part{part}"))).unwrap());
    let again = check(&place, &ONLINE, "-w 3");
    assert!(again.stderr.contains("took up state: 5 batches with "), "{}", again.stderr);
    assert!(again.stderr.contains(" to sqlite:state/tables.sqlite: 0 inserted, 0 updated, 0 deleted"), "{}", again.stderr);
    assert_eq!(place.names("state"), ["blobs", "format", "journal", "tables.sqlite"]);
}

/// Whoever takes it up, and with whatever flag.
#[test]
fn as_many_refused_records_of_a_batch_are_rows_as_its_run_kept() {
    let place = Place::new();
    for name in ["a", "b", "c"] {
        let lines = (1..=5).map(|line| format!("2024-03-01 08:00:0{line},{line},7,1,true\n{name}{line}\n")).collect::<String>();
        place.write(&format!("{name}.csv"), format!("timestamp,device_id,user_id,server_id,connected\n{lines}"));
    }
    let rows = |words: &str| {
        place.run(&format!("run online {words} --state state --out out")).succeeds();
        place.read("out/rejected.csv").lines().count() - 1
    };
    let verified = || place.run("verify --state state --out out").succeeds();
    assert_eq!(rows("events=a.csv --keep-rejected 2"), 2);
    verified();
    assert_eq!(rows("events=b.csv --keep-rejected 3"), 2 + 3);
    assert_eq!(rows("events=c.csv"), 2 + 3 + 5);
    verified();
    for words in ["", "--keep-rejected 1", "-w 3"] {
        assert_eq!(rows(words), 2 + 3 + 5, "{words}");
    }
    place.run("compact --state state").succeeds();
    assert_eq!(rows(""), 2 + 3 + 5);
    verified();
    let kept = place.read("out/rejected.csv");
    let kept: Vec<&str> = kept.lines().skip(1).filter_map(|row| row.rsplit(',').next()).collect();
    assert_eq!(kept, ["a1", "a2", "b1", "b2", "b3", "c1", "c2", "c3", "c4", "c5"]);
}

#[test]
fn files_are_verified_wherever_they_were_written() {
    let place = Place::new();
    let first = ONLINE.write_parts(&place, 1).remove(0);
    place.run("verify --state state --out nowhere").fails().names(&["there is no \"nowhere\""]);
    for format in ["csv", "json", "parquet"] {
        add(&place, &ONLINE, &format!("{first} --format {format} --out {format}"));
    }
    add(&place, &ONLINE, &format!("{first} --csv-safe --out safe"));
    let verified = place.run("verify --state state --out csv --out json:json --out parquet --out safe").succeeds().stdout;
    assert_eq!(verified.matches("  online_daily: ").count(), 5, "{verified}");
    // A row that somebody took out, and a file that is gone.
    let daily = place.read("csv/online_daily.csv");
    let without: Vec<&str> = daily.lines().enumerate().filter(|(line, _)| *line != 2).map(|(_, text)| text).collect();
    place.write("csv/online_daily.csv", without.join("\n") + "\n");
    let ran = place.run("verify --state state --out json --out csv");
    assert!(ran.stdout.contains(" should be there, and 1 differ\n    missing: 1\n"), "{}", ran.stdout);
    ran.fails_after("csv as of batch ").names(&["1 rows of \"csv\" differ from what follows from the journal"]);
    fs::remove_file(place.path("json/online_daily.json")).unwrap();
    place.run("verify --state state --out json").fails_after("").names(&["could not read table", "online_daily.json"]);
    place.run("verify --state state --out state").fails_after("").names(&["\"state\" holds no tables of \"state\""]);
}

#[test]
fn states_of_other_dataflows_and_of_text_ids() {
    let place = Place::new();
    for known in [&ACTIVE, &USAGE] {
        let (first, second) = known.lines.split_at(known.lines.len() / 3);
        place.write("first.jsonl", shuffled(first).join("\n"));
        place.write("second.jsonl.gz", gzip(&second.join("\n")));
        // One folder has them all.
        add(&place, known, "events=second.jsonl.gz");
        check(&place, known, "events=first.jsonl -w 2");
        check(&place, known, "-w 1");
    }
    let parts = TEXT_IDS.write_parts(&place, 2);
    add(&place, &TEXT_IDS, &parts[0]);
    check(&place, &TEXT_IDS, &parts[1]);
}

#[test]
fn status_shows_the_batches() {
    let place = Place::new();
    place.run("status --state state").fails().names(&["there is no state \"state\""]);
    assert!(!place.has("state"));
    let parts = ONLINE.write_parts(&place, 2);
    add(&place, &ONLINE, &parts[0]);
    add(&place, &ONLINE, &parts[1]);
    let status = || place.run("status --state state").succeeds().stdout;
    let shown = status();
    assert!(shown.starts_with("online: epoch 2, "), "{shown}");
    assert!(shown.contains(" rejected, 4 files (") && shown.contains("\nlast batches of online: 2 rows\n"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.trim_start().starts_with(['1', '2'])).count(), 2, "{shown}");
    // A torn end is left to the next run.
    let journal = fs::read(place.path("state/journal/00000001.log")).unwrap();
    place.write("state/journal/00000001.log", &journal[..journal.len() - 1]);
    let ran = place.run("status --state state").succeeds();
    assert!(ran.stdout.starts_with("online: epoch 1, ") && ran.stderr.contains("note: a batch is being written"), "{}", ran.stderr);
    assert_eq!(fs::read(place.path("state/journal/00000001.log")).unwrap().len(), journal.len() - 1);
}

#[test]
fn what_was_delivered_is_retracted_by_a_later_run() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    place.write("other.csv", "timestamp,device_id,user_id,server_id,connected\n2023-03-01T00:00:00Z,999,7,1,true\n");
    add(&place, &ONLINE, "events=in/events.csv events=other.csv");
    check(&place, &ONLINE, "servers=in/servers.csv events-=other.csv");
    check(&place, &ONLINE, "");
}

#[test]
fn every_format_is_kept_as_it_came() {
    let place = Place::new();
    let parts: Vec<&[String]> = ONLINE.lines.chunks(ONLINE.lines.len().div_ceil(4)).collect();
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    place.write("a.parquet", parquet::events(parts[0], 300));
    place.write("b.csv.gz", gzip(&table(&EVENTS, parts[1])));
    place.write("c.txt", rows(parts[2]).replace(',', "\t"));
    add(&place, &ONLINE, "events=a.parquet events=c.txt servers=servers.csv");
    add(&place, &ONLINE, "events=b.csv.gz");
    let mut command = place.command(&format!("{} --state state events=- --input-format csv", ONLINE.run()));
    command.stdin(Stdio::piped());
    let mut started = crate::support::program::Started::new(command, "run with a pipe");
    started.give(&table(&EVENTS, parts[3]));
    started.finish().succeeds();
    check(&place, &ONLINE, "-w 3");
    let endings = |name: &String| name.split_once('.').map_or(String::new(), |(_, ending)| ending.into());
    let mut kept: Vec<String> = place.names("state/blobs").iter().map(endings).collect();
    kept.sort();
    assert_eq!(kept, ["csv.gz", "csv.zst", "parquet", "txt.zst", "zst"]);
}

#[test]
fn each_batch_is_read_as_it_was_when_it_came() {
    let place = Place::new();
    let (first, rest) = ONLINE.lines.split_at(ONLINE.lines.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    place.write("first.csv", table(&EVENTS, first));
    place.write(
        "second.csv",
        table(&["ts", "imei", "owner", "host", "state"], second).replace(",true\n", ",up\n").replace(",false\n", ",down\n"),
    );
    place.write("third.csv", format!("a report\n\n{}", table(&["when", "device_id", "user_id", "server_id", "connected"], third)));
    place.write(
        "retally.toml",
        "[online.map.events]\ntimestamp = \"ts\"\ndevice_id = \"imei\"\nuser_id = \"owner\"\nserver_id = \"host\"\n\
         connected = { column = \"state\", true = [\"up\"], false = [\"down\"] }\n",
    );
    add(&place, &ONLINE, "events=first.csv servers=servers.csv");
    add(&place, &ONLINE, "events=second.csv --config retally.toml");
    check(&place, &ONLINE, "events=third.csv --map events.timestamp=when --skip-rows 2");
    check(&place, &ONLINE, "");
    check(&place, &ONLINE, "--config retally.toml -w 3");
    let words = format!("{} --state state --out both -w 1", ONLINE.run());
    processes::run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
    same(&place, "both", &ONLINE);
}

#[test]
fn other_settings_rebuild_the_tables() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 2);
    add(&place, &ONLINE, &parts[0]);
    let inputs = format!("{} {}", parts[0], parts[1]);
    place.run(&format!("run online {inputs} --timezone Asia/Tokyo --out fresh")).succeeds();
    place.run(&format!("run online {} --state state --timezone Asia/Tokyo --out out", parts[1])).succeeds();
    assert!(place.tables("out") == place.tables("fresh"));
    let fresh = SqliteFile::new(&place, "fresh.sqlite");
    place.run(&format!("run online {inputs} --timezone Asia/Tokyo --out sqlite:fresh.sqlite")).succeeds();
    let state = SqliteFile::new(&place, "state/tables.sqlite");
    for name in ["online_daily", "online_intervals", "online_summary", "rejected"] {
        assert_eq!(state.table(name), fresh.table(name), "{name}");
    }
}

/// Whoever looks at the tables later has no command line.
#[test]
fn a_run_that_fails_leaves_the_tables_of_a_state() {
    let place = Place::new();
    place.write("events.csv", "timestamp,device_id,user_id,server_id,connected\n2024-03-01 12:00,1,7,5,1\n");
    place.write("bad.csv", "timestamp,device_id,user_id,server_id,connected\n2024-03-01 12:00,1,7,5,maybe\n");
    place.run("run online events=events.csv --state state --tables online.online_intervals").succeeds();
    let rows = || place.run("query online.online_intervals --state state --format csv").succeeds().stdout;
    let before = rows();
    // With text ids the table has other columns.
    for words in ["events=nowhere", "events=bad.csv", "events=bad.csv --max-rejected 0"] {
        place.run(&format!("run online --ids text {words} --state state")).fails();
        assert_eq!(rows(), before, "{words}");
    }
    place.run("verify --state state").succeeds();
    place.run("run online --ids text events=events.csv --state state").succeeds();
    assert_eq!(rows(), before);
    place.run("verify --state state").succeeds();
}

#[test]
fn settings_are_kept_with_the_tables() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 2);
    let verified = || {
        let ran = place.run("verify --state state").succeeds();
        assert!(!ran.stderr.contains("note:"), "{}", ran.stderr);
    };
    add(&place, &ONLINE, &parts[0]);
    verified();
    place.run(&format!("run online {} --state state --timezone Asia/Tokyo --as-of 2022-09-01", parts[1])).succeeds();
    verified();
    // Some of the tables.
    fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    place.run("run online --state state --fleet-sizes 1,2-9 --tables online_daily").succeeds();
    verified();
    let failure = place.run("why online.online_daily day=2022-09-01 --state state").fails().names(&["has no changes of online"]);
    assert!(failure.hint.unwrap().contains("retally serve"));
}

/// A table that is left out would stay as of an older batch, and look like one of the last.
#[test]
fn tables_that_a_run_leaves_out_are_not_in_its_state() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 2);
    add(&place, &ONLINE, &parts[0]);
    let state = SqliteFile::new(&place, "state/tables.sqlite");
    let summary = state.rows("SELECT sql FROM sqlite_master WHERE name = 'online_summary'")[0][0].clone();
    let ran = add(&place, &ONLINE, &format!("{} --tables online_daily --quiet", parts[1]));
    assert!(ran.stderr.starts_with("note: dropped from sqlite:state/tables.sqlite: online_"), "{}", ran.stderr);
    assert!(ran.stderr.contains("online_summary") && ran.stderr.ends_with(", which --tables leaves out\n"), "{}", ran.stderr);
    assert_eq!(state.tables(), ["online_daily", "rejected", "retally_progress", "retally_settings"]);
    place.run("query online.online_daily --state state").succeeds();
    let failure = place.run("query online.online_summary --state state").fails();
    let failure = failure.names(&["the state \"state\" has no table online.online_summary: it was not built"]);
    assert_eq!(failure.hint.as_deref(), Some("it has online_daily; a run or a service without --tables builds all"));
    place.run("verify --state state").succeeds();
    // One that an older version of the program has left there.
    state.execute(&summary);
    place.run("verify --state state").fails_after("online_summary: ").names(&["differ from what follows from the journal"]);
    // Nothing is dropped twice, and other settings need not be those of tables that go.
    add(&place, &ONLINE, "--tables online_daily");
    let ran = place.run("run online --state state --tables online_daily --timezone Asia/Tokyo").succeeds();
    assert!(!ran.stderr.contains("dropped"), "{}", ran.stderr);
    check(&place, &ONLINE, "");
    place.run("verify --state state").succeeds();
}

#[test]
fn tables_of_other_dataflows_than_those_of_a_state_are_refused_by_name() {
    let place = Place::new();
    place.run("generate online --out in --devices 2 --days 2").succeeds();
    place.run("run online events=in/events.csv --state state").succeeds();
    let failure = place.run("query usage.usage_devices --state state").fails().names(&["the state \"state\" has no tables of usage"]);
    assert_eq!(failure.hint.as_deref(), Some("it has those of online"));
    place.write("state/tables.sqlite", "no database");
    let failure = place.run("query online.online_daily --state state").fails();
    failure.names(&["could not read tables of \"sqlite:state/tables.sqlite\""]);
}

/// A state on a volume that is not mounted is an empty folder.
#[test]
fn who_reads_a_state_makes_none() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    place.write("mine/notes.txt", "mine");
    for words in ["verify", "compact", "status", "forget online events device_id=1"] {
        let failure = place.run(&format!("{words} --state empty")).fails().names(&["there is no state \"empty\""]);
        assert!(failure.hint.unwrap().contains("see that it is mounted"));
        assert!(place.names("empty").is_empty(), "{words} leaves {:?}", place.names("empty"));
        let failure = place.run(&format!("{words} --state mine")).fails().names(&["\"mine\" is no state: it holds other files"]);
        assert!(failure.hint.unwrap().starts_with("look at the path"));
        assert_eq!(place.names("mine"), ["notes.txt"]);
    }
    for words in ["query online.online_daily", "rejected list online", "why online.online_daily day=2024-03-01", "query brushing.brushing"]
    {
        place.run(&format!("{words} --state empty")).fails();
        assert!(place.names("empty").is_empty(), "{words} leaves {:?}", place.names("empty"));
    }
}

#[test]
fn one_of_something_is_no_plural() {
    let place = Place::new();
    place.write("one.csv", format!("{}\n2024-03-01,1,7,1,true\n", EVENTS.join(",")));
    place.run("run online events=one.csv --state state").succeeds();
    assert!(place.run("status --state state").succeeds().stdout.starts_with("online: epoch 1, 1 record accepted, 0 rejected, 1 file ("));
    let verified = place.run("verify --state state").succeeds().stdout;
    assert!(verified.contains("  online_intervals: 1 row, as it should be\n"), "{verified}");
    assert!(place.run("compact --state state").succeeds().stdout.starts_with("1 batch: "));
}

#[test]
fn refused_records_are_there_again_and_do_not_count_twice() {
    let place = Place::new();
    place.write("a.csv", format!("{}\n2024-03-01,1,7,1,true\nyesterday,1,7,1,true\n", EVENTS.join(",")));
    place.write("b.csv", format!("{}\n2024-03-02,1,7,1,false\nsoon,1,7,1,true\n", EVENTS.join(",")));
    place.run("run online events=a.csv --state state --max-rejected 1").succeeds();
    place.run("run online events=b.csv --state state --max-rejected 1 --out out").succeeds();
    let rejected = place.read("out/rejected.csv");
    assert!(rejected.contains("events,a.csv,3,") && rejected.contains("events,b.csv,3,"), "{rejected}");
    // What is refused as a whole is not there afterwards.
    place.write("c.csv", "nothing\nof this\nis an event\n");
    place.run("run online events=c.csv --state state").fails();
    place.run("run online events=b.csv --state state --max-rejected 0").fails();
    let ran = place.run("run online --state state --out out").succeeds();
    assert!(ran.stderr.contains("took up state: 2 batches with 2 records, 2 rejected"), "{}", ran.stderr);
    assert_eq!(place.read("out/rejected.csv"), rejected);
}

#[test]
fn a_folder_is_the_table_of_its_input() {
    let place = Place::new();
    let parts: Vec<&[String]> = ONLINE.lines.chunks(ONLINE.lines.len().div_ceil(4)).collect();
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    let wrong: String = rows(parts[1]).replace("true", "false");
    place.write("drop/0.csv", table(&EVENTS, parts[0]));
    place.write("drop/1.csv", format!("{}\n{wrong}", EVENTS.join(",")));
    place.write("drop/deep/2.csv", table(&EVENTS, parts[2]));
    place.write("drop/gone.csv", "timestamp,device_id,user_id,server_id,connected\n2023-03-01T00:00:00Z,999,7,1,true\n");
    place.write("drop/.hidden.csv", wrong.as_bytes());
    place.write("drop/9.csv.part", wrong.as_bytes());
    add(&place, &ONLINE, "servers=servers.csv --sync events=drop");
    // One is put right, one is gone, one is new, and one has moved; another name leads to the same folder.
    place.write("drop/1.csv", table(&EVENTS, parts[1]));
    fs::remove_file(place.path("drop/gone.csv")).unwrap();
    place.write("drop/3.csv", table(&EVENTS, parts[3]));
    fs::rename(place.path("drop/deep/2.csv"), place.path("drop/2.csv")).unwrap();
    let ran = check(&place, &ONLINE, "--sync events=./drop/ -w 3");
    assert!(ran.stderr.contains("batch 2: ") && ran.stderr.contains("retracted"), "{}", ran.stderr);
    // What is only touched is nothing new.
    place.write("drop/3.csv", table(&EVENTS, parts[3]));
    let ran = check(&place, &ONLINE, "--sync events=drop");
    assert!(!ran.stderr.contains("batch 3: "), "{}", ran.stderr);
    // Read in another way, it is another table.
    let ran = check(&place, &ONLINE, "--sync events=drop --skip-rows 0 --map events.user_id=user_id");
    assert!(ran.stderr.contains("batch 3: "), "{}", ran.stderr);
    // A folder that is not mounted is empty.
    fs::rename(place.path("drop"), place.path("away")).unwrap();
    fs::create_dir(place.path("drop")).unwrap();
    let words = format!("{} --state state --out out --sync events=drop", ONLINE.run());
    place.run(&words).fails().names(&["would retract all 4 files", "the folder is empty"]);
    place.run(&format!("{words} --replace")).succeeds();
    assert_eq!(place.read("out/online_intervals.csv").lines().count(), 1);
    fs::remove_dir(place.path("drop")).unwrap();
    fs::rename(place.path("away"), place.path("drop")).unwrap();
    check(&place, &ONLINE, "--sync events=drop");
}

#[test]
fn what_can_not_be_synced_is_refused() {
    let place = Place::new();
    place.write("drop/a.csv", "1\n");
    for (words, names) in [
        ("run online --state s --sync events", &["\"events\" is not INPUT=PATH"][..]),
        ("run online --state s --sync events-=drop", &["--sync takes INPUT=DIR"]),
        ("run online --state s --sync what=drop", &["no input \"what\""]),
        ("run online --state s --sync events=drop --header first", &["--header first and --sync"]),
        ("run brushing --state s --sync datasets=drop", &["--sync is of files of records"]),
    ] {
        place.run(words).fails_as_wrong_usage().names(names);
    }
    place.run("run online --sync events=drop events=drop").fails_in_the_parser();
    place.run("run online --state s --sync events=drop/a.csv").fails().names(&["drop/a.csv"]);
    place.run("run online --state s --sync events=none").fails().names(&["none"]);
    place.run("run online --state s").fails_as_wrong_usage().names(&["has no batches"]);
}

#[test]
fn datasets_and_points_are_kept() {
    let place = Place::new();
    place.run("generate brushing --out in --toothbrushes 3 --datasets 4 --minutes 0.5 --mess 0.1").succeeds();
    place.run("run brushing datasets=in --out alone").succeeds();
    place.run("run brushing datasets=in/brush-0001 --state state").succeeds();
    place.run("run brushing datasets=in/brush-0000 --then datasets=in/brush-0002 --state state").succeeds();
    // A dataset that comes again, as something else; and then as it was.
    let names = |folder: &str| place.names(folder).into_iter().next().unwrap();
    let dataset = format!("in/brush-0002/{}", names("in/brush-0002"));
    let other = format!("other/brush-0002/{}", names("in/brush-0002"));
    for (name, bytes) in place.files(&dataset) {
        place.write(&format!("{other}/{name}"), &bytes[..bytes.len() / 2]);
    }
    place.run("run brushing datasets=other/brush-0002 --state state").fails().names(&["could not read any of the 1 datasets"]);
    place.run("run brushing datasets=other/brush-0002 --state state --max-rejected 100").succeeds();
    place.run("run brushing datasets=in/brush-0002 --state state").succeeds();
    fs::remove_dir_all(place.path("in")).unwrap();
    place.run("run brushing --state state --out out -w 1").succeeds();
    let tables = |folder: &str| {
        let mut tables = place.files(folder);
        tables.retain(|name, _| name.ends_with(".csv") && name != "rejected.csv");
        tables
    };
    assert_eq!(tables("out"), tables("alone"));
    assert_eq!(sorted(&place.read("out/points.lp")), sorted(&place.read("alone/points.lp")));
    let points = |dest: &str| place.run(&format!("query brushing.brushing --format csv --points {dest}")).succeeds().stdout;
    place.run("run brushing --state state --points store:fresh -w 2").succeeds();
    assert_eq!(points("store:state/points"), points("store:fresh"));
    assert!(points("store:fresh").lines().count() > 1_000);
}

#[test]
fn one_run_at_a_time_and_only_on_a_state() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    let words = format!("{} --state state events=- --input-format csv", ONLINE.run());
    let mut command = place.command(&words);
    command.stdin(Stdio::piped());
    let mut first = crate::support::program::Started::new(command, &words);
    let state = place.path("state/tables.sqlite.lock");
    first.until("it has the state", || state.exists());
    let failure = place.run("run online --state state events=in/events.csv").fails();
    failure.names(&["could not open the state \"state\"", &format!("process {} on ", first.id())]);
    first.give(&table(&EVENTS, &ONLINE.lines));
    first.finish().succeeds();
    check(&place, &ONLINE, "servers=in/servers.csv");

    place.write("folder/notes.txt", "mine");
    place.run("run online --state folder events=in/events.csv").fails().names(&["\"folder\" is no state"]);
    assert_eq!(place.names("folder"), ["notes.txt"]);
    place.write("state/format", "retally 9\n");
    let ran = place.run("run online --state state");
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("has the format \"retally 9\", and this program reads and writes \"retally 1\""), "{}", ran.stderr);
}

#[test]
fn damage_is_named_and_nothing_is_written() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 3);
    add(&place, &ONLINE, &parts[0]);
    let older = fs::read(place.path("state/journal/00000001.log")).unwrap();
    add(&place, &ONLINE, &parts[1]);
    let journal = fs::read(place.path("state/journal/00000001.log")).unwrap();
    let tables = fs::read(place.path("state/tables.sqlite")).unwrap();
    let words = format!("{} --state state", ONLINE.run());
    let mut flipped = journal.clone();
    flipped[100] ^= 1;
    place.write("state/journal/00000001.log", &flipped);
    place.run(&words).fails().names(&["state/journal/00000001.log\" is damaged: the frame at byte 0 "]);
    // An end that is gone: the tables know better.
    for cut in [&older[..], &journal[..journal.len() - 1]] {
        place.write("state/journal/00000001.log", cut);
        place
            .run(&words)
            .fails()
            .names(&["is damaged: its last batch of online is number 1, and the tables of the state are those of number 2"]);
    }
    place.write("state/journal/00000001.log", &journal);
    let blob = format!("state/blobs/{}", place.names("state/blobs")[0]);
    let whole = fs::read(place.path(&blob)).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>()] {
        place.write(&blob, damaged);
        place.run(&words).fails();
    }
    fs::remove_file(place.path(&blob)).unwrap();
    place.run(&words).fails();
    assert!(fs::read(place.path("state/tables.sqlite")).unwrap() == tables);
    place.write(&blob, &whole);
    // Tables that are gone are rebuilt.
    fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    check(&place, &ONLINE, &parts[2]);
}

/// Whenever a run is killed, its batch is there in whole or not at all, and the next run goes on from there.
#[test]
fn runs_that_are_killed_leave_a_state_that_is_right() {
    let place = Place::new();
    let kills: usize = std::env::var("KILL_RUNS").ok().map_or(10, |count| count.parse().unwrap());
    ONLINE.write_csv(&place, "in");
    let lines = shuffled(&ONLINE.lines);
    let parts: Vec<&[String]> = lines.chunks(lines.len().div_ceil(kills)).collect();
    add(&place, &ONLINE, "servers=in/servers.csv");
    let began = Instant::now();
    add(&place, &ONLINE, "servers=in/servers.csv");
    let length = began.elapsed() + Duration::from_millis(20);
    for (seed, part) in parts.iter().enumerate() {
        place.write("part.csv", table(&EVENTS, part));
        let delay = length.mul_f64(ChaCha8Rng::seed_from_u64(seed as u64).random_range(0.0..1.2));
        let started = place.start(&format!("{} --state state events=part.csv -w 2", ONLINE.run()));
        std::thread::sleep(delay);
        started.signal("KILL");
        let killed = started.finish().code.is_none();
        // It is delivered until it is there: once more is no harm.
        let ran = add(&place, &ONLINE, if killed { "events=part.csv" } else { "" });
        assert!(!ran.stderr.contains(" is damaged"), "seed {seed}: {}", ran.stderr);
    }
    check(&place, &ONLINE, "");
    let left: Vec<String> =
        place.names("state").into_iter().chain(place.names("state/blobs")).filter(|name| name.starts_with(".retally-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A state that was written when the format was new: it is read for as long as the format has this number.
#[test]
fn the_first_state_of_this_format_is_still_read() {
    let place = Place::new();
    let fixture = format!("{}/tests/fixtures/state-1", env!("CARGO_MANIFEST_DIR"));
    for name in ["format", "journal/00000001.log"] {
        place.write(&format!("state/{name}"), fs::read(format!("{fixture}/{name}")).unwrap());
    }
    for blob in fs::read_dir(format!("{fixture}/blobs")).unwrap() {
        let blob = blob.unwrap();
        place.write(&format!("state/blobs/{}", blob.file_name().to_str().unwrap()), fs::read(blob.path()).unwrap());
    }
    let ran = place.run("run online --state state --out out --fleet-sizes 1,2,3").succeeds();
    assert!(ran.stderr.contains("took up state: 3 batches with 7 records, 1 retracted, 1 rejected"), "{}", ran.stderr);
    assert_eq!(place.read("out/online_daily.csv"), "day,fleet_size,devices\n2026-03-02,1,1\n2026-03-03,2,2\n2026-03-04,2,2\n");
    assert!(place.read("out/rejected.csv").contains("events,events.csv,7,"));
}

/// Bytes of what is kept.
fn kept_bytes(place: &Place) -> u64 {
    let folders = ["journal", "snapshot", "blobs"].map(|folder| place.path(&format!("state/{folder}")));
    let files = folders.iter().filter(|folder| folder.is_dir()).flat_map(|folder| fs::read_dir(folder).unwrap());
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn what_was_taken_back_is_removed_by_compact() {
    let place = Place::new();
    place.run("compact --state state").fails().names(&["there is no state \"state\""]);
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    // Ten rounds of corrections in a folder, and the last one is right.
    for round in 0..=10 {
        let lines = if round == 10 { ONLINE.lines.clone() } else { shuffled(&ONLINE.lines).into_iter().skip(round * 7).collect() };
        place.write("drop/events.csv", table(&EVENTS, &lines));
        add(&place, &ONLINE, "servers=servers.csv --sync events=drop");
    }
    let before = kept_bytes(&place);
    let said = place.run("compact --state state").succeeds().stdout;
    assert!(said.starts_with("11 batches: "), "{said}");
    let after = kept_bytes(&place);
    let fresh = Place::new();
    fresh.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    fresh.write("drop/events.csv", place.read("drop/events.csv"));
    add(&fresh, &ONLINE, "servers=servers.csv --sync events=drop");
    assert!(before > 3 * after && 2 * after <= 3 * kept_bytes(&fresh), "{before} before, {after} after, {} fresh", kept_bytes(&fresh));
    // Nothing else has changed, and it goes on from there.
    check(&place, &ONLINE, "-w 2");
    let unchanged = place.run(&format!("{} --state state --sync events=drop", ONLINE.run())).succeeds();
    assert!(!unchanged.stderr.contains("batch 12"), "{}", unchanged.stderr);
    fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    check(&place, &ONLINE, "-w 1");
    place.write("extra.csv", table(&EVENTS, &["2023-02-01 00:00:00,1000,7,7,true".into()]));
    let added = add(&place, &ONLINE, "events=extra.csv");
    assert!(added.stderr.contains("batch 12: "), "{}", added.stderr);
    add(&place, &ONLINE, "events-=extra.csv");
    place.run("compact --state state").succeeds();
    check(&place, &ONLINE, "-w 3");
    assert!(place.run("status --state state").succeeds().stdout.starts_with("online: epoch 13, "));
}

#[test]
fn whoever_is_killed_while_it_compacts_loses_nothing() {
    let place = Place::new();
    let parts = ONLINE.write_parts(&place, 4);
    parts.iter().for_each(|part| drop(add(&place, &ONLINE, part)));
    let kills = std::env::var("KILL_RUNS").ok().map_or(8, |count| count.parse().unwrap());
    for seed in 0..kills {
        // Something to be removed, each time.
        add(&place, &ONLINE, &parts[0]);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let started = place.start("compact --state state");
        std::thread::sleep(Duration::from_micros(random.random_range(0..12_000)));
        started.signal("KILL");
        started.finish();
        let ran = place.run(&format!("{} --state state", ONLINE.run())).succeeds();
        assert!(ran.stderr.contains(" 0 inserted, 0 updated, 0 deleted"), "seed {seed}: {}", ran.stderr);
    }
    place.run("compact --state state").succeeds();
    check(&place, &ONLINE, "-w 2");
}
