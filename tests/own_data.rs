//! Data as people have it: other names, files, encodings and words, what is refused by name, and what `check` says of it.

use crate::support::known::{EVENTS, ONLINE, rows, same, table};
use crate::support::packed::gzip;
use crate::support::parquet;
use crate::support::program::{Place, Ran, Started};
use std::process::{Command, Stdio};

const HEADER: &str = "timestamp,device_id,user_id,server_id,connected\n";
const LINES: &str = "2024-03-01 08:00:00,1,7,1,true\n2024-03-01 18:00:00,1,7,1,false\n2024-03-01 09:00:00,2,7,1,true\n";
const DAILY: &str = "day,fleet_size,devices\n2024-03-01,1-2,2\n";

/// The daily table of an online run over these files.
#[track_caller]
fn daily(place: &Place, words: &str) -> String {
    place.run(&format!("run online {words} --tables online_daily --out out")).succeeds();
    place.read("out/online_daily.csv")
}

/// A command of a shell, in which `retally` is the program.
fn shell(place: &Place, script: &str) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("retally() {{ {} \"$@\"; }}\n{script}", env!("CARGO_BIN_EXE_retally"))]).current_dir(place.path("."));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Started::new(command, script).finish()
}

/// Each kind of file whose columns would have to be guessed: what is read of it, or why it is refused.
#[test]
fn columns_are_never_guessed() {
    let place = Place::new();
    let swapped = "timestamp,user_id,device_id,server_id,connected\n2024-03-01 08:00:00,7,1,1,true\n2024-03-01 09:00:00,7,2,1,true\n";
    for text in [
        format!("\n \n{swapped}"),
        format!("# exported by ops\n#again\n{swapped}"),
        format!("sep=;\n{}", swapped.replace(',', ";")),
        swapped.replace(',', "|"),
        swapped.replace("true\n", "true,\n"),
        swapped.replace("timestamp", "TimeStamp"),
        swapped
            .replace("user_id", "\"user_id\"")
            .replace("connected\n", "connected,\"a note\nof two lines\"\n")
            .replace("true\n", "true,\n"),
    ] {
        place.write("events.csv", &text);
        assert_eq!(daily(&place, "events=events.csv"), DAILY, "{text}");
    }
    for (text, error, hint) in [
        ("ts,device_id,user_id,server_id,connected\n2024-03-01,1,7,1,true\n", "it does not name timestamp", "--map events.timestamp=ts"),
        ("event_time,user,device,server,state\n2024-03-01,7,1,1,true\n", "names none of the fields", "--map events.device_id=device"),
        ("timestamp,device_id,user_id,server_id,connected,user_id\n", "names user_id twice", "--map events.user_id=COLUMN"),
    ] {
        place.write("events.csv", text);
        let failure = place.run("run online events=events.csv --out out").fails().names(&["\"events.csv\"", error]);
        assert!(failure.hint.as_ref().is_some_and(|found| found.contains(hint)), "{failure:?}");
    }
    place.write("events.csv", format!("{HEADER}{LINES}"));
    place.write("servers.csv", "id,created_at,deleted_at\n1,2024-01-01,2024-03-01 10:00:00\n");
    let failure =
        place.run("run online events=events.csv servers=servers.csv").fails().names(&["does not name destroyed_at", "\"deleted_at\""]);
    assert!(failure.hint.unwrap().contains("--map servers.destroyed_at=deleted_at"));
    place.run("run online events=events.csv servers=servers.csv --map servers.destroyed_at= --out out").succeeds();
    // The parts of `split -l`.
    place.write("x/a.csv", format!("{HEADER}2024-03-01 08:00:00,1,7,1,true\n"));
    place.write("x/b.csv", "2024-03-01 09:00:00,2,7,1,true\n");
    place.run("run online events=x").fails().names(&["\"x/b.csv\"", "no header", "\"x/a.csv\""]);
    assert_eq!(daily(&place, "events=x --header first"), DAILY);
}

const SWAPPED: &str = "timestamp,user_id,device_id,server_id,connected\n";

/// `cat *.csv` of files with other columns: nobody knows those of what stands behind the second header.
#[test]
fn a_file_with_a_second_header_is_refused_by_its_place() {
    let place = Place::new();
    let both = format!("{HEADER}2024-03-01 08:00:00,1,7,1,true\n\n{SWAPPED}2024-03-01 09:00:00,7,2,1,true\n");
    for (name, text) in [
        ("both.csv", both.clone().into_bytes()),
        ("quoted.csv", both.replace(",true\n", ",\"true\"\n").into_bytes()),
        ("marked.csv", both.replace(SWAPPED, &format!("\u{feff}{SWAPPED}")).into_bytes()),
        ("packed.csv.gz", gzip(&both)),
    ] {
        place.write(name, text);
        let error = format!("\"{name}\": line 4 is a second header, with other columns than the one in line 1");
        for state in ["", "--state st"] {
            place.run(&format!("run online events={name} {state} --max-rejected 9 --out out")).fails().names(&[&error]);
        }
        assert!(!place.has("out"), "{name}");
        let seen = place.run(&format!("check online events={name}")).succeeds().stdout;
        assert!(seen.contains("1 can be read, 2 are refused") && seen.contains("line 4: the line is a second header"), "{seen}");
    }
    place.write("without.csv", format!("2024-03-01 08:00:00,1,7,1,true\n{SWAPPED}2024-03-01 09:00:00,7,2,1,true\n"));
    place.run("run online events=without.csv").fails().names(&["line 2 is a second header", "begins without one"]);
    // One that says the same is a line that is no record.
    place.write("same.csv", format!("{HEADER}2024-03-01 08:00:00,1,7,1,true\n{HEADER}2024-03-01 09:00:00,2,7,1,true\n"));
    assert_eq!(daily(&place, "events=same.csv"), DAILY);
    assert_eq!(place.read("out/rejected.csv").lines().count(), 2);
}

