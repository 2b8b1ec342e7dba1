//! What comes out: table files in each format, changes, charts, and tables on the terminal.

use crate::support::program::Place;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::File;

const TABLES: [&str; 7] =
    ["online_daily", "online_intervals", "online_issues", "online_projection", "online_rolling_28d", "online_summary", "rejected"];

/// Two users, one with a device and one with three, and a line that is no record.
fn small() -> Place {
    let place = Place::new();
    place.write(
        "events.csv",
        "2024-03-01T08:00:00Z,1,7,3,true\n2024-03-01T08:00:00.25Z,2,8,3,true\n2024-03-01T08:00:00Z,3,8,3,true\n\
         2024-03-01T08:00:00Z,4,8,4,true\n2024-03-02T10:30:00Z,1,7,3,false\n\"a \"\"quote\"\", and more\",1,2,3,true\n",
    );
    place.write("servers.csv", "id,created_at,destroyed_at\n3,2024-01-01T00:00:00Z,\n4,2024-01-01T00:00:00Z,2024-03-01T20:00:00Z\n");
    place
}

const SMALL: &str = "run online events=events.csv servers=servers.csv --fleet-sizes 1,2 -w 1";

#[test]
fn csv() {
    let place = small();
    place.run(&format!("{SMALL} --out out")).succeeds();
    let expect = |table: &str, text: &str| assert_eq!(place.read(&format!("out/{table}.csv")), text);
    assert_eq!(place.tables("out").into_keys().collect::<Vec<_>>(), TABLES.map(|table| format!("{table}.csv")));
    expect("online_daily", "day,fleet_size,devices\n2024-03-01,1,1\n2024-03-01,3+,3\n2024-03-02,1,1\n2024-03-02,2,2\n");
    expect("online_rolling_28d", "day,fleet_size,devices\n2024-03-01,1,1\n2024-03-01,3+,3\n2024-03-02,1,1\n2024-03-02,3+,3\n");
    expect(
        "online_intervals",
        "device_id,user_id,server_id,online_from,online_until,end_reason\n\
         1,7,3,2024-03-01T08:00:00Z,2024-03-02T10:30:00Z,offline\n\
         2,8,3,2024-03-01T08:00:00.250000Z,2024-03-02T10:30:00Z,still_online\n\
         3,8,3,2024-03-01T08:00:00Z,2024-03-02T10:30:00Z,still_online\n\
         4,8,4,2024-03-01T08:00:00Z,2024-03-01T20:00:00Z,server_destroyed\n",
    );
    expect("online_issues", "issue,events\n");
    expect("online_projection", "day,fleet_size,devices,low,high\n");
    // 16 + 16 - 0.25 s + 16 + 12 hours, and three times 10.5.
    expect("online_summary", "day,devices,users,online_hours,new_devices\n2024-03-01,4,2,59.99993055555556,4\n2024-03-02,3,2,31.5,0\n");
    expect(
        "rejected",
        "input,source,line,reason,raw\nevents,events.csv,6,\"timestamp \"\"a \\\"\"quote\\\"\", and more\"\" is not a time like 2026-01-31T12:34:56Z\",\
         \"\"\"a \"\"\"\"quote\"\"\"\", and more\"\",1,2,3,true\"\n",
    );
}

/// Numbers by value, times by time, fleet sizes by their lower bound.
#[test]
fn rows_are_in_order() {
    let place = Place::new();
    let fleet = |user: u64, devices: u64| -> String {
        (0..devices).map(|device| format!("2024-03-01T08:00:00Z,{},{user},1,true\n", user * 100 + device)).collect()
    };
    place.write(
        "events.csv",
        [fleet(10, 12), fleet(9, 2), fleet(2, 1), fleet(100, 3)].concat()
            + "2024-03-01T08:00:00.5Z,9,9,1,true\n2024-03-01T08:00:00Z,9,9,1,false\n",
    );
    place.run("run online events=events.csv --fleet-sizes 1-2,3-9 --out out").succeeds();
    assert_eq!(place.read("out/online_daily.csv"), "day,fleet_size,devices\n2024-03-01,1-2,1\n2024-03-01,3-9,6\n2024-03-01,10+,12\n");
    let devices: Vec<u64> =
        place.read("out/online_intervals.csv").lines().skip(1).map(|row| row.split(',').next().unwrap().parse().unwrap()).collect();
    assert!(devices.is_sorted() && devices[0] == 9 && *devices.last().unwrap() == 10_002, "{devices:?}");
}

/// The rows of a table's CSV file, as values by column.
fn values(place: &Place, table: &str) -> Vec<Vec<(String, String)>> {
    let mut reader = csv::Reader::from_path(place.path(&format!("csv/{table}.csv"))).unwrap();
    let names = reader.headers().unwrap().clone();
    let row = |row: csv::StringRecord| names.iter().zip(&row).map(|(name, value)| (name.to_string(), value.to_string())).collect();
    reader.records().map(|record| row(record.unwrap())).collect()
}

