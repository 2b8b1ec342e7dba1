//! Ids that are any text, and files with a column for each sensor.

use crate::processes;
use crate::support::known::{EVENTS, ONLINE, SERVERS, TEXT_IDS, rows, same, shuffled, table};
use crate::support::packed::gzip;
use crate::support::parquet;
use crate::support::program::Place;
use serde_json::json;

/// Tables depend on the set of records alone, and have their ids as text, sorted by bytes.
#[test]
fn the_law_holds_for_text_ids() {
    let place = Place::new();
    TEXT_IDS.write_csv(&place, "in");
    for workers in 1..=3 {
        TEXT_IDS.check(&place, &format!("events=in/events.csv servers=in/servers.csv -w {workers}"));
    }
    place.write("shuffled.csv.gz", gzip(&table(&EVENTS, &shuffled(&TEXT_IDS.lines))));
    TEXT_IDS.check(&place, "events=shuffled.csv.gz servers=in/servers.csv events=shuffled.csv.gz");
    let parts = TEXT_IDS.write_parts(&place, 3);
    TEXT_IDS.check(&place, &format!("{} --then '{}' --then '{}' -w 3", parts[1], parts[0], parts[2]));
    let object = |line: &String| {
        let fields: Vec<&str> = line.split(',').collect();
        json!({"timestamp": fields[0], "device_id": fields[1], "user_id": fields[2], "server_id": fields[3], "connected": fields[4]})
            .to_string()
    };
    place.write("events.jsonl", rows(&TEXT_IDS.lines.iter().map(object).collect::<Vec<_>>()));
    TEXT_IDS.check(&place, "events=events.jsonl servers=in/servers.csv");

    let intervals = place.read("out/online_intervals.csv");
    let devices: Vec<&str> = intervals.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    assert!(devices.is_sorted() && devices[0].starts_with("dév "), "{}", devices[0]);
}

/// Each process hears of the ids that another one reads: on either of them are rows of ids that it has never read.
#[test]
fn two_processes_with_text_ids_give_the_bytes_of_one() {
    let place = Place::new();
    let parts = TEXT_IDS.write_parts(&place, 4);
    let then: String = parts[1..].iter().map(|part| format!(" --then '{part}'")).collect();
    let words = format!("{} {} {then} -w 2 --out out", TEXT_IDS.run(), parts[0]);
    processes::run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
    same(&place, "out", &TEXT_IDS);
}

/// Records at few times, so that ids decide between those of a device. As texts, the ids are in the order that they have by themselves.
struct Ties {
    run: &'static str,
    columns: &'static str,
    parts: [Vec<String>; 3],
}

/// A number that looks random.
fn mixed(number: u64) -> u64 {
    let spread = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread ^ spread >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 20
}

impl Ties {
    fn of(run: &'static str, columns: &'static str, lines: impl Iterator<Item = String>) -> Ties {
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        lines.enumerate().for_each(|(number, line)| parts[number % 3].push(line));
        Ties { run, columns, parts }
    }

    fn online() -> Ties {
        let lines = (0..600).map(|number| {
            let (mixed, other) = (mixed(number), mixed(number + 1_000_000));
            let ids = format!("{},{},{}", 100 + mixed % 12, 100 + mixed / 12 % 40, 100 + other % 40);
            format!("2024-03-0{} 08:00:00,{ids},{}", 1 + other / 40 % 5, other / 200 % 3 > 0)
        });
        Ties::of("run online --as-of 2024-03-20", "timestamp,device_id,user_id,server_id,connected", lines)
    }

    fn usage() -> Ties {
        let id = |kind: u64, number: u64| format!("{kind:08}-0000-4000-8000-{:012x}", mixed(number) & 0xffff_ffff);
        let schools = (0..30).map(move |school| format!("2024-03-01 08:00:00,{},SetLogType,School,,", id(1, school)));
        let devices = (0..600).map(move |number| {
            let (mixed, other) = (mixed(number), mixed(number + 1_000_000));
            let (time, device) = (format!("2024-03-0{} 08:00:00", 1 + other % 5), id(2, mixed % 12));
            match mixed / 12 % 3 {
                0 => format!("{time},{device},AssignToSchool,,{},", id(1, other / 5 % 30)),
                1 => format!("{time},{device},StartSession,,,{}", id(3, other / 5 % 90)),
                _ => format!("{time},{device},EndSession,,,{}", id(3, other / 5 % 90)),
            }
        });
        Ties::of("run usage --as-of 2024-03-20", "time,logId,type,logType,schoolId,sessionId", schools.chain(devices))
    }

