//! Messages of a NATS stream as a source of a service.

use crate::support::certificates::of_localhost;
use crate::support::known::{ONLINE, SERVERS, shuffled, table};
use crate::support::nats_server::{NatsServer, Publisher};
use crate::support::program::Place;
use crate::support::service::Service;
use crate::support::sources::{rejected, status, struck, taken_once, until, until_connected, until_readable, until_same};

fn events(lines: &[String]) -> Vec<(String, Vec<u8>)> {
    lines.iter().enumerate().map(|(number, line)| (format!("fleet.{}", number % 7), line.clone().into_bytes())).collect()
}

#[test]
fn each_message_is_taken_once_whatever_ends_the_server_or_the_service() {
    let (place, mut server) = (Place::new(), NatsServer::start());
    let publisher = Publisher::new(server.port);
    publisher.stream("EVENTS", "fleet");
    let source = format!("--source online.events={} --batch-events 200", server.url("EVENTS?format=csv"));
    let start = || Service::of(&place, &ONLINE, &source);
    let service = start();
    service.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    until_connected(&service);
    let messages = events(&shuffled(&ONLINE.lines));
    let messages = &messages;
    let service = std::thread::scope(|scope| {
        scope.spawn(move || {
            for (number, portion) in messages.chunks(150).enumerate() {
                publisher.publish(portion, number * 150);
            }
        });
        struck(12, service, start, |pause| {
            server.kill();
            std::thread::sleep(pause);
            server.run();
        })
    });
    until_same(&service, &ONLINE);
    let last = |status: &serde_json::Value| status["positions"][0]["last"].as_u64();
    let status = until_readable(&service, "the last message", |status| last(status) == Some(messages.len() as u64));
    assert_eq!((&status["lag"], &status["error"]), (&0.into(), &serde_json::Value::Null));
    taken_once(&service, messages.len());
    service.end();
    place.run("verify --state state").succeeds();
}

#[test]
fn positions_are_those_of_a_stream_and_survive_folding() {
    let (place, server) = (Place::new(), NatsServer::start());
    let publisher = Publisher::new(server.port);
    publisher.stream("EVENTS", "fleet");
    let event = |device: u32| (format!("fleet.{device}.status"), format!("2026-03-02 08:00:00,{device},1,1,true").into_bytes());
    let source = format!("online --source online.events={}", server.url("EVENTS?format=csv"));
    let service = Service::start(&place, &source);
    publisher.publish(&[event(1), event(2), ("fleet.3.status".into(), b"x".to_vec())], 0);
    until_readable(&service, "three messages", |status| status["messages"] == 3);
    let rows = rejected(&service, "online");
    assert_eq!(rows.iter().map(|(source, line, _)| (source.as_str(), *line)).collect::<Vec<_>>(), [("nats:EVENTS/fleet.3.status#3", 1)]);
    service.end();
    place.run("compact --state state").succeeds();
    let service = Service::start(&place, &source);
    publisher.publish(&[event(4)], 10);
    let found = until(&service, "one more message", |status| status["messages"] == 1);
    assert_eq!(found["positions"], serde_json::json!([{"partition": 0, "last": 4}]));
    assert_eq!(rejected(&service, "online"), rows);
    // A stream that is created again is another one, while the service runs.
    publisher.remove("EVENTS");
    until(&service, "no stream", |status| status["error"].as_str().is_some_and(|error| error.contains("no stream \"EVENTS\"")));
    publisher.stream("EVENTS", "fleet");
    publisher.publish(&[event(5)], 20);
    until_readable(&service, "a message of the new stream", |status| status["messages"] == 2);
    assert_eq!(status(&service, 0)["positions"], serde_json::json!([{"partition": 0, "last": 1}]));
    let found = service.get("/v1/online/tables/online_intervals?format=csv").ok().text;
    assert_eq!(found.lines().count(), 1 + 4, "{found}");
}

