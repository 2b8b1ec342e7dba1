//! Input in buckets: the same tables as from folders, however bad the connection; and what is wrong, said.

use crate::processes::hosts;
use crate::support::known::{ACTIVE, ONLINE};
use crate::support::packed::gzip;
use crate::support::program::{Place, Ran, Started};
use crate::support::s3_server::{Proxy, S3Server, lend, secret};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;

fn run(server: &S3Server, place: &Place, words: &str) -> Ran {
    Started::new(server.lend(place.command(words)), words).finish()
}

fn tables(place: &Place, folder: &str) -> BTreeMap<String, Vec<u8>> {
    place.files(folder).into_iter().filter(|(name, _)| name.ends_with(".csv") && name != "rejected.csv").collect()
}

#[test]
fn a_bucket_is_read_like_a_folder() {
    let (server, place) = (S3Server::start(), Place::new());
    ONLINE.write_csv(&place, "in");
    place.run(&format!("{} events=in/events.csv servers=in/servers.csv -w 1 --out alone", ONLINE.run())).succeeds();
    server.put_folder(&place, "in", "online");
    let words = |workers: u32| {
        format!(
            "{} events=s3://fleet/online/events.csv servers=s3://fleet/online/servers.csv -w {workers} --out out-{workers}",
            ONLINE.run()
        )
    };
    for workers in 1..=3 {
        run(&server, &place, &words(workers)).succeeds();
        assert_eq!(tables(&place, &format!("out-{workers}")), tables(&place, "alone"));
    }
    hosts(&place);
    let both = |process| format!("{} -n 2 -p {process} --hosts hosts", words(1).replace("--out out-1", "--out both"));
    let processes = [0, 1].map(|process| Started::new(server.lend(place.command(&both(process))), "both"));
    for process in processes {
        process.finish().succeeds();
    }
    assert_eq!(tables(&place, "both"), tables(&place, "alone"));
}

#[test]
fn prefixes_globs_packed_objects_and_archives() {
    let (server, place) = (S3Server::start(), Place::new());
    let lines = &ACTIVE.lines;
    place.write("in/events.jsonl", lines.join("\n"));
    place.run(&format!("{} events=in -w 1 --out alone", ACTIVE.run())).succeeds();
    let third = lines.len() / 3;
    let parts = [&lines[..third], &lines[third..third * 2], &lines[third * 2..]].map(|part| part.join("\n").into_bytes());
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("part.jsonl", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&parts[2]).unwrap();
    server.put([
        ("app/a.jsonl".into(), parts[0].clone()),
        ("app/deep/er/b ä+%20&.jsonl.gz".into(), gzip(&parts[1])),
        ("app/c.zip".into(), zip.finish().unwrap().into_inner()),
        ("app/empty.jsonl".into(), Vec::new()),
        ("app/.hidden/d.jsonl".into(), b"no input".to_vec()),
        ("app/README".into(), b"no input".to_vec()),
        ("app-2/other.jsonl".into(), b"no input".to_vec()),
    ]);
    for input in ["events=s3://fleet/app", "events=s3://fleet/app/", "'events=s3://fleet/app/**/*.{jsonl,jsonl.gz,zip}'"] {
        let said = run(&server, &place, &format!("{} {input} -w 2 --out out", ACTIVE.run())).succeeds().stderr;
        assert_eq!(tables(&place, "out"), tables(&place, "alone"), "{input}: {said}");
        assert_eq!(said.contains("s3://fleet/app/README"), !input.contains("**"), "{said}");
    }
    // A line that is refused is named by its object.
    server.put([("bad/x.jsonl".into(), format!("garbage\n{}\n", lines[0]).into_bytes())]);
    run(&server, &place, "run active events=s3://fleet/bad --out bad").succeeds();
    assert!(place.read("bad/rejected.csv").contains("events,s3://fleet/bad/x.jsonl,1,"), "{}", place.read("bad/rejected.csv"));
    // A folder has a URL too.
    place.run(&format!("{} events=file://{} --out out", ACTIVE.run(), place.path("in").display())).succeeds();
    assert_eq!(tables(&place, "out"), tables(&place, "alone"));
}