    /// Writes the parts, and the tables of ids that are no texts.
    fn write(&self, place: &Place) {
        (0..).zip(&self.parts).for_each(|(part, lines)| place.write(&format!("{part}.csv"), table(&[self.columns], lines)));
        place.run(&format!("{} events=0.csv events=1.csv events=2.csv -w 1 --out declared", self.run)).succeeds();
        assert!(place.tables("declared").values().filter(|bytes| bytes.len() > 2_000).count() >= 2, "there should be something to compare");
    }

    #[track_caller]
    fn same(&self, place: &Place, folder: &str) {
        let (found, expected) = (place.tables(folder), place.tables("declared"));
        assert!(found.keys().eq(expected.keys()));
        for (name, bytes) in found {
            assert!(bytes == expected[&name], "{name} of {} differs", self.run);
        }
    }
}

#[test]
fn texts_decide_ties_by_their_bytes() {
    for ties in [Ties::online(), Ties::usage()] {
        let place = Place::new();
        ties.write(&place);
        let run = |words: &str| {
            place.run(&format!("{} --ids text {words} --out out", ties.run)).succeeds();
            ties.same(&place, "out");
        };
        for workers in 1..=3 {
            run(&format!("events=2.csv events=0.csv events=1.csv -w {workers}"));
        }
        // Late, twice, and taken back in between.
        run("events=2.csv --then events=1.csv --then 'events=0.csv events=2.csv' --then events-=2.csv -w 2");
        run("events=0.csv events=1.csv --then events-=1.csv --then events=2.csv --then events=1.csv -w 3");
    }
}

/// Each process needs the texts of ids that only the other one has read, before it can compare them.
#[test]
fn two_processes_decide_ties_of_texts_as_one_does() {
    for ties in [Ties::online(), Ties::usage()] {
        let place = Place::new();
        ties.write(&place);
        let words = format!("{} --ids text events=2.csv --then events=0.csv --then events=1.csv -w 2 --out out", ties.run);
        processes::run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
        ties.same(&place, "out");
    }
}

#[test]
fn ties_of_texts_are_the_same_after_a_restart() {
    for ties in [Ties::online(), Ties::usage()] {
        let place = Place::new();
        ties.write(&place);
        let run = |words: &str| place.run(&format!("{} --ids text {words} --state state", ties.run)).succeeds();
        run("events=1.csv");
        run("events=2.csv events=0.csv -w 2");
        run("events-=2.csv");
        run("events=2.csv -w 3 --out out");
        ties.same(&place, "out");
        run("-w 1 --out again");
        ties.same(&place, "again");
    }
}

/// A user is forgotten, and with it the ids that nobody else has: ties of what remains are as if it had never been.
#[test]
fn ties_of_what_remains_when_some_is_forgotten() {
    let place = Place::new();
    let mut ties = Ties::online();
    let all: Vec<String> = ties.parts.concat();
    let (forgotten, kept): (Vec<String>, Vec<String>) = all.iter().cloned().partition(|line| line.split(',').nth(2) == Some("105"));
    assert!(forgotten.len() > 5);
    place.write("all.csv", table(&[ties.columns], &all));
    place.run(&format!("{} --ids text events=all.csv --state state", ties.run)).succeeds();
    place.run("forget online events user_id=105 --state state").succeeds();
    ties.parts = [kept, Vec::new(), Vec::new()];
    ties.write(&place);
    place.run(&format!("{} --ids text --state state --out out", ties.run)).succeeds();
    ties.same(&place, "out");
}

/// Numbers are texts too; and what is counted does not depend on what ids are.
#[test]
fn numbers_as_text_ids() {
    let place = Place::new();
    ONLINE.write_csv(&place, "in");
    place.write("events.parquet", parquet::events(&ONLINE.lines, 500));
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    for (number, events) in ["in/events.csv", "events.parquet"].iter().enumerate() {
        place.run(&format!("{} events={events} servers=servers.csv --ids text --out {number}", ONLINE.run())).succeeds();
    }
    let [csv, parquet] = ["0", "1"].map(|folder| place.files(folder));
    assert!(csv["online_intervals.csv"] == parquet["online_intervals.csv"]);
}

