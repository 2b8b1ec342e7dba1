//! A state in a bucket: what is acknowledged is there, whatever becomes of the process, of its scratch folder, and of requests on their
//! way.

use crate::support::known::{EVENTS, ONLINE, SERVERS, shuffled, table};
use crate::support::program::{Place, Ran, Started};
use crate::support::s3_faults::{Fault, FaultyWay};
use crate::support::s3_server::{S3Server, lend, secret};
use crate::support::service::Service;
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CSV: (&str, &str) = ("content-type", "text/csv");
const HOME: &str = "--state s3://fleet/live --scratch scratch";

/// A service whose state is in the bucket that is reached by this address.
fn serve(place: &Place, address: SocketAddr, words: &str) -> Service {
    let service = begin(place, address, words);
    service.asker.until_ready();
    service
}

fn begin(place: &Place, address: SocketAddr, words: &str) -> Service {
    let home = if words.contains("--scratch") { "--state s3://fleet/live" } else { HOME };
    Service::begin_as(place, &format!("{} {} {home} {words}", ONLINE.dataflow(), ONLINE.set()), |mut command| {
        lend(&mut command, address, secret());
        command
    })
}

fn run(server: &S3Server, place: &Place, words: &str) -> Ran {
    Started::new(server.lend(place.command(words)), words).finish()
}

/// The objects of the journal, in order.
fn journal(server: &S3Server) -> Vec<String> {
    server.names("live/journal")
}

fn post(service: &Service, key: &str, lines: &[String]) -> serde_json::Value {
    service.post("/v1/online/events", &[CSV, ("idempotency-key", key)], table(&EVENTS, lines)).ok().json()
}

#[test]
fn whoever_is_killed_and_whatever_is_lost_of_its_scratch_folder_the_tables_are_those_of_a_run() {
    let (server, place) = (S3Server::start(), Place::new());
    let lines = shuffled(&ONLINE.lines);
    let parts: Vec<&[String]> = lines.chunks(lines.len().div_ceil(4)).collect();
    let service = serve(&place, server.address, "-w 2");
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let mut service = Some(service);
    for (round, part) in parts.iter().enumerate() {
        let running = service.take().unwrap_or_else(|| serve(&place, server.address, "-w 2"));
        for (number, batch) in part.chunks(40).enumerate() {
            post(&running, &format!("{round}-{number}"), batch);
        }
        // A body that is too large for the journal.
        let large = part.iter().cycle().take(3_000).cloned().collect::<Vec<_>>();
        assert!(table(&EVENTS, &large).len() > 64 << 10);
        post(&running, &format!("{round}-large"), &large);
        running.kill();
        match round {
            0 => {}
            1 => fs::remove_dir_all(place.path("scratch")).unwrap(),
            _ => fs::remove_dir_all(place.path("scratch/blobs")).unwrap(),
        }
    }
    let service = serve(&place, server.address, "-w 2");
    service.same(&ONLINE);
    let again = post(&service, "0-0", &parts[0][..40]);
    assert_eq!(again["duplicate"], true, "{again}");
    // Each start has an object of its own.
    assert!(journal(&server).len() > parts.len() * 2);
    assert!(!server.names("live/blobs").is_empty());
    let status = run(&server, &place, "status --state s3://fleet/live").succeeds().stdout;
    let epoch = again["epoch"].as_u64().unwrap();
    assert!(epoch == 2 && status.starts_with("online: epoch "), "{status}");
    // Another process may read it meanwhile, from a scratch folder of its own; its tables are the service's.
    run(&server, &place, "verify --state s3://fleet/live --scratch other").fails().names(&["has no tables"]);
    service.end();
    run(&server, &place, "verify --state s3://fleet/live --scratch scratch -w 1").succeeds();
    assert!(run(&server, &place, "query online.online_daily --state scratch --limit 1").succeeds().stdout.contains("online_daily"));
    // The batches are in the bucket.
    let key = "device_id=0 user_id=0 server_id=0 online_from=2022-01-01 online_until=2022-01-02 end_reason=offline";
    assert!(run(&server, &place, &format!("why online.online_intervals {key} --state scratch")).succeeds().stdout.contains(": 0 changes"));
    // What a file of the bucket holds is looked at, and not its copy.
    let folder = format!("live/blobs/{}", server.names("live/blobs")[0]);
    let blob = format!("{folder}/{}", server.names(&folder)[0]);
    let whole = fs::read(server.path(&blob)).unwrap();
    server.lay(&blob, &whole[..whole.len() / 2]);
    run(&server, &place, "verify --state s3://fleet/live --scratch scratch -w 1").fails().names(&["s3://fleet/live/blobs/", "is damaged"]);
    server.lay(&blob, &whole);
    // A run adds to it, and folds what there is: a file of several parts, too.
    let mut large = GzEncoder::new(Vec::new(), Compression::none());
    large.write_all(table(&EVENTS, lines.iter().cycle().take(400_000).cloned().collect::<Vec<_>>().as_slice()).as_bytes()).unwrap();
    let large = large.finish().unwrap();
    assert!(large.len() > 17 << 20, "{}", large.len());
    place.write("more.csv.gz", &large);
    run(&server, &place, &format!("{} {HOME} events=more.csv.gz -w 1", ONLINE.run())).succeeds();
    let before = journal(&server).len();
    run(&server, &place, "compact --state s3://fleet/live --scratch scratch").succeeds();
    assert!(journal(&server).len() < before);
    run(&server, &place, "verify --state s3://fleet/live --scratch scratch -w 1").succeeds();
    fs::remove_dir_all(place.path("scratch")).unwrap();
    let service = serve(&place, server.address, "-w 1");
    service.same(&ONLINE);
    service.end();
}

