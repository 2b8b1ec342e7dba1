//! The connections between the processes of a cluster.
//!
//! Process I listens on line I of the hosts file, connects to the processes before it, and is connected to by those after it. Three
//! messages make a connection:
//!
//! | from | what |
//! |---|---|
//! | who connects | a [`Hello`]: protocol and version, who it is and what it runs, a number by chance |
//! | who listens | its own, with that number |
//! | who connects | [`Ready`]: the number by chance of the other, and whether it sees what process 0 shows |
//!
//! A connection counts once its third message is there. Who gave up before, since this process was suspended for a while, never sends it;
//! and who can't repeat the number is a stranger. So a stranger is dropped whatever it says, and does no harm; only a peer that has sent
//! all three can disagree about the job. All that come are heard side by side, and the silent ones not for long. timely's own mesh does
//! none of this, and prints to stdout.
//!
//! # Limits
//! There is no secret: who speaks this protocol is believed. On a network that others can reach, this is not safe.

use super::Cluster;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long the processes wait for one another.
pub const CONNECT_SECONDS_MAX: u64 = 60;
/// How long a connection may be silent at first.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// So many connections are heard side by side; when more come, the one that has been silent for the longest time goes.
const GUESTS_MAX: usize = 512;
/// How long to connect may take.
const DIAL_MAX: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What both ends of a connection say first, and all versions of this program.
const NAME: [u8; 7] = *b"retally";
/// The messages of this module. What changes them gets another number.
const PROTOCOL: u8 = 2;
const VERSION: &str = env!("CARGO_PKG_VERSION");
const VERSION_BYTES: usize = 16;
const HELLO_NUMBERS: usize = 7;
const HELLO_BYTES: usize = NAME.len() + 1 + VERSION_BYTES + HELLO_NUMBERS * 8;
const READY_BYTES: usize = 8 + 1;

/// Why the processes could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The process can't listen on its own address.
    #[error("could not listen on {address:?}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Another process can't be reached.
    #[error("could not reach process {process} at {address:?} within {CONNECT_SECONDS_MAX} s: {why}")]
    Unreachable {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// Why not.
        why: String,
    },
    /// Another process did not come.
    #[error("waited {CONNECT_SECONDS_MAX} s in vain for process {process} to connect{came}")]
    Absent {
        /// Its number.
        process: usize,
        /// Who came instead, after a semicolon.
        came: &'static str,
    },
    /// Another process is one of another version.
    #[error("process {process} is retally {theirs}, and this one {VERSION}")]
    Version {
        /// Its number.
        process: usize,
        /// Its version.
        theirs: String,
    },
    /// Another process runs something else.
    #[error("process {process} was started with other arguments: it has {theirs}, this one {ours}")]
    Mismatch {
        /// Its number.
        process: usize,
        /// What it has.
        theirs: String,
        /// What this process has.
        ours: String,
    },
    /// Another process does not see the file that process 0 shows.
    #[error("process {process} does not see the file that process 0 collects points in")]
    Unseen {
        /// Its number.
        process: usize,
    },
}

/// What processes bring to a meeting.
pub struct Meeting<'m> {
    /// A number for all that must be the same on all processes: dataflow, settings, tables.
    pub fingerprint: u64,
    /// What process 0 shows the others; 0 where there is nothing to be seen.
    pub shown: u64,
    /// Whether another process sees what process 0 shows.
    pub sees: &'m dyn Fn(u64) -> bool,
}

/// The connections of a process.
pub struct Mesh {
    /// A socket for each other process, none for this one.
    pub sockets: Vec<Option<TcpStream>>,
    /// What process 0 shows.
    pub shown: u64,
}

/// What a process says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    version: [u8; VERSION_BYTES],
    process: u64,
    processes: u64,
    workers: u64,
    fingerprint: u64,
    shown: u64,
    /// By chance, for each connection.
    number: u64,
    /// The number of the other end, from who listens.
    answers: u64,
}

/// A greeting, as it comes.
enum Greeting {
    Ours(Hello),
    OtherProtocol,
    Stranger,
}

