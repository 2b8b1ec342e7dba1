//! Services that start again: under other settings, and beside a folder that is not there yet.

use crate::further::until;
use crate::support::known::{EVENTS, ONLINE, table};
use crate::support::packed::gzip;
use crate::support::parquet;
use crate::support::program::Place;
use crate::support::service::Service;
use std::fs;
use std::io::{BufRead, BufReader};

const DAILY: &str = "/v1/online/tables/online_daily";

fn events() -> String {
    let event = |hour: u64, device: u64, on: bool| format!("2026-03-02 {hour:02}:00:00,{device},7,1,{on}");
    table(&EVENTS, &[event(8, 1, true), event(18, 1, false), event(9, 2, true), event(17, 2, false)])
}

/// The events of a stream from a position on, until its first progress behind the one that it begins with.
fn stream(service: &Service, since: &str, ending: &str) -> String {
    let response = ureq::get(format!("{}/v1/changes?tables=online.online_daily&since={since}", service.address)).call().unwrap();
    let mut text = String::new();
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        text += &format!("{}\n", line.unwrap());
        if text.matches(ending).count() == 2 {
            break;
        }
    }
    text
}

#[test]
fn whoever_knows_tables_of_other_settings_is_told_to_read_them_anew() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1 --set online.fleet-sizes=1,2");
    service.csv("/v1/online/events", events()).ok();
    let tag = service.get(DAILY).ok().headers["etag"].to_str().unwrap().to_string();
    let tags = ["*".to_string(), tag.clone(), format!("W/{tag}"), format!("\"0\", {tag}")];
    let asked = |service: &Service, tag: &str| service.try_get(DAILY, &[("if-none-match", tag)]).unwrap().status;
    assert!(tags.iter().all(|tag| asked(&service, tag) == 304) && asked(&service, "\"1\"") == 200);
    service.end();
    // Nothing has come since; whoever goes on where he was is told all the same.
    for is_first in [true, false] {
        let service = Service::start(&place, "online -w 1 --set online.fleet-sizes=1-5");
        assert_eq!(asked(&service, &tag), 200);
        let text = stream(&service, "1", "event: progress");
        assert!(text.contains("event: reset") && text.ends_with("event: progress\n"), "{is_first}: {text}");
        service.end();
    }
    // Who has read them since is not told again when a batch comes.
    let service = Service::start(&place, "online -w 1 --set online.fleet-sizes=1-5");
    service.csv("/v1/online/events", table(&EVENTS, &["2026-03-03 08:00:00,3,7,1,true".into()])).ok();
    let text = stream(&service, "1", "event: progress");
    assert!(text.contains("event: reset") && !text.contains("event: change"), "{text}");
    service.csv("/v1/online/events", table(&EVENTS, &["2026-03-04 08:00:00,3,7,1,false".into()])).ok();
    let text = stream(&service, "2", "event: progress");
    assert!(!text.contains("event: reset") && text.contains("event: change"), "{text}");
    service.end();
}

#[test]
fn a_query_that_is_wrong_is_told_as_all_errors_are() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    for path in ["/v1/changes", "/v1/online/batches?limit=x", "/v1/online/charts/online_daily.json?first=x"] {
        let said = service.get(path).refused(400, "bad_value");
        assert!(said.contains("the query can't be read"), "{said}");
    }
    service.post("/v1/online/events?retract=yes", &[("content-type", "text/csv")], events()).refused(400, "bad_value");
    service.post("/v1/online/events?bogus=1", &[("content-type", "text/csv")], events()).refused(400, "bad_value");
    service.end();
}

