//! Further sinks of a service: a file of all changes, and databases that others are in the way of.

use crate::databases::Database;
use crate::support::known::{ACTIVE, EVENTS, Known, ONLINE, SERVERS, rows, shuffled, table};
use crate::support::postgres_server::{PASSWORD_IN_URL, Server};
use crate::support::program::Place;
use crate::support::service::{Asker, Service, free_port};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// How long a sink may take to follow.
const FOLLOW_MAX: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + FOLLOW_MAX;
    while !is_so() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The status of the first sink.
pub fn sink(asker: &Asker) -> Value {
    asker.get("/v1/status").ok().json()["sinks"][0].clone()
}

/// What a reader of a file of changes knows.
#[derive(Debug, Default)]
struct Reader {
    /// Rows by table.
    sums: BTreeMap<String, BTreeMap<String, i64>>,
    /// The epochs that were whole, in their order.
    epochs: Vec<u64>,
    /// The tables that were to be read anew, as they came.
    resets: Vec<(u64, String)>,
}

impl Reader {
    /// Reads lines as their reader should, and looks whether they keep to what they promise.
    #[track_caller]
    fn read(&mut self, text: &str) {
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is not whole");
        let (mut begun, mut is_anew, mut touched) = (None, false, BTreeSet::new());
        for line in text.lines() {
            let said: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let last = self.epochs.last().copied();
            if let Some(progress) = said["progress"].as_object() {
                let epoch = progress["online"].as_u64().unwrap();
                let follows = last.is_none_or(|last| epoch == last + 1) || is_anew;
                assert!(follows && begun.is_none_or(|begun| begun == epoch || is_anew), "{last:?} {begun:?} {line}");
                assert_eq!(said["fingerprint"]["online"].as_str().map(str::len), Some(16), "{line}");
                self.epochs.push(epoch);
                (begun, is_anew) = (None, false);
                // A row is in its table once, or it is not.
                for (table, row) in std::mem::take(&mut touched) {
                    assert!(self.sums[&table].get(&row).is_none_or(|sum| [0, 1].contains(sum)), "{row} of {table} at epoch {epoch}");
                }
                continue;
            }
            let (epoch, table) = (said["epoch"].as_u64().unwrap(), said["table"].as_str().unwrap().to_string());
            assert_eq!(said["dataflow"], "online");
            begun = Some(epoch);
            let rows = self.sums.entry(table.clone()).or_default();
            if said["reset"] == true {
                rows.clear();
                self.resets.push((epoch, table));
                is_anew = true;
                continue;
            }
            let sum = rows.entry(said["row"].to_string()).or_insert(0);
            *sum += said["diff"].as_i64().unwrap();
            touched.insert((table, said["row"].to_string()));
        }
        assert!(begun.is_none(), "it ends in the middle of an epoch");
    }

    fn of(text: &str) -> Reader {
        let mut reader = Reader::default();
        reader.read(text);
        reader
    }

    /// What was read is what the tables are.
    #[track_caller]
    fn adds_up(&self, asker: &Asker, tables: &[&str]) {
        for table in tables {
            let mut expected = BTreeMap::new();
            for row in asker.get(&format!("/v1/online/tables/{table}")).ok().json().as_array().unwrap() {
                *expected.entry(row.to_string()).or_insert(0) += 1;
            }
            let found: BTreeMap<String, i64> =
                self.sums[*table].iter().filter(|(_, sum)| **sum != 0).map(|(row, sum)| (row.clone(), *sum)).collect();
            assert!(!expected.is_empty() || *table == "online_projection", "{table} is empty");
            assert!(found == expected, "{table}: {} rows by changes, {} in the table", found.len(), expected.len());
        }
    }
}

const TABLES: [&str; 6] =
    ["online_daily", "online_rolling_28d", "online_intervals", "online_summary", "online_projection", "online_issues"];

const CSV: (&str, &str) = ("content-type", "text/csv");
const JSONL: (&str, &str) = ("content-type", "application/x-ndjson");

