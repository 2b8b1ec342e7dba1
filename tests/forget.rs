//! All records of a device, a user or a sensor are taken back, and erased from what a state keeps.

use crate::support::known::{EVENTS, ONLINE, SERVERS, same, table};
use crate::support::packed::gzip;
use crate::support::program::Place;
use crate::support::service::Service;
use serde_json::json;
use std::fs;

/// A device of its own, of a user that other devices have too.
const DEVICE: &str = "9182736450";
const JSON: (&str, &str) = ("content-type", "application/json");

fn line(day: u64, hour: u64) -> String {
    format!("2023-01-{day:02} {hour:02}:00:00,{DEVICE},7,7,{}", hour.is_multiple_of(2))
}

/// Whether any file of a state holds a text, however it is packed.
fn holds(place: &Place, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["journal", "snapshot", "blobs"].into_iter().filter(|folder| place.has(&format!("state/{folder}"))) {
        for name in place.names(&format!("state/{folder}")) {
            let bytes = fs::read(place.path(&format!("state/{folder}/{name}"))).unwrap();
            let unpacked = match name.rsplit_once('.').map(|(_, ending)| ending) {
                Some("zst") => zstd::decode_all(&bytes[..]).unwrap(),
                Some("gz") => {
                    let mut unpacked = Vec::new();
                    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut unpacked).unwrap();
                    unpacked
                }
                _ => bytes,
            };
            if memchr::memmem::find(&unpacked, text.as_bytes()).is_some() {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found
}

/// Tables are those without the device, whether they are brought up to date, compared or rebuilt.
#[track_caller]
fn check(place: &Place) {
    fs::remove_dir_all(place.path("out")).ok();
    place.run(&format!("{} --state state --out out", ONLINE.run())).succeeds();
    same(place, "out", &ONLINE);
}

#[test]
fn a_device_is_forgotten_whatever_its_records_came_in() {
    let place = Place::new();
    let run = |words: &str| place.run(&format!("{} --state state {words}", ONLINE.run())).succeeds();
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    let half = ONLINE.lines.len() / 2;
    // Among others in a plain file, between them in a packed one, in JSON with its fields in another order, twice, and once taken back.
    let mut first = ONLINE.lines[..half].to_vec();
    (1..5).for_each(|day| first.insert(day * 3, line(day as u64, 2)));
    place.write("a.csv", table(&EVENTS, &first));
    let mut second = ONLINE.lines[half..].to_vec();
    second.push(line(9, 4));
    second.insert(0, line(9, 5));
    place.write("b.csv.gz", gzip(&table(&EVENTS, &second)));
    let object = |id: serde_json::Value| json!({"connected": true, "timestamp": "2023-01-12 06:00:00", "device_id": id, "user_id": 7, "server_id": 7});
    place.write("c.json", json!([object(DEVICE.into()), object(9_182_736_450_u64.into())]).to_string());
    place.write("quoted.csv", format!("{}\n\"2023-01-13 07:00:00\",\"{DEVICE}\",7,7,\"true\"\n", EVENTS.join(",")));
    place.write("float.csv", format!("{}\n2023-01-14 07:00:00,{DEVICE}.0,7,7,true\n", EVENTS.join(",")));
    run("servers=servers.csv events=a.csv --then events=b.csv.gz --then events=c.json --then events=c.json events-=c.json");
    run("events=quoted.csv --then events=float.csv");
    let other = fs::read_dir(place.path("state/blobs")).unwrap().count();
    assert!(other >= 5 && !holds(&place, DEVICE).is_empty());

    place.run("forget online events device_id=1234567890123 --state state").fails().names(&["no record of events has device_id"]);
    place.run("forget online events device=7 --state state").fails_as_wrong_usage().names(&["\"device\"", "device_id"]);
    place.run("forget online gadgets device_id=7 --state state").fails_as_wrong_usage().names(&["\"gadgets\"", "events"]);
    let said = place.run(&format!("forget online events device_id={DEVICE} --state state")).succeeds().stdout;
    // The file in JSON was delivered twice and taken back once, in batches of their own.
    assert!(said.contains("took back 14 records, in 7 files"), "{said}");
    check(&place);
    place.run(&format!("forget online events device_id={DEVICE} --state state")).fails().names(&["no record of events has device_id"]);

    assert!(!holds(&place, DEVICE).is_empty(), "compact has not been asked for yet");
    let said = place.run("compact --state state").succeeds().stdout;
    assert!(said.contains("what was forgotten is not in 7 files any more"), "{said}");
    assert_eq!(holds(&place, DEVICE), Vec::<String>::new());
    check(&place);
    fs::remove_file(place.path("state/tables.sqlite")).unwrap();
    check(&place);
    // It may come again.
    place.write("again.csv", table(&EVENTS, &[line(3, 2)]));
    let again = run("events=again.csv");
    assert!(again.stderr.contains(" 1 record"), "{}", again.stderr);
    let intervals = place.run("query online.online_issues --state state").succeeds().stdout;
    assert!(!intervals.is_empty());
    place.run(&format!("forget online events device_id={DEVICE} --state state")).succeeds();
    check(&place);
}

#[test]
fn what_two_things_that_were_forgotten_have_in_common_is_taken_back_once() {
    let place = Place::new();
    let run = |words: &str| place.run(&format!("{} --state state {words}", ONLINE.run())).succeeds();
    place.write("servers.csv", table(&SERVERS, &ONLINE.servers));
    let mut lines = ONLINE.lines.clone();
    let of = |day: u64, device: u64, user: u64| format!("2023-01-{day:02} 08:00:00,{device},{user},7,true");
    // A device of two users, and a user of two devices.
    lines.extend([of(1, 7_770_010_077, 888_001), of(2, 7_770_010_077, 888_002), of(3, 7_770_020_077, 888_002)]);
    place.write("events.csv", table(&EVENTS, &lines));
    run("servers=servers.csv events=events.csv");
    place.run("forget online events device_id=7770010077 --state state").succeeds();
    place.run("forget online events user_id=888002 --state state").succeeds();
    check(&place);
    let said = place.run("compact --state state").succeeds().stdout;
    assert!(said.contains("what was forgotten is not in 1 files any more"), "{said}");
    assert_eq!((holds(&place, "7770010077"), holds(&place, "7770020077")), (vec![], vec![]));
    check(&place);
    // The record that both have in common comes again: it is there, as any other is.
    place.write("again.csv", table(&EVENTS, &[of(2, 7_770_010_077, 888_002)]));
    run("events=again.csv");
    run("events-=again.csv");
    check(&place);
}

#[test]
fn refused_records_keep_their_places_where_others_are_forgotten() {
    let place = Place::new();
    let refused = |hour: u64, device: u64, state: &str| format!("2023-01-05 {hour:02}:00:00,{device},7,7,{state}");
    let device: u64 = DEVICE.parse().unwrap();
    let lines = [refused(1, device, "maybe"), String::new(), refused(2, 2, "perhaps"), line(5, 2), refused(3, 3, "never"), line(5, 4)];
    let lines = [&lines[..], &[refused(4, 4, "true")]].concat();
    place.write("events.csv", table(&EVENTS, &lines));
    let object = |device: u64, state: &str| {
        json!({"timestamp": "2023-01-06 08:00:00", "device_id": device, "user_id": 7, "server_id": 7, "connected": state}).to_string()
    };
    let objects = [object(device, "maybe"), String::new(), object(device, "true"), object(5, "never"), object(6, "true")];
    place.write("events.jsonl", objects.join("\n"));
    place.run("run online --state state events=events.csv --then events=events.jsonl").succeeds();
    place.run("verify --state state").succeeds();
    let rejected = || {
        let rows = place.run("rejected list online --state state --format csv").succeeds().stdout;
        rows.lines().skip(1).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(rejected().len(), 5, "{:?}", rejected());
    place.run(&format!("forget online events device_id={DEVICE} --state state")).succeeds();
    let said = place.run("compact --state state").succeeds().stdout;
    assert!(said.contains("what was forgotten is not in 2 files any more"), "{said}");
    let left = rejected();
    assert!(left.len() == 3 && left.iter().all(|row| !row.contains(DEVICE)), "{left:?}");
    place.run("run online --state state").succeeds();
    assert_eq!(rejected(), left);
    place.run("verify --state state").succeeds();
    // They have the numbers that they had, so that what is delivered once more is what is meant.
    let service = Service::start(&place, "online -w 1");
    let left = rejected();
    let ids: Vec<&str> = left.iter().filter_map(|row| row.rsplit(',').next()).collect();
    assert_eq!(ids, ["1.1.4", "1.1.6", "2.1.4"], "{left:?}");
    let answer = service.post("/v1/online/rejected/replay", &[JSON], json!({"ids": ["1.1.4"]}).to_string()).ok().json();
    assert_eq!(answer["replayed"], 1, "{answer}");
    service.end();
    assert!(rejected().iter().any(|row| row.contains("perhaps")), "{:?}", rejected());
}

#[test]
fn what_can_not_be_written_anew_is_named() {
    let place = Place::new();
    place.write("in/events.csv", table(&EVENTS, &[line(1, 2), line(2, 3)]));
    let packed = std::process::Command::new("tar").args(["cf", "events.tar", "in/events.csv"]).current_dir(place.path(".")).status();
    assert!(packed.unwrap().success());
    place.run("run online --state state events=events.tar").succeeds();
    place.run(&format!("forget online events device_id={DEVICE} --state state")).succeeds();
    let failed = place.run("compact --state state");
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("still in 1 files") && failed.stderr.contains("events.tar"), "{}", failed.stderr);
    // Nothing is lost, and it is said again.
    place.run("run online --state state").succeeds();
    place.run("verify --state state").succeeds();
    assert_eq!(place.run("compact --state state").code, Some(1));
}

#[test]
fn a_dataset_is_forgotten_by_its_key() {
    let place = Place::new();
    place.run("generate brushing --out in --toothbrushes 3 --datasets 2 --minutes 0.2 --mess 0").succeeds();
    place.run("run brushing --state state datasets=in --out all").succeeds();
    place.run("run brushing datasets=in/brush-0000 --then datasets=in/brush-0002 --out expected").succeeds();
    place.run("forget brushing datasets toothbrush=brush-0001 --state state").fails_as_wrong_usage();
    let said = place.run("forget brushing datasets toothbrush_id=brush-0001 --state state").succeeds().stdout;
    assert!(said.contains("took back 2 records"), "{said}");
    place.run("run brushing --state state --out out").succeeds();
    let tables = |folder: &str| {
        let mut tables = place.tables(folder);
        tables.retain(|name, _| name.ends_with(".csv") && name != "rejected.csv");
        tables
    };
    assert!(tables("out").len() == 3 && tables("out") == tables("expected"));
    let blobs = place.names("state/blobs").len();
    place.run("compact --state state").succeeds();
    assert!(place.names("state/blobs").len() < blobs);
    place.run("verify --state state").succeeds();
}

#[test]
fn a_service_forgets_while_it_runs() {
    let place = Place::new();
    let service = Service::of(&place, &ONLINE, "-w 2");
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let mut lines = ONLINE.lines.clone();
    (1..4).for_each(|day| lines.insert(day * 5, line(day as u64, 2)));
    service.csv("/v1/online/events", table(&EVENTS, &lines)).ok();
    service.csv("/v1/online/events", table(&EVENTS, &[line(20, 3)])).ok();
    let forget = |field: &str, value: &str| {
        let body = json!({"field": field, "value": value}).to_string();
        service.post("/v1/online/events/forget", &[JSON, ("idempotency-key", &format!("{field} {}", value.len()))], body)
    };
    forget("device_id", "1234567890123").refused(404, "unknown_record");
    forget("device", "7").refused(400, "unknown_field");
    service.post("/v1/online/events/forget", &[JSON], "{}").refused(400, "bad_body");
    let answer = forget("device_id", DEVICE).ok().json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&4.into(), &0.into()), "{answer}");
    service.same(&ONLINE);
    assert_eq!(forget("device_id", DEVICE).ok().json()["duplicate"], true);
    service.same(&ONLINE);
    // What came since.
    service.csv("/v1/online/events", table(&EVENTS, &[line(21, 3)])).ok();
    let address = service.address.clone();
    let said = place.run(&format!("forget online events device_id={DEVICE} --server {address}")).succeeds().stdout;
    assert!(said.contains("took back 1 records"), "{said}");
    service.same(&ONLINE);
    service.end();
    place.run("verify --state state").succeeds();
    place.run("compact --state state").succeeds();
    assert_eq!(holds(&place, DEVICE), Vec::<String>::new());
    let service = Service::of(&place, &ONLINE, "-w 1");
    service.same(&ONLINE);
    service.end();
}

