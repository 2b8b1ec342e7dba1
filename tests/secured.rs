//! TLS to PostgreSQL: what is encrypted, whom the program believes, and what it says when it does not.

use crate::support::postgres_server::{PASSWORD_IN_URL, Server};
use crate::support::program::{Failure, Place};
use crate::support::service::Service;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::time::{Duration, Instant};

const SETTINGS: [&str; 4] = ["ssl=on", "ssl_cert_file=server.crt", "ssl_key_file=server.key", "log_connections=on"];
const RUN: &str = "run online events=events.csv --tables online_daily -w 1";

/// An authority of this name, and its certificate.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Gives the server a certificate for these names. Returns nothing that the server does not have.
fn certify(server: &mut Server, authority: &CertifiedIssuer<'_, KeyPair>, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, authority).unwrap();
    server.write("server.crt", &certificate.pem());
    server.write("server.key", &key.serialize_pem());
    server.restart(&SETTINGS);
}

struct Secured {
    server: Server,
    place: Place,
}

impl Secured {
    fn new() -> Secured {
        let place = Place::new();
        place.write("events.csv", "timestamp,device_id,user_id,server_id,connected\n2026-03-02 08:00:00,1,7,1,true\n");
        Secured { server: Server::start(), place }
    }

    fn out(&self, host: &str, asked: &str) -> String {
        let url = self.server.url(&format!("keeper:{PASSWORD_IN_URL}"), "tables").replace("127.0.0.1", host);
        format!("'{url}?{asked}'")
    }

    /// A run gets in. Returns whether its connection was encrypted.
    #[track_caller]
    fn is_encrypted(&self, host: &str, asked: &str) -> bool {
        let before = self.server.log().len();
        self.place.run(&format!("{RUN} --out {}", self.out(host, asked))).succeeds();
        let log = self.server.log().split_off(before);
        let ours: Vec<&str> = log.lines().filter(|line| line.contains("connection authorized") && line.contains("=retally")).collect();
        let encrypted = ours.iter().filter(|line| line.contains("SSL enabled (protocol=TLSv1.")).count();
        assert!(!ours.is_empty() && (encrypted == 0 || encrypted == ours.len()), "{log}");
        encrypted > 0
    }

    /// A run does not get in. Returns what it says.
    #[track_caller]
    fn refuses(&self, host: &str, asked: &str) -> Failure {
        let failure = self.place.run(&format!("{RUN} --out {}", self.out(host, asked))).fails();
        let said = format!("{failure:?}");
        assert!(!said.contains(PASSWORD_IN_URL) && !said.contains("s3cret"), "{said}");
        failure
    }
}

/// What was said to do.
#[track_caller]
fn hints(failure: Failure, part: &str) {
    assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains(part)), "{failure:?} does not say {part:?}");
}

#[test]
fn a_server_is_believed_as_far_as_was_asked_for() {
    let mut secured = Secured::new();
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    secured.place.write("ours.pem", ours.pem());
    secured.place.write("theirs.pem", theirs.pem());
    secured.place.write("both.pem", theirs.pem() + &ours.pem());
    certify(&mut secured.server, &ours, &["localhost", "db.example"]);
    assert!(secured.is_encrypted("127.0.0.1", ""), "by default it is encrypted where the server takes that");
    assert!(secured.is_encrypted("127.0.0.1", "sslmode=prefer") && !secured.is_encrypted("127.0.0.1", "sslmode=disable"));
    assert!(secured.is_encrypted("127.0.0.1", "sslmode=require"), "whoever it is");
    for asked in ["sslmode=verify-full&sslrootcert=ours.pem", "sslrootcert=both.pem&sslmode=verify-full"] {
        assert!(secured.is_encrypted("localhost", asked));
        assert!(secured.is_encrypted("db.example", &format!("hostaddr=127.0.0.1&{asked}")));
    }
    assert!(secured.is_encrypted("127.0.0.1", "sslmode=verify-ca&sslrootcert=ours.pem"), "its name is no matter");
    assert!(secured.is_encrypted("127.0.0.1", "sslmode=require&sslrootcert=ours.pem"));
    let wrong_name = secured.refuses("127.0.0.1", "sslmode=verify-full&sslrootcert=ours.pem");
    hints(wrong_name.names(&["the server's certificate is not of \"127.0.0.1\": it is of localhost, db.example"]), "verify-ca");
    for mode in ["verify-full", "verify-ca", "require"] {
        let unknown = secured.refuses("localhost", &format!("sslmode={mode}&sslrootcert=theirs.pem"));
        hints(unknown.names(&["the server's certificate is of an unknown issuer"]), "sslrootcert=PATH");
    }
    // Those that the system trusts have not issued it.
    secured.refuses("localhost", "sslmode=verify-full").names(&["postgres://keeper@localhost:"]);
    secured.refuses("localhost", "sslmode=verify-full&sslrootcert=no.pem").names(&["sslrootcert \"no.pem\": no such file"]);
    secured.place.write("empty.pem", "");
    secured.refuses("localhost", "sslmode=verify-full&sslrootcert=empty.pem").names(&["it has none in PEM"]);
    // What the environment says counts where the URL says nothing.
    let mut command = secured.place.command(&format!("{RUN} --out {}", secured.out("127.0.0.1", "")));
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", "ours.pem");
    crate::support::program::Started::new(command, "run").finish().fails().names(&["is not of \"127.0.0.1\""]);
}