/// Of a large file, only who comes from its beginning knows: it is read by one.
#[test]
fn a_second_header_of_a_large_file_is_found_by_its_line() {
    let place = Place::new();
    let half = |columns: &str, count: u32| {
        let line = |number: u32| format!("2024-03-01 {:02}:{:02}:00,7,{},1,true\n", number / 60 % 24, number % 60, number % 1_000);
        (0..count).map(line).fold(columns.to_string(), |text, line| text + &line)
    };
    place.write("large.csv", half(HEADER, 200_000) + &half(SWAPPED, 200_000));
    for words in ["-w 3 --out out", "--state st -w 2"] {
        let failure = place.run(&format!("run online events=large.csv --tables online_daily {words}")).fails();
        failure.names(&["\"large.csv\": line 200002 is a second header"]);
    }
}

/// A file without a header is like the ones before it, in whatever batch they came.
#[test]
fn the_header_of_a_batch_before_counts_or_is_named() {
    let place = Place::new();
    place.write("x0.csv", format!("{SWAPPED}2024-03-01 08:00:00,7,1,1,true\n"));
    place.write("x1.csv", "2024-03-01 09:00:00,7,2,1,true\n");
    let error = ["\"x1.csv\": it has no header", "\"x0.csv\" of an earlier batch"];
    let failure = place.run("run online events=x0.csv --then events=x1.csv --out out").fails().names(&error);
    assert!(failure.hint.is_some_and(|hint| hint.contains("--header first")));
    assert_eq!(daily(&place, "events=x0.csv --then events=x1.csv --header first"), DAILY);
    place.write("ordered.csv", format!("{HEADER}2024-03-01 08:00:00,1,7,1,true\n"));
    place.write("x2.csv", "2024-03-01 09:00:00,2,7,1,true\n");
    assert_eq!(daily(&place, "events=ordered.csv --then events=x2.csv"), DAILY, "in the order of the fields");
    // What is kept is read again by itself, and can't need another file.
    for flag in ["", "--header first"] {
        place.run(&format!("run online events=x0.csv --state st {flag}")).succeeds();
        place.run(&format!("run online events=x1.csv --state st {flag}")).fails().names(&error);
    }
    place.run("run online events=x0.csv --then events=x1.csv --state st2").fails().names(&error);
    place.write("drop/x0.csv", place.read("x0.csv"));
    place.run("run online --sync events=drop --state st3").succeeds();
    place.write("drop/x1.csv", place.read("x1.csv"));
    place.run("run online --sync events=drop --state st3").fails().names(&["drop/x1.csv", "no header", "drop/x0.csv"]);
    // What came before any header can still be taken back.
    place.run("run online events=x2.csv --then events=x0.csv --then events-=x2.csv --state st4").succeeds();
}