#[test]
fn json_and_parquet_say_the_same() {
    all_formats_say_the_same(&generated(), GENERATED, &TABLES);
}

/// What a run writes as CSV, it writes as JSON and Parquet too.
pub fn all_formats_say_the_same(place: &Place, words: &str, tables: &[&str]) {
    for format in ["csv", "json", "parquet"] {
        place.run(&format!("{words} --out {format} --format {format}")).succeeds();
        assert_eq!(
            place.tables(format).into_keys().collect::<Vec<_>>(),
            tables.iter().map(|table| format!("{table}.{format}")).collect::<Vec<_>>()
        );
    }
    json_says_the_same(place, tables);
    parquet_says_the_same(place, tables);
}

fn json_says_the_same(place: &Place, tables: &[&str]) {
    for table in tables {
        let text = place.read(&format!("json/{table}.json"));
        // Numbers as they are written: a parser of floats may lose the last digit.
        let rows: Vec<BTreeMap<String, &RawValue>> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let plain = |value: &RawValue| match value.get() {
            "null" => String::new(),
            text if text.starts_with('"') => serde_json::from_str(text).unwrap(),
            number => number.to_string(),
        };
        let rows: Vec<BTreeMap<String, String>> =
            rows.into_iter().map(|row| row.into_iter().map(|(name, value)| (name, plain(value))).collect()).collect();
        let expected: Vec<BTreeMap<String, String>> = values(place, table).into_iter().map(|row| row.into_iter().collect()).collect();
        assert!(rows == expected, "{table}: {rows:?} should be {expected:?}");
    }
}

fn parquet_says_the_same(place: &Place, tables: &[&str]) {
    for table in tables {
        let reader = SerializedFileReader::new(File::open(place.path(&format!("parquet/{table}.parquet"))).unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let expected = values(place, table);
        assert_eq!(rows.len(), expected.len(), "{table}");
        for (row, expected) in rows.iter().zip(expected) {
            let cells: Vec<(String, String)> = row.get_column_iter().map(|(name, field)| (name.clone(), cell(field))).collect();
            assert_eq!(cells, expected, "{table}");
        }
    }
}

/// A cell of a Parquet file as CSV has it.
fn cell(field: &Field) -> String {
    let calendar = |micros: i64| retally_time(micros);
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::TimestampMicros(micros) => calendar(*micros),
        Field::Date(days) => calendar(i64::from(*days) * 86_400_000_000)[..10].to_string(),
        Field::Double(number) => number.to_string(),
        other => other.to_string(),
    }
}

fn retally_time(micros: i64) -> String {
    retally_core::time::Moment(micros).to_string()
}

/// A file of which nothing can be read fails a run.
const GOOD: &str = "2023-01-03T08:00:00Z,7,7,7,true";

fn generated() -> Place {
    let place = Place::new();
    place.run("generate online --out in --devices 50 --days 60 --late 30 --mess 0.1").succeeds();
    place.write("in/bad.csv", format!("timestamp,device_id,user_id,server_id,connected\n2024-03-01T08:00:00Z,1\n{GOOD}\n"));
    place
}

const GENERATED: &str = "run online events=in/events.csv events=in/bad.csv servers=in/servers.csv";

/// What is added and what is taken away add up to the tables, after every epoch.
#[test]
fn changes_add_up_to_the_tables() {
    let place = generated();
    let first = "run online events=in/events.csv servers=in/servers.csv --format json";
    place.run(&format!("{first} --out first")).succeeds();
    place
        .run(&format!("{first} --then events=in/late/events.csv --then events-=in/late/events.csv --out last --changes changes.ndjson"))
        .succeeds();
    let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut epochs = Vec::new();
    for line in place.read("changes.ndjson").lines() {
        let change: Value = serde_json::from_str(line).unwrap();
        assert!(change.as_object().unwrap().keys().eq(["diff", "epoch", "row", "table"]), "{line}");
        epochs.push(change["epoch"].as_u64().unwrap());
        let (_, row) = line.split_once("\"row\":").unwrap();
        let (row, _) = row.rsplit_once(",\"diff\":").unwrap();
        *sums.entry((change["table"].as_str().unwrap().into(), row.into())).or_default() += change["diff"].as_i64().unwrap();
        assert!(change["diff"] == 1 || change["diff"] == -1, "{line}");
    }
    assert!(epochs.is_sorted());
    epochs.dedup();
    assert_eq!(epochs, [1, 2, 3]);
    sums.retain(|_, sum| *sum != 0);
    assert!(sums.values().all(|sum| *sum == 1), "a row is there once");
    let same = place.tables("first") == place.tables("last");
    assert!(same, "late events that are taken back leave no trace");
    for table in TABLES.iter().filter(|table| **table != "rejected") {
        let mut rows: Vec<String> = place.read(&format!("last/{table}.json")).lines().map(String::from).collect();
        rows.sort();
        let replayed: Vec<String> = sums.keys().filter(|(of, _)| of == table).map(|(_, row)| row.clone()).collect();
        assert_eq!(replayed, rows, "{table}");
    }
}