/// Users of `active` are texts, and so are ids where that is said: one that looks like the same number is another one.
#[test]
fn a_text_is_forgotten_alone() {
    let place = Place::new();
    let event = |user: &str, minute: u32| {
        json!({"event_timestamp": 1_728_270_000_000_000u64 + u64::from(minute) * 60_000_000, "event_name": "user_engagement", "user_pseudo_id": user,
            "event_params": [{"key": "engagement_time_msec", "value": {"int_value": 25_000}}, {"key": "x_event", "value": {"int_value": 1}}]})
    };
    // The last but one is the first, as a data frame writes it.
    let users = ["1", "01", "1e0", "1.0", "2"];
    place.write("users.jsonl", users.iter().zip(0..).map(|(user, minute)| format!("{}\n", event(user, minute))).collect::<String>());
    place.run("run active events=users.jsonl --state state -w 1").succeeds();
    let forgotten = place.run("forget active events user_pseudo_id=1 --state state").succeeds().stdout;
    assert!(forgotten.contains("took back 2 records"), "{forgotten}");
    place.run("run active --state state --out out -w 1").succeeds();
    assert!(
        place.read("out/active_user_table.csv").lines().any(|line| line == "2024-10-06,3"),
        "{}",
        place.read("out/active_user_table.csv")
    );

    let other = Place::new();
    other.write("events.csv", table(&EVENTS, &["17", "017"].map(|device| format!("2024-03-01 08:00:00,{device},1,1,true"))));
    other.run("run online events=events.csv --ids text --state state -w 1").succeeds();
    // Where nothing says what ids are, it is not guessed.
    fs::rename(other.path("state/tables.sqlite"), other.path("kept.sqlite")).unwrap();
    let failure = other.run("forget online events device_id=17 --state state").fails().names(&["no tables of online", "its ids are texts"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("--exact")));
    fs::rename(other.path("kept.sqlite"), other.path("state/tables.sqlite")).unwrap();
    let forgotten = other.run("forget online events device_id=17 --state state").succeeds().stdout;
    assert!(forgotten.contains("took back 1 record"), "{forgotten}");
}
