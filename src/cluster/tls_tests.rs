//! Who is believed, and that all that is said arrives.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(20);

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a process has whose certificate is of one authority, for a host, and that believes another one.
fn tls(of: &CertifiedIssuer<'_, KeyPair>, host: &str, believed: &CertifiedIssuer<'_, KeyPair>) -> Tls {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: String| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([host.to_string()]).unwrap().signed_by(&key, of).unwrap();
    let files = [write("cert", certificate.pem()), write("key", key.serialize_pem()), write("ca", believed.pem())];
    Tls::read(&files[0], &files[1], &files[2]).unwrap()
}

/// Waits for the end of a handshake, as who listens does for many at a time.
fn accepted(tls: &Tls, stream: TcpStream, wait: Duration) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    let (mut securing, began) = (tls.accept(stream)?, Instant::now());
    while !securing.step()? {
        if began.elapsed() > wait {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    carry(securing, Refusal::default())
}

/// Both ends of a connection, where they come to be.
fn meet(connects: &Tls, accepts: &Tls) -> [io::Result<TcpStream>; 2] {
    let (connected, accepted) = dial(connects, accepts);
    [connected.map(|(stream, _)| stream), accepted]
}

/// The same with what tells whether it is refused afterwards.
fn dial(connects: &Tls, accepts: &Tls) -> (io::Result<(TcpStream, Refusal)>, io::Result<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepts = accepts.clone();
    let accepted = std::thread::spawn(move || accepted(&accepts, listener.accept().unwrap().0, WAIT));
    let connected = connects.connect(TcpStream::connect(&address).unwrap(), &address, WAIT);
    (connected, accepted.join().unwrap())
}

#[test]
fn all_that_is_said_arrives_on_both_sides_and_ends() {
    let ours = authority();
    let [one, other] = [(); 2].map(|()| tls(&ours, "127.0.0.1", &ours));
    let ends = meet(&one, &other).map(Result::unwrap);
    let said: Vec<u8> = (0..3_000_000_u32).map(|number| number.wrapping_mul(number).to_le_bytes()[1]).collect();
    let threads = ends.map(|mut end| {
        let mut hears = end.try_clone().unwrap();
        let said = said.clone();
        let says = std::thread::spawn(move || {
            end.write_all(&said).unwrap();
            end.shutdown(Shutdown::Write).unwrap();
        });
        let hears = std::thread::spawn(move || {
            hears.set_read_timeout(Some(WAIT)).unwrap();
            let mut heard = Vec::new();
            hears.read_to_end(&mut heard).unwrap();
            heard
        });
        (says, hears)
    });
    for (says, hears) in threads {
        says.join().unwrap();
        assert!(hears.join().unwrap() == said);
    }
}

#[test]
fn certificates_of_others_and_for_others_are_refused() {
    let (ours, theirs) = (authority(), authority());
    let good = tls(&ours, "127.0.0.1", &ours);
    // Of another authority: who accepts refuses it, and who connects does so before.
    let stranger = tls(&theirs, "127.0.0.1", &ours);
    let (connected, accepted) = dial(&stranger, &good);
    assert!(!is_alert(&accepted.unwrap_err()));
    // It has not heard of that at once.
    let (mut end, refusal) = connected.unwrap();
    end.set_read_timeout(Some(WAIT)).unwrap();
    assert_eq!(end.read(&mut [0]).unwrap_or(0), 0);
    let said = refusal.wait().unwrap();
    assert!(said.starts_with("it refuses the certificate of this process: "), "{said}");
    let [connected, accepted] = meet(&good, &stranger);
    assert!(connected.unwrap_err().to_string().contains("invalid peer certificate") && is_alert(&accepted.unwrap_err()));
    // For another host.
    let [connected, accepted] = meet(&good, &tls(&ours, "b.example", &ours));
    assert!(connected.unwrap_err().to_string().contains("not valid for name") && accepted.is_err());
}

#[test]
fn who_says_nothing_or_something_else_is_dropped_in_time() {
    let ours = authority();
    let accepts = tls(&ours, "127.0.0.1", &ours);
    for said in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stranger.write_all(said).unwrap();
        let began = Instant::now();
        assert!(accepted(&accepts, listener.accept().unwrap().0, Duration::from_millis(300)).is_err());
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