#[test]
fn a_folder_that_is_empty_at_the_start_takes_nothing_back() {
    let place = Place::new();
    place.write("drop/first.csv", events());
    place.write("drop/second.csv", table(&EVENTS, &["2026-03-03 08:00:00,3,7,1,true".into()]));
    let start = || Service::start(&place, "online -w 1 --watch online.events=drop --settle 100ms");
    let rows = |service: &Service| service.get(&format!("{DAILY}?day=2026-03-02")).ok().json().as_array().unwrap().len();
    let error = |service: &Service| service.get("/v1/status").ok().json()["folders"][0]["error"].to_string();
    let service = start();
    until("the first file", || rows(&service) > 0);
    until("both files", || service.get("/v1/status").ok().json()["folders"][0]["files"] == 2);
    service.end();
    // As when a disk is not mounted yet.
    fs::rename(place.path("drop/first.csv"), place.path("first.csv")).unwrap();
    fs::rename(place.path("drop/second.csv"), place.path("second.csv")).unwrap();
    let service = start();
    until("what is wrong", || error(&service).contains("it is empty, and 2 files of it are known"));
    assert!(rows(&service) > 0);
    // With a file there it is what it is.
    fs::rename(place.path("second.csv"), place.path("drop/second.csv")).unwrap();
    until("the end of the first file", || rows(&service) == 0);
    until("no error", || error(&service) == "null");
    // While it is watched, a folder may become empty.
    fs::remove_file(place.path("drop/second.csv")).unwrap();
    until("no file", || service.get("/v1/status").ok().json()["folders"][0]["files"] == 0);
    let ended = service.end();
    assert!(ended.stderr.contains("nothing is taken back until a file is there"), "{}", ended.stderr);
}

#[test]
fn files_are_written_at_once_where_somebody_waits_for_them() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1 --out csv:files");
    for body in [events(), table(&EVENTS, &["2026-03-03 08:00:00,3,7,1,true".into()])] {
        service.csv("/v1/online/events?wait=sinks", body).ok();
        assert_eq!(place.read("files/online_daily.csv"), service.get(&format!("{DAILY}?format=csv")).ok().text);
    }
    service.end();
}