impl Hello {
    fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.process, self.processes, self.workers, self.fingerprint, self.shown, self.number, self.answers];
        let head = NAME.into_iter().chain([PROTOCOL]).chain(self.version);
        head.chain(numbers.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Hello> {
        let (name, rest) = bytes.split_first_chunk()?;
        let (protocol, rest) = rest.split_first()?;
        let (version, mut rest) = rest.split_first_chunk()?;
        let mut number = || {
            let (number, tail) = rest.split_first_chunk()?;
            rest = tail;
            Some(u64::from_le_bytes(*number))
        };
        let hello = Hello {
            version: *version,
            process: number()?,
            processes: number()?,
            workers: number()?,
            fingerprint: number()?,
            shown: number()?,
            number: number()?,
            answers: number()?,
        };
        (*name == NAME && *protocol == PROTOCOL).then_some(hello)
    }

    /// What must be the same, for people.
    fn shared(self) -> String {
        format!("{} processes of {} workers with job {:016x}", self.processes, self.workers, self.fingerprint)
    }

    /// Whether another process runs the same.
    fn check(self, theirs: Hello) -> Result<(), MeshError> {
        let process = usize::try_from(theirs.process).unwrap_or(usize::MAX);
        if theirs.version != self.version {
            let text = String::from_utf8_lossy(&theirs.version).trim_end_matches('\0').to_string();
            return Err(MeshError::Version { process, theirs: text });
        }
        let same = (theirs.processes, theirs.workers, theirs.fingerprint) == (self.processes, self.workers, self.fingerprint);
        if same { Ok(()) } else { Err(MeshError::Mismatch { process, theirs: theirs.shared(), ours: self.shared() }) }
    }
}

/// Whether a greeting, of which the beginning is enough, is one of a version of this program that says other messages.
fn is_other_protocol(greeting: &[u8]) -> bool {
    greeting.strip_prefix(&NAME).and_then(<[u8]>::first).is_some_and(|protocol| *protocol != PROTOCOL)
}

/// The third message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ready {
    /// The number of the other end.
    answers: u64,
    /// It sees what process 0 shows.
    sees: bool,
}