/// As PostgreSQL's own page makes one: a certificate that has signed itself, and is an authority.
#[test]
fn a_certificate_of_its_own_is_believed_where_it_is_named() {
    let mut secured = Secured::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_string()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    secured.place.write("server.pem", certificate.pem());
    secured.place.write("other.pem", authority("other").pem());
    secured.server.write("server.crt", &certificate.pem());
    secured.server.write("server.key", &key.serialize_pem());
    secured.server.restart(&SETTINGS);
    assert!(secured.is_encrypted("localhost", "sslmode=verify-full&sslrootcert=server.pem"));
    assert!(secured.is_encrypted("127.0.0.1", "sslmode=verify-ca&sslrootcert=server.pem"));
    secured.refuses("127.0.0.1", "sslmode=verify-full&sslrootcert=server.pem").names(&["is not of \"127.0.0.1\": it is of localhost"]);
    secured.refuses("localhost", "sslmode=verify-full&sslrootcert=other.pem").names(&["certificate"]);
}

#[test]
fn a_server_without_tls_is_used_where_that_is_allowed() {
    let mut secured = Secured::new();
    secured.server.restart(&["log_connections=on"]);
    assert!(!secured.is_encrypted("127.0.0.1", "") && !secured.is_encrypted("127.0.0.1", "sslmode=prefer"));
    secured.place.write("ours.pem", authority("ours").pem());
    for asked in ["sslmode=require", "sslmode=verify-ca&sslrootcert=ours.pem", "sslmode=verify-full&sslrootcert=ours.pem"] {
        let refused = secured.refuses("127.0.0.1", asked);
        hints(refused.names(&["the server takes no encrypted connections"]), "turn on ssl");
    }
    // One whose TLS is another one, and one that lets nobody in by it.
    let ours = authority("ours");
    certify(&mut secured.server, &ours, &["localhost"]);
    let old = ["ssl_max_protocol_version=TLSv1.2", "ssl_ciphers=AES128-SHA"];
    secured.server.restart(&[SETTINGS.as_slice(), &old].concat());
    assert!(!secured.is_encrypted("localhost", "sslmode=prefer"));
    secured.refuses("localhost", "sslmode=require").names(&["no encrypted connection"]);
    secured.server.write("pg_hba.conf", "hostnossl all all 127.0.0.1/32 scram-sha-256\n");
    secured.server.restart(&SETTINGS);
    assert!(!secured.is_encrypted("localhost", "sslmode=prefer"));
    secured.refuses("localhost", "sslmode=require").names(&["pg_hba.conf"]);
}

#[test]
fn a_service_keeps_its_sink_encrypted_through_a_restart_of_the_server() {
    let mut secured = Secured::new();
    let ours = authority("ours");
    secured.place.write("ours.pem", ours.pem());
    certify(&mut secured.server, &ours, &["localhost"]);
    let out = secured.out("localhost", "sslmode=verify-full&sslrootcert=ours.pem");
    let service = Service::start(&secured.place, &format!("online -w 1 --out {out} --network-timeout 5s"));
    let send = |day: u32, wait: &str| {
        let line = format!("timestamp,device_id,user_id,server_id,connected\n2026-03-{day:02} 08:00:00,{day},7,1,true\n");
        service.csv(&format!("/v1/online/events?wait={wait}"), line).ok();
    };
    let count = |server: &Server| {
        use crate::databases::Database;
        server.rows("SELECT epoch FROM retally_progress")[0][0].clone()
    };
    send(1, "sinks");
    assert_eq!(count(&secured.server), "1");
    // Its certificate is renewed by somebody else: the sink does not go on, and says why.
    certify(&mut secured.server, &authority("theirs"), &["localhost"]);
    send(2, "visible");
    let error = || service.get("/v1/status").ok().json()["sinks"][0]["error"].to_string();
    let until = Instant::now() + Duration::from_secs(60);
    while !error().contains("of an unknown issuer") {
        assert!(Instant::now() < until, "nobody says that the server is another one: {}", error());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(&secured.server), "1");
    certify(&mut secured.server, &ours, &["localhost"]);
    send(3, "sinks");
    assert_eq!((count(&secured.server).as_str(), error().as_str()), ("3", "null"));
    let log = secured.server.log();
    let ours: Vec<&str> = log.lines().filter(|line| line.contains("connection authorized") && line.contains("=retally")).collect();
    assert!(!ours.is_empty() && ours.iter().all(|line| line.contains("SSL enabled")), "{log}");
    service.end();
}