#[test]
fn json_comes_in_many_shapes() {
    let place = Place::new();
    let object =
        |device: u8| format!(r#"{{"timestamp":"2024-03-01T08:00:00Z","device_id":{device},"user_id":7,"server_id":1,"connected":true}}"#);
    let (one, two) = (object(1), object(2));
    for text in [
        format!("{one}\n{two}\n"),
        format!("{one}{two}"),
        format!("{one} {two}\n"),
        format!("[{one}]\n[{two}]\n"),
        format!("[\n{one},\n{two}\n]"),
        format!("{}\n{}\n", one.replace(',', ",\n  "), two.replace(',', ",\n  ")),
        format!("{{\"count\":2,\"Records\":[{one},{two}],\"next\":null}}"),
        format!("{{\"Records\":[{one}]}}\n{{\"Records\":[{two}]}}\n"),
        format!("{{\n \"Records\": [\n{one},\n{two} ]\n}}\n"),
        format!("{}\n{}\n", one.replace("device_id", "Device_ID"), two),
    ] {
        place.write("events.json", &text);
        assert_eq!(daily(&place, "events=events.json"), DAILY, "{text}");
    }
    for (text, reason) in [
        (one.replace("\"user_id\":7", "\"user_id\":7,\"user_id\":8"), "the key \"user_id\" stands twice"),
        (one.replace("\"user_id\":7", "\"user_id\":NaN"), "no JSON object: expected value"),
        (one.replace("\"user_id\":7", "\"user_id\":{\"id\":7}"), "user_id holds an object and no single value"),
        (format!("{one} 5"), "there is something beside objects and arrays"),
    ] {
        place.write("events.json", format!("{text}\n{two}\n"));
        place.run("run online events=events.json --out out").succeeds();
        assert!(place.read("out/rejected.csv").replace("\"\"", "\"").contains(reason), "{text}: {}", place.read("out/rejected.csv"));
    }
    // A field that no object names.
    place.write("events.json", format!("{}\n{}\n", one.replace("device_id", "deviceId"), two.replace("device_id", "deviceId")));
    let failure = place.run("run online events=events.json --out other").fails().names(&["device_id is missing"]);
    assert!(failure.hint.unwrap().contains("--map events.device_id=deviceId"));
    place.write("servers.json", r#"{"id":1,"created_at":"2024-01-01","deleted_at":null}"#);
    place.write("events.json", format!("{one}\n"));
    let said = place.run("run online events=events.json servers=servers.json").succeeds().stderr;
    assert!(said.contains("no object of \"servers\" names destroyed_at; perhaps --map servers.destroyed_at=deleted_at"), "{said}");
}

/// A file of which nothing can be read is of another kind: the run fails, and what was there stays.
#[test]
fn an_empty_array_in_an_object_is_a_quiet_hour() {
    let place = Place::new();
    let record = r#"{"timestamp":"2024-03-01T08:00:00Z","device_id":1,"user_id":7,"server_id":1,"connected":true}"#;
    place.write("in/h01.json", format!("{{\"Records\":[{record}]}}"));
    place.write("in/h02.json", "{\"Records\":[]}\n");
    place.write(
        "in/h03.json",
        format!("{{\"Records\":[]}}\n{{\"Records\":[{}]}}", record.replace("T08", "T09").replace(":1,\"u", ":2,\"u")),
    );
    assert_eq!(daily(&place, "events=in"), DAILY);
    assert_eq!(place.read("out/rejected.csv").lines().count(), 1);
}

#[test]
fn a_run_that_read_nothing_has_failed() {
    let place = Place::new();
    place.write("monday.csv", format!("{HEADER}{LINES}"));
    place.write("tuesday.csv", "a,b,c\n2024-03-01 08:00:00,x,y\n");
    place.write("wednesday.csv", format!("{HEADER}soon,1,7,1,true\nlater,2,7,1,true\nsoon,3,7,1,true\n"));
    place.run("run online events=monday.csv --tables online_daily --out sqlite:t.sqlite").succeeds();
    place.run("run online events=tuesday.csv --tables online_daily --out sqlite:t.sqlite").fails();
    let failure = place.run("run online events=monday.csv events=wednesday.csv --tables online_daily --out sqlite:t.sqlite").fails();
    let failure = failure.names(&["any of the 3 records of \"wednesday.csv\"", "timestamp \"soon\" is not a time", "\"later\""]);
    assert!(failure.hint.unwrap().contains("--max-rejected"));
    let said = place.run("run online events=monday.csv --tables online_daily --out sqlite:t.sqlite").succeeds().stderr;
    assert!(said.contains("0 inserted, 0 updated, 0 deleted"), "it is as it was: {said}");
    place.run("run online events=wednesday.csv --max-rejected 3").succeeds();
    place.run("run online events=wednesday.csv --max-rejected 2").fails().names(&["--max-rejected 2"]);
    // A file without records is no such file.
    place.write("empty.csv", HEADER);
    place.run("run online events=monday.csv events=empty.csv --out out").succeeds();
}

/// A run over two days does not mean that all other days never were.
#[test]
fn most_rows_of_a_database_are_not_deleted_unasked() {
    let place = Place::new();
    let day = |day: u32| {
        format!(
            "2024-{:02}-{:02} 08:00:00,{day},7,1,true\n2024-{:02}-{:02} 09:00:00,{day},7,1,false\n",
            day / 28 + 1,
            day % 28 + 1,
            day / 28 + 1,
            day % 28 + 1
        )
    };
    place.write("all.csv", (0..210).map(day).collect::<String>());
    place.write("some.csv", (0..105).map(day).collect::<String>());
    place.write("few.csv", (0..100).map(day).collect::<String>());
    let run = |words: &str| place.run(&format!("run online {words} --tables online_daily --out sqlite:t.sqlite"));
    run("events=all.csv").succeeds();
    let failure = run("events=few.csv").fails().names(&["110 of the 210 rows", "\"online_daily\"", "day 2024-04-17 to 2024-08-14"]);
    assert!(failure.hint.unwrap().contains("--replace"));
    assert!(run("events=some.csv").succeeds().stderr.contains("105 deleted"), "half of them may go");
    assert!(run("events=all.csv").succeeds().stderr.contains("105 inserted"));
    assert!(run("events=few.csv --replace").succeeds().stderr.contains("110 deleted"));
}

#[test]
fn fields_are_mapped_by_flags_and_by_a_file() {
    let place = Place::new();
    place.write("log.csv", "ts,imei,state\n1709280000000,1,up\n1709316000000,1,down\n1709283600000,2,up\n");
    place.write(
        "retally.toml",
        "[online]\nfleet-sizes = '1-2'\n[online.map.events]\ntimestamp = { column = 'ts', format = 'unix_ms' }\ndevice_id = 'imei'\n\
         user_id = { value = 0 }\nserver_id = { value = '0' }\nconnected = { column = 'state', true = ['up'], false = ['down'] }\n",
    );
    assert_eq!(daily(&place, "events=log.csv --config retally.toml"), DAILY);
    // Flags count more than the file.
    place.write("other.csv", "ts,device,state\n1709280000000,1,up\n1709283600000,2,up\n");
    assert_eq!(daily(&place, "events=other.csv --config retally.toml --map events.device_id=device"), DAILY);
    place.write("words.csv", "ts,imei,state\n2024-03-01,1,online\n2024-03-01 09:00,2,yes\n");
    let flags = "--map events.timestamp=ts --map events.device_id=imei --map events.connected=state --map events.user_id==0 --map events.server_id==0";
    assert_eq!(daily(&place, &format!("events=words.csv {flags}")), DAILY);
    place.write("deep.jsonl", "{\"payload\":{\"ts\":\"2024-03-01\",\"id\":1}}\n{\"payload\":{\"ts\":\"2024-03-01T10:00Z\",\"id\":2}}\n");
    let flags = "--map events.timestamp=payload.ts --map events.device_id=payload.id --map events.connected==true --map events.user_id==0 --map events.server_id==0";
    assert_eq!(daily(&place, &format!("events=deep.jsonl {flags}")), DAILY);
    for (words, error, hint) in [
        ("--map events.device=imei", "names no field: there is no \"device\"", "perhaps device_id"),
        ("--map event.device_id=imei", "names no input", "perhaps events"),
        ("--map device_id=imei", "is not INPUT.FIELD=COLUMN", "==VALUE"),
        ("--config none.toml", "could not read --config \"none.toml\"", ""),
        ("--encoding klingon", "--encoding \"klingon\"", "windows-1252"),
        ("--not-before soon", "--not-before \"soon\" is not a time", ""),
    ] {
        let failure = place.run(&format!("run online events=log.csv {words}")).fails_as_wrong_usage().names(&[error]);
        assert!(failure.hint.unwrap_or_default().contains(hint), "{words}");
    }
    let failure =
        place.run("run online events=log.csv --map events.device_id=imai").fails().names(&["\"imai\", which device_id is mapped to"]);
    assert!(failure.hint.unwrap().contains("--map events.device_id=imei"));
}

/// Flags count more than the file, and the file more than what is usual.
#[test]
fn tables_of_a_configuration_file_are_those_that_are_built() {
    let place = Place::new();
    place.write("events.csv", format!("{HEADER}{LINES}"));
    place.write("retally.toml", "[online]\ntables = ['online_daily']\nas-of = '2024-03-02'\n");
    let built = |words: &str| {
        std::fs::remove_dir_all(place.path("out")).ok();
        place.run(&format!("run online events=events.csv --config retally.toml --out out {words}")).succeeds();
        place.names("out")
    };
    assert_eq!(built(""), ["online_daily.csv", "rejected.csv", "retally.json"]);
    assert_eq!(built("--tables online_issues"), ["online_issues.csv", "rejected.csv", "retally.json"]);
}

/// What is wrong in a file is not a flag that nobody gave.
#[test]
fn what_a_configuration_file_says_wrongly_is_named_with_the_file() {
    let place = Place::new();
    place.write("events.csv", format!("{HEADER}{LINES}"));
    let run = "run online events=events.csv --config retally.toml";
    let serve = "serve online --state state --listen 127.0.0.1:0 --config retally.toml";
    for (text, why) in [
        ("timezone = 'Mars/X'", "[online] timezone \"Mars/X\" is neither"),
        ("fleet-sizes = 'x'", "[online] fleet-sizes \"x\""),
        ("as-of = 'soon'", "[online] as-of \"soon\""),
        ("tables = ['daily']", "[online] tables names \"daily\", which online does not have"),
        ("encoding = 'klingon'", "[online] encoding \"klingon\""),
        ("map.events.device_id = { format = 'unix_ms' }", "events.device_id: format is of times"),
        ("timezon = 'UTC'", "[online] timezon names no setting"),
    ] {
        place.write("retally.toml", format!("[online]\n{text}\n"));
        for words in [run, serve] {
            place.run(words).fails_as_wrong_usage().names(&["--config \"retally.toml\": ", why]);
        }
    }
    let failure = place.run(run).fails_as_wrong_usage();
    assert!(["timezone", "as-of", "tables", "watch"].iter().all(|key| failure.hint.as_ref().unwrap().contains(key)), "{failure:?}");
    place.write("retally.toml", "[online]\ntimezone = 'Mars/X'\n");
    place.run(&format!("{run} --timezone Mars/Y")).fails_as_wrong_usage().names(&["--timezone \"Mars/Y\" is neither"]);
    place.run(&format!("{serve} --set online.timezone=Mars")).fails_as_wrong_usage().names(&["--set online.timezone \"Mars\" is neither"]);
    assert!(!place.has("state"));
}

/// What is good by itself, and not together; and what is nowhere.
#[test]
fn check_says_what_a_run_says() {
    let place = Place::new();
    place.write("with.csv", format!("{HEADER}{LINES}"));
    place.write("without.csv", LINES);
    let error = ["with.csv", "without.csv", "header"];
    place.run("run online events=with.csv events=without.csv").fails().names(&error);
    place.run("check online events=with.csv events=without.csv").fails_after("3 can be read").names(&error);
    place.write("events.jsonl", "{\"timestamp\":\"2024-03-01\",\"device_id\":1,\"user\":2}\n");
    let ran = place.run("check online events=events.jsonl");
    let said = |field: &str| ran.stdout.lines().find(|line| line.trim_start().starts_with(field)).unwrap_or_default().to_string();
    assert!(said("user_id").ends_with("is under \"user_id\", which none of them has"), "{}", ran.stdout);
    assert!(said("device_id").ends_with("is under \"device_id\""), "{}", ran.stdout);
}

#[test]
fn what_is_said_twice_or_of_another_kind_of_field_is_refused() {
    let place = Place::new();
    place.write("events.csv", format!("{HEADER}{LINES}"));
    place.write("retally.toml", "[online.map.events]\ndevice_id = { column = 'device_id', format = 'unix_ms' }\n");
    let wrong =
        |flags: &str, why: &str| drop(place.run(&format!("run online events=events.csv {flags}")).fails_as_wrong_usage().names(&[why]));
    wrong("--map events.user_id=a --map events.user_id=b", "--map events.user_id is given twice");
    wrong("--config retally.toml", "events.device_id: format is of times, and device_id is none");
    for (format, why) in [("%Y-%m-%d %Z", "%z is an offset"), ("%Y%m%d%H%M%S%f", "%3f, %6f and %9f")] {
        place.write("retally.toml", format!("[online.map.events]\ntimestamp = {{ column = 't', format = '{format}' }}\n"));
        wrong("--config retally.toml", why);
    }
}

/// Files that were packed, and are not what they were.
fn broken_packings(place: &Place) {
    // As large as a block of bzip2, which tells at its end that it is damaged.
    let text = format!("{HEADER}{}", LINES.repeat(2_000));
    let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    std::io::Write::write_all(&mut packer, text.as_bytes()).unwrap();
    let bzip2 = packer.finish().unwrap();
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (ending, name, whole) in [("gz", "gzip", gzip(&text)), ("zst", "zstd", zstd), ("bz2", "bzip2", bzip2)] {
        let file = format!("broken.csv.{ending}");
        let failed = |bytes: &[u8]| {
            place.write(&file, bytes);
            place.run(&format!("run online events={file} --out broken")).fails()
        };
        let half = whole.len() / 2;
        let cut = failed(&whole[..half]).names(&[&format!("{file:?}"), &format!("it is cut off: its {name} data has no end (")]);
        assert!(cut.hint.is_some_and(|hint| hint.contains("nothing was written; get the file again")));
        let behind = failed(&[&whole, b"rubbish\n".as_slice()].concat());
        let behind = behind.names(&[&format!("there is something else behind what is packed as {name}")]);
        assert!(behind.hint.is_some_and(|hint| hint.contains("give what is packed alone")));
        if name == "bzip2" {
            let mut damaged = whole.clone();
            damaged[half..half + 8].iter_mut().for_each(|byte| *byte ^= 0x55);
            failed(&damaged).names(&["it is damaged: its bzip2 data is not what was packed ("]);
        }
        assert!(!place.has("broken/online_daily.csv"));
    }
}

#[test]
fn streams_packings_and_encodings() {
    let place = Place::new();
    let text = format!("{HEADER}{LINES}");
    place.write("events.csv", &text);
    place.write("events.csv.gz", gzip(&text));
    place.write("padded.csv.gz", [gzip(&text), vec![0; 512]].concat());
    place.write("events.tsv", text.replace(',', "\t"));
    place.write("events.txt", &text);
    place.write(
        "wide.csv",
        text.encode_utf16().fold(vec![0xff, 0xfe], |mut bytes, unit| {
            bytes.extend(unit.to_le_bytes());
            bytes
        }),
    );
    for file in ["padded.csv.gz", "events.tsv", "events.txt", "wide.csv"] {
        assert_eq!(daily(&place, &format!("events={file}")), DAILY, "{file}");
    }
    for script in [
        "retally run online events=- --tables online_daily --out out < events.csv",
        "cat events.csv | retally run online events=- --tables online_daily --out out",
        "cat events.csv.gz | retally run online events=/dev/stdin --tables online_daily --out out",
        "mkfifo pipe; cat events.csv > pipe & retally run online events=pipe --tables online_daily --out out",
        "cat events.csv | retally run online events=- --tables online_daily --out out --state state",
        "cat events.csv.gz | retally run online events=- --tables online_daily --out out --state packed; retally run online --state packed",
    ] {
        shell(&place, script).succeeds();
        assert_eq!(place.read("out/online_daily.csv"), DAILY, "{script}");
        std::fs::remove_dir_all(place.path("out")).unwrap();
    }
    // A name that says no more than that it is text.
    let object = |line: &str| {
        let mut cells = line.split(',');
        let names = HEADER.trim_end().split(',');
        serde_json::json!(names.map(|name| (name, cells.next().unwrap())).collect::<std::collections::BTreeMap<_, _>>()).to_string()
    };
    place.write("lines.txt", rows(&LINES.lines().map(object).collect::<Vec<_>>()));
    assert_eq!(daily(&place, "events=lines.txt --input-format jsonl"), DAILY);
    // What stands on standard input stands there once, and no archive does.
    place.run("run online events=- servers=-").fails_as_wrong_usage().names(&["standard input (-) is given more than once"]);
    place.run("run online events=- --then 'events-=-'").fails_as_wrong_usage().names(&["is given more than once"]);
    shell(&place, "tar cJf - events.csv | retally run online events=-").fails().names(&["it holds a tar archive"]);
    // What is cut off is that, and no header of half a name.
    for bytes in [12, 30, 60] {
        let script = format!("gzip -c events.csv | head -c {bytes} | retally run online events=-");
        let failed = shell(&place, &script).fails().names(&["could not read \"-\""]);
        assert!(failed.hint.is_none_or(|hint| !hint.contains("--map")), "{bytes}");
    }
    place.write("plant.parquet", parquet::events(&ONLINE.lines[..9], 9));
    place.run("run sensors data=plant.parquet --layout wide").fails().names(&["\"plant.parquet\"", "only CSV is read so"]);
    // What a name says, and what is there.
    place.write("packed.csv", gzip(&text));
    place.write("plain.csv.gz", &text);
    place.write("table.csv", "PAR1\x15\x04");
    place.run("run online events=packed.csv").fails().names(&["\"packed.csv\": it holds gzip"]);
    place.run("run online events=plain.csv.gz").fails().names(&["\"plain.csv.gz\": it holds something that is not packed"]);
    place.run("run online events=table.csv").fails().names(&["\"table.csv\": it holds Parquet"]);
    broken_packings(&place);
    place.write("mapping.csv", b"sensor_name;sensor_uuid\nAu\xdfen;15a4c814-5cd1-4b30-432e-429ad517812c\n");
    place.write("data.csv", "timestamp;sensor_uuid;sensor_value\n2024-03-01 08:00:00;15a4c814-5cd1-4b30-432e-429ad517812c;12,5\n");
    let run = "run sensors mapping=mapping.csv data=data.csv --tables sensor_summary --out sensors";
    place.run(run).fails().names(&["is no UTF-8"]);
    place.run(&format!("{run} --encoding windows-1252")).succeeds();
    let summary = place.read("sensors/sensor_summary.csv");
    assert!(summary.contains("Außen,15a4c814-") && summary.contains(",12.5,"), "{summary}");
    // A mark at the beginning of a file knows better than the command line.
    place.write("data.csv", "\u{feff}".to_string() + &place.read("data.csv"));
    place.run(&format!("{run} --encoding windows-1252")).succeeds();
    assert_eq!(place.read("sensors/sensor_summary.csv"), summary);
}

/// As programs write tables where a comma is the point of a number.
#[test]
fn semicolons_with_decimal_commas_in_every_number() {
    let place = Place::new();
    let lines = "1709280000,5;1,0;7,0;1,0;1,0\n1709316000,25;1,0;7,0;1,0;0,0\n1709283600,0;2,0;7,0;1,0;1,0\n";
    let header = HEADER.replace(',', ";");
    for text in [format!("{header}{lines}"), lines.to_string()] {
        place.write("events.csv", &text);
        assert_eq!(daily(&place, "events=events.csv"), DAILY, "{text}");
        assert_eq!(place.read("out/rejected.csv").lines().count(), 1, "{}", place.read("out/rejected.csv"));
    }
    place.write("events.csv", format!("{header}{lines}"));
    place.write("retally.toml", "[online.map.events]\ntimestamp = { column = \"timestamp\", format = \"unix_s\" }\n");
    assert_eq!(daily(&place, "events=events.csv --config retally.toml"), DAILY);
    place.write("events.csv", format!("{header}{lines}1709280000,5;7,5;7,0;1,0;1,0\n1709280000,5;3;7,0;1,0;1,5\n"));
    assert_eq!(daily(&place, "events=events.csv"), DAILY);
    let rejected = place.read("out/rejected.csv");
    assert!(rejected.contains("device_id \"\"7,5\"\" is no unsigned 64-bit integer"), "{rejected}");
    assert!(rejected.contains("connected \"\"1,5\"\" is neither true nor false"), "{rejected}");
}

#[test]
fn clocks_that_were_never_set() {
    let place = Place::new();
    place.write("events.csv", format!("{HEADER}{LINES}1970-01-01 00:00:12,1,7,1,true\n2024-03-01,3,8,1,x\n12,3,8,1,true\n"));
    assert_eq!(daily(&place, "events=events.csv"), DAILY);
    let rejected = place.read("out/rejected.csv");
    assert!(rejected.contains("the event's time 1970-01-01T00:00:12Z is before 2000-01-01T00:00:00Z"), "{rejected}");
    assert!(rejected.contains("is too small for a UNIX time"), "{rejected}");
    place
        .run("run online events=events.csv --not-before 1970-01-01T00:00:00Z --as-of 2024-03-02 --tables online_daily --out early")
        .succeeds();
    assert!(place.read("early/online_daily.csv").contains("\n1970-01-01,"));
    // East of UTC that midnight is before all times that are read; so is a year before.
    let words = "run online events=events.csv --as-of 2024-03-02 --tables online_daily";
    for early in ["1970-01-01T00:00:00+14:00", "1965-07-01"] {
        place.run(&format!("{words} --not-before {early} --out earlier")).succeeds();
        assert_eq!(place.read("earlier/online_daily.csv"), place.read("early/online_daily.csv"), "{early}");
    }
    place.run(&format!("{words} --not-before 1970-01-01 --timezone Europe/Berlin --out berlin")).succeeds();
    place
        .run("run online events=events.csv --not-before 2201-01-01")
        .fails_as_wrong_usage()
        .names(&["--not-before \"2201-01-01\" lies outside the years 1970 to 2200"]);
    // The default zone is named where it was used.
    let said = |words: &str| place.run(&format!("run online events=events.csv {words} --out zone")).succeeds().stderr;
    assert!(said("").contains("times without an offset were read in UTC"));
    assert!(!said("--timezone +02:00").contains("without an offset"));
    assert!(!said("--timezone Europe/Berlin").contains("without an offset"));
}

#[test]
fn check_shows_what_is_understood_and_what_would_be_refused() {
    let place = Place::new();
    place.write("log.csv", "# by ops\nts;imei;state\n2024-03-01 08:00;1;up\n01.03.2024;2;up\n2024-03-01 09:00;2;up\n");
    let flags = "--map events.timestamp=ts --map events.device_id=imei --map events.user_id==0 --map events.server_id==0 --map events.connected==true";
    let ran = place.run(&format!("check online events=log.csv {flags}")).succeeds();
    for part in [
        "events log.csv: CSV, 3 columns between ';', with a header that ends in line 2\n",
        "  timestamp                  is column 1, \"ts\"\n",
        "  user_id                    is always \"0\"\n",
        "  3 records: 2 can be read, 1 are refused\n",
        "  times without an offset are read in UTC\n",
        "2024-03-01 09:00  2          0        0          true",
        "  refused 1, first in line 4: timestamp \"01.03.2024\" is not a time like",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
    }
    place.write("one.csv", format!("{HEADER}{}", LINES.lines().next().unwrap()));
    let one = place.run("check online events=one.csv").succeeds().stdout;
    assert!(one.contains("  1 record: 1 can be read, 0 are refused\n"), "{one}");
    let failure = place.run("check online events=log.csv").fails().names(&["names none of the fields"]);
    assert!(failure.hint.unwrap().contains("--map events.timestamp="));
    place.write("events.json", "{\"Records\":[{\"timestamp\":\"2024-03-01\"}]}");
    let ran = place.run("check online events=events.json");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("JSON objects in the array \"Records\" of others"), "{}", ran.stdout);
    assert!(ran.stdout.contains("refused 1, first in line 1: device_id is missing"), "{}", ran.stdout);
}

/// CSV for the dataflows whose data is JSON elsewhere, where it is flat.
#[test]
fn flat_events_come_as_csv() {
    let place = Place::new();
    place.write(
        "events.csv",
        "user_pseudo_id,event_timestamp,event_name,engagement_time_msec,engaged_session_event\n\
         ann,1709348400000000,user_engagement,5000,1\nbob,1709348400000000,user_engagement,5000,\n",
    );
    place.run("run active events=events.csv --tables active_user_table,active_issues --out out").succeeds();
    assert_eq!(place.read("out/active_user_table.csv"), "date,active_user_count\n2024-03-01,1\n");
    assert!(place.read("out/active_issues.csv").contains("not_valuable,1"));
    let id = |number: u8| format!("00000000-0000-4000-8000-0000000000{number:02}");
    place.write(
        "logs.csv",
        format!(
            "time,logId,type,sessionId\n2024-03-01T08:00:00Z,{0},StartSession,{1}\n2024-03-01T08:30:00Z,{0},EndSession,{1}\n",
            id(1),
            id(2)
        ),
    );
    place.run("run usage events=logs.csv --tables usage_history --out usage").succeeds();
    assert!(place.read("usage/usage_history.csv").contains(&format!("{},2024-03-01,30,30", id(1))));
}

#[test]
fn parquet_is_read_by_row_groups_and_columns() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    place.write("events.parquet", parquet::events(&ONLINE.lines, 500));
    place.write("data/part-0.parquet", parquet::events(&ONLINE.lines, 100_000));
    place.write("data/_SUCCESS", "");
    for events in ["events.parquet", "data"] {
        ONLINE.check(&place, &format!("events={events} servers=in/servers.csv -w 3"));
    }
    std::fs::copy(place.path("events.parquet"), place.path("events")).unwrap();
    ONLINE.check(&place, "events=events servers=in/servers.csv");
    place.write("cut.parquet", &parquet::events(&ONLINE.lines, 500)[..2_000]);
    place.run("run online events=cut.parquet").fails().names(&["\"cut.parquet\""]);
    let failure = place.run("run online events=events.parquet --map events.device_id=imei").fails().names(&["no column imei"]);
    assert!(failure.hint.unwrap().contains("--map events.device_id="));
    let ran = place.run("check online events=events.parquet").succeeds();
    assert!(ran.stdout.contains("events events.parquet: Parquet\n"), "{}", ran.stdout);
}