impl Ready {
    fn to_bytes(self) -> Vec<u8> {
        self.answers.to_le_bytes().into_iter().chain([u8::from(self.sees)]).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Ready> {
        let (answers, rest) = bytes.split_first_chunk()?;
        Some(Ready { answers: u64::from_le_bytes(*answers), sees: *rest.first()? == 1 })
    }
}

/// Connects to all other processes.
pub fn connect(cluster: &Cluster, meeting: &Meeting) -> Result<Mesh, MeshError> {
    let deadline = Instant::now() + Duration::from_secs(CONNECT_SECONDS_MAX);
    let address = cluster.addresses.get(cluster.process).cloned().unwrap_or_default();
    let listener = TcpListener::bind(&address).map_err(|source| MeshError::Listen { address: address.clone(), source })?;
    let mut version = [0; VERSION_BYTES];
    version.iter_mut().zip(VERSION.bytes()).for_each(|(byte, letter)| *byte = letter);
    let hello = Hello {
        version,
        process: cluster.process as u64,
        processes: cluster.processes() as u64,
        workers: cluster.workers as u64,
        fingerprint: meeting.fingerprint,
        shown: meeting.shown,
        number: 0,
        answers: 0,
    };
    let mut mesh = Mesh { sockets: Vec::new(), shown: meeting.shown };
    for (process, address) in cluster.addresses.iter().enumerate().take(cluster.process) {
        let (socket, theirs) = reach(process, address, hello, meeting, deadline)?;
        if process == 0 {
            mesh.shown = theirs.shown;
        }
        mesh.sockets.push(Some(socket));
    }
    mesh.sockets.resize_with(cluster.processes(), || None);
    Reception { listener, hello, guests: Vec::new(), came: "" }.await_others(deadline, &mut mesh.sockets)?;
    for socket in mesh.sockets.iter().flatten() {
        socket.set_nonblocking(false).and_then(|()| socket.set_read_timeout(None)).ok();
    }
    Ok(mesh)
}

/// A number that no other connection has.
fn by_chance() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Connects to a process that comes before this one, which may not be up yet.
fn reach(process: usize, address: &str, hello: Hello, meeting: &Meeting, deadline: Instant) -> Result<(TcpStream, Hello), MeshError> {
    loop {
        let hello = Hello { number: by_chance(), ..hello };
        let why = match call(address, hello, deadline) {
            Ok((mut stream, Greeting::Ours(theirs))) if theirs.process == process as u64 && theirs.answers == hello.number => {
                let sees = process > 0 || theirs.shown == 0 || (meeting.sees)(theirs.shown);
                let said = stream.write_all(&Ready { answers: theirs.number, sees }.to_bytes());
                // Both ends learn of a mismatch: this one has answered before it judges.
                hello.check(theirs)?;
                match said {
                    Ok(()) if sees => return Ok((stream, theirs)),
                    Ok(()) => return Err(MeshError::Unseen { process: usize::try_from(hello.process).unwrap_or(usize::MAX) }),
                    Err(error) => error.to_string(),
                }
            }
            Ok((_, Greeting::OtherProtocol)) => "another version of retally answers there".to_string(),
            Ok(_) => "something else answers there".to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(MeshError::Unreachable { process, address: address.into(), why });
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// Says hello, and waits for the answer as long as there is time: the other end may be suspended, or have many guests.
fn call(address: &str, hello: Hello, deadline: Instant) -> io::Result<(TcpStream, Greeting)> {
    let mut stream = dial(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&hello.to_bytes())?;
    let left = deadline.saturating_duration_since(Instant::now());
    stream.set_read_timeout(Some(left.max(RETRY_PAUSE)))?;
    let mut bytes = [0; HELLO_BYTES];
    let (head, rest) = bytes.split_at_mut(NAME.len() + 1);
    stream.read_exact(head)?;
    if is_other_protocol(head) {
        return Ok((stream, Greeting::OtherProtocol));
    }
    stream.read_exact(rest)?;
    Ok((stream, Hello::from_bytes(&bytes).map_or(Greeting::Stranger, Greeting::Ours)))
}

fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DIAL_MAX) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection that may be one of the others.
struct Guest {
    stream: TcpStream,
    /// Of the message that is read.
    bytes: Vec<u8>,
    /// What it is called here.
    number: u64,
    /// Once it is there; then it has been answered.
    hello: Option<Hello>,
    since: Instant,
}

/// What a guest has said.
enum Heard {
    /// Not all of it yet.
    Waiting,
    /// It is one of the others, and has sent all messages.
    Process(Hello, Ready),
    OtherProtocol,
    /// It is of no use.
    Nothing,
}

impl Guest {
    fn new(stream: TcpStream) -> io::Result<Guest> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Guest { stream, bytes: Vec::new(), number: by_chance(), hello: None, since: Instant::now() })
    }

    /// Reads what has come, and answers a greeting.
    fn hear(&mut self, ours: Hello) -> Heard {
        match self.hello {
            None => match self.message(HELLO_BYTES) {
                Ok(_) if is_other_protocol(&self.bytes) => Heard::OtherProtocol,
                Ok(true) => match Hello::from_bytes(&std::mem::take(&mut self.bytes)) {
                    Some(theirs) => {
                        let answer = Hello { number: self.number, answers: theirs.number, ..ours };
                        self.hello = Some(theirs);
                        // A connection that is new has room for so little.
                        if self.stream.write_all(&answer.to_bytes()).is_ok() { Heard::Waiting } else { Heard::Nothing }
                    }
                    None => Heard::Nothing,
                },
                Ok(false) if self.since.elapsed() <= SILENCE_MAX => Heard::Waiting,
                _ => Heard::Nothing,
            },
            Some(theirs) => match self.message(READY_BYTES) {
                Ok(true) => match Ready::from_bytes(&self.bytes) {
                    Some(ready) if ready.answers == self.number => Heard::Process(theirs, ready),
                    _ => Heard::Nothing,
                },
                // It may be suspended, and comes back to a connection that it takes for good.
                Ok(false) => Heard::Waiting,
                Err(_) => Heard::Nothing,
            },
        }
    }

    /// Whether a message of this length is there.
    fn message(&mut self, length: usize) -> io::Result<bool> {
        let mut block = [0; HELLO_BYTES];
        while self.bytes.len() < length {
            let (wanted, _) = block.split_at_mut(length - self.bytes.len());
            match self.stream.read(wanted) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.bytes.extend_from_slice(wanted.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Where those that come after this process are awaited, in any order, among strangers.
struct Reception {
    listener: TcpListener,
    hello: Hello,
    /// The oldest first.
    guests: Vec<Guest>,
    /// Who came instead of those that are awaited.
    came: &'static str,
}

impl Reception {
    fn await_others(&mut self, deadline: Instant, sockets: &mut [Option<TcpStream>]) -> Result<(), MeshError> {
        let first = usize::try_from(self.hello.process).unwrap_or(usize::MAX).saturating_add(1);
        self.listener.set_nonblocking(true).ok();
        while let Some(process) = (first..sockets.len()).find(|process| sockets.get(*process).is_some_and(Option::is_none)) {
            // Looked at before anything is heard: what came while this process was suspended counts.
            let late = Instant::now() > deadline;
            self.accept();
            self.hear(first, sockets)?;
            if late && sockets.get(process).is_some_and(Option::is_none) {
                return Err(MeshError::Absent { process, came: self.came });
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }

    fn accept(&mut self) {
        // No more at a time than may stay.
        for _ in 0..GUESTS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { return };
            if self.guests.len() >= GUESTS_MAX {
                let silent = self.guests.iter().position(|guest| guest.hello.is_none()).unwrap_or(0);
                self.guests.remove(silent);
            }
            self.guests.extend(Guest::new(stream).ok());
        }
    }

    fn hear(&mut self, first: usize, sockets: &mut [Option<TcpStream>]) -> Result<(), MeshError> {
        for mut guest in std::mem::take(&mut self.guests) {
            match guest.hear(self.hello) {
                Heard::Waiting => self.guests.push(guest),
                Heard::Nothing => {}
                Heard::OtherProtocol => self.came = "; another version of retally came",
                Heard::Process(theirs, ready) => {
                    self.hello.check(theirs)?;
                    let process = usize::try_from(theirs.process).unwrap_or(usize::MAX);
                    if !ready.sees {
                        return Err(MeshError::Unseen { process });
                    }
                    if let Some(socket) = sockets.get_mut(process).filter(|_| process >= first) {
                        *socket = Some(guest.stream);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::JoinHandle;

    fn free_addresses(count: usize) -> Vec<String> {
        let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
    }

    fn start_with(addresses: &[String], process: usize, fingerprint: u64, shown: u64) -> JoinHandle<Result<Mesh, MeshError>> {
        let cluster = Cluster { workers: 2, process, addresses: addresses.to_vec() };
        std::thread::spawn(move || connect(&cluster, &Meeting { fingerprint, shown, sees: &|shown| shown < 100 }))
    }

    fn start(addresses: &[String], process: usize, fingerprint: u64) -> JoinHandle<Result<Mesh, MeshError>> {
        start_with(addresses, process, fingerprint, 0)
    }

    fn knock(address: &str) -> TcpStream {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < until, "nobody listens: {error}"),
            }
        }
    }

    /// A greeting of process 1 that could be true, but for its job.
    fn greeting(fingerprint: u64) -> Hello {
        let mut version = [0; VERSION_BYTES];
        version[..VERSION.len()].copy_from_slice(VERSION.as_bytes());
        Hello { version, process: 1, processes: 2, workers: 2, fingerprint, shown: 0, number: 5, answers: 0 }
    }

    fn says(stream: &mut TcpStream, hello: Hello) -> Hello {
        stream.write_all(&hello.to_bytes()).unwrap();
        let mut bytes = [0; HELLO_BYTES];
        stream.read_exact(&mut bytes).unwrap();
        Hello::from_bytes(&bytes).unwrap()
    }

    fn meet(first: JoinHandle<Result<Mesh, MeshError>>, second: JoinHandle<Result<Mesh, MeshError>>) {
        let (mut first, mut second) = (first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
        let (to, from) = (first.sockets[1].as_mut().unwrap(), second.sockets[0].as_mut().unwrap());
        to.write_all(b"x").unwrap();
        let mut byte = [0];
        from.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x", "the ends of one connection");
    }

    #[test]
    fn three_processes_meet_among_strangers() {
        let addresses = free_addresses(3);
        let first = start(&addresses, 0, 7);
        // A stranger that speaks and one that is silent.
        knock(&addresses[0]).write_all(&[b'x'; HELLO_BYTES]).unwrap();
        let _silent = knock(&addresses[0]);
        let others = [start(&addresses, 2, 7), start(&addresses, 1, 7)];
        let mut meshes = vec![first.join().unwrap().unwrap()];
        for other in others {
            meshes.push(other.join().unwrap().unwrap());
        }
        let connected = |mesh: &Mesh| mesh.sockets.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(meshes.iter().map(connected).collect::<Vec<_>>(), [[false, true, true], [true, true, false], [true, false, true]]);
    }

    #[test]
    fn other_arguments_are_refused_on_both_sides() {
        let addresses = free_addresses(2);
        let (first, second) = (start(&addresses, 0, 7), start(&addresses, 1, 8));
        for process in [first, second] {
            let error = process.join().unwrap().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("was started with other arguments"), "{error}");
        }
    }

    /// Who was given up says no third message, and who can't repeat a number is a stranger.
    #[test]
    fn what_was_abandoned_and_what_lies_is_dropped_and_the_wait_goes_on() {
        let addresses = free_addresses(2);
        let first = start(&addresses, 0, 7);
        for fingerprint in [7, 8] {
            // Closed at once, before and after the answer.
            knock(&addresses[0]).write_all(&greeting(fingerprint).to_bytes()).unwrap();
            says(&mut knock(&addresses[0]), greeting(fingerprint));
            let mut liar = knock(&addresses[0]);
            let theirs = says(&mut liar, greeting(fingerprint));
            liar.write_all(&Ready { answers: theirs.number ^ 1, sees: true }.to_bytes()).unwrap();
        }
        let mut silent = knock(&addresses[0]);
        says(&mut silent, greeting(8));
        meet(first, start(&addresses, 1, 7));
    }

    /// What a process says of another one that says all three messages, of which this is the greeting.
    fn disagrees(hello: Hello) -> String {
        let addresses = free_addresses(2);
        let first = start(&addresses, 0, 7);
        let mut other = knock(&addresses[0]);
        let theirs = says(&mut other, hello);
        other.write_all(&Ready { answers: theirs.number, sees: true }.to_bytes()).unwrap();
        first.join().unwrap().map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn who_says_all_three_can_disagree() {
        let error = disagrees(greeting(8));
        assert!(error.contains("process 1 was started with other arguments"), "{error}");
    }

    #[test]
    fn another_version_is_named() {
        let mut hello = greeting(7);
        hello.version = *b"9.9.9\0\0\0\0\0\0\0\0\0\0\0";
        let error = disagrees(hello);
        assert_eq!(error, format!("process 1 is retally 9.9.9, and this one {VERSION}"));
        assert!(is_other_protocol(b"retally\x01") && !is_other_protocol(b"retally\x02") && !is_other_protocol(b"GET / HT"));
    }

    /// More than may wait at a time, all silent, and those in front of the system's queue.
    #[test]
    fn silent_strangers_hold_up_nobody() {
        let addresses = free_addresses(2);
        let first = start(&addresses, 0, 7);
        let _strangers: Vec<TcpStream> = (0..150).map(|_| knock(&addresses[0])).collect();
        meet(first, start(&addresses, 1, 7));
    }

    #[test]
    fn who_does_not_see_what_is_shown_is_refused_by_both() {
        let addresses = free_addresses(2);
        let (first, second) = (start_with(&addresses, 0, 7, 99), start(&addresses, 1, 7));
        assert_eq!((first.join().unwrap().unwrap().shown, second.join().unwrap().unwrap().shown), (99, 99));
        let addresses = free_addresses(2);
        let (first, second) = (start_with(&addresses, 0, 7, 100), start(&addresses, 1, 7));
        for process in [first, second] {
            assert!(matches!(process.join().unwrap(), Err(MeshError::Unseen { process: 1 })));
        }
    }
}
