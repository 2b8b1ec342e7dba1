//! Messages of a Kafka topic as a source of a service.

use crate::support::certificates::of_localhost;
use crate::support::kafka_broker::KafkaBroker;
use crate::support::kafka_client::{KafkaClient, Sent, now_ms};
use crate::support::kafka_front::{KafkaFront, Login};
use crate::support::known::{ONLINE, SERVERS, shuffled, table};
use crate::support::program::Place;
use crate::support::service::Service;
use crate::support::sources::{rejected, status, struck, taken_once, until, until_connected, until_readable, until_same};
use bytes::Bytes;
use kafka_protocol::records::Compression;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The ways of packing batches.
const COMPRESSIONS: [Compression; 5] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn event(device: u32) -> Sent {
    Sent::of(format!("2026-03-02 08:00:00,{device},1,1,true"))
}

/// How many devices the tables of a service have.
fn devices(service: &Service) -> usize {
    service.get("/v1/online/tables/online_intervals?format=csv").ok().text.lines().count() - 1
}

fn rejected_sources(service: &Service) -> Vec<String> {
    rejected(service, "online").into_iter().map(|(source, _, _)| source).collect()
}

#[test]
fn each_message_is_taken_once_whatever_ends_the_broker_or_the_service() {
    let (place, broker) = (Place::new(), Mutex::new(KafkaBroker::start()));
    let port = broker.lock().unwrap().port;
    KafkaClient::new(port).create("events", 2);
    let source = format!("--source online.events={} --batch-events 200", broker.lock().unwrap().url("events?format=csv"));
    let start = || Service::of(&place, &ONLINE, &source);
    let service = start();
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    until_connected(&service);
    let messages: Vec<Sent> = shuffled(&ONLINE.lines).into_iter().map(Sent::of).collect();
    let (messages, broker) = (&messages, &broker);
    let service = std::thread::scope(|scope| {
        scope.spawn(move || {
            let portions = messages.chunks(70);
            let count = portions.len();
            for (number, portion) in portions.enumerate() {
                // The broker has said of each that it is there, before it is ended.
                let _broker = broker.lock().unwrap();
                let mut client = KafkaClient::new(port);
                // A third partition is added on the way.
                let partitions = if number > count / 2 { 3 } else { 2 };
                if number == count / 2 {
                    client.grow("events", 3);
                }
                client.publish("events", number as i32 % partitions, portion, COMPRESSIONS[number % COMPRESSIONS.len()]);
                drop(_broker);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        struck(13, service, start, |pause| {
            let mut broker = broker.lock().unwrap();
            broker.end();
            std::thread::sleep(pause);
            broker.run();
        })
    });
    until_same(&service, &ONLINE);
    let read = |status: &serde_json::Value| {
        status["positions"].as_array().unwrap().iter().map(|position| position["last"].as_u64().unwrap() + 1).sum::<u64>()
    };
    let status = until_readable(&service, "the last message", |status| read(status) == messages.len() as u64);
    assert_eq!((status["positions"].as_array().unwrap().len(), &status["removed"]), (3, &0.into()), "{status}");
    until(&service, "no lag", |status| status["lag"] == 0 && status["error"].is_null());
    taken_once(&service, messages.len());
    service.end();
    place.run("verify --state state").succeeds();
}

#[test]
fn positions_are_those_of_a_topic_and_survive_folding() {
    let (place, broker) = (Place::new(), KafkaBroker::start());
    let mut client = KafkaClient::new(broker.port);
    let source = format!("online --source online.events={}", broker.url("events?format=csv"));
    // A topic that is not there yet is waited for.
    let service = Service::start(&place, &source);
    let no_topic = |status: &serde_json::Value| status["error"] == "the broker has no topic \"events\"" && status["connected"] == false;
    until(&service, "no topic", no_topic);
    client.create("events", 2);
    client.publish("events", 0, &[event(1), event(2)], Compression::None);
    client.publish("events", 1, &[event(3), Sent::of("x"), Sent::default(), Sent::of("")], Compression::Zstd);
    until_readable(&service, "six messages", |status| status["messages"] == 6 && status["unreadable"] == 2);
    let rows = rejected(&service, "online");
    assert_eq!(rejected_sources(&service), ["kafka:events/1#1", "kafka:events/1#2", "kafka:events/1#3"]);
    assert_eq!((rows[1].2.as_str(), rows[2].2.as_str()), ("the message is empty", "the message is empty"));
    service.end();
    place.run("compact --state state").succeeds();
    let service = Service::start(&place, &source);
    client.publish("events", 0, &[event(4)], Compression::None);
    let found = until(&service, "one more message", |status| status["messages"] == 1);
    assert_eq!(found["positions"], json!([{"partition": 0, "last": 2}, {"partition": 1, "last": 3}]));
    assert_eq!(rejected(&service, "online"), rows);
    // A partition that is added while the service runs is read from its beginning.
    client.grow("events", 3);
    client.publish("events", 2, &[event(5)], Compression::None);
    until_readable(&service, "a message of the new partition", |status| status["messages"] == 2);
    // A topic that is created again is read from its beginning. This broker gives no ids to topics: it is told by its end.
    client.remove("events");
    client.create("events", 1);
    client.publish("events", 0, &[event(6), event(7)], Compression::None);
    until_readable(&service, "messages of the new topic", |status| status["messages"] == 4);
    assert_eq!(status(&service, 0)["positions"][0], json!({"partition": 0, "last": 1}));
    assert_eq!((devices(&service), rejected(&service, "online")), (7, rows));
    // And one that is gone is waited for.
    client.remove("events");
    until(&service, "no topic", no_topic);
}

#[test]
fn a_topic_begins_where_it_is_said_and_goes_on_whatever_ends_the_service() {
    let broker = KafkaBroker::start();
    let mut client = KafkaClient::new(broker.port);
    client.create("events", 3);
    let minutes_ago = |minutes: i64| now_ms() - minutes * 60_000;
    client.publish(
        "events",
        0,
        &[event(1).at(minutes_ago(30)), event(2).at(minutes_ago(20)), event(3).at(minutes_ago(10))],
        Compression::None,
    );
    client.publish("events", 1, &[event(4).at(minutes_ago(30))], Compression::Gzip);
    let start = |place: &Place, start: &str| {
        Service::start(place, &format!("online --source online.events={}", broker.url(&format!("events?format=csv&start={start}"))))
    };
    let latest = Place::new();
    let service = start(&latest, "latest");
    until_connected(&service);
    // Before there was any message: where it began stands in the journal all the same.
    service.kill();
    client.publish("events", 0, &[event(5)], Compression::None);
    client.publish("events", 1, &[event(6)], Compression::None);
    client.publish("events", 2, &[event(7)], Compression::None);
    latest.run("compact --state state").succeeds();
    let service = start(&latest, "latest");
    until_readable(&service, "three messages", |status| status["messages"] == 3);
    let positions =
        |last: [u64; 3]| json!([{"partition": 0, "last": last[0]}, {"partition": 1, "last": last[1]}, {"partition": 2, "last": last[2]}]);
    assert_eq!((status(&service, 0)["positions"].clone(), devices(&service)), (positions([3, 1, 0]), 3));
    service.end();
    latest.run("verify --state state").succeeds();
    let (time, late, earliest) = (Place::new(), Place::new(), Place::new());
    let service = start(&time, &service_time(minutes_ago(25)));
    until_readable(&service, "messages of the last minutes", |status| status["messages"] == 5);
    assert_eq!((status(&service, 0)["positions"].clone(), devices(&service)), (positions([3, 1, 0]), 5));
    let service = start(&earliest, "earliest");
    until_readable(&service, "all messages", |status| status["messages"] == 7);
    // Where nothing is as late, it begins with what is to come.
    let service = start(&late, &service_time(minutes_ago(-60)));
    until_connected(&service);
    client.publish("events", 0, &[event(8)], Compression::None);
    until_readable(&service, "one message", |status| status["messages"] == 1);
    assert_eq!(devices(&service), 1);
}

/// A time as a URL has it.
fn service_time(ms: i64) -> String {
    retally_core::time::Moment(ms * 1_000).to_string()
}

#[test]
fn keys_and_times_are_fields_and_what_a_message_holds_is_seen() {
    let (place, broker) = (Place::new(), KafkaBroker::start());
    let mut client = KafkaClient::new(broker.port);
    client.create("fleet.status", 1);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"{\"state\":\"true\"}").unwrap();
    let now = now_ms();
    let long = format!("{{\"note\":\"{}\",\"state\":\"true\"}}", "x".repeat(10 << 20));
    let sent = |key: &str, value: Vec<u8>| Sent::of(value).with_key(key).at(now);
    let messages = [
        sent("7", b"{\"state\":\"true\"}".to_vec()),
        sent("8", gzip.finish().unwrap()),
        sent("9", zstd::encode_all(&b"{\"state\":\"true\"}"[..], 1).unwrap()),
        Sent { key: Some(Bytes::from_static(b"\xff\xfe")), ..sent("", b"{}".to_vec()) },
        sent("10", b"\xff".to_vec()),
        Sent { key: None, ..sent("", b"{\"state\":\"true\"}".to_vec()) },
    ];
    client.publish("fleet.status", 0, &messages, Compression::Lz4);
    client.publish("fleet.status", 0, &[sent("11", long.into_bytes())], Compression::None);
    let maps = "--map online.events.timestamp=@time --map online.events.connected=state --map online.events.user_id==1 \
                --map online.events.server_id==1";
    let service = Service::start(&place, &format!("online --source online.events={} {maps}", broker.url("fleet.status?key=device_id")));
    until_readable(&service, "all messages", |status| status["messages"] == 7 && status["unreadable"] == 2);
    let found = service.get("/v1/online/tables/online_intervals?format=csv").ok().text;
    let time = service_time(now);
    for device in [7, 8, 9, 11] {
        assert!(found.contains(&format!("\n{device},1,1,{time}")), "{device} at {time}: {found}");
    }
    let rows = rejected(&service, "online");
    assert_eq!(rejected_sources(&service), ["kafka:fleet.status/0#3", "kafka:fleet.status/0#4", "kafka:fleet.status/0#5"]);
    assert_eq!((rows[0].2.as_str(), rows[1].2.as_str()), ("the key of the message is not UTF-8", "the message is not UTF-8"));
    assert!(rows[2].2.contains("device_id"), "{rows:?}");
}

#[test]
fn what_the_broker_has_removed_or_lost_is_said_and_reading_goes_on() {
    let (place, mut broker) = (Place::new(), KafkaBroker::start());
    let mut client = KafkaClient::new(broker.port);
    client.create("events", 1);
    let source = format!("online --source online.events={}", broker.url("events?format=csv"));
    let service = Service::start(&place, &source);
    client.publish("events", 0, &[event(1), event(2)], Compression::None);
    until_readable(&service, "two messages", |status| status["messages"] == 2);
    service.end();
    client.publish("events", 0, &[event(3), event(4), event(5)], Compression::None);
    client.forget("events", 0, 4);
    let service = Service::start(&place, &source);
    let found = until_readable(&service, "what is left", |status| status["messages"] == 1);
    assert_eq!((&found["removed"], &found["positions"]), (&2.into(), &json!([{"partition": 0, "last": 4}])));
    let metrics = service.get("/metrics").ok().text;
    assert!(metrics.lines().any(|line| line.starts_with("retally_source_removed{") && line.ends_with("} 2")), "{metrics}");
    // What came after the broker was last ended in order is lost where it is killed.
    broker.end();
    broker.run();
    let mut client = KafkaClient::new(broker.port);
    client.publish("events", 0, &[event(6), event(7)], Compression::None);
    until_readable(&service, "two more", |status| status["messages"] == 3);
    broker.kill();
    broker.run();
    let mut client = KafkaClient::new(broker.port);
    client.publish("events", 0, &[event(8)], Compression::None);
    let found = until_readable(&service, "the message at a place that was read before", |status| status["messages"] == 5);
    assert_eq!(found["positions"], json!([{"partition": 0, "last": 5}]), "those that are left, and the new one");
    assert_eq!(devices(&service), 6);
    let ran = service.end();
    let is_said = |what: &str| ran.stderr.contains(what);
    assert!(is_said("partition 0: messages 2 to 3 are gone from the topic"), "{}", ran.stderr);
    assert!(is_said("partition 0 ends before message ") && is_said(", and 6 was read before: all is read again"), "{}", ran.stderr);
    // It goes on from there after a restart.
    client.publish("events", 0, &[event(9)], Compression::None);
    let service = Service::start(&place, &source);
    until_readable(&service, "one more", |status| status["messages"] == 1);
    assert_eq!(devices(&service), 7);
}

#[test]
fn messages_of_transactions_count_when_these_are_done() {
    let (place, broker) = (Place::new(), KafkaBroker::start());
    let mut client = KafkaClient::new(broker.port);
    client.create("events", 1);
    client.publish("events", 0, &[event(1)], Compression::None);
    client.transact("events", 0, &[event(2), event(3)], false);
    client.transact("events", 0, &[event(4)], true);
    client.transact("events", 0, &[event(5)], false);
    let source = format!("online --source online.events={}", broker.url("events?format=csv"));
    let service = Service::start(&place, &source);
    until_readable(&service, "two messages", |status| status["messages"] == 2 && status["lag"] == 0);
    client.publish("events", 0, &[event(6)], Compression::None);
    until_readable(&service, "a third one", |status| status["messages"] == 3);
    let found = service.get("/v1/online/tables/online_intervals?format=csv").ok().text;
    let devices: Vec<&str> = found.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(devices, ["1", "4", "6"]);
}

#[test]
fn who_reads_is_shown_to_the_broker_and_to_nobody_else() {
    let (place, broker) = (Place::new(), KafkaBroker::start());
    let mut client = KafkaClient::new(broker.port);
    client.create("events", 2);
    client.publish("events", 1, &[event(1)], Compression::None);
    place.write("password", "hunter2\n");
    let login = |mechanism| Login { mechanism, user: "keeper", password: "hunter2" };
    for (mechanism, login, rest, why) in [
        ("SCRAM-SHA-512", "keeper:hunter2@", "", None),
        ("SCRAM-SHA-512", "keeper@", "?password-file=password&sasl=scram-sha-512", None),
        ("SCRAM-SHA-512", "keeper:s3cret@", "", Some("the broker refuses the user or the password: Authentication failed")),
        ("SCRAM-SHA-512", "keeper:s3cret@", "?sasl=PLAIN", Some("the broker has other ways of login than PLAIN: SCRAM-SHA-512")),
        ("SCRAM-SHA-512", "", "", Some("the broker has ended the connection: it may want a user")),
        ("PLAIN", "keeper:hunter2@", "?sasl=PLAIN", None),
        ("PLAIN", "keeper:s3cret@", "?sasl=PLAIN", Some("the broker refuses the user or the password: Authentication failed")),
        ("PLAIN", "keeper:hunter2@", "", Some("the broker has no login that keeps the password secret")),
        ("GSSAPI", "keeper:hunter2@", "", Some("the broker has other ways of login: GSSAPI")),
    ]
    .map(|(mechanism, user, rest, why)| (login(mechanism), user, rest, why))
    {
        let front = KafkaFront::start(broker.port, Some(mechanism), None);
        let url = |login: &str, rest: &str| format!("kafka://{login}127.0.0.1:{}/events{rest}", front.port);
        let rest = if rest.is_empty() { "?format=csv".into() } else { format!("{rest}&format=csv") };
        std::fs::remove_dir_all(place.path("state")).ok();
        let service = Service::start(&place, &format!("online --source online.events={}", url(login, &rest)));
        match why {
            None => drop(until_readable(&service, "a message", |status| status["messages"] == 1)),
            Some(why) => {
                let status = until(&service, "an error", |status| !status["error"].is_null());
                assert!(status["error"].as_str().unwrap().starts_with(why), "{login}: {status}");
                assert_eq!((&status["source"], &status["connected"]), (&url("", "").into(), &false.into()));
                let shown = place.run(&format!("status --server {}", service.address)).succeeds().stdout;
                let metrics = service.get("/metrics").ok().text;
                assert!(shown.contains(why) && metrics.contains("retally_source_connected"), "{shown}");
                let ran = service.end();
                for text in [shown, metrics, ran.stderr.clone()] {
                    assert!(!text.contains("s3cret") && !text.contains("hunter2"), "{text}");
                }
                assert!(ran.stderr.contains(why), "{}", ran.stderr);
            }
        }
    }
}

#[test]
fn brokers_are_told_by_their_certificates() {
    let (place, broker) = (Place::new(), KafkaBroker::start());
    let mut client = KafkaClient::new(broker.port);
    client.create("events", 1);
    client.publish("events", 0, &[event(1)], Compression::None);
    let made = |is_over: bool| {
        let (pem, key) = of_localhost(is_over);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        (pem, Arc::new(config))
    };
    let ((pem, config), (over_pem, over_config)) = (made(false), made(true));
    place.write("ca.pem", &pem);
    place.write("over.pem", &over_pem);
    place.write("other.pem", made(false).0);
    let login = Login { mechanism: "PLAIN", user: "keeper", password: "hunter2" };
    let (front, over) =
        (KafkaFront::start(broker.port, Some(login), Some(config)), KafkaFront::start(broker.port, None, Some(over_config)));
    let start = |scheme: &str, host: &str, ca: &str| {
        let (login, port) = if ca == "over.pem" { ("", over.port) } else { ("keeper:hunter2@", front.port) };
        let ca = if ca.is_empty() { String::new() } else { format!("&ca={ca}") };
        Service::start(&place, &format!("online --source online.events={scheme}://{login}{host}:{port}/events?format=csv{ca}"))
    };
    // A password is sent as it is where the connection is encrypted.
    let service = start("kafkas", "localhost", "ca.pem");
    until_readable(&service, "a message", |status| status["messages"] == 1);
    drop(service);
    for (scheme, host, ca, why) in [
        ("kafkas", "localhost", "other.pem", "the broker can't be told by its certificate: "),
        ("kafkas", "127.0.0.1", "ca.pem", "the broker can't be told by its certificate: "),
        ("kafkas", "localhost", "over.pem", "the broker can't be told by its certificate: invalid peer certificate: certificate expired"),
        ("kafkas", "localhost", "none", "could not read"),
        ("kafka", "localhost", "", ""),
    ] {
        let service = start(scheme, host, ca);
        let status = until(&service, "an error", |status| !status["error"].is_null());
        assert!(status["error"].as_str().unwrap().starts_with(why), "{host} {ca}: {status}");
        service.end();
    }
    // Several brokers may be named, and the first that answers is asked; without any it is waited for.
    let port = broker.port;
    let service = Service::start(&place, &format!("online --source online.events=kafka://127.0.0.1:1,127.0.0.1:{port}/events?format=csv"));
    until_connected(&service);
    assert_eq!(status(&service, 0)["source"], format!("kafka://127.0.0.1:1,127.0.0.1:{port}/events"));
    drop(broker);
    let status = until(&service, "an error", |status| !status["error"].is_null() && status["connected"] == false);
    assert!(status["lost"] == 1, "{status}");
    until(&service, "nobody", |status| status["error"].as_str().is_some_and(|error| error.starts_with("the broker can't be reached: ")));
}