/// Read from its end, and so copied first.
#[test]
fn parquet_of_pipes() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    let bytes = parquet::events(&ONLINE.lines, 500);
    place.write("cut", &bytes[..2_000]);
    place.write("events.parquet", bytes);
    place.write("temporary/x", "");
    for script in [
        "retally run online events=- servers=in/servers.csv -w 2 --out out < events.parquet",
        "cat events.parquet | retally run online events=/dev/stdin servers=in/servers.csv --input-format parquet --out out",
        "mkfifo p.parquet; cat events.parquet > p.parquet & retally run online events=p.parquet servers=in/servers.csv --out out",
        "cat events.parquet | retally run online events=- servers=in/servers.csv --state state --out out",
    ] {
        shell(&place, &format!("export TMPDIR=temporary; {script} --timezone Europe/Berlin --fleet-sizes 1,2-3,4-9")).succeeds();
        same(&place, "out", &ONLINE);
        std::fs::remove_dir_all(place.path("out")).unwrap();
    }
    place.run("verify --state state").succeeds();
    shell(&place, "retally run online events=- < cut").fails().names(&["could not read \"-\""]);
    shell(&place, "cat events.parquet | TMPDIR=none retally run online events=-").fails().names(&["\"-\"", "it is copied into none"]);
    assert_eq!(std::fs::read_dir(place.path("temporary")).unwrap().count(), 1, "nothing is left behind");
}