#[test]
fn ten_thousand_objects_are_listed_and_read() {
    let (server, place) = (S3Server::start(), Place::new());
    let sensor = |number: usize| format!("00000000-0000-0000-0000-{:012}", number % 7);
    for number in 0..10_000 {
        let text = format!(
            "timestamp;sensor_uuid;sensor_value\n2024-01-01T{:02}:{:02}:00Z;{};{number}\n",
            number / 60 % 24,
            number % 60,
            sensor(number)
        );
        let key = format!("data/{:03}/{number}.csv", number % 128);
        place.write(&format!("in/{key}"), &text);
        server.lay(&format!("sensors/{key}"), &text);
    }
    let mapping: String = (0..7).map(|number| format!("s{number},{}\n", sensor(number))).collect();
    server.lay("sensors/mapping.csv", &mapping);
    place.write("in/mapping.csv", &mapping);
    place.run("run sensors mapping=in/mapping.csv data=in/data --out alone").succeeds();
    run(&server, &place, "run sensors mapping=s3://fleet/sensors/mapping.csv data=s3://fleet/sensors/data --out out").succeeds();
    assert_eq!(tables(&place, "out"), tables(&place, "alone"));
    assert!(place.read("out/sensor_summary.csv").lines().count() == 8);
}

/// A CSV of more than two splits, the same in the bucket and in `in/events.csv`.
fn large(server: &S3Server, place: &Place) {
    place.run("generate online --out in --devices 2000 --days 80 --events-per-day 1.5 --mess 0.1 --seed 3").succeeds();
    let events = place.read("in/events.csv");
    assert!(events.len() > 9 << 20, "{}", events.len());
    server.put_folder(place, "in", "large");
    place.run("run online events=in/events.csv servers=in/servers.csv --out alone").succeeds();
}

const LARGE: &str = "run online events=s3://fleet/large/events.csv servers=s3://fleet/large/servers.csv";

#[test]
fn a_connection_that_is_cut_in_the_middle_of_an_object_goes_on_where_it_was() {
    let (server, place) = (S3Server::start(), Place::new());
    large(&server, &place);
    let proxy = Proxy::start(server.address, 6, 700_000);
    let mut command = place.command(&format!("{LARGE} -w 2 --out out"));
    lend(&mut command, proxy.address, secret());
    Started::new(command, LARGE).finish().succeeds();
    assert_eq!(tables(&place, "out"), tables(&place, "alone"));
    assert_eq!(proxy.cut.load(Ordering::Acquire), 6);
    assert!(proxy.ranges.load(Ordering::Relaxed) >= 3, "splits are read by ranges");
    // Packed, it is one stream; it goes on as well.
    server.put([("packed/events.csv.gz".into(), gzip(place.read("in/events.csv").as_bytes()))]);
    let proxy = Proxy::start(server.address, 3, 300_000);
    let mut command =
        place.command(&LARGE.replace("large/events.csv", "packed/events.csv.gz").replace("run online", "run online -w 2 --out packed"));
    lend(&mut command, proxy.address, secret());
    Started::new(command, LARGE).finish().succeeds();
    assert_eq!(tables(&place, "packed"), tables(&place, "alone"));
    assert_eq!(proxy.cut.load(Ordering::Acquire), 3);
}

#[test]
fn a_server_that_always_cuts_fails_the_run_and_nothing_is_written() {
    let (server, place) = (S3Server::start(), Place::new());
    large(&server, &place);
    let proxy = Proxy::start(server.address, u64::MAX, 100_000);
    let mut command = place.command(&format!("{LARGE} --out out"));
    lend(&mut command, proxy.address, secret());
    let failure = Started::new(command, LARGE).finish().fails();
    failure.names(&["could not read", "s3://fleet/large/events.csv"]);
    assert!(!place.has("out"));
}