/// Sends a batch until it is answered: as many times as it takes.
pub fn send(asker: &Asker, key: &str, body: &str, wait: &str) {
    loop {
        match asker.try_post(&format!("/v1/online/events?wait={wait}"), &[CSV, ("idempotency-key", key)], body.as_bytes()) {
            Some(answer) if answer.status == 200 => return,
            Some(answer) => assert!(matches!(answer.status, 409 | 503), "{} {}", answer.status, answer.text),
            None => {}
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Batches of so many lines.
pub fn batches(known: &Known, lines: usize) -> Vec<String> {
    shuffled(&known.lines).chunks(lines).map(|lines| table(&EVENTS, lines)).collect()
}

/// Kills a service again and again while batches come, and starts it again. Returns the last one.
pub fn through_kills(place: &Place, words: &str, batches: &[String], kills: u64) -> Service {
    let listen = format!("127.0.0.1:{}", free_port());
    let start = |seed: u64| Service::of(place, &ONLINE, &format!("-w {} --listen {listen} {words}", seed % 3 + 1));
    let mut service = start(0);
    send(&service.asker, "first", &table(&EVENTS, &["2023-02-01 00:00:00,1000,7,7,true".into()]), "visible");
    std::thread::scope(|scope| {
        let asker = service.asker.clone();
        let client = scope.spawn(move || {
            for (number, batch) in batches.iter().enumerate() {
                send(&asker, &format!("{number}"), batch, "visible");
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        for seed in 1..=kills {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            std::thread::sleep(Duration::from_millis(random.random_range(1..150)));
            service.kill();
            service = start(seed);
        }
        client.join().unwrap();
        service
    })
}

#[test]
fn a_file_has_each_change_once_whenever_the_service_is_killed() {
    let place = Place::new();
    let service = through_kills(&place, "--out changes:changes.jsonl", &batches(&ONLINE, 20), 8);
    until("the end", || sink(&service)["dataflows"]["online"]["behind"] == 0);
    let reader = Reader::of(&place.read("changes.jsonl"));
    reader.adds_up(&service, &TABLES);
    // It went on where it was, each time: no table was written twice.
    let epoch: u64 = service.get("/v1/online/tables").ok().headers["retally-epoch"].to_str().unwrap().parse().unwrap();
    let first = reader.epochs[0];
    assert!(epoch > 20 && first < 10 && reader.epochs == (first..=epoch).collect::<Vec<_>>(), "{:?}", reader.epochs);
    let all: BTreeSet<&str> = reader.resets.iter().map(|(_, table)| table.as_str()).collect();
    assert_eq!((reader.resets.len(), all), (TABLES.len(), TABLES.into()));
    service.end();
    assert_eq!(place.names("").iter().filter(|name| name.starts_with("changes")).count(), 1, "its lock is gone");
}

#[test]
fn a_file_that_was_put_away_or_torn_goes_on() {
    let place = Place::new();
    let words = "-w 2 --out changes:changes.jsonl";
    let service = Service::of(&place, &ONLINE, words);
    let batches = batches(&ONLINE, 60);
    let mut batches = batches.iter();
    let mut feed = |service: &Service, wait: &str| {
        let batch = batches.next().unwrap();
        service.csv(&format!("/v1/online/events?wait={wait}"), batch).ok();
    };
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    (0..5).for_each(|_| feed(&service, "sinks"));
    Reader::of(&place.read("changes.jsonl")).adds_up(&service, &TABLES);
    // As logrotate does: the next file begins with all rows, and needs no other.
    fs::rename(place.path("changes.jsonl"), place.path("changes.1")).unwrap();
    until("a new file", || place.has("changes.jsonl") && place.read("changes.jsonl").contains("progress"));
    let first = Reader::of(&place.read("changes.jsonl"));
    first.adds_up(&service, &TABLES);
    assert_eq!((first.resets.len(), first.epochs.as_slice()), (TABLES.len(), [6].as_slice()));
    assert_eq!(Reader::of(&place.read("changes.1")).epochs.last(), Some(&6));
    feed(&service, "sinks");
    // Likewise, where it is cut to nothing in its place.
    fs::File::options().write(true).open(place.path("changes.jsonl")).unwrap().set_len(0).unwrap();
    feed(&service, "sinks");
    Reader::of(&place.read("changes.jsonl")).adds_up(&service, &TABLES);
    service.end();
    // Torn, and further behind: what is missing is in the state.
    let text = place.read("changes.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|line| line.contains("\"progress\":{\"online\":8}")).unwrap();
    place.write("changes.jsonl", lines[..=at].join("\n") + "\n{\"dataflow\":\"online\",\"epo");
    let service = Service::of(&place, &ONLINE, "-w 1");
    (0..3).for_each(|_| feed(&service, "visible"));
    service.end();
    let service = Service::of(&place, &ONLINE, words);
    feed(&service, "sinks");
    let reader = Reader::of(&place.read("changes.jsonl"));
    reader.adds_up(&service, &TABLES);
    assert_eq!(reader.resets.len(), TABLES.len(), "no table was written twice");
    service.end();
    // Other settings, and changes that are not kept any more.
    let service = Service::start(&place, &format!("online {words} --set online.fleet-sizes=1-9"));
    feed(&service, "sinks");
    let reader = Reader::of(&place.read("changes.jsonl"));
    reader.adds_up(&service, &TABLES);
    assert_eq!(reader.resets.len(), 2 * TABLES.len());
    service.end();
    let service = Service::of(&place, &ONLINE, words);
    feed(&service, "sinks");
    assert_eq!(Reader::of(&place.read("changes.jsonl")).resets.len(), 3 * TABLES.len());
    service.end();
    let service = Service::of(&place, &ONLINE, "-w 1");
    feed(&service, "visible");
    service.end();
    for name in place.names("state").into_iter().filter(|name| name.starts_with("tables.sqlite")) {
        fs::remove_file(place.path(&format!("state/{name}"))).unwrap();
    }
    let service = Service::of(&place, &ONLINE, words);
    feed(&service, "sinks");
    let reader = Reader::of(&place.read("changes.jsonl"));
    reader.adds_up(&service, &TABLES);
    assert_eq!(reader.resets.len(), 4 * TABLES.len());
    let last = *reader.epochs.last().unwrap();
    service.end();
    // The file of another state, which had more.
    fs::remove_dir_all(place.path("state")).unwrap();
    let service = Service::of(&place, &ONLINE, words);
    feed(&service, "sinks");
    let text = place.read("changes.jsonl");
    let reader = Reader::of(&text);
    assert!(reader.epochs.ends_with(&[1]) && last > 1, "{:?}", reader.epochs);
    reader.adds_up(&service, &["online_daily", "online_intervals"]);
    service.end();
}

#[test]
fn a_file_has_several_dataflows() {
    let place = Place::new();
    let start = || Service::start(&place, "online active -w 2 --out changes:changes.jsonl");
    let service = start();
    let online = |day: u32| table(&EVENTS, &[format!("2026-03-{day:02} 08:00:00,{day},7,1,true")]);
    service.csv("/v1/online/events?wait=sinks", online(1)).ok();
    let (first, second) = ACTIVE.lines.split_at(ACTIVE.lines.len() / 2);
    let active = |lines: &[String]| drop(service.post("/v1/active/events?wait=sinks", &[JSONL], rows(lines)).ok());
    active(first);
    service.csv("/v1/online/events?wait=sinks", online(2)).ok();
    active(second);
    service.kill();
    let service = start();
    service.csv("/v1/online/events?wait=sinks", online(3)).ok();
    let text = place.read("changes.jsonl");
    let progress: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"progress\"")).collect();
    assert!(
        progress.last().unwrap().starts_with("{\"progress\":{\"active\":2,\"online\":3},\"fingerprint\":{\"active\":\""),
        "{progress:?}"
    );
    // Each of them adds up by itself, and neither was begun anew.
    for (dataflow, tables) in [("online", TABLES.as_slice()), ("active", &["active_user_table", "active_rolling", "active_issues"])] {
        let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut resets = 0;
        for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|line| line["dataflow"] == dataflow) {
            match line["diff"].as_i64() {
                None => resets += 1,
                Some(diff) => *sums.entry((line["table"].to_string(), line["row"].to_string())).or_insert(0) += diff,
            }
        }
        sums.retain(|_, sum| *sum != 0);
        let rows = |table: &&str| {
            let rows = service.get(&format!("/v1/{dataflow}/tables/{table}")).ok().json().as_array().unwrap().clone();
            rows.into_iter().map(|row| ((format!("\"{table}\""), row.to_string()), 1)).collect::<Vec<_>>()
        };
        let expected: BTreeMap<_, _> = tables.iter().flat_map(rows).collect();
        assert!(sums == expected && resets == tables.len(), "{dataflow}: {} of {}, {resets}", sums.len(), expected.len());
    }
    service.end();
}

/// Only the table with too many changes is written anew, and the others go on.
#[test]
fn an_epoch_with_too_many_changes_of_a_table_resets_that_table() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 2 --out changes:changes.jsonl");
    let line = |number: u32| format!("2026-03-{:02} 08:00:00,{number},7,1,true", number % 28 + 1);
    service.csv("/v1/online/events?wait=sinks", table(&EVENTS, &[line(1), line(2)])).ok();
    let many: Vec<String> = (0..110_000).map(line).collect();
    service.csv("/v1/online/events?wait=sinks", table(&EVENTS, &many)).ok();
    service.csv("/v1/online/events?wait=sinks", table(&EVENTS, &["2026-03-20 09:00:00,5,7,1,false".into()])).ok();
    let reader = Reader::of(&place.read("changes.jsonl"));
    let small: Vec<&str> = TABLES.into_iter().filter(|table| *table != "online_intervals").collect();
    reader.adds_up(&service, &small);
    // Too many to be asked for at once.
    let page = service.get("/v1/online/tables/online_intervals?limit=1000&offset=100000").ok().json();
    let counts = service.get("/v1/status").ok().json()["dataflows"]["online"]["tables"]["online_intervals"].as_u64();
    let found = reader.sums["online_intervals"].iter().filter(|(_, sum)| **sum != 0).count() as u64;
    assert_eq!((Some(found), found > 100_000), (counts, true));
    assert!(page.as_array().unwrap().iter().all(|row| reader.sums["online_intervals"].get(&row.to_string()) == Some(&1)));
    let again: Vec<&(u64, String)> = reader.resets.iter().skip(TABLES.len()).collect();
    assert!(matches!(again.as_slice(), [(2, table)] if table == "online_intervals"), "{again:?}");
    service.end();
}

#[test]
fn a_place_that_is_no_file_of_changes_is_refused() {
    let place = Place::new();
    place.write("events.csv", table(&EVENTS, &["2026-03-01 00:00:00,77,77,77,true".into()]));
    place.run("run online events=events.csv --out changes:x").fails_as_wrong_usage().names(&["is of a service"]);
    place.run("run online events=events.csv --out webhook:http://h/#t").fails_as_wrong_usage().names(&["of a service"]);
    place.run("serve online --state state --out changes:").fails_as_wrong_usage().names(&["does not name a file"]);
    place.run("serve online --state state --out changes:x --out changes:x").fails_as_wrong_usage().names(&["is given twice"]);
    place.write("log", "what somebody else keeps\n");
    let service = Service::start(&place, "online -w 1 --out changes:log");
    service.csv("/v1/online/events", place.read("events.csv")).ok();
    until("an error", || sink(&service)["error"].as_str().is_some_and(|error| error.ends_with("it has other lines than changes")));
    // It ends all the same.
    service.end();
    assert_eq!(place.read("log"), "what somebody else keeps\n");
}

/// A table of a database is that of the service.
#[track_caller]
fn same_in_database(service: &Service, server: &Server, name: &str) {
    let text = service.get(&format!("/v1/online/tables/{name}?format=csv")).ok().text;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut expected: Vec<Vec<String>> = reader.records().map(|row| row.unwrap().iter().map(String::from).collect()).collect();
    expected.sort();
    let mut found = server.table(name);
    let yes_no = |value: &mut String| *value = if value == "t" { "true".into() } else { "false".into() };
    found.iter_mut().flatten().filter(|value| *value == "t" || *value == "f").for_each(yes_no);
    found.sort();
    assert!(found == expected, "{name}: {} rows there, {} here", found.len(), expected.len());
}

/// Whoever is in the way of a database: the service goes on, the status says what is wrong, and it is mended when that is over.
#[test]
fn a_database_that_others_are_in_the_way_of_is_followed_again() {
    let place = Place::new();
    let server = Server::start();
    let url = server.url(&format!("keeper:{PASSWORD_IN_URL}"), "tables");
    let service = Service::of(&place, &ONLINE, &format!("-w 2 --out '{url}' --network-timeout 5s"));
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let batches = batches(&ONLINE, 100);
    let mut batches = batches.iter();
    let mut feed = |wait: &str| {
        let began = Instant::now();
        service.csv(&format!("/v1/online/events?wait={wait}"), batches.next().unwrap()).ok();
        assert!(wait == "sinks" || began.elapsed() < Duration::from_secs(5), "a batch waits for a sink");
    };
    let error = || sink(&service)["error"].to_string();
    let fails = |why: &str| until(why, || error().contains(why) && sink(&service)["dataflows"]["online"]["behind"] != 0);
    let follows = || until("the end", || sink(&service)["dataflows"]["online"]["behind"] == 0 && error() == "null");
    let same = |name: &str| same_in_database(&service, &server, name);
    feed("sinks");
    // Its connection is cut.
    let cut = || server.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'retally%'");
    assert_eq!(cut(), [["t"]]);
    feed("visible");
    follows();
    // A table is locked by somebody else.
    let mut other = server.client("tables");
    let mut holding = other.transaction().unwrap();
    holding.batch_execute("LOCK TABLE online_daily IN ACCESS EXCLUSIVE MODE").unwrap();
    feed("visible");
    feed("visible");
    fails("lock timeout");
    // As those hear of it who watch it.
    let metric = |name: &str, labels: &str| {
        let text = service.get("/metrics").ok().text;
        let start = format!("retally_{name}{{sink=\"postgres://127.0.0.1:{}/tables\"{labels}}} ", server.port());
        let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{start}: {text}"));
        line.parse::<u64>().unwrap()
    };
    assert_eq!((metric("sink_epochs_behind", ",dataflow=\"online\""), metric("sink_error", "")), (2, 1));
    service.get("/v1/online/tables/online_daily").ok();
    holding.rollback().unwrap();
    follows();
    assert_eq!((metric("sink_epochs_behind", ",dataflow=\"online\""), metric("sink_error", "")), (0, 0));
    same("online_daily");
    // A column is dropped, and put there again without what was in it.
    server.execute("ALTER TABLE online_daily DROP COLUMN devices");
    feed("visible");
    fails("it has no column \\\"devices\\\"");
    server.execute("ALTER TABLE online_daily ADD COLUMN devices BIGINT NOT NULL DEFAULT 0");
    follows();
    let columns = "SELECT day, fleet_size, devices FROM online_daily";
    let sorted = |mut rows: Vec<Vec<String>>| {
        rows.sort();
        rows
    };
    let text = service.get("/v1/online/tables/online_daily?format=csv").ok().text;
    let expected = text.lines().skip(1).map(|line| line.split(',').map(String::from).collect()).collect();
    assert!(sorted(server.rows(columns)) == sorted(expected), "rows that did not change since are as they were, too");
    // A table is dropped: it is there again.
    server.execute("DROP TABLE online_daily");
    feed("visible");
    follows();
    same("online_daily");
    feed("sinks");
    TABLES.iter().for_each(|name| same(name));
    // One that is away at the end holds up nobody.
    drop(server);
    service.csv("/v1/online/events", table(&EVENTS, &["2023-01-20 00:00:00,1000,7,7,true".into()])).ok();
    until("an error", || error() != "null");
    let ended = service.end();
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}

/// The service and the database, each at moments of its own, while batches come.
#[test]
fn whoever_is_killed_a_database_holds_what_the_service_does() {
    let kills = std::env::var("KILL_RUNS").ok().map_or(6, |count| count.parse().unwrap());
    let place = Place::new();
    let mut server = Server::start();
    let words = format!("--out '{}' --network-timeout 5s", server.url(&format!("keeper:{PASSWORD_IN_URL}"), "tables"));
    let batches = batches(&ONLINE, 20);
    let service = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = ChaCha8Rng::seed_from_u64(kills);
            for _ in 0..kills {
                std::thread::sleep(Duration::from_millis(random.random_range(1..400)));
                server.kill();
                assert!(server.run(), "the server does not start: {}", server.log());
            }
        });
        through_kills(&place, &words, &batches, kills)
    });
    // It ends with the thread that started it.
    server.kill();
    assert!(server.run(), "the server does not start: {}", server.log());
    until("the end", || sink(&service)["dataflows"]["online"]["behind"] == 0);
    TABLES.iter().for_each(|name| same_in_database(&service, &server, name));
    let epoch = service.get("/v1/online/tables").ok().headers["retally-epoch"].to_str().unwrap().to_string();
    assert_eq!(server.rows("SELECT epoch FROM retally_progress WHERE dataflow = 'online'"), [[epoch]]);
    service.end();
}