/// Nested lists, as BigQuery exports them, and groups that lead to a field.
#[test]
fn parquet_of_nested_events() {
    let place = Place::new();
    let event =
        |user: &str, valuable: bool| parquet::AppEvent { user: user.into(), micros: 1_709_348_400_000_000, valuable, offset: -18_000 };
    place.write("events.parquet", parquet::app_events(&[event("ann", true), event("bob", false)]));
    place.run("run active events=events.parquet --timezone event --tables active_user_table,active_issues --out out").succeeds();
    assert_eq!(place.read("out/active_user_table.csv"), "date,active_user_count\n2024-03-01,1\n");
    assert!(place.read("out/active_issues.csv").contains("not_valuable,1"), "{}", place.read("out/active_issues.csv"));
}

/// Mapped, piped, and in another encoding: the tables are those of the plain file.
#[test]
fn the_law_holds_for_data_in_other_names() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    let words = |fields: &[&str]| {
        let state = if fields[4] == "true" { "up" } else { "down" };
        format!("{},{},{},{},{state}", fields[3], fields[0], fields[2], fields[1])
    };
    let lines: Vec<String> = ONLINE.lines.iter().map(|line| words(&line.split(',').collect::<Vec<_>>())).collect();
    place.write("mapped.csv", table(&["node", "when", "owner", "imei", "state"], &lines));
    place.write(
        "retally.toml",
        "[online.map.events]\ntimestamp = 'when'\ndevice_id = 'imei'\nuser_id = 'owner'\nserver_id = 'node'\n\
         connected = { column = 'state', true = ['up'], false = ['down'] }\n",
    );
    for workers in 1..=3 {
        ONLINE.check(&place, &format!("events=mapped.csv servers=in/servers.csv --config retally.toml -w {workers}"));
    }
    let script = format!("cat in/events.csv | retally {} events=- servers=in/servers.csv -w 2 --out out", ONLINE.run());
    std::fs::remove_dir_all(place.path("out")).unwrap();
    shell(&place, &script).succeeds();
    same(&place, "out", &ONLINE);
    let text = table(&EVENTS, &ONLINE.lines);
    place.write(
        "utf16.csv",
        text.encode_utf16().fold(vec![0xfe, 0xff], |mut bytes, unit| {
            bytes.extend(unit.to_be_bytes());
            bytes
        }),
    );
    ONLINE.check(&place, "events=utf16.csv servers=in/servers.csv -w 3");
    place.write("rows.txt", rows(&ONLINE.lines));
    ONLINE.check(&place, "events=rows.txt servers=in/servers.csv");
}