#[test]
fn requests_that_are_lost_refused_or_carried_out_twice_leave_each_batch_once() {
    let (server, place) = (S3Server::start(), Place::new());
    let way = FaultyWay::to(server.address);
    let service = serve(&place, way.address, "-w 1");
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let lines = shuffled(&ONLINE.lines);
    let faults = [Fault::AnswerLost, Fault::RequestLost, Fault::Conflict, Fault::Repeated, Fault::Unavailable];
    let batches: Vec<&[String]> = lines.chunks(lines.len().div_ceil(30)).collect();
    let first = journal(&server).len();
    for (number, batch) in batches.iter().enumerate() {
        // One, or two of them in a row.
        let fault = faults[number % faults.len()];
        let next = faults[number / faults.len() % faults.len()];
        way.plan(std::iter::once(fault).chain((number % 2 == 0).then_some(next)));
        let answer = post(&service, &number.to_string(), batch);
        assert_eq!((&answer["epoch"], &answer["duplicate"]), (&(number as u64 + 2).into(), &false.into()), "{fault:?}: {answer}");
        // What is planned and was not met must not meet another.
        way.forget();
    }
    assert!(way.happened() > batches.len() as u64);
    assert_eq!(journal(&server).len(), first + batches.len(), "an object for each");
    service.same(&ONLINE);
    service.kill();
    let service = serve(&place, server.address, "-w 1");
    service.same(&ONLINE);
    service.end();
    // The first object of a process may get lost as well, and so may its answer.
    way.plan([Fault::AnswerLost, Fault::Conflict, Fault::Repeated]);
    let service = serve(&place, way.address, "-w 1");
    service.same(&ONLINE);
    service.end();
}

