//! Secrets are shown nowhere: not on the terminal, not in a file, and not in the name of one.

use crate::support::program::{Place, Ran, Started};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// What must not be seen.
const MARK: &str = "h1dd3nm4rk";

/// A server that refuses whatever it is asked for, and repeats all that it was told.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut request, mut block) = (Vec::new(), [0; 4 << 10]);
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let Ok(length @ 1..) = client.read(&mut block) else { break };
                request.extend_from_slice(&block[..length]);
            }
            let body = String::from_utf8_lossy(&request).into_owned();
            let head = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            client.write_all(head.as_bytes()).and_then(|()| client.write_all(body.as_bytes())).ok();
        }
    });
    address
}

/// Nothing of a folder has the mark, but for the files that were given.
fn is_clean(folder: &Path, given: &[&str]) {
    for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
        let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
        assert!(!name.contains(MARK), "{name:?} is the name of a file");
        if entry.file_type().is_file() && !given.contains(&name.as_str()) {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()), "{name:?} has the mark in it");
        }
    }
}

/// Runs a command that has the mark in it somewhere.
fn run(place: &Place, words: &str, variables: &[(&str, &str)]) -> Ran {
    let words = words.replace("MARK", MARK);
    let mut command = place.command(&words);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        command.env(name, "x");
    }
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").env("AWS_REGION", "x");
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().map(|(name, value)| (*name, value.replace("MARK", MARK))));
    let ran = Started::new(command, &words).finish();
    assert!(!ran.stdout.contains(MARK), "`retally {words}` prints\n{}", ran.stdout);
    assert!(!ran.stderr.contains(MARK), "`retally {words}` says\n{}", ran.stderr);
    is_clean(&place.path(""), &["jobs.jsonl"]);
    ran
}

fn place() -> Place {
    let place = Place::new();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    place.write("data.csv", "2024-03-01T08:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,1\n");
    place
}

#[test]
fn no_command_that_fails_shows_a_secret() {
    let server = echo();
    let online = "run online events=events.csv";
    let sensors = "run sensors data=data.csv -w 1";
    let commands = [
        // Inputs.
        "run online events=https://u:MARK@host/x.csv",
        "run online 'events=https://host/x.csv?X-Amz-Signature=MARK'",
        "run online 'events=https://host/x.csv?MARK'",
        "run online 'events=https://u:a MARK@host/x.csv'",
        "run online 'events=https://u:a/MARK@host/x.csv'",
        "run online 'events=https://u:1?MARK@host/x.csv'",
        "run online events=gs://MARK@bucket/x.csv",
        "run online 'events=abfss://c@a.net/x.csv?sv=1&sig=MARK'",
        "run online events=s3://key:MARK@bucket/x.csv",
        "run online 'events=s3://bucket//x.csv?X-Amz-Signature=MARK'",
        "run online events=https:/u:MARK@host/x.csv",
        "run online events=u:MARK@host/x.csv",
        "run online 'events=host/x.csv?sig=MARK'",
        "run online 'events=host/[?token=MARK'",
        "run online https://u:MARK@host/x.csv",
        "run online 'https://host/x.csv?sig=MARK'",
        "run online evnts=https://u:MARK@host/x.csv",
        "run online events=events.csv --then https://u:MARK@host/x.csv",
        "run online events=events.csv --then 'events=https://u:MARK@host/x.csv'",
        "run online events=events.csv --then 'events=\"https://u:MARK@host/x.csv'",
        "check online events=https://u:MARK@host/x.csv",
        "run brushing 'datasets=https://host/jobs.jsonl?sig=MARK'",
        "run brushing datasets=s3://u:MARK@bucket/jobs.jsonl",
        "run online events=events.csv --config https://u:MARK@host/retally.toml",
        "run online events=events.csv -n 2 -p 0 --hosts https://u:MARK@host/hosts",
        // The parser.
        "run postgres://u:MARK@host/db",
        "frobnicate postgres://u:MARK@host/db",
        "run online events=events.csv -w postgres://u:MARK@host/db",
        "run online events=events.csv --format 'https://host/x?sig=MARK'",
        "run online events=events.csv --password=MARK",
        // Queries.
        "query online.x --points store:http://u:MARK@host/x",
        "query online.x --points http://u:MARK@host/x",
        "query http://u:MARK@host/x --points store:points",
        "generate online --out postgres://u:MARK@host/db",
        "generate online --out postgres:/u:MARK@host/db",
        "demo online --out u:MARK@host/db",
    ];
    let outs = [
        "--out postgres:/u:MARK@host/db",
        "--out postgres//u:MARK@host/db",
        "--out postgress://u:MARK@host/db",
        "--out u:MARK@host/db",
        "--out 'host=h password=MARK'",
        "--out 'dir password=MARK'",
        "--out sqlite://u:MARK@host/db",
        "--out postgres://u:MARK@127.0.0.1:1/db",
        "--out 'postgres://u@127.0.0.1:1/db?password=MARK'",
        "--out 'postgres://u:MARK@host/db?sslmode=always'",
        "--out 'postgres://u:MARK@127.0.0.1:1/db?sslmode=require'",
        "--out 'postgres://u:MARK@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=nothing.pem'",
        "--charts postgres:/u:MARK@host/db",
        "--charts 'https://host/x?sig=MARK'",
        "--changes https://u:MARK@host/x",
        "--changes u:MARK@host/x",
    ];
    let points = [
        format!("http://u:MARK@{server}/write?db=d"),
        format!("http://{server}/write?db=d&u=me&p=MARK"),
        format!("http://{server}/write?token=MARK"),
        format!("http://u:p%40MARK@{server}"),
        "htp://u:MARK@host".into(),
        "http:/u:MARK@host".into(),
        "http://u:MARK@".into(),
        "http://u:a/MARK@host".into(),
        "http://u:MARK".into(),
        "u:MARK@host".into(),
        "file:http://u:MARK@host/x".into(),
        "store:postgres:/u:MARK@host/x".into(),
    ];
    let mut all: Vec<String> = commands.map(String::from).into();
    all.extend(outs.map(|out| format!("{online} {out}")));
    all.extend(points.map(|points| format!("{sensors} --points '{points}' --out out")));
    // Most wait for names that nobody knows, and for addresses where nobody is.
    std::thread::scope(|scope| {
        for some in all.chunks(4) {
            scope.spawn(|| {
                let place = place();
                some.iter().for_each(|words| assert_ne!(run(&place, words, &[]).code, Some(0), "{words}"));
            });
        }
    });
}