/// Types of columns that data frames and databases write: what is missing in all rows, or is no number, and times by their type.
#[test]
fn parquet_columns_without_values_and_times_by_type() {
    let place = Place::new();
    let zone = |day: u32| i64::from(day) * 86_400_000_000 + 1_709_294_400_000_000;
    let ids = [1.0, 1.0, f64::NAN];
    place.write("events.parquet", parquet::frame(&[zone(0), zone(1), zone(1)], &ids, &[true, false, false]));
    place.write("servers.parquet", parquet::servers_alive(&[(7, zone(0))]));
    let run = "run online events=events.parquet servers=servers.parquet --out out";
    let said = place.run(run).succeeds().stderr;
    assert!(said.contains("3 records, 0 late, 1 rejected"), "{said}");
    assert!(place.read("out/rejected.csv").contains(",device_id is missing,"));
    assert!(place.read("out/online_intervals.csv").contains("1,1,7,2024-03-01T12:00:00Z,2024-03-02T12:00:00Z,offline"));
    // A number that is none is no text either; and a time that is one needs no format.
    place.write("retally.toml", "[online.map.events]\ntimestamp = { column = \"timestamp\", format = \"unix_ms\" }\n");
    place.write("events.csv", format!("{HEADER}1709294400000,2,1,7,true\n"));
    let run = "run online events=events.parquet events=events.csv servers=servers.parquet --config retally.toml --ids text --out out";
    let said = place.run(run).succeeds().stderr;
    assert!(said.contains("4 records, 0 late, 1 rejected"), "{said}");
    let intervals = place.read("out/online_intervals.csv");
    assert_eq!(intervals.lines().count(), 3, "{intervals}");
    assert!(!intervals.contains("NaN"), "{intervals}");
}

