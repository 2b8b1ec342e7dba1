//! Messages of an MQTT broker as a source of a service.

use crate::support::certificates::of_localhost;
use crate::support::known::{ONLINE, SERVERS, shuffled, table};
use crate::support::mosquitto::{Mosquitto, Published, publish};
use crate::support::program::Place;
use crate::support::service::Service;
use crate::support::sources::{rejected, rounds, status, struck, until, until_connected, until_readable, until_same};
use flate2::Compression;
use flate2::write::GzEncoder;
use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, LastWill, MqttOptions};
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn message(topic: &str, payload: impl AsRef<[u8]>) -> Published {
    (topic.into(), payload.as_ref().to_vec(), false)
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes.as_ref()).unwrap();
    packer.finish().unwrap()
}

#[test]
fn each_message_counts_once_whatever_ends_the_broker_or_the_service() {
    let (place, mut broker) = (Place::new(), Mosquitto::start());
    let source = format!("--source online.events={}", broker.url("events/#?format=csv"));
    let start = || Service::of(&place, &ONLINE, &source);
    let service = start();
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    until_connected(&service);
    let lines = shuffled(&ONLINE.lines);
    // One message has several lines, at times.
    let messages: Vec<Published> = lines
        .chunks(3)
        .flat_map(|lines| [lines[..1].join("\n"), lines[1..].join("\n")])
        .filter(|text| !text.is_empty())
        .enumerate()
        .map(|(number, text)| message(&format!("events/{}", number % 7), text))
        .collect();
    let portion = messages.len().div_ceil(rounds() as usize);
    let published = AtomicUsize::new(0);
    let port = broker.port;
    let service = std::thread::scope(|scope| {
        scope.spawn(|| {
            for portion in messages.chunks(portion) {
                for some in portion.chunks(97) {
                    publish(port, some);
                }
                published.fetch_add(1, Ordering::Relaxed);
            }
        });
        struck(11, service, start, |pause| {
            broker.end();
            std::thread::sleep(pause);
            broker.run();
        })
    });
    until_same(&service, &ONLINE);
    let status = until(&service, "all messages", |status| status["waiting"] == 0);
    assert_eq!(status["unreadable"], 0);
    until(&service, "the broker", |status| status["connected"] == true && status["error"].is_null());
    service.end();
    place.run("verify --state state").succeeds();
}

#[test]
fn fields_of_topics_wills_and_retained_messages_are_events() {
    let (place, broker) = (Place::new(), Mosquitto::start());
    // One is retained before anybody listens.
    publish(broker.port, &[("devices/7/status".into(), b"2026-03-02T08:00:00Z,true".to_vec(), true)]);
    let topic = "?format=csv&columns=timestamp,state&topic=devices/{device_id}/status";
    let maps = "--map online.events.user_id==1 --map online.events.server_id==1 --map online.events.connected=state";
    let service =
        Service::start(&place, &format!("online --source online.events={} {maps}", broker.url(&format!("devices/+/status{topic}"))));
    until(&service, "a retained message", |status| status["messages"] == 1);
    // A device that is there, and is lost without a word.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut options = MqttOptions::new("device8", ("127.0.0.1", broker.port));
    options.set_last_will(LastWill::new("devices/8/status", "2026-03-03T10:00:00Z,false", QoS::AtLeastOnce, false, None));
    let (client, mut events) = AsyncClient::builder(options).capacity(8).try_build().unwrap();
    let payload = "2026-03-03T09:00:00Z,true";
    client.try_publish("devices/8/status", payload, rumqttc::PublishOptions::new(QoS::AtLeastOnce)).unwrap();
    runtime.block_on(async {
        while !matches!(events.poll().await.unwrap(), rumqttc::Event::Incoming(rumqttc::mqttbytes::v5::Packet::PubAck(_))) {}
    });
    drop((client, events, runtime));
    publish(broker.port, &[message("devices/7/status", "2026-03-02T12:00:00Z,false")]);
    until_readable(&service, "four messages", |status| status["messages"] == 4);
    let found = service.get("/v1/online/tables/online_intervals?format=csv").ok().text;
    for interval in ["7,1,1,2026-03-02T08:00:00Z,2026-03-02T12:00:00Z", "8,1,1,2026-03-03T09:00:00Z,2026-03-03T10:00:00Z"] {
        assert!(found.contains(interval), "{found}");
    }
    assert_eq!(rejected(&service, "online"), []);
    // What is retained does not come again with each start.
    service.end();
    let service =
        Service::start(&place, &format!("online --source online.events={} {maps}", broker.url(&format!("devices/+/status{topic}"))));
    until_connected(&service);
    publish(broker.port, &[message("devices/9/status", "2026-03-05T12:00:00Z,true")]);
    until(&service, "one more", |status| status["messages"] == 1);
}

