//! Against a server of a few lines, which misbehaves in each way that servers do.

use super::url::Target;
use super::{Patience, halves, open};
use crate::points::{Dropped, Outlet, PointsError};
use flate2::read::GzDecoder;
use retally_core::points::{FieldKind, Measurement, Offered, PointBatch, PointField, PointWriter, Series, Standing, Tag, Values};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A request as the server got it.
struct Request {
    head: String,
    lines: String,
}

/// What the server does with a request.
enum Does {
    Answer(String),
    /// It closes the connection.
    Cut,
    /// It closes the connection in the middle of its answer.
    CutAnswer,
    /// It keeps the connection, and sends nothing.
    Silence,
}

fn answer(status: &str, headers: &str, body: &str) -> Does {
    Does::Answer(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
}

fn taken() -> Does {
    answer("204 No Content", "", "")
}

/// A server that does with its n-th request what it is told, and hands on those that it answered by 2xx.
fn serve(mut does: impl FnMut(usize, &Request) -> Does + Send + 'static) -> (Target, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&format!("http://user:secret@{}?db=d", listener.local_addr().unwrap())).unwrap();
    let (requests, received) = channel::<(Request, Sender<Does>)>();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let requests = requests.clone();
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                while let Some(request) = read_request(&stream) {
                    let (tell, told) = channel();
                    requests.send((request, tell)).ok();
                    match told.recv() {
                        Ok(Does::Answer(text)) => stream.write_all(text.as_bytes()).unwrap(),
                        Ok(Does::CutAnswer) => return drop(stream.write_all(b"HTTP/1.1 204 No Con")),
                        Ok(Does::Cut) => return,
                        // Until the other side has had enough.
                        Ok(Does::Silence) => return drop(stream.read(&mut [0])),
                        Err(_) => return,
                    }
                }
            });
        }
    });
    let (took, taken) = channel();
    std::thread::spawn(move || {
        for (number, (request, tell)) in received.iter().enumerate() {
            let does = does(number, &request);
            if matches!(&does, Does::Answer(text) if text.starts_with("HTTP/1.1 2")) {
                took.send(request).ok();
            }
            tell.send(does).ok();
        }
    });
    (target, taken)
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut lines = String::new();
    if head.contains("content-encoding: gzip") {
        GzDecoder::new(body.as_slice()).read_to_string(&mut lines).unwrap();
    } else {
        lines = String::from_utf8(body).unwrap();
    }
    Some(Request { head, lines })
}

fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(10),
        first_limit: Duration::from_secs(20),
        limit: Duration::from_secs(30),
        pause: Duration::from_millis(1),
        pause_max: Duration::from_millis(20),
    }
}

fn batch(sensor: &str, from: i64, points: i64) -> PointBatch {
    let fields = vec![PointField { name: "n", kind: FieldKind::Int, about: "" }];
    let measurement = Arc::new(Measurement { name: "m", about: "", tags: vec![Tag { name: "s", about: "" }], fields });
    let mut batch = PointBatch::new(Arc::new(Series { measurement, tags: vec![sensor.into()] }), Standing::Fresh);
    batch.times_ns = (from..from + points).collect();
    batch.columns[0].values = Values::Int(batch.times_ns.clone());
    batch
}

fn line(sensor: &str, n: i64) -> String {
    format!("m,s={sensor} n={n}i {n}\n")
}

fn offer(writer: &mut Box<dyn PointWriter>, mut batch: PointBatch) -> Result<(), String> {
    let started = Instant::now();
    while writer.offer(&mut batch)? == Offered::Behind {
        assert!(started.elapsed() < Duration::from_secs(60), "it never takes the batch");
        std::thread::yield_now();
    }
    Ok(())
}

fn flush(writer: &mut Box<dyn PointWriter>) -> Result<(), String> {
    let started = Instant::now();
    while !writer.flush()? {
        assert!(started.elapsed() < Duration::from_secs(60), "it is never flushed");
        std::thread::yield_now();
    }
    Ok(())
}

/// Sends points of one series to a server.
fn send(target: &Target, patience: Patience, points: i64) -> Result<Dropped, PointsError> {
    let outlet = Box::new(open(target, patience)?);
    let mut writer = outlet.points().writer();
    let sent = offer(&mut writer, batch("a", 0, points)).and_then(|()| flush(&mut writer));
    drop(writer);
    let ended = outlet.finish();
    assert!(sent.is_ok() || ended.is_err(), "a failure is forgotten");
    ended
}