#[test]
fn changes_go_to_a_pipe_too() {
    let place = small();
    place.run(&format!("{SMALL} --tables online_daily --out out --changes /dev/null")).succeeds();
    let said = place.run(&format!("{SMALL} --tables online_daily --out out --changes /dev/stdout -q")).succeeds().stdout;
    let rows = [
        "2024-03-01\",\"fleet_size\":\"1\",\"devices\":1",
        "2024-03-01\",\"fleet_size\":\"3+\",\"devices\":3",
        "2024-03-02\",\"fleet_size\":\"1\",\"devices\":1",
        "2024-03-02\",\"fleet_size\":\"2\",\"devices\":2",
    ];
    let expected: String =
        rows.iter().map(|row| format!("{{\"epoch\":1,\"table\":\"online_daily\",\"row\":{{\"day\":\"{row}}},\"diff\":1}}\n")).collect();
    assert_eq!(said, expected);
}

#[test]
fn only_the_tables_that_are_asked_for() {
    let place = small();
    place.run(&format!("{SMALL} --out all")).succeeds();
    for tables in ["online_daily", "online_summary,online_issues", "online_projection,online_rolling_28d", "online_intervals"] {
        place.run(&format!("{SMALL} --tables {tables} --out {tables} --changes {tables}.ndjson")).succeeds();
        let mut expected: Vec<String> = tables.split(',').chain(["rejected"]).map(|table| format!("{table}.csv")).collect();
        expected.sort();
        let files = place.tables(tables);
        assert!(files.keys().eq(expected.iter()), "{tables}");
        assert!(files.iter().all(|(name, bytes)| place.files("all")[name] == *bytes), "{tables}");
        let changes = place.read(&format!("{tables}.ndjson"));
        assert!(changes.lines().all(|line| tables.split(',').any(|table| line.contains(&format!("\"table\":\"{table}\"")))), "{tables}");
    }
}

#[test]
fn charts() {
    let place = generated();
    let ran = place.run(&format!("{GENERATED} --charts new/charts --out out")).succeeds();
    let charts = ["online_daily", "online_projection", "online_rolling_28d"];
    let expected: Vec<String> = charts.iter().flat_map(|chart| [format!("{chart}.png"), format!("{chart}.svg")]).collect();
    assert_eq!(place.names("new/charts"), expected);
    for (name, bytes) in place.files("new/charts") {
        assert!(ran.stderr.contains(&format!("wrote new/charts/{name}\n")), "{}", ran.stderr);
        if name.ends_with(".png") {
            assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.len() > 5_000, "{name}");
        } else {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.trim_start().starts_with("<svg") && text.trim_end().ends_with("</svg>") && text.contains("fleet size"), "{name}");
        }
    }
    place.run(&format!("{GENERATED} --charts few --out out --tables online_daily")).succeeds();
    assert_eq!(place.names("few"), ["online_daily.png", "online_daily.svg"], "a chart is drawn of tables that are built");
    place.write("one.jsonl", "{}");
    place.run("run active events=one.jsonl --max-rejected 1 --charts empty").succeeds();
    assert_eq!(place.names("empty"), ["active_users.png", "active_users.svg"], "without rows, too");
}

#[test]
fn small_tables_on_the_terminal() {
    let ran = small().run(&format!("{SMALL} --tables online_daily,online_issues")).succeeds();
    let expected = "online_daily: 4 rows\n\
                    day         fleet_size  devices\n\
                    ───────────────────────────────\n\
                    2024-03-01  1                 1\n\
                    2024-03-01  3+                3\n\
                    2024-03-02  1                 1\n\
                    2024-03-02  2                 2\n\
                    \n\
                    online_issues: no rows\n\
                    \n\
                    rejected: 1 row\n";
    assert!(ran.stdout.starts_with(expected), "{}", ran.stdout);
    assert!(ran.stdout.contains("events.csv     6"), "{}", ran.stdout);
}

#[test]
fn large_tables_are_a_head_and_a_count() {
    let said = generated().run(&format!("{GENERATED} --tables online_summary")).succeeds().stdout;
    let head: Vec<&str> = said.split("\n\n").next().unwrap().lines().collect();
    assert_eq!((head[0], head.len(), *head.last().unwrap()), ("online_summary: 60 rows", 16, "… 48 more rows"));
}