/// As spreadsheets and data frames write them where a column has holes.
#[test]
fn a_number_with_a_fraction_of_zeros_is_its_integer_as_text_too() {
    let place = Place::new();
    place.write(
        "a.csv",
        format!("{}\n2024-03-01,7.0,1.00,1,true\n2024-03-02,007.0,1,1,true\n2024-03-03,7.10,1,1.0,true\n", EVENTS.join(",")),
    );
    place.write("b.jsonl", r#"{"timestamp":"2024-03-04","device_id":7.0,"user_id":"1.0","server_id":1,"connected":false}"#);
    place.run("run online events=a.csv events=b.jsonl --ids text --out out").succeeds();
    let intervals = place.read("out/online_intervals.csv");
    let known: Vec<&str> = intervals.lines().skip(1).map(|row| row.split(",20").next().unwrap()).collect();
    assert_eq!(known, ["007.0,1,1", "7,1,1", "7.10,1,1"], "{intervals}");
}

#[test]
fn what_is_no_id_is_refused_by_name() {
    let place = Place::new();
    let long = "x".repeat(1_025);
    place.write("events.csv", format!("{}\n2024-03-01,abc,7,1,true\n2024-03-01,2,7,1,true\n2024-03-01,{long},,1,true\n", EVENTS.join(",")));
    place.run("run online events=events.csv --out out").succeeds();
    let rejected = place.read("out/rejected.csv").replace("\"\"", "\"");
    assert!(rejected.contains("device_id \"abc\" is no unsigned 64-bit integer (--ids text takes any text)"), "{rejected}");
    place.run("run online events=events.csv --out out --ids text").succeeds();
    let rejected = place.read("out/rejected.csv");
    assert!(rejected.contains("is longer than 1024 bytes") && rejected.lines().count() == 2, "{rejected}");
    assert!(place.run("check online events=events.csv --ids text").succeeds().stdout.contains("abc"));
    place.run("run online events=events.csv --ids words").fails_as_wrong_usage().names(&["--ids \"words\"", "text"]);
    place.write("data.csv", "timestamp,sensor_uuid,sensor_value\n2024-03-01,pump 1,5\n");
    place.run("run sensors data=data.csv").fails().names(&["sensor_uuid \"pump 1\" is no UUID (--ids text takes any text)"]);
}

/// Hours of three pumps, one of which says nothing every fourth hour.
fn hours() -> impl Iterator<Item = (String, [Option<f64>; 3])> {
    (0..300u32).map(|hour| {
        let time = format!("2024-03-{:02} {:02}:00:00", 1 + hour / 24, hour % 24);
        let value = |pump: u32| f64::from(pump * 10 + hour * 7 % 5) + if hour == 250 { 90.0 } else { 0.0 };
        (time, [Some(value(1)), Some(value(2)), (hour % 4 > 0).then(|| value(3))])
    })
}

#[test]
fn a_wide_file_has_the_tables_of_a_long_one() {
    let place = Place::new();
    let names = ["pump,1", "pump 2", "=3"];
    let (mut long, mut wide) =
        (String::from("timestamp,sensor_uuid,sensor_value\n"), String::from("when,\"pump,1\",pump 2,=3\n\"s\",bar,bar,bar\n"));
    for (time, values) in hours() {
        let cells = values.map(|value| value.map(|value| value.to_string()).unwrap_or_default());
        names
            .iter()
            .zip(&cells)
            .filter(|(_, cell)| !cell.is_empty())
            .for_each(|(name, cell)| long += &format!("{time},\"{name}\",{cell}\n"));
        wide += &format!("{time},{}\n", cells.join(","));
    }
    place.write("long.csv", &long);
    place.write("wide.csv", &wide);
    place.write("wide.txt.gz", gzip(&wide.replace("\"s\"", "s").replace("\"pump,1\"", "#").replace(',', ";").replace('#', "pump,1")));
    place.run("run sensors data=long.csv --ids text --points file:long.lp --out long").succeeds();
    let summary = place.read("long/sensor_summary.csv");
    assert!(summary.contains("\n\"pump,1\",\"pump,1\",2024-02-29T23:00:00Z,2024-03-13T10:00:00Z,300,"), "an id is its name: {summary}");
    assert!(!place.read("long/sensor_issues.csv").contains("unmapped_sensor"), "nobody has given names");
    // Which settings they are of is another matter.
    let tables = |folder: &str| {
        let mut files = place.files(folder);
        files.remove("retally.json");
        files
    };
    for file in ["wide.csv", "wide.txt.gz"] {
        for workers in [1, 3] {
            let words = format!("run sensors data={file} --layout wide --skip-rows 1 --points file:wide.lp --out wide -w {workers}");
            place.run(&words).succeeds();
            assert!(tables("long") == tables("wide"), "{file}, {workers} workers");
            let [long, wide] = ["long.lp", "wide.lp"].map(|file| {
                let mut points: Vec<String> = place.read(file).lines().map(String::from).collect();
                points.sort();
                points
            });
            assert_eq!(long, wide);
        }
    }
    let words = "run sensors data=wide.csv --layout wide --skip-rows 1 --points file:wide.lp --out wide -w 2";
    place.run(&format!("{words} --then data-=wide.csv --then data=wide.csv")).succeeds();
    assert!(tables("long") == tables("wide"));
    place.run("run sensors data=wide.csv --layout wide --skip-rows 1 --charts charts --chart-sensor =3 --out wide").succeeds();
    assert_eq!(place.names("charts").len(), 2, "{:?}", place.names("charts"));
}

/// The parts of `split -l`: names of columns are not made of values.
#[test]
fn parts_of_a_wide_file_have_the_header_of_the_first() {
    let place = Place::new();
    place.write("xaa.csv", "time,pump_1,pump_2\n2026-03-01 10:00,5,6\n2026-03-01 10:05,5,6\n");
    place.write("xab.csv", "2026-03-01 10:10,7,8\n2026-03-01 10:15,9,9.5\n");
    place.write("xac.csv", "2026-03-01 10:20,6.5,7.375\n");
    let run = |words: &str| place.run(&format!("run sensors {words} --layout wide --tables sensor_summary --out out"));
    for words in ["'data=x*.csv' --header first", "data=xaa.csv --then 'data=xab.csv data=xac.csv' --header first -w 2"] {
        run(words).succeeds();
        let summary = place.read("out/sensor_summary.csv");
        let rows: Vec<Vec<&str>> = summary.lines().skip(1).map(|row| row.split(',').collect()).collect();
        assert_eq!(rows.len(), 2, "{summary}");
        assert_eq!(rows.iter().map(|row| (row[0], row[4], row[8])).collect::<Vec<_>>(), [("pump_1", "5", "6.5"), ("pump_2", "5", "7.375")]);
    }
    run("'data=x*.csv'").fails().names(&["\"xab.csv\": it has no header", "\"xaa.csv\""]);
    for file in ["xab.csv", "xac.csv"] {
        let failure = run(&format!("data={file}")).fails().names(&[&format!("{file:?}"), "is no header"]);
        assert!(failure.hint.is_some_and(|hint| hint.contains("--header first")));
    }
}

#[test]
fn a_wide_file_with_a_second_header_is_refused_by_its_place() {
    let place = Place::new();
    for other in ["time,pump_2,pump_1", "time,pump_3,pump_4"] {
        place.write("wide.csv", format!("time,pump_1,pump_2\n2026-03-01 10:00,5,6\n{other}\n2026-03-01 10:05,6,5\n"));
        let failure = place.run("run sensors data=wide.csv --layout wide --out out").fails();
        failure.names(&["\"wide.csv\": line 3 is a second header, with other columns than the one in line 1"]);
    }
    assert!(!place.has("out/sensor_summary.csv"));
}

#[test]
fn what_is_known_of_a_wide_file_is_said() {
    let place = Place::new();
    place.write("l.csv", b"time,K\xfc\n2026-03-01 08:00,1\n");
    let failure = place.run("run sensors data=l.csv --layout wide --out out").fails().names(&["\"l.csv\"", "column 2 is no UTF-8"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("--encoding windows-1252")));
    place.run("run sensors data=l.csv --layout wide --encoding windows-1252 --out out").succeeds();
    assert!(place.read("out/sensor_summary.csv").contains("\nKü,Kü,"));
    place.write("wide.csv", "timestamp,temperature,humidity\n2026-03-01 08:00,12.5,60\n");
    let failure = place.run("run sensors data=wide.csv").fails().names(&["does not name sensor_uuid, sensor_value"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("--layout wide")));
    let seen = place.run("check sensors data=wide.csv --layout wide").succeeds().stdout;
    for (field, origin) in [
        ("timestamp", "is column 1, \"timestamp\""),
        ("sensor_uuid", "is the name of each other column"),
        ("sensor_value", "is in each other"),
    ] {
        assert!(seen.lines().any(|line| line.trim_start().starts_with(field) && line.contains(origin)), "{seen}");
    }
}

#[test]
fn what_is_not_wide_is_refused_by_name() {
    let place = Place::new();
    place.write("wide.csv", "when,a,b\n2024-03-01 00:00,1,x\n2024-03-01 01:00,1\nsoon,1,\n");
    place.write("mapping.csv", "sensor_name,sensor_uuid\na,a\n");
    place.write("data.jsonl", "{\"timestamp\":\"2024-03-01\"}\n");
    place.write("twice.csv", "when,a,a\n2024-03-01 00:00,1,2\n");
    let run = |words: &str| place.run(&format!("run sensors {words} --layout wide --out out"));
    run("data=wide.csv").succeeds();
    let rejected = place.read("out/rejected.csv").replace("\"\"", "\"");
    for (line, reason) in [(2, "sensor_value \"x\" is no number"), (3, "fewer columns than the header"), (4, "timestamp \"soon\"")] {
        assert!(rejected.lines().any(|row| row.starts_with(&format!("data,wide.csv,{line},")) && row.contains(reason)), "{rejected}");
    }
    run("data=wide.csv mapping=mapping.csv").fails_as_wrong_usage().names(&["--layout \"wide\"", "takes no mapping"]);
    run("data=data.jsonl").fails().names(&["\"data.jsonl\"", "only CSV"]);
    run("data=twice.csv").fails().names(&["\"twice.csv\"", "it names a twice"]);
    place.run("run sensors data=wide.csv --layout tall").fails_as_wrong_usage().names(&["--layout \"tall\" is neither long nor wide"]);
}

/// UUIDs are the names of sensors without a mapping; and a mapping gives text ids their names.
#[test]
fn names_of_sensors() {
    let place = Place::new();
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    place.write("data.csv", format!("timestamp,sensor_uuid,sensor_value\n2024-03-01 00:00,{uuid},5\n"));
    let names = |words: &str| {
        place.run(&format!("run sensors {words} --tables sensor_summary --out out")).succeeds();
        let table = place.read("out/sensor_summary.csv");
        table.lines().nth(1).unwrap().split(',').take(2).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(names("data=data.csv"), [uuid, uuid]);
    assert_eq!(names("data=data.csv --names mapping"), ["", uuid]);
    place.write("mapping.csv", format!("sensor_name,sensor_uuid\nboiler,{uuid}\n"));
    assert_eq!(names("data=data.csv mapping=mapping.csv"), ["boiler", uuid]);
    assert_eq!(names("data=data.csv mapping=mapping.csv --names ids"), [uuid, uuid]);
    place.write("data.csv", "timestamp,sensor_uuid,sensor_value\n2024-03-01 00:00,a:1,5\n");
    place.write("mapping.csv", "sensor_name,sensor_uuid\nboiler,a:1\n");
    assert_eq!(names("data=data.csv mapping=mapping.csv --ids text"), ["boiler", "a:1"]);
}

#[test]
fn usage_with_text_ids() {
    let place = Place::new();
    place.write(
        "events.csv",
        "time,logId,type,logType,name,schoolId,sessionId\n\
         2024-03-01 08:00,north,SetLogType,School,,,\n2024-03-01 08:00,north,SetName,,North,,\n\
         2024-03-01 08:00,tablet 1,AssignToSchool,,,north,\n2024-03-01 09:00,tablet 1,StartSession,,,,s1\n\
         2024-03-01 09:30,tablet 1,EndSession,,,,s1\n",
    );
    place.run("run usage events=events.csv --ids text --out out").succeeds();
    let sessions = place.read("out/usage_sessions.csv");
    assert_eq!(sessions.lines().nth(1), Some("s1,tablet 1,2024-03-01T09:00:00Z,2024-03-01T09:30:00Z,north,North"));
    assert_eq!(place.read("out/usage_schools.csv").lines().nth(1), Some("north,North,1,30,30"));
    place.run("run usage events=events.csv --ids text --out sqlite:t.sqlite").succeeds();
}