fn all_lines(points: i64) -> String {
    (0..points).map(|n| line("a", n)).collect()
}

fn lines_of(taken: &Receiver<Request>) -> String {
    taken.try_iter().map(|request| request.lines).collect()
}

#[test]
fn a_request_is_what_servers_expect() {
    let (target, requests) = serve(|_, _| taken());
    assert_eq!(send(&target, patience(), 3).unwrap(), Dropped::default());
    let request = requests.try_recv().unwrap();
    assert!(request.head.starts_with("post /write?db=d&precision=ns http/1.1\r\n"), "{}", request.head);
    assert!(request.head.contains("authorization: basic dxnlcjpzzwnyzxq="), "{}", request.head);
    assert_eq!(request.lines, all_lines(3));
}

#[test]
fn whatever_goes_wrong_for_a_while_all_points_arrive_in_order() {
    let (target, requests) = serve(|number, _| match number {
        0 => answer("503 Service Unavailable", "", "starting"),
        1 => Does::Cut,
        2 => Does::CutAnswer,
        3 => answer("429 Too Many Requests", "retry-after: soon\r\n", ""),
        4 => Does::Silence,
        n if n % 3 == 2 => answer("500 Internal Server Error", "", "timeout"),
        n if n % 7 == 6 => Does::Cut,
        _ => taken(),
    });
    let patience = Patience { answer: Duration::from_millis(300), ..patience() };
    // Several buffers.
    let points = 60_000;
    assert_eq!(send(&target, patience, points).unwrap(), Dropped::default());
    assert!(lines_of(&requests) == all_lines(points), "points are lost, doubled or out of order");
}