#[test]
fn what_is_wrong_with_a_bucket_is_said() {
    let (server, place) = (S3Server::start(), Place::new());
    server.put([("x/events.csv".into(), b"2024-01-01T00:00:00Z,1,1,1,t\n".to_vec())]);
    let fails = |server: &S3Server, input: &str| {
        let failure = run(server, &place, &format!("run online {input} --out out")).fails();
        assert!(!place.has("out"));
        failure
    };
    let missing = fails(&server, "events=s3://none/x/events.csv").names(&["s3://none/x/events.csv", "NoSuchBucket"]);
    assert!(missing.hint.is_some_and(|hint| hint.contains("AWS_ACCESS_KEY_ID")));
    fails(&server, "events=s3://none").names(&["could not list", "NoSuchBucket"]);
    fails(&server, "events=s3://fleet/none/").names(&["found no file for \"s3://fleet/none/\""]);
    fails(&server, "events=s3://fleet/x/none.csv").names(&["found no file for"]);
    fails(&server, "'events=s3://fleet/y/*.csv'").names(&["found no file for"]);
    fails(&server, "events=gs://fleet/x").names(&["gs://fleet/x", "s3://BUCKET/KEY"]);
    fails(&server, "events=s3://").names(&["it names no bucket"]);
    let mut command = place.command("run online events=s3://fleet/x --out out");
    lend(&mut command, server.address, "another secret");
    Started::new(command, "").finish().fails().names(&["could not list", "SignatureDoesNotMatch"]);
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = place.command("run online events=s3://fleet/x --out out");
    lend(&mut command, away, secret());
    Started::new(command, "").finish().fails().names(&["s3://fleet/x", "refused"]);
    assert!(!place.has("out"));
}

#[test]
fn datasets_lie_in_buckets_and_on_web_servers_too() {
    let (server, place) = (S3Server::start(), Place::new());
    place.run("generate brushing --out in --toothbrushes 3 --datasets 4 --minutes 0.5 --mess 0.1").succeeds();
    place.run("run brushing datasets=in --out alone -w 1").succeeds();
    let mut jobs = String::new();
    let web = serve(place.path("in"));
    for toothbrush in place.names("in") {
        for dataset in place.names(&format!("in/{toothbrush}")) {
            let folder = format!("{toothbrush}/{dataset}");
            server.put_folder(&place, &format!("in/{folder}"), &format!("brushes/{folder}"));
            let [brushing, settings] = ["brushing.csv", "settings.jsonlines"].map(|name| format!("{folder}/{name}"));
            jobs += &format!(
                "{{\"job_id\":\"{dataset}\",\"toothbrush_id\":\"{toothbrush}\",\"brushing\":\"http://{web}/{brushing}?token=x\",\"settings\":\"s3://fleet/brushes/{settings}\"}}\n"
            );
        }
    }
    run(&server, &place, "run brushing datasets=s3://fleet/brushes --out bucket -w 2").succeeds();
    assert_eq!(tables(&place, "bucket"), tables(&place, "alone"));
    // The jobs themselves are an object here, and half of the streams are on a web server.
    server.put([("jobs/jobs.jsonl".into(), jobs.into_bytes())]);
    run(&server, &place, "run brushing datasets=s3://fleet/jobs/jobs.jsonl --out web -w 2").succeeds();
    assert_eq!(tables(&place, "web"), tables(&place, "alone"));
    // A bucket that knows what a stream was can tell that it is the same.
    let first = "datasets=s3://fleet/brushes";
    let said = run(&server, &place, &format!("run brushing {first} --then {first} --out again")).succeeds().stderr;
    assert!(!said.contains("may remain"), "{said}");
    assert_eq!(tables(&place, "again"), tables(&place, "alone"));
    // A web server that has no such file fails the dataset alone.
    let lost = format!(
        "{{\"job_id\":\"j\",\"toothbrush_id\":\"t\",\"brushing\":\"http://{web}/none.csv?token=secret\",\"settings\":\"http://{web}/none\"}}\n"
    );
    place.write("lost.jsonl", lost);
    place.run("run brushing datasets=lost.jsonl --out lost").fails().names(&["the server answers 404"]);
    place.run("run brushing datasets=lost.jsonl --out lost --max-rejected 1").succeeds();
    let row = place.read("lost/brushing_jobs.csv");
    assert!(row.contains("t,j,failed,") && row.contains("the server answers 404") && !row.contains("secret"), "{row}");
}

/// The head of a request; none where the client has gone.
fn request(client: &mut TcpStream) -> Option<String> {
    let (mut request, mut block) = (Vec::new(), [0; 1 << 10]);
    while !request.ends_with(b"\r\n\r\n") {
        let length = client.read(&mut block).ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&block[..length]);
    }
    Some(String::from_utf8_lossy(&request).into_owned())
}

