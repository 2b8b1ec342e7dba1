//! Points to real servers, and into the store that `query` reads.
//!
//! The servers are Debian's `influxdb` (1.x) and `victoria-metrics`; `scripts/test` installs them.

use crate::processes;
use crate::support::program::{Place, Started};
use retally::points::{Destination, Dropped, PointsError};
use retally_core::points::{FieldKind, Measurement, Offered, PointBatch, PointField, PointWriter, Series, Standing, Tag, Values};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 2026-03-01T00:00:00Z.
const START_NS: i64 = 1_772_323_200_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = done() {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn readings() -> Arc<Measurement> {
    let tag = |name| Tag { name, about: "" };
    let field = |name, kind| PointField { name, kind, about: "" };
    let fields = vec![field("count", FieldKind::Int), field("value", FieldKind::Float)];
    Arc::new(Measurement { name: "readings", about: "", tags: vec![tag("sensor_name"), tag("sensor_uuid")], fields })
}

fn series(sensor: &str) -> Arc<Series> {
    Arc::new(Series { measurement: readings(), tags: vec![sensor.into(), String::new()] })
}

/// Points at these minutes. The number of a point is its minute; each third has no value.
fn batch(series: &Arc<Series>, standing: Standing, minutes: impl Iterator<Item = i64>) -> PointBatch {
    let mut batch = PointBatch::new(Arc::clone(series), standing);
    let minutes: Vec<i64> = minutes.collect();
    batch.times_ns = minutes.iter().map(|minute| START_NS + minute * MINUTE_NS).collect();
    batch.columns[1].values = Values::Float(minutes.iter().map(|minute| *minute as f64 / 8.0).collect());
    batch.columns[1].present = minutes.iter().map(|minute| minute % 3 != 2).collect();
    batch.columns[0].values = Values::Int(minutes);
    batch
}

/// Writes batches, each when the one before is written.
fn write(destination: &str, batches: Vec<PointBatch>) -> Result<Dropped, PointsError> {
    let outlet = destination.parse::<Destination>()?.open(0)?;
    let mut writer = outlet.points().writer();
    for batch in batches {
        send(&mut writer, batch).map_err(PointsError::Write)?;
    }
    outlet.finish()
}

fn send(writer: &mut Box<dyn PointWriter>, mut batch: PointBatch) -> Result<(), String> {
    let started = Instant::now();
    while writer.offer(&mut batch)? == Offered::Behind || !writer.flush()? {
        assert!(started.elapsed() < Duration::from_secs(60), "a batch is never written");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// A server in a folder of its own, gone when the test is.
struct Server {
    address: String,
    _running: Started,
    _place: Place,
}

impl Server {
    fn start(program: &str, arguments: impl Fn(&Place, &str) -> Vec<String>, ready: &str) -> Server {
        let place = Place::new();
        let address = free_address();
        let mut command = Command::new(program);
        command.current_dir(place.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(arguments(&place, &address));
        let missing = format!("{program} can't be started (scripts/test installs it)");
        assert!(Command::new(program).arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok(), "{missing}");
        let server = Server { _running: Started::new(command, program), _place: place, address };
        until("that the server is ready", || ureq::get(server.url(ready)).call().ok());
        server
    }

    fn influx() -> Server {
        let server = Server::start(
            "influxd",
            |place, address| {
                let config = format!(
                    "reporting-disabled = true\nbind-address = {:?}\n[meta]\ndir = {:?}\n[data]\ndir = {:?}\nwal-dir = {:?}\n[monitor]\nstore-enabled = false\n[http]\nbind-address = {address:?}\n",
                    free_address(),
                    place.path("meta"),
                    place.path("data"),
                    place.path("wal"),
                );
                place.write("influxdb.conf", config);
                vec!["-config".into(), place.path("influxdb.conf").display().to_string()]
            },
            "/ping",
        );
        until("that the database is there", || {
            ureq::post(server.url("/query?q=CREATE%20DATABASE%20fleet")).send_empty().ok()?;
            server.get("/query", &[("q", "SHOW DATABASES")]).contains("fleet").then_some(())
        });
        server
    }

    fn victoria_metrics() -> Server {
        let arguments = |place: &Place, address: &str| {
            let data = place.path("data").display().to_string();
            vec![format!("-httpListenAddr={address}"), format!("-storageDataPath={data}"), "-retentionPeriod=100y".into()]
        };
        Server::start("victoria-metrics", arguments, "/health")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> String {
        ureq::get(self.url(path)).query_pairs(query.iter().copied()).call().unwrap().body_mut().read_to_string().unwrap()
    }

    /// The series that a selector of VictoriaMetrics has, once they hold so many values.
    fn exported(&self, selector: &str, values: usize) -> Vec<Value> {
        until("that all points can be read", || {
            self.get("/internal/force_flush", &[]);
            let text = self.get("/api/v1/export", &[("match[]", selector)]);
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let found: usize = lines.iter().map(|line| line["values"].as_array().unwrap().len()).sum();
            (found >= values).then_some(lines)
        })
    }

    /// The rows that a query of InfluxDB answers.
    fn rows(&self, query: &str) -> Vec<Value> {
        let text = self.get("/query", &[("db", "fleet"), ("epoch", "ns"), ("q", query)]);
        let answer: Value = serde_json::from_str(&text).unwrap();
        let error = answer.pointer("/results/0/error");
        assert_eq!(error, None, "{query}");
        answer.pointer("/results/0/series/0/values").and_then(Value::as_array).cloned().unwrap_or_default()
    }
}

/// An address that no other process has.
///
/// All of 127.0.0.0/8 is this machine: on a host of one's own, nobody takes the port between now and the server's start.
fn free_address() -> String {
    let process = std::process::id();
    let host = format!("127.{}.{}.{}", process >> 14 & 0x7f | 0x80, process >> 7 & 0x7f, process & 0x7f | 0x80);
    TcpListener::bind((host.as_str(), 0)).unwrap().local_addr().unwrap().to_string()
}

#[test]
fn influxdb_holds_what_was_written_with_marks_on_what_was_retracted() {
    let server = Server::influx();
    let sensor = series("süd, \"2\" = a b");
    let url = server.url("?db=fleet");
    let batches = vec![
        batch(&sensor, Standing::Fresh, 0..20_000),
        batch(&sensor, Standing::Fresh, 0..20_000),
        batch(&sensor, Standing::Retracted, [10, 11, 12].into_iter()),
        batch(&sensor, Standing::Restored, [11].into_iter()),
    ];
    assert_eq!(write(&url, batches).unwrap(), Dropped::default());
    assert_eq!(server.rows("SELECT count(count), sum(value) FROM readings"), [serde_json::json!([0, 20_000, sum(20_000)])]);
    let row = |minute: i64, value: f64| serde_json::json!([START_NS + minute * MINUTE_NS, minute, "süd, \"2\" = a b", value]);
    let first = server.rows("SELECT count, sensor_name, value FROM readings WHERE value < 0.5 AND count > 0");
    assert_eq!(first, [row(1, 0.125), row(3, 0.375)]);
    assert_eq!(server.rows("SELECT count(retracted) FROM readings WHERE retracted = true")[0][1], 2);
    assert_eq!(server.rows("SELECT count(count) FROM readings WHERE retracted = false")[0][1], 1);
}

/// The sum of the values that are there.
fn sum(points: i64) -> f64 {
    (0..points).filter(|minute| minute % 3 != 2).map(|minute| minute as f64 / 8.0).sum()
}

#[test]
fn influxdb_refuses_some_points_and_holds_the_others() {
    let server = Server::influx();
    let lines = "readings,sensor_name=a value=\"text\" 1\n";
    ureq::post(server.url("/write?db=fleet")).send(lines).unwrap();
    // The field `value` is text there, so numbers are no values of it in the same shard.
    let mut bad = batch(&series("b"), Standing::Fresh, 0..100);
    bad.times_ns = (2..102).collect();
    let dropped = write(&server.url("?db=fleet"), vec![bad]).unwrap();
    assert_eq!(dropped.points, 67, "{dropped:?}");
    assert!(dropped.first.unwrap().contains("field type conflict"));
    let error = write(&server.url("?db=navy"), vec![batch(&series("b"), Standing::Fresh, 0..10)]).unwrap_err().to_string();
    assert!(error.contains("/write\": it refuses all") || error.contains("404: database not found"), "{error}");
    let error = write(&server.url(""), vec![batch(&series("b"), Standing::Fresh, 0..10)]).unwrap_err().to_string();
    assert!(error.contains("database is required"), "{error}");
}

/// Each process sends the points of its sensors; the first one says for all what was refused.
#[test]
fn what_is_refused_is_added_up_over_processes() {
    let server = Server::influx();
    // In this week the field is text, so numbers are refused.
    ureq::post(server.url("/write?db=fleet")).send("measurements,sensor_name=a value=\"text\" 1709251200000000000\n").unwrap();
    let place = Place::new();
    for sensor in 0..8 {
        let line = |day: &str| format!("{day}T00:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c{sensor},1\n");
        place.write(&format!("data/{sensor}.csv"), ["2024-03-01", "2024-06-01", "2024-06-02"].map(line).concat());
    }
    let words = format!("run sensors data=data -w 1 --tables sensor_summary --out out --points {}", server.url("?db=fleet"));
    let [first, second] = processes::run(&place, [&words, &words]).map(|ran| ran.succeeds());
    assert!(first.stderr.contains("warning: the server refused 8 points, the first with "), "{}", first.stderr);
    assert_eq!(second.stderr, "");
    assert_eq!(server.rows("SELECT count(value) FROM \"measurements\" WHERE time > '2024-05-01'")[0][1], 16);
}

#[test]
fn victoria_metrics_holds_what_was_written() {
    let server = Server::victoria_metrics();
    let sensors = ["a", "b", "süd, \"2\" = a b"];
    let batches = sensors.iter().map(|sensor| batch(&series(sensor), Standing::Fresh, 0..9_000)).collect();
    assert_eq!(write(&server.url(""), batches).unwrap(), Dropped::default());
    for sensor in sensors {
        let export = server.exported(&format!("{{__name__=~\"readings_.+\",sensor_name={sensor:?}}}"), 15_000);
        let of = |name: &str| export.iter().find(|line| line["metric"]["__name__"] == name).unwrap();
        let numbers =
            |line: &Value, name: &str| line[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect::<Vec<_>>();
        let counts: Vec<f64> = (0..9_000).map(f64::from).collect();
        assert!(numbers(of("readings_count"), "values") == counts, "counts of {sensor}");
        let times: Vec<f64> = (0..9_000).map(|minute| (START_NS / 1_000_000 + minute * 60_000) as f64).collect();
        assert!(numbers(of("readings_count"), "timestamps") == times, "times of {sensor}");
        let values: Vec<f64> = (0..9_000).filter(|minute| minute % 3 != 2).map(|minute| f64::from(minute) / 8.0).collect();
        assert!(numbers(of("readings_value"), "values") == values, "values of {sensor}");
    }
}

/// Tags that servers would read differently, each by a rule of its own, are written so that all read the same.
#[test]
fn tags_with_backslashes_are_the_same_on_all_servers() {
    let values = ["a\\b", "a\\\\b", "a\\,b", "a\\ b", "a\\=b", "end\\", "x\\y", "x\\\\y", "two\\\\", "tab\tb", "plain", "a,b", "a b"];
    let mut expected = ["a\\b", "a_\\b", "a_,b", "a_ b", "a_=b", "end_", "x\\y", "x_\\y", "two__", "tab_b", "plain", "a,b", "a b"];
    expected.sort_unstable();
    let batches = || values.iter().map(|value| batch(&series(value), Standing::Fresh, 0..1)).collect();
    let (influx, victoria) = (Server::influx(), Server::victoria_metrics());
    for server in [influx.url("?db=fleet"), victoria.url("")] {
        let dropped = write(&server, batches()).unwrap();
        assert_eq!((dropped.points, dropped.replaced.points, dropped.replaced.first.as_deref()), (0, 8, Some("a\\\\b")));
    }
    let mut found: Vec<String> =
        influx.rows("SELECT count, sensor_name FROM readings").iter().map(|row| row[2].as_str().unwrap().to_string()).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "influxdb");
    let exported = victoria.exported("{__name__=\"readings_count\"}", values.len());
    let mut found: Vec<&str> = exported.iter().map(|line| line["metric"]["sensor_name"].as_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "victoria-metrics");
}

#[test]
fn a_run_says_that_tags_were_written_with_other_characters() {
    let place = Place::new();
    place.write("mapping.csv", "hall\\\\north,67e55044-10b1-426f-9247-bb680e5fe0c8\n");
    place.write("data.csv", "2024-03-01T08:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,1\n");
    let said = place.run("run sensors mapping=mapping.csv data=data.csv --points file:points.lp").succeeds().stderr;
    assert!(said.contains("note: wrote 1 point with _ for characters of tags"), "{said}");
    assert!(place.read("points.lp").contains("hall_\\north"), "{}", place.read("points.lp"));
}

/// From a folder of datasets into a database: of each dataset it holds as many points as the table says.
#[test]
fn what_brushing_counts_is_in_victoria_metrics() {
    let server = Server::victoria_metrics();
    let place = Place::new();
    place.run("generate brushing --out in --toothbrushes 3 --datasets 8 --minutes 0.5 --mess 0.1").succeeds();
    let words = format!("run brushing datasets=in --points {} --out out -w 1", server.url(""));
    processes::run(&place, [&words, &words]).into_iter().for_each(|ran| drop(ran.succeeds()));
    assert!(!place.has("out/points.lp"), "they go where they are told");
    let jobs: Vec<BTreeMap<String, String>> =
        csv::Reader::from_path(place.path("out/brushing_jobs.csv")).unwrap().deserialize().map(Result::unwrap).collect();
    // By toothbrush and dataset.
    type Counts = BTreeMap<(String, String), usize>;
    for (field, column) in
        [("brushing_tick", "brushing_points"), ("brushing_percent_clean", "brushing_points"), ("settings_tick", "settings_points")]
    {
        let counts = jobs.iter().map(|job| ((job["toothbrush_id"].clone(), job["dataset_id"].clone()), job[column].parse().unwrap()));
        let expected: Counts = counts.filter(|(_, count)| *count > 0).collect();
        let all: usize = expected.values().sum();
        assert!(all >= expected.len() && expected.len() > 20, "{expected:?}");
        let tag = |line: &Value, tag: &str| line["metric"][tag].as_str().unwrap().to_string();
        let found: Counts = server
            .exported(&format!("{{__name__={field:?}}}"), all)
            .iter()
            .map(|line| ((tag(line, "toothbrush_id"), tag(line, "dataset_id")), line["values"].as_array().unwrap().len()))
            .collect();
        assert_eq!(found, expected, "{field}");
    }
}

/// A place with a store of some points.
fn stored() -> Place {
    let place = Place::new();
    let store = format!("store:{}", place.path("points").display());
    let batches = vec![
        batch(&series("south"), Standing::Fresh, 0..2_000),
        batch(&series("north"), Standing::Fresh, 0..3),
        batch(&series("south"), Standing::Retracted, 3..1_990),
    ];
    assert_eq!(write(&store, batches).unwrap(), Dropped::default());
    place
}

#[test]
fn a_query_answers_a_range_of_the_series_with_these_tags() {
    let place = stored();
    let ask = |words: &str| place.run(&format!("query online.readings {words} --points store:points")).succeeds().stdout;
    let table = "\
online.readings: 13 rows
time                  sensor_name  sensor_uuid  count   value
─────────────────────────────────────────────────────────────
2026-03-01T00:00:00Z  south                         0       0
2026-03-01T00:01:00Z  south                         1   0.125
2026-03-01T00:02:00Z  south                         2        
2026-03-02T09:10:00Z  south                      1990   248.75
";
    let answer = ask("sensor_name=south --limit 4");
    let squeezed = |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&answer)[0], squeezed(table)[0]);
    assert_eq!(squeezed(&answer)[3..7], squeezed(table)[3..7]);
    assert_eq!(squeezed(&answer)[7], "… 9 more rows");
    assert!(ask("sensor_name=south").ends_with("… 1 more row\n"));
    let csv = ask("--from 2026-03-01T01:01:00+01 --to 2026-03-01T00:02:00Z --format csv");
    assert_eq!(csv, "time,sensor_name,sensor_uuid,count,value\n2026-03-01T00:01:00Z,north,,1,0.125\n2026-03-01T00:01:00Z,south,,1,0.125\n");
    let json = ask("sensor_name=north --from 2026-03-01T01:01:00 --timezone Europe/Berlin --limit 2 --format json");
    assert_eq!(
        json,
        "{\"time\":\"2026-03-01T00:01:00Z\",\"sensor_name\":\"north\",\"sensor_uuid\":null,\"count\":1,\"value\":0.125}\n\
         {\"time\":\"2026-03-01T00:02:00Z\",\"sensor_name\":\"north\",\"sensor_uuid\":null,\"count\":2,\"value\":null}\n"
    );
    assert_eq!(ask("sensor_name=north --from 2027-01-01"), "online.readings: no rows\n");
    assert_eq!(ask("--from 2027-01-01 --to 2026-01-01 --format json"), "");
    assert_eq!(ask("--format csv").lines().count(), 1 + 13 + 3);
}

#[test]
fn a_query_for_what_is_not_there_names_what_is_near() {
    let place = stored();
    let wrong = |words: &str, error: &str, hint: &str| {
        let failure = place.run(&format!("query {words}")).fails_as_wrong_usage().names(&[error]);
        assert!(
            failure.hint.as_ref().is_none_or(|given| given.contains(hint)) && (hint.is_empty() || failure.hint.is_some()),
            "{failure:?}"
        );
    };
    wrong("onlin.readings --points store:points", "no dataflow \"onlin\"", "the nearest: \"online\"");
    wrong("online.reading --points store:points", "no measurement \"reading\"", "the nearest: \"readings\"");
    wrong("readings --points store:points", "\"readings\" is not DATAFLOW.MEASUREMENT", "");
    wrong("online.readings sensor=x --points store:points", "no tag \"sensor\"", "sensor_name");
    wrong("online.readings south --points store:points", "\"south\" is not TAG=VALUE", "sensor_name");
    wrong("online.readings --points file:points", "--points names no store", "store:DIR");
    wrong("online.readings --from then --points store:points", "--from \"then\" is not a time", "");
    wrong("online.readings --timezone Mars --points store:points", "--timezone \"Mars\"", "");
    let fails = |words: &str, error: &str, hint: &str| {
        let failure = place.run(&format!("query {words}")).fails().names(&[error]);
        assert!(failure.hint.unwrap_or_default().contains(hint));
    };
    fails("online.readings sensor_name=suoth --points store:points", "have sensor_name=\"suoth\"", "the nearest: \"south\"");
    fails("online.readings --points store:nothing", "no store of points", "give the folder");
    assert!(!place.has("nothing"));
    place.write("points/FORMAT", "retally points, format 9\n");
    fails("online.readings --points store:points", "has format \"9\"", "the version of the program");
}

#[test]
fn a_store_that_is_being_written_is_not_read() {
    let place = stored();
    let destination: Destination = format!("store:{}", place.path("points").display()).parse().unwrap();
    let outlet = destination.open(0).unwrap();
    let holder = format!("in use by another process, {}", std::process::id());
    let failure = place.run("query online.readings --points store:points").fails().names(&[&holder]);
    assert!(failure.hint.unwrap_or_default().contains("wait"));
    outlet.finish().unwrap();
    place.run("query online.readings --points store:points").succeeds();
}

/// All files of a folder but locks, with the length of what is in them: journals end in zeros.
fn lengths(folder: &Path) -> Vec<(PathBuf, usize)> {
    let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    let names = files.filter(|entry| entry.file_type().is_file() && !entry.file_name().eq_ignore_ascii_case("lock"));
    let length = |path: &Path| std::fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    names.map(|entry| (entry.path().strip_prefix(folder).unwrap().to_path_buf(), length(entry.path()))).collect()
}

fn change(path: &Path, change: impl FnOnce(&std::fs::File)) {
    change(&std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap());
}

/// Turns a bit of a byte.
fn flip(path: &Path, at: usize) {
    use std::os::unix::fs::FileExt;
    change(path, |file| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
    });
}

/// Each file of a store is changed in some places and cut: the answer is right, or the store is named, and the program never aborts. Of a
/// store that was not closed, what is lost can't be known; that is said.
#[test]
fn what_a_disk_has_changed_of_a_store_is_named() {
    let place = stored();
    // What is in the journal goes to tables, and new points to the journal.
    let store = retally::points::store::Store::open(&place.path("points")).unwrap();
    store.flush().unwrap();
    drop(store);
    write(&format!("store:{}", place.path("points").display()), vec![batch(&series("west"), Standing::Fresh, 0..3)]).unwrap();
    let ask = || place.run("query online.readings --points store:points --format csv");
    let right = ask().succeeds();
    assert!(right.stderr.is_empty() && right.stdout.lines().count() > 10, "{}", right.stderr);
    let whole = place.path("whole");
    let copy = |from: &Path, to: &Path| {
        std::fs::remove_dir_all(to).ok();
        assert!(Command::new("cp").args(["-r", "--sparse=always"]).args([from, to]).status().unwrap().success());
    };
    copy(&place.path("points"), &whole);
    let files = lengths(&whole);
    assert!(files.iter().any(|(name, _)| name.parent().is_some_and(|parent| parent.ends_with("tables"))), "{files:?}");
    let mut cases = Vec::new();
    for (number, (name, length)) in files.iter().enumerate().filter(|(_, (_, length))| *length > 0) {
        let flips = [0, length / 3, length / 2, length.saturating_sub(9).max(length / 2), length - 1];
        let cuts = [0, length / 2, length - 1];
        // A seal finds whatever it is, so that one place in each file is enough; without one, the tree reads on.
        cases.push((name, true, flips[number % 5], true));
        cases.push((name, false, cuts[number % 3], true));
        if !name.ends_with("SEAL") && number % 2 == 0 || name.extension().is_some() || name.to_string_lossy().contains("tables") {
            cases.extend(flips[1..].iter().map(|at| (name, true, *at, false)).chain([(name, false, cuts[1 + number % 2], false)]));
        }
    }
    let (tried, refused) = (cases.len(), std::sync::atomic::AtomicUsize::new(0));
    let (cases, refused_too, right, whole) = (&cases, &refused, &right.stdout, &whole);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                let place = Place::new();
                for (name, is_flip, at, sealed) in cases.iter().skip(worker).step_by(4) {
                    copy(whole, &place.path("points"));
                    let path = place.path("points").join(name);
                    if *is_flip {
                        flip(&path, *at)
                    } else {
                        change(&path, |file| file.set_len(*at as u64).unwrap())
                    }
                    if !sealed {
                        std::fs::remove_file(place.path("points/SEAL")).ok();
                    }
                    let ran = place.run("query online.readings --points store:points --format csv");
                    let what = format!("{name:?} at {at}, flip {is_flip}, sealed {sealed}: {:?} {}", ran.code, ran.stderr);
                    match ran.code {
                        Some(0) if *sealed => assert!(ran.stdout == *right && ran.stderr.is_empty() && !name.starts_with("tree"), "{what}"),
                        Some(0) => assert!(ran.stderr.starts_with("warning: the last process that had this store open"), "{what}"),
                        Some(1) if ran.stderr.contains("error: ") => {
                            assert!(ran.stderr.contains("\"points\"") && ran.stderr.contains("hint: "), "{what}");
                            refused_too.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                        // What is left does not answer the question.
                        Some(2) if !sealed => assert!(ran.stderr.contains("the store has no measurement"), "{what}"),
                        _ => panic!("{what}"),
                    }
                }
            });
        }
    });
    let refused = refused.into_inner();
    assert!(tried > 50 && refused > 40, "{refused} of {tried}");
}