#[test]
fn no_variable_is_shown() {
    let server = echo();
    let bucket = "run online events=s3://bucket/x.csv --out out";
    let points = format!("run sensors data=data.csv -w 1 --points http://{server} --out out");
    let echo = format!("http://u:MARK@{server}");
    let cases = [
        (bucket, "AWS_ENDPOINT_URL", "http://u:MARK@127.0.0.1:1"),
        (bucket, "AWS_ENDPOINT_URL", echo.as_str()),
        (bucket, "AWS_ENDPOINT_URL", "u:MARK@host"),
        (bucket, "AWS_ENDPOINT_URL", "http://u:a/MARK@host"),
        (bucket, "AWS_SECRET_ACCESS_KEY", "MARK"),
        (bucket, "HTTP_PROXY", "http://u:MARK@127.0.0.1:1"),
        (bucket, "http_proxy", "u:MARK@ x"),
        (points.as_str(), "RETALLY_POINTS_AUTHORIZATION", "Token MARK"),
        (points.as_str(), "RETALLY_POINTS_AUTHORIZATION", "MARK\n"),
        ("run online events=events.csv --out postgres://u@127.0.0.1:1/db", "PGPASSWORD", "MARK"),
    ];
    // Requests are tried again for a while.
    std::thread::scope(|scope| {
        for (words, variable, value) in cases {
            scope.spawn(move || assert_ne!(run(&place(), words, &[(variable, value)]).code, Some(0), "{variable}={value}"));
        }
    });
}

/// Jobs name the URLs of streams: those that can't be read, and lines that are no jobs.
#[test]
fn no_url_of_a_job_is_shown() {
    let place = Place::new();
    let server = echo();
    let job = |brushing: &str| format!("{{\"job_id\":\"j\",\"toothbrush_id\":\"t\",\"brushing\":\"{brushing}\",\"settings\":\"none\"}}\n");
    let lines = [
        "{\"job_id\":\"j\",\"brushing\":\"https://u:MARK@host/x?sig=MARK\",\"settings\":\"x\"}\n".into(),
        "{\"brushing\":\"https:\\/\\/host\\/x?sig=MARK\\u0026x=MARK\",\n".into(),
        "brushing=https://u:MARK@host/x\n".into(),
        "host/x?X-Amz-Signature=MARK\n".into(),
        format!("{}https://u:MARK@host/{}\n", " ".repeat(10), "x".repeat(2_000)),
        format!("{{\"x\":\"{}https://u:MARK@host/?sig=MARK\n", "x".repeat(980)),
        job(&format!("http://u:MARK@{server}/x.csv?sig=MARK")).replace("\"j\"", "\"1\""),
        job("http://u:MARK@127.0.0.1:1/x.csv").replace("\"j\"", "\"2\""),
        job("https:/u:MARK@host/x.csv?sig=MARK").replace("\"j\"", "\"3\""),
        job("gs://u:MARK@host/x.csv").replace("\"j\"", "\"4\""),
        job("http://u:a/MARK@host/x.csv").replace("\"j\"", "\"5\""),
    ];
    place.write("jobs.jsonl", lines.concat().replace("MARK", MARK));
    for out in ["--out out", "--out out --format json", "--out sqlite:tables.sqlite", ""] {
        // Six lines, and five datasets that could not be read.
        let said = run(&place, &format!("run brushing datasets=jobs.jsonl -w 1 --max-rejected 11 {out}"), &[]).succeeds().stderr;
        assert!(said.contains("11 rejected") && said.contains("5 datasets"), "{said}");
    }
    let rejected = place.read("out/rejected.csv");
    assert!(rejected.contains("https://host/x") && rejected.contains("toothbrush_id is missing"), "{rejected}");
    run(&place, "run brushing datasets=jobs.jsonl -w 1 --max-rejected 0 --out limited", &[]).fails();
    run(&place, "run brushing datasets=jobs.jsonl -w 1 --out unread", &[]).fails().names(&["could not read any of the 11 records"]);
    let proxies = [("HTTP_PROXY", "http://u:MARK@127.0.0.1:1"), ("http_proxy", "http://u:MARK@127.0.0.1:1")];
    run(&place, "run brushing datasets=jobs.jsonl -w 1 --max-rejected 11 --out proxied", &proxies).succeeds();
}