#[test]
fn a_bucket_that_is_away_is_waited_for() {
    let (server, place) = (S3Server::start(), Place::new());
    let way = FaultyWay::to(server.address);
    let service = serve(&place, way.address, "-w 1");
    let lines = shuffled(&ONLINE.lines);
    post(&service, "before", &lines[..10]);
    way.set_away(true);
    let asker = service.asker.clone();
    let body = table(&EVENTS, &lines[10..20]);
    let waiting = std::thread::spawn(move || {
        asker.try_post("/v1/online/events?wait=durable", &[CSV, ("idempotency-key", "meanwhile")], body.as_bytes())
    });
    let until = Instant::now() + Duration::from_secs(30);
    while service.get("/readyz").status == 200 {
        assert!(Instant::now() < until, "it does not notice");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nothing more is taken, and all can be read.
    assert!(service.csv("/v1/online/events", table(&EVENTS, &lines[20..30])).refused(503, "disk").contains("s3://fleet/live/journal/"));
    service.get("/v1/online/tables/online_daily").ok();
    way.set_away(false);
    assert_eq!(waiting.join().unwrap().unwrap().ok().json()["epoch"], 2);
    service.asker.until_ready();
    assert_eq!(post(&service, "after", &lines[20..30])["epoch"], 3);
    let said = service.end().stderr;
    assert!(said.contains("trying again") && said.contains("the state is written again"), "{said}");
}

#[test]
fn of_two_services_the_older_one_writes_no_more() {
    let (server, place) = (S3Server::start(), Place::new());
    let lines = shuffled(&ONLINE.lines);
    let old = serve(&place, server.address, "-w 1");
    post(&old, "old", &lines[..10]);
    let new = serve(&place, server.address, "-w 1 --scratch other --compact-after 1KiB");
    // It folds the journal, past the number that the old one would take next.
    let mut number = 0;
    while server.names("live/snapshot").is_empty() {
        number += 1;
        assert!(number < 200, "it does not fold");
        post(&new, &number.to_string(), &lines[..50]);
    }
    let until = Instant::now() + Duration::from_secs(30);
    while journal(&server).contains(&"00000004.log".into()) {
        assert!(Instant::now() < until, "{:?}", journal(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
    let refused = old.try_post("/v1/online/events", &[CSV, ("idempotency-key", "lost")], table(&EVENTS, &lines[10..20]).as_bytes());
    assert!(refused.is_none_or(|answer| answer.status != 200));
    let failure = old.started.finish().fails_after("");
    let failure = failure.names(&["another process writes the state \"s3://fleet/live\"", "(\"retally serve online\", since 2"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("end one of them")));
    // Nothing of it is there.
    let answer = post(&new, "lost", &lines[10..20]);
    assert_eq!((&answer["duplicate"], &answer["epoch"]), (&false.into(), &(number + 2).into()), "{answer}");
    new.end();
    // Two with one scratch folder are told at once.
    let new = serve(&place, server.address, "-w 1");
    let words = format!("serve online {HOME} --listen 127.0.0.1:0");
    run(&server, &place, &words).fails().names(&["could not open the state \"scratch\"", "has it open"]);
    assert_eq!(post(&new, "more", &lines[..1])["epoch"], number + 3);
    new.end();
}

#[test]
fn the_journal_is_folded_while_batches_come_and_whoever_is_killed_loses_nothing() {
    let (server, place) = (S3Server::start(), Place::new());
    let words = "-w 2 --compact-after 16KiB";
    let lines = shuffled(&ONLINE.lines);
    let wrong: Vec<String> = (0..40).map(|number| format!("2023-02-01 00:00:{number:02},77{number},7,7,true")).collect();
    let service = serve(&place, server.address, words);
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    service.end();
    let chunks: Vec<&[String]> = lines.chunks(lines.len().div_ceil(40)).collect();
    for (seed, chunks) in chunks.chunks(10).enumerate() {
        let service = serve(&place, server.address, words);
        for (number, chunk) in chunks.iter().enumerate() {
            post(&service, &format!("{seed}-{number}"), chunk);
            service.csv("/v1/online/events", table(&EVENTS, &wrong)).ok();
            service.csv("/v1/online/events?retract=true", table(&EVENTS, &wrong)).ok();
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
        std::thread::sleep(Duration::from_micros(random.random_range(0..40_000)));
        service.kill();
        if seed == 1 {
            fs::remove_dir_all(place.path("scratch")).unwrap();
        }
    }
    let service = serve(&place, server.address, words);
    let again = post(&service, "0-0", chunks[0]);
    assert_eq!((&again["duplicate"], &again["epoch"]), (&true.into(), &2.into()));
    service.same(&ONLINE);
    service.end();
    // Who is killed when it has written a snapshot leaves the one before to the next that folds.
    let snapshots = server.names("live/snapshot").len();
    assert!((1..=2).contains(&snapshots), "{snapshots}");
    let objects = journal(&server).len();
    assert!(objects < chunks.len() * 3, "{objects}");
    fs::remove_dir_all(place.path("scratch")).unwrap();
    let service = serve(&place, server.address, words);
    service.same(&ONLINE);
    assert_eq!(post(&service, "next", chunks[0])["epoch"], chunks.len() as u64 * 3 + 2);
    service.same(&ONLINE);
    service.end();
    run(&server, &place, "verify --state s3://fleet/live --scratch scratch").succeeds();
}

#[test]
fn an_end_that_a_server_lost_is_left_out_and_what_the_tables_know_besides_is_told() {
    let (server, place) = (S3Server::start(), Place::new());
    let lines = shuffled(&ONLINE.lines);
    let service = serve(&place, server.address, "-w 1");
    for number in 0..3 {
        post(&service, &number.to_string(), &lines[number * 10..number * 10 + 10]);
    }
    service.kill();
    let last = format!("live/journal/{}", journal(&server).last().unwrap());
    let whole = fs::read(server.path(&last)).unwrap();
    for rest in [&whole[..whole.len() / 2], &[][..]] {
        server.lay(&last, rest);
        // The tables have what the bucket has not.
        let service = begin(&place, server.address, "-w 1");
        assert!(!service.asker.gets_ready());
        service.started.signal("TERM");
        let ran = service.started.finish();
        assert!(ran.stderr.contains("it is cut off") || rest.is_empty(), "{}", ran.stderr);
        ran.fails_after("").names(&["its last batch of online is number 2", "those of number 3"]);
        fs::rename(place.path("scratch"), place.path(&format!("kept-{}", rest.len()))).unwrap();
        let service = serve(&place, server.address, "-w 1");
        let epoch = post(&service, "2", &lines[20..30])["epoch"].as_u64().unwrap();
        assert_eq!(epoch, 3);
        service.end();
        serve(&place, server.address, "-w 1").end();
        // Once more from there.
        for name in journal(&server) {
            let name = format!("live/journal/{name}");
            if name > last {
                fs::remove_file(server.path(&name)).unwrap();
            }
        }
    }
    // In the middle, it is damage.
    server.lay(&last, &whole);
    let first = format!("live/journal/{}", journal(&server)[1]);
    let bytes = fs::read(server.path(&first)).unwrap();
    server.lay(&first, &bytes[..bytes.len() / 2]);
    fs::remove_dir_all(place.path("scratch")).unwrap();
    let words = format!("serve online {HOME} --listen 127.0.0.1:0");
    run(&server, &place, &words).fails().names(&["s3://fleet/live/journal/0000000", "is damaged: it ends within a frame"]);
    fs::remove_file(server.path(&first)).unwrap();
    run(&server, &place, &words).fails().names(&["is damaged: the file before it, 0000000", "is missing"]);
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    let (server, place) = (S3Server::start(), Place::new());
    let serve_at = |state: &str| format!("serve online {state} --listen 127.0.0.1:0");
    let wrong = |words: &str| run(&server, &place, words).fails_as_wrong_usage();
    wrong(&serve_at("--state s3://fleet/live")).names(&["needs a folder of this machine"]);
    wrong(&serve_at("--state state --scratch scratch")).names(&["--scratch is of a state in a bucket"]);
    wrong(&serve_at("--state s3://me:secret@fleet/live --scratch scratch")).names(&["is no path of this machine"]);
    wrong(&serve_at("--state https://host/live --scratch scratch")).names(&["is no path of this machine"]);
    wrong("query online.online_daily --state s3://fleet/live").names(&["not in the bucket", "scratch folder"]);
    wrong("why online.online_daily date=2023-01-01 --state s3://fleet/live").names(&["not in the bucket"]);
    wrong("rejected list online --state s3://fleet/live").names(&["not in the bucket"]);
    let fails = |words: &str| run(&server, &place, words).fails();
    for words in ["compact", "verify", "forget online events device_id=1"] {
        fails(&format!("{words} --state s3://fleet/none --scratch scratch")).names(&["there is no state \"s3://fleet/none\""]);
    }
    fails("status --state s3://fleet/none").names(&["there is no state"]);
    let failure = fails(&serve_at("--state s3://nowhere/live --scratch scratch")).names(&["s3://nowhere/live", "NoSuchBucket"]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("AWS_ENDPOINT_URL")));
    server.lay("full/letters.txt", "x");
    fails(&serve_at("--state s3://fleet/full --scratch scratch")).names(&["\"s3://fleet/full\" is no state"]);
    server.lay("new/format", "retally 9\n");
    run(&server, &place, &serve_at("--state s3://fleet/new --scratch scratch")).fails_with(4).names(&["\"retally 9\""]);
    place.write("letters/letter.txt", "x");
    fails(&serve_at("--state s3://fleet/live --scratch letters")).names(&["\"letters\" is no scratch folder"]);
    // A server that writes over what is there.
    let way = FaultyWay::to(server.address);
    way.be_careless();
    let words = serve_at(HOME);
    let mut command = place.command(&words);
    lend(&mut command, way.address, secret());
    Started::new(command, &words).finish().fails().names(&["does not heed If-None-Match"]);
}

#[test]
fn a_scratch_folder_of_another_state_is_made_anew() {
    let (server, place) = (S3Server::start(), Place::new());
    let lines = shuffled(&ONLINE.lines);
    let service = serve(&place, server.address, "-w 1");
    post(&service, "1", &lines[..10]);
    post(&service, "2", &lines[10..20]);
    service.end();
    let words = format!("{} {} --state s3://fleet/other --scratch scratch -w 1", ONLINE.dataflow(), ONLINE.set());
    let service = Service::begin_as(&place, &words, |command| server.lend(command));
    service.asker.until_ready();
    assert_eq!(post(&service, "1", &lines[..10])["epoch"], 1);
    let said = service.end().stderr;
    assert!(said.contains("the scratch folder \"scratch\" was that of another state: all in it is rebuilt"), "{said}");
    // One that is behind catches up, and a file says where all is.
    place.write("retally.toml", "state = \"s3://fleet/live\"\nscratch = \"scratch\"\n");
    let service = Service::begin_as(&place, "online --config retally.toml --state s3://fleet/live -w 1", |command| server.lend(command));
    service.asker.until_ready();
    assert_eq!(service.get("/v1/status").json()["dataflows"]["online"]["epoch"], 2);
    service.end();
}