/// A web server of the files of a folder.
fn serve(folder: std::path::PathBuf) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || {
                let Some(head) = request(&mut client) else { return };
                let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
                let (status, body) = match std::fs::read(folder.join(path.trim_start_matches('/'))) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body)).ok();
            });
        }
    });
    address
}

/// A server with one bucket, for what no honest one does: it lists these pages, one after the other, and has one object of these bytes
/// under every key. What its ETags are depends on how often it was asked for one.
fn odd_server(pages: Vec<String>, object: &'static str, tag: fn(u64) -> u64) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        for mut client in listener.incoming().flatten() {
            let (pages, asked) = (pages.clone(), std::sync::Arc::clone(&asked));
            std::thread::spawn(move || {
                let Some(head) = request(&mut client) else { return };
                let target = head.split(' ').nth(1).unwrap_or_default();
                let page = target.split("continuation-token=").nth(1).map_or(0, |token| token.split('&').next().unwrap().parse().unwrap());
                let (status, body) = match &head {
                    head if head.starts_with("HEAD") => ("404 Not Found", ""),
                    _ if target.contains("list-type=2") => ("200 OK", pages[page].as_str()),
                    _ => ("206 Partial Content", object),
                };
                let tag = if body == object { tag(asked.fetch_add(1, Ordering::Relaxed)) } else { 0 };
                let range = format!("content-range: bytes 0-{}/{}\r\netag: \"{tag}\"", object.len() - 1, object.len());
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{range}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                client.write_all(head.as_bytes()).and_then(|()| client.write_all(body.as_bytes())).ok();
            });
        }
    });
    address
}

fn page(keys: &[&str], next: Option<&str>) -> String {
    let object = |key: &&str| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag><Size>30</Size></Contents>"
        )
    };
    let next = next.map_or(String::new(), |token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    let objects: String = keys.iter().map(object).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>odd</Name>{objects}{next}</ListBucketResult>")
}

#[test]
fn a_key_that_can_not_be_named_hides_no_other() {
    let place = Place::new();
    let pages = vec![
        page(&["x/a.csv", "x//b.csv", "x/b &amp; c.csv", "x//", "x//README"], Some("1")),
        page(&["x/d/../e.csv", "x/f.csv", "x/.hidden//a.csv"], None),
    ];
    let server = odd_server(pages, "2024-01-01T00:00:00Z,1,1,1,t\n", |_| 0);
    let mut command = place.command("run online events=s3://odd/x --out out");
    lend(&mut command, server, secret());
    let said = Started::new(command, "").finish().succeeds().stderr;
    assert!(said.contains("batch 1: 3 records, 0 late, 0 rejected, from 3 files (87 B)"), "{said}");
    let note = "not read: 2 objects whose keys have an empty part, . or .. in them, \"s3://odd/x//b.csv\" the first";
    assert!(said.contains(note), "{said}");
    assert!(said.contains("passed over 2 files"), "{said}");
}

#[test]
fn a_listing_that_leads_to_itself_is_refused() {
    let place = Place::new();
    let server = odd_server(vec![page(&["x/a.csv"], Some("1")), page(&["x/b.csv"], Some("1"))], "x", |_| 0);
    let mut command = place.command("run online events=s3://odd/x --out out");
    lend(&mut command, server, secret());
    Started::new(command, "").finish().fails().names(&["could not list \"s3://odd/x\"", "does not go on"]);
}

/// It is looked at once, and read once; in between there is another under the same key.
#[test]
fn an_object_that_is_replaced_before_it_is_read_fails_the_run() {
    let place = Place::new();
    let event = "2024-01-01T00:00:00Z,1,1,1,t\n";
    let server = odd_server(vec![page(&["x/a.csv"], None)], event, |asked| asked.min(1));
    let mut command = place.command("run online events=s3://odd/x --out out");
    lend(&mut command, server, secret());
    let failure = Started::new(command, "").finish().fails();
    let failure = failure.names(&["s3://odd/x/a.csv", "it was 29 bytes with ETag \"0\", and is 29 bytes with ETag \"1\""]);
    assert!(failure.hint.is_some_and(|hint| hint.contains("a copy")));
    assert!(!place.has("out"));
    let server = odd_server(vec![page(&["x/a.csv"], None)], event, |_| 7);
    let mut command = place.command("run online events=s3://odd/x --out out");
    lend(&mut command, server, secret());
    Started::new(command, "").finish().succeeds();
}