#[test]
fn subjects_and_times_are_fields() {
    let (place, server) = (Place::new(), NatsServer::start());
    let publisher = Publisher::new(server.port);
    publisher.stream("EVENTS", "fleet");
    publisher.publish(&[("fleet.7.status".into(), b"{\"state\":\"true\"}".to_vec()), ("fleet.7.other".into(), b"{}".to_vec())], 0);
    let maps = "--map online.events.timestamp=@time --map online.events.connected=state --map online.events.user_id=@key \
                --map online.events.server_id==1";
    let url = server.url("EVENTS?subject=fleet.*.status&topic=fleet.{device_id}.status");
    let service = Service::start(&place, &format!("online --source online.events={url} {maps}"));
    until_readable(&service, "a message", |status| status["messages"] == 1);
    let found = service.get("/v1/online/tables/online_intervals?format=csv").ok().text;
    assert!(found.contains("7,0,1,20"), "{found} {:?}", rejected(&service, "online"));
    assert_eq!((found.lines().count(), rejected(&service, "online")), (2, vec![]));
}

#[test]
fn what_is_wrong_is_named_and_the_service_goes_on() {
    let (place, server) = (Place::new(), NatsServer::with("authorization { user: keeper, password: hunter2 }"));
    let url = |login: &str| format!("nats://{login}127.0.0.1:{}/EVENTS", server.port);
    for (login, why) in [
        ("keeper:s3cret@", "the broker refuses the user or the password"),
        ("", "the broker refuses the user or the password"),
        ("keeper:hunter2@", "the server has no stream \"EVENTS\""),
    ] {
        let service = Service::start(&place, &format!("online --source online.events={}", url(login)));
        let status = until(&service, "an error", |status| !status["error"].is_null());
        assert!(status["error"].as_str().unwrap().starts_with(why), "{login}: {status}");
        assert_eq!((&status["source"], &status["connected"]), (&url("").into(), &false.into()));
        service.csv("/v1/online/events", "2026-03-02 08:00:00,1,7,1,true").ok();
        let ran = service.end();
        assert!(ran.stderr.contains(why) && !ran.stderr.contains("s3cret") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}

#[test]
fn servers_are_told_by_their_certificates() {
    let place = Place::new();
    let server = |name: &str, is_over: bool| {
        let (cert, key) = of_localhost(is_over);
        place.write(&format!("{name}.pem"), cert);
        place.write(&format!("{name}.key"), key);
        let path = |ending: &str| place.path(&format!("{name}.{ending}")).display().to_string();
        NatsServer::with(&format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", path("pem"), path("key")))
    };
    let (good, over) = (server("good", false), server("over", true));
    place.write("other.pem", of_localhost(false).0);
    for (host, ca, why) in [
        // It speaks with this one.
        ("localhost", "good", "the server has no stream \"EVENTS\""),
        ("localhost", "other", "certificate"),
        ("127.0.0.1", "good", "certificate"),
        ("localhost", "over", "certificate expired"),
    ] {
        let port = if ca == "over" { over.port } else { good.port };
        let service = Service::start(&place, &format!("online --source online.events=tls://{host}:{port}/EVENTS?ca={ca}.pem"));
        let status = until(&service, "an error", |status| !status["error"].is_null());
        assert!(status["error"].as_str().unwrap().contains(why), "{host} {ca}: {status}");
        service.end();
    }
}

#[test]
fn messages_may_be_empty_or_large() {
    let (place, server) = (Place::new(), NatsServer::with("max_payload: 16MB"));
    let publisher = Publisher::new(server.port);
    publisher.stream("EVENTS", "fleet");
    // 10 MB.
    let line = |number: u64| format!("2026-03-02 08:{:02}:{:02},{:010},7,1,true\n", number / 60 % 60, number % 60, number);
    let large: String = (0..250_000).map(line).collect();
    assert!(large.len() >= 10_000_000);
    publisher.publish(&[("fleet.1".into(), Vec::new()), ("fleet.2".into(), large.into_bytes())], 0);
    let service = Service::start(&place, &format!("online --source online.events={}", server.url("EVENTS?format=csv")));
    until_readable(&service, "both", |status| status["messages"] == 2);
    assert_eq!(service.get("/v1/status").ok().json()["dataflows"]["online"]["records"], 250_000);
    let rejected = rejected(&service, "online");
    assert!(rejected.len() == 1 && rejected[0].2.contains("empty"), "{rejected:?}");
    service.end();
}