#[test]
fn what_a_message_holds_is_seen_and_what_can_t_be_read_is_rejected_by_its_topic() {
    let (place, broker) = (Place::new(), Mosquitto::start());
    let source = format!("online --source online.events={}", broker.url("e/#?format=json"));
    let service = Service::start(&place, &source);
    until_connected(&service);
    let event = |device: u32, hour: u32, connected: bool| {
        format!(
            "{{\"timestamp\":\"2026-03-02 {hour:02}:00:00\",\"device_id\":{device},\"user_id\":1,\n\"server_id\":1,\"connected\":{connected}}}"
        )
    };
    let long = format!("{{\"note\":\"{}\",{}", "x".repeat(10 << 20), &event(4, 10, true)[1..]);
    publish(
        broker.port,
        &[
            message("e/one", event(1, 8, true)),
            message("e/packed", gzip(format!("[{},{}]", event(1, 9, false), event(2, 8, true)))),
            message("e/zstd", zstd::encode_all(event(2, 9, false).as_bytes(), 1).unwrap()),
            message("e/long", long),
            message("e/empty", ""),
            message("e/bytes", [0xff, 0xfe, 0x00]),
            message("e/cut", &gzip(event(3, 8, true))[..20]),
            message("e/text", "hello"),
            message("e/half", "{\"timestamp\":\"2026-03-02 10:00:00\""),
            message("e/second", format!("[{},{{\"device_id\":5}}]", event(4, 11, false))),
        ],
    );
    until_readable(&service, "ten messages", |status| status["messages"] == 10 && status["unreadable"] == 5);
    let found = service.get("/v1/online/tables/online_intervals?format=csv").ok().text;
    for device in ["1,1,1,2026-03-02T08", "2,1,1,2026-03-02T08", "4,1,1,2026-03-02T10"] {
        assert!(found.contains(device), "{found}");
    }
    let rows = rejected(&service, "online");
    let places: Vec<(&str, u64)> = rows.iter().map(|(source, line, _)| (source.as_str(), *line)).collect();
    assert_eq!(
        places,
        [("mqtt:e/bytes", 1), ("mqtt:e/cut", 1), ("mqtt:e/empty", 1), ("mqtt:e/half", 1), ("mqtt:e/second", 2), ("mqtt:e/text", 1)]
    );
    let reasons: Vec<&str> = rows.iter().map(|(_, _, reason)| reason.as_str()).collect();
    assert_eq!((reasons[0], reasons[2], reasons[3]), ("the message is not UTF-8", "the message is empty", "the message is no JSON object"));
    assert!(reasons[1].starts_with("the message can't be unpacked"), "{reasons:?}");
    // The same stands there when tables are made of the journal.
    service.end();
    place.run("verify --state state").succeeds();
    let service = Service::start(&place, &format!("{source} --set online.timezone=Europe/Berlin"));
    assert_eq!(rejected(&service, "online"), rows);
    // And when they are delivered once more.
    let replayed =
        service.post("/v1/online/rejected/replay", &[("content-type", "application/json")], r#"{"reason":"the message is empty"}"#);
    assert_eq!(replayed.ok().json()["rejected"], 1);
    assert_eq!(rejected(&service, "online"), rows);
}

#[test]
fn a_wrong_password_is_named_and_shown_nowhere_and_the_service_goes_on() {
    let place = Place::new();
    place.write("password", "hunter2\n");
    // A password file of mosquitto's own form.
    let passwords = place.path("passwords");
    let made = std::process::Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(&passwords).args(["keeper", "hunter2"]).status();
    assert!(made.unwrap().success());
    let passwords = fs::read_to_string(passwords).unwrap();
    let broker = Mosquitto::with(&[("passwords", &passwords)], "allow_anonymous false\npassword_file DIR/passwords\n");
    let url = |login: &str, rest: &str| format!("mqtt://{login}127.0.0.1:{}/x{rest}", broker.port);
    let service = Service::start(&place, &format!("online --source online.events={}", url("keeper:s3cret@", "")));
    let status = until(&service, "an error", |status| !status["error"].is_null());
    assert_eq!((&status["connected"], &status["source"]), (&false.into(), &url("", "").into()));
    let error = status["error"].as_str().unwrap();
    assert!(error.starts_with("the broker refuses the user or the password"), "{error}");
    let shown = place.run(&format!("status --server {}", service.address)).succeeds().stdout;
    let line = format!("source {} of online.events: not connected, 0 messages, 0 waiting\n  the broker refuses the user", url("", ""));
    assert!(shown.contains(&line) && !shown.contains("s3cret"), "{shown}");
    let metrics = service.get("/metrics").ok().text;
    assert!(metrics.contains("retally_source_connected{source=\"mqtt://127.0.0.1") && !metrics.contains("s3cret"), "{metrics}");
    service.csv("/v1/online/events", "2026-03-02 08:00:00,1,7,1,true").ok();
    let ran = service.end();
    assert!(ran.stderr.contains("the broker refuses the user") && !ran.stderr.contains("s3cret"), "{}", ran.stderr);
    let service = Service::start(&place, &format!("online --source online.events={}", url("keeper@", "?password-file=password")));
    until_connected(&service);
    drop(service);
    // Without anybody at the port it is waited for.
    let port = broker.port;
    drop(broker);
    let service = Service::start(&place, &format!("online --source online.events=mqtt://127.0.0.1:{port}/x"));
    let status = until(&service, "an error", |status| !status["error"].is_null());
    assert!(status["error"].as_str().unwrap().starts_with("the broker can't be reached: "), "{status}");
}

#[test]
fn brokers_are_told_by_their_certificates() {
    let place = Place::new();
    let broker = |ca: &str, is_over: bool| {
        let (cert, key) = of_localhost(is_over);
        place.write(ca, &cert);
        let files = [("cert.pem", cert.as_str()), ("key.pem", key.as_str())];
        Mosquitto::with(&files, "allow_anonymous true\ncertfile DIR/cert.pem\nkeyfile DIR/key.pem\n")
    };
    let (good, over) = (broker("ca.pem", false), broker("over.pem", true));
    place.write("other.pem", of_localhost(false).0);
    let start = |host: &str, ca: &str| {
        let port = if ca == "over.pem" { over.port } else { good.port };
        Service::start(&place, &format!("online --source online.events=mqtts://{host}:{port}/x?ca={ca}"))
    };
    until_connected(&start("localhost", "ca.pem"));
    for (host, ca, why) in [
        ("localhost", "other.pem", "certificate"),
        ("127.0.0.1", "ca.pem", "certificate"),
        ("localhost", "over.pem", "certificate expired"),
        ("localhost", "none", "could not read"),
    ] {
        let service = start(host, ca);
        let status = until(&service, "an error", |status| !status["error"].is_null());
        assert!(status["error"].as_str().unwrap().contains(why), "{host} {ca}: {status}");
    }
}

#[test]
fn a_burst_that_waits_is_taken_within_bounds() {
    const MESSAGES: u64 = 400_000;
    let (place, mut broker) = (Place::new(), Mosquitto::start());
    let words = format!("online --source online.events={}", broker.url("burst?format=csv"));
    let service = Service::start(&place, &words);
    until_connected(&service);
    let before = memory_kib(&service);
    service.end();
    let messages: Vec<Published> = (0..MESSAGES)
        .map(|number| message("burst", format!("2026-03-{:02} 08:{:02}:00,{},1,1,true", 1 + number % 28, number / 28 % 60, number / 1_680)))
        .collect();
    publish(broker.port, &messages);
    broker.end();
    broker.run();
    let service = Service::start(&place, &words);
    until(&service, "the burst", |status| status["messages"].as_u64() >= Some(MESSAGES));
    let status = status(&service, 0);
    assert!(status["batches"].as_u64().unwrap() >= MESSAGES / 10_000, "{status}");
    until_records(&service, MESSAGES);
    // Numbers of messages have come again by then, and none was taken for another.
    let status = service.get("/v1/status").ok().json();
    assert_eq!((&status["dataflows"]["online"]["records"], &status["sources"][0]["lost"]), (&MESSAGES.into(), &0.into()), "{status}");
    // The records themselves, and what waits of them: 64 MiB at most, of 50 bytes far less.
    let grown = memory_kib(&service) - before;
    assert!(grown < 600 << 10, "{grown} KiB for {MESSAGES} messages");
}

/// Waits until so many records can be read.
fn until_records(service: &Service, records: u64) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while service.get("/v1/status").ok().json()["dataflows"]["online"]["records"].as_u64() < Some(records) {
        assert!(std::time::Instant::now() < until, "{}", service.get("/v1/status").text);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The most memory that a service has had.
fn memory_kib(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.started.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_no_source_is_refused_before_anything_starts() {
    let place = Place::new();
    for (source, error, hint) in [
        ("events=mqtt://h/x", "is not DATAFLOW.INPUT=URL", None),
        ("active.events=mqtt://h/x", "is not DATAFLOW.INPUT=URL", Some("\"active\" is not served")),
        ("online.event=mqtt://h/x", "is not DATAFLOW.INPUT=URL", Some("the inputs of online are events, servers")),
        ("online.events=amqp://me:s3cret@h/x", "its scheme is not known", Some("give mqtt://HOST/TOPIC-FILTER")),
        (
            "online.events=mqtt://h/d/+?topic=d/{deviceid}",
            "?topic= names \"deviceid\", which is no field of events",
            Some("perhaps device_id"),
        ),
        ("online.events=mqtt://me:s3cret@h/x?qos=2", "there is no ?qos=", Some("there are format, columns, topic")),
    ] {
        let failure = place.run(&format!("serve online --state state --source {source}")).fails_as_wrong_usage().names(&[error]);
        assert!(!failure.error.contains("s3cret"), "{failure:?}");
        hint.iter().for_each(|hint| assert!(failure.hint.as_deref().is_some_and(|found| found.starts_with(hint)), "{failure:?}"));
    }
    let failure =
        place.run("serve online --state state --source online.events=mqtt://h/x?format=csv&columns=timestamp,id").fails_as_wrong_usage();
    failure.names(&["mqtt://h:1883/x", "device_id"]);
    assert!(!place.has("state"));
    // A configuration file says the same.
    place.write("retally.toml", "[online]\nsource = { events = ['mqtt://me:s3cret@h:1/a', 'mqtt://h:1/b'] }\n");
    let service = Service::start(&place, "online --config retally.toml");
    assert_eq!([0, 1].map(|number| status(&service, number)["source"].clone()), ["mqtt://h:1/a", "mqtt://h:1/b"]);
}