/// The field that names users has to be there, as any other that counts; and a mapping to nothing is said.
#[test]
fn a_field_of_users_that_nothing_has() {
    let place = Place::new();
    let event = |time: &str, user: &str| {
        let parameters = r#"[{"key":"engagement_time_msec","value":{"int_value":5000}},{"key":"a_event","value":{}}]"#;
        format!(r#"{{"event_name":"user_engagement","event_timestamp":{time},{user}"event_params":{parameters}}}"#)
    };
    let pseudo = r#""user_pseudo_id":"u1","#;
    place.write("events.jsonl", event("1709294400000000", pseudo));
    let run = "run active events=events.jsonl --tables active_user_table";
    let said = place.run(&format!("{run} --user-field user_id")).succeeds().stderr;
    assert!(said.contains("no object of \"events\" names user_id\n"), "{said}");
    let said = place.run(&format!("{run} --map events.user_pseudo_id=uid")).succeeds().stderr;
    assert!(said.contains("no object of \"events\" names \"uid\", which user_pseudo_id is mapped to"), "{said}");
    let header = "event_name,event_timestamp,user_pseudo_id,event_params\n";
    place.write("events.csv", format!("{header}user_engagement,1709294400000000,u1,[]\n"));
    let run = "run active events=events.csv --tables active_issues";
    place.run(run).succeeds();
    place.run(&format!("{run} --user-field user_id")).fails().names(&["does not name user_id"]);
    place.run("check active events=events.csv --user-field user_id").fails_after("").names(&["does not name user_id"]);
    // Times as databases print them.
    for time in [r#""2024-03-01 12:00:00.000000 UTC""#, r#""2024-03-01T12:00:00Z""#, "1709294400000000", "\"1709294400000000\""] {
        place.write("events.jsonl", event(time, pseudo));
        place.run("run active events=events.jsonl --timezone UTC --out out").succeeds();
        assert_eq!(place.read("out/active_user_table.csv"), "date,active_user_count\n2024-03-01,1\n", "{time}");
    }
}