#[test]
fn the_page_of_points_shows_what_is_answered() {
    let place = Place::new();
    place.run("generate brushing --out brushes --toothbrushes 2 --datasets 20").succeeds();
    place.run("run brushing datasets=brushes --tables brushing_daily --points store:points").succeeds();
    let readme = std::fs::read_to_string(format!("{}/src/points/README.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let asked = "query brushing.brushing toothbrush_id=brush-0000 --from 2024-01-05 --to 2024-01-06 --limit 3 --points store:points";
    let answer = place.run(asked).succeeds().stdout;
    // Blanks at the ends of lines are nothing that one sees.
    let shown: String = answer.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert!(readme.contains(&format!("$ retally {asked}\n{shown}")), "the page of points does not show\n{shown}");
    let asked = "query brushing.brushing toothbrush_id=brush-000 --points store:points";
    let failure = place.run(asked).fails();
    let shown = format!("$ retally {asked}\nerror: {}\nhint: {}\n", failure.error, failure.hint.unwrap());
    assert!(readme.contains(&shown), "README.md does not show\n{shown}");
}

/// Whoever says how long a server may be silent waits no longer for any.
#[test]
fn a_server_that_is_silent_is_given_up_as_soon_as_was_said() {
    let place = Place::new();
    place.run("generate sensors --out in --sensors 1 --days 1").succeeds();
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let run = format!("run sensors data=in/data.csv --points http://{address}/write --quiet --network-timeout");
    let began = Instant::now();
    place.run(&format!("{run} 1s")).fails().names(&["it does not answer in time"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "it would have been a minute: {took:?}");
    place.run(&format!("{run} soon")).fails_in_the_parser();
    drop(silent);
}