#[test]
fn each_dataflow_has_places_of_its_own() {
    let place = Place::new();
    place.write(
        "retally.toml",
        "[online]\nout = ['csv:online', 'sqlite:both.sqlite']\n[active]\nout = ['json:active', 'sqlite:both.sqlite', 'sqlite:active.sqlite']\n",
    );
    let service = Service::start(&place, "online active -w 1 --config retally.toml");
    service.csv("/v1/online/events?wait=sinks", events()).ok();
    let event = r#"{"event_date":"20260302","event_timestamp":1772438400000000,"event_name":"user_engagement","user_pseudo_id":"a"}"#;
    service.post("/v1/active/events?wait=sinks", &[("content-type", "application/x-ndjson")], event).ok();
    let sinks = service.get("/v1/status").ok().json()["sinks"].clone();
    let told = |number: usize| sinks[number]["dataflows"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!([0, 1, 2, 3].map(told), ["online", "active online", "active", "active"], "{sinks}");
    service.end();
    assert!(place.has("online/online_daily.csv") && !place.has("online/active_rolling.csv"));
    assert!(place.has("active/active_rolling.json") && !place.has("active/online_daily.json"));
    let tables = |file: &str| crate::databases::Database::tables(&crate::support::sqlite_file::SqliteFile::new(&place, file)).join(" ");
    assert!(tables("both.sqlite").contains("online_daily") && tables("both.sqlite").contains("active_rolling"));
    assert!(!tables("active.sqlite").contains("online_daily"), "{}", tables("active.sqlite"));
    // On the command line all of them are meant, and a folder is of one.
    let failure = place.run("serve online active --state state --out csv:all").fails_as_wrong_usage().names(&["several dataflows"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("--config")));
}

/// What is in the journal is read again at each start: it is looked at to its end before.
#[test]
fn a_broken_file_in_a_watched_folder_harms_only_itself() {
    let place = Place::new();
    let zip = |files: &[(&str, &str)]| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let line = "2026-03-02 08:00:00,5,7,1,true\n";
    let packed = gzip(&table(&EVENTS, &(0..5_000).map(|device| format!("2026-03-02 08:00:00,{device},7,1,true")).collect::<Vec<_>>()));
    place.write("drop/cut.csv.gz", &packed[..packed.len() / 2]);
    place.write("drop/mixed.zip", zip(&[("a.csv", &events()), ("b.csv", line)]));
    place.write("drop/other.zip", zip(&[("c.csv", "PAR1\u{15}")]));
    place.write("drop/good.zip", zip(&[("d.csv", &events())]));
    let folder = |service: &Service| service.get("/v1/status").ok().json()["folders"][0].clone();
    for _ in 0..2 {
        let service = Service::start(&place, "online -w 1 --watch online.events=drop --settle 100ms");
        until("what can be read, and what can't", || folder(&service)["files"] == 1 && folder(&service)["refused"] == 3);
        assert_eq!(service.get(&format!("{DAILY}?day=2026-03-02")).ok().json()[0]["devices"], 2);
        let ended = service.end();
        for (file, why) in
            [("cut.csv.gz", "incomplete deflate stream"), ("mixed.zip", "it has no header, and"), ("other.zip", "it holds Parquet")]
        {
            assert!(ended.stderr.lines().any(|line| line.contains(file) && line.contains(why)), "{file}: {}", ended.stderr);
        }
    }
}

#[test]
fn parquet_with_broken_pages_is_refused_before_it_gets_an_epoch() {
    let place = Place::new();
    let whole = parquet::events(&ONLINE.lines[..500], 100);
    let mut broken = whole.clone();
    // The head of the first page; what stands at the end of the file, where its beginning is looked for, is as it was.
    broken[4..40].fill(0xff);
    let service = Service::start(&place, "online -w 1");
    let kind = [("content-type", "application/vnd.apache.parquet")];
    let said = service.post("/v1/online/events", &kind, &broken).refused(400, "bad_body");
    assert!(said.contains("row"), "{said}");
    let answer = service.post("/v1/online/events", &kind, &whole).ok().json();
    assert_eq!(answer["epoch"], 1, "{answer}");
    service.end();
    place.write("drop/broken.parquet", &broken);
    place.write("drop/whole.parquet", &whole);
    let service = Service::start(&place, "online -w 1 --watch online.events=drop --settle 100ms");
    let folder = || service.get("/v1/status").ok().json()["folders"][0].clone();
    until("what can be read, and what can't", || folder()["files"] == 1 && folder()["refused"] == 1);
    service.end();
}

#[test]
fn a_feed_of_which_nothing_can_be_read_has_failed() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    place.write("bad.csv", table(&EVENTS, &["2026-03-03 08:00:00,3,7,1,maybe".into()]));
    let failed = place.run(&format!("feed online events=bad.csv --server {}", service.address)).fails_after("1 rejected");
    failed.names(&["none of 1 records could be read"]);
    service.end();
}

#[test]
fn ids_may_be_of_another_kind_over_the_same_state() {
    let place = Place::new();
    place.write("numbers.csv", events());
    place.write("texts.csv", table(&EVENTS, &["2026-03-03 08:00:00,a-3,7,1,true".into()]));
    place.run("run online --state state events=numbers.csv").succeeds();
    place.run("run online --state state events=texts.csv --ids text --out out").succeeds();
    let intervals = place.read("out/online_intervals.csv");
    assert!(intervals.contains("\na-3,7,1,2026-03-03T08:00:00Z,") && intervals.contains("\n2,7,1,2026-03-02T09:00:00Z,"), "{intervals}");
    place.run("verify --state state --out out").succeeds();
    let service = Service::start(&place, "online -w 1 --set online.ids=text");
    assert_eq!(service.get("/v1/online/tables/online_intervals?device_id=a-3").ok().json().as_array().unwrap().len(), 1);
    service.end();
}