#[test]
fn points_of_a_series_keep_their_order_and_two_workers_need_not_wait_for_each_other() {
    let (target, requests) = serve(|number, _| if number % 4 == 1 { answer("503 Busy", "", "") } else { taken() });
    let outlet = Box::new(open(&target, patience()).unwrap());
    let points = outlet.points();
    let workers: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|sensor| {
            let points = Arc::clone(&points);
            std::thread::spawn(move || {
                let mut writer = points.writer();
                (0..10).for_each(|part| offer(&mut writer, batch(sensor, part * 3_000, 3_000)).unwrap());
                flush(&mut writer).unwrap();
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let text = lines_of(&requests);
    for sensor in ["a", "b", "c"] {
        let of_it: String = text.split_inclusive('\n').filter(|line| line.starts_with(&format!("m,s={sensor} "))).collect();
        let expected: String = (0..30_000).map(|n| line(sensor, n)).collect();
        assert!(of_it == expected, "points of {sensor} are lost, doubled or out of order");
    }
    outlet.finish().unwrap();
}

#[test]
fn points_that_are_refused_do_not_lose_the_others() {
    let bad = [0, 777, 778, 2_999];
    let is_bad = move |request: &Request| bad.iter().any(|n| request.lines.contains(&line("a", *n)));
    let (target, requests) =
        serve(move |_, request| if is_bad(request) { answer("400 Bad Request", "", r#"{"error":"I do not like it"}"#) } else { taken() });
    let dropped = send(&target, patience(), 3_000).unwrap();
    let first = r#"400: I do not like it, of "m,s=a n=0i 0""#;
    assert_eq!(dropped, Dropped { points: 4, first: Some(first.into()), ..Dropped::default() });
    let expected: String = (0..3_000).filter(|n| !bad.contains(n)).map(|n| line("a", n)).collect();
    assert!(lines_of(&requests) == expected, "points are lost, doubled or out of order");
}

#[test]
fn what_is_too_much_at_once_is_sent_in_parts() {
    let (target, requests) = serve(|_, request| if request.lines.len() > 10_000 { answer("413 Too Large", "", "") } else { taken() });
    assert_eq!(send(&target, patience(), 5_000).unwrap(), Dropped::default());
    assert!(lines_of(&requests) == all_lines(5_000));
}

#[test]
fn a_server_without_gzip_gets_plain_lines() {
    let (target, requests) =
        serve(|_, request| if request.head.contains("gzip") { answer("415 Unsupported Media Type", "", "") } else { taken() });
    assert_eq!(send(&target, patience(), 10).unwrap(), Dropped::default());
    assert_eq!(lines_of(&requests), all_lines(10));
}

#[test]
fn what_a_server_has_written_in_part_is_not_sent_again() {
    let (sent, received) = channel();
    let (target, _requests) = serve(move |_, _| {
        sent.send(()).unwrap();
        answer("400 Bad Request", "", r#"{"error":"partial write: points beyond retention policy dropped=7"}"#)
    });
    let dropped = send(&target, patience(), 100).unwrap();
    assert_eq!((dropped.points, received.try_iter().count()), (7, 1));
    assert!(dropped.first.unwrap().contains("beyond retention policy"));
}

#[test]
fn a_server_that_takes_nothing_fails_the_run() {
    let fails = |points: i64, status: &'static str, body: &'static str| {
        let (target, _requests) = serve(move |_, _| answer(status, "", body));
        let error = send(&target, patience(), points).unwrap_err().to_string();
        assert!(error.starts_with("could not write points to \"http://127.0.0.1:") && !error.contains("secret"), "{error}");
        assert!(error.contains(body), "{error}");
    };
    fails(3_000, "401 Unauthorized", "who are you");
    fails(3_000, "404 Not Found", "database not found");
    fails(3_000, "302 Found", "elsewhere");
    fails(3_000, "400 Bad Request", "database is required");
    fails(1, "400 Bad Request", "database is required");
}

#[test]
fn a_server_that_is_away_fails_the_run_after_a_while() {
    let quick = Patience { first_limit: Duration::from_millis(50), limit: Duration::from_millis(300), ..patience() };
    // A port that nobody listens on any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let started = Instant::now();
    let error = send(&Target::parse(&format!("http://{address}")).unwrap(), quick, 10).unwrap_err().to_string();
    assert!(error.contains("refused") && error.contains("tried "), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let (target, _requests) = serve(|_, _| answer("503 Service Unavailable", "", "out to lunch"));
    let error = send(&target, quick, 10).unwrap_err().to_string();
    assert!(error.contains("503: out to lunch (tried "), "{error}");
    let (target, _requests) = serve(|_, _| answer("503 Service Unavailable", "retry-after: 3600\r\n", ""));
    assert!(send(&target, quick, 10).is_err());
}

#[test]
fn the_server_says_when_to_come_back() {
    let (told, asked) = channel();
    let (target, _requests) = serve(move |number, _| {
        told.send(Instant::now()).unwrap();
        if number == 0 { answer("503 Busy", "retry-after: 1\r\n", "") } else { taken() }
    });
    send(&target, patience(), 1).unwrap();
    let times: Vec<Instant> = asked.try_iter().collect();
    assert!(times[1] - times[0] >= Duration::from_secs(1), "{:?}", times[1] - times[0]);
}

#[test]
fn pauses_double_up_to_the_longest() {
    let patience = Patience { pause: Duration::from_millis(100), pause_max: Duration::from_secs(1), ..Patience::default() };
    let mut pauses = super::Pauses::new(patience);
    let most: Vec<u128> = (0..6).map(|_| pauses.next(true, None, u64::MAX).unwrap().as_millis()).collect();
    assert!(most.iter().zip([100, 200, 400, 800, 1_000, 1_000]).all(|(pause, longest)| longest - pause <= 1), "{most:?}");
    let least = super::Pauses::new(patience).next(true, None, 0).unwrap();
    assert_eq!(least, Duration::from_millis(50));
    assert_eq!(super::Pauses::new(patience).next(true, Some(Duration::from_secs(5)), 0), Some(Duration::from_secs(5)));
    assert_eq!(super::Pauses::new(patience).next(true, Some(Duration::from_secs(301)), 0), None);
    assert_eq!(super::Pauses::new(patience).next(false, Some(Duration::from_secs(31)), 0), None);
}

#[test]
fn lines_are_halved_between_lines() {
    let halved = |text: &'static str| {
        halves(text.as_bytes()).map(|(first, second)| (str::from_utf8(first).unwrap(), str::from_utf8(second).unwrap()))
    };
    assert_eq!(halved("a\nb\n"), Some(("a\n", "b\n")));
    assert_eq!(halved("aaaaaaaa\nb\n"), Some(("aaaaaaaa\n", "b\n")));
    assert_eq!(halved("a\nbbbbbbbb\n"), Some(("a\n", "bbbbbbbb\n")));
    assert_eq!(halved("a\nb\nc\n"), Some(("a\nb\n", "c\n")));
    assert_eq!(halved("a\n"), None);
    assert_eq!(halved("aaaa\n"), None);
}
