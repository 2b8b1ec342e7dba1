//! The connections between the processes of a cluster.
//!
//! Process I listens on line I of the hosts file, connects to the processes before it, and is connected to by those
//! after it. Both ends say who they are and what they run; a stranger on the port (a health probe, a browser) is dropped
//! and does no harm. timely's own mesh does neither, and prints to stdout. There is no secret yet: on a network that
//! others can reach, this is not safe.

use super::Cluster;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the processes wait for one another.
pub const CONNECT_SECONDS_MAX: u64 = 60;
/// How long a connection may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How many connections may be silent at a time; more wait in the system's queue.
const SILENT_MAX: usize = 64;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What both ends of a connection say first.
const MAGIC: [u8; 8] = *b"retally\x01";
const HELLO_BYTES: usize = 8 + 8 * 4;

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
    #[error("waited {CONNECT_SECONDS_MAX} s in vain for process {process} to connect")]
    Absent {
        /// Its number.
        process: usize,
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
}

/// What a process says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    process: u64,
    processes: u64,
    workers: u64,
    /// A number for all that must be the same on all processes: dataflow, settings, tables.
    fingerprint: u64,
}

impl Hello {
    fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.process, self.processes, self.workers, self.fingerprint];
        MAGIC.into_iter().chain(numbers.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Hello> {
        let (magic, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut number = || {
            let (number, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(u64::from_le_bytes(*number))
        };
        let hello = Hello { process: number()?, processes: number()?, workers: number()?, fingerprint: number()? };
        (*magic == MAGIC).then_some(hello)
    }

    /// What must be the same, for people.
    fn shared(self) -> String {
        format!("{} processes of {} workers with job {:016x}", self.processes, self.workers, self.fingerprint)
    }
}

/// Connects to all other processes. Returns a socket for each, none for this one.
pub fn connect(cluster: &Cluster, fingerprint: u64) -> Result<Vec<Option<TcpStream>>, MeshError> {
    let deadline = Instant::now() + Duration::from_secs(CONNECT_SECONDS_MAX);
    let address = cluster.addresses.get(cluster.process).cloned().unwrap_or_default();
    let listener = TcpListener::bind(&address).map_err(|source| MeshError::Listen { address: address.clone(), source })?;
    let hello =
        Hello { process: cluster.process as u64, processes: cluster.processes() as u64, workers: cluster.workers as u64, fingerprint };
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    for (process, address) in cluster.addresses.iter().enumerate().take(cluster.process) {
        sockets.push(Some(reach(process, address, hello, deadline)?));
    }
    sockets.resize_with(cluster.processes(), || None);
    await_others(&listener, hello, deadline, &mut sockets)?;
    Ok(sockets)
}

/// Connects to a process that comes before this one, which may not be up yet.
fn reach(process: usize, address: &str, hello: Hello, deadline: Instant) -> Result<TcpStream, MeshError> {
    loop {
        let attempt = dial(address).and_then(|mut stream| {
            stream.write_all(&hello.to_bytes())?;
            read_hello(&mut stream).map(|theirs| (stream, theirs))
        });
        let why = match attempt {
            Ok((stream, Some(theirs))) if theirs.process == process as u64 => {
                return check(process, hello, theirs).map(|()| stream);
            }
            Ok(_) => "something else answers there".to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(MeshError::Unreachable { process, address: address.into(), why });
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, HELLO_TIMEOUT) {
            Ok(stream) => return prepare(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
    Ok(stream)
}

/// Accepts those that come after this process, in any order, among strangers.
fn await_others(listener: &TcpListener, hello: Hello, deadline: Instant, sockets: &mut [Option<TcpStream>]) -> Result<(), MeshError> {
    let first = usize::try_from(hello.process).unwrap_or(usize::MAX) + 1;
    let absent = |sockets: &[Option<TcpStream>]| (first..sockets.len()).find(|process| sockets.get(*process).is_some_and(Option::is_none));
    listener.set_nonblocking(true).ok();
    // Each connection says who it is on a thread of its own: a silent one holds up nobody.
    let (sender, arrivals) = std::sync::mpsc::channel();
    let silent = Arc::new(());
    while let Some(process) = absent(sockets) {
        if Instant::now() > deadline {
            return Err(MeshError::Absent { process });
        }
        if Arc::strong_count(&silent) <= SILENT_MAX
            && let Ok((stream, _)) = listener.accept()
        {
            let (sender, silent) = (sender.clone(), Arc::clone(&silent));
            std::thread::spawn(move || {
                let _silent = silent;
                stream.set_nonblocking(false).ok();
                let Ok(mut stream) = prepare(stream) else { return };
                if let Ok(Some(theirs)) = read_hello(&mut stream) {
                    sender.send((stream, theirs)).ok();
                }
            });
        }
        while let Ok((mut stream, theirs)) = arrivals.try_recv() {
            let Ok(place) = usize::try_from(theirs.process) else { continue };
            // Both ends learn of a mismatch: this one answers before it judges.
            let answered = stream.write_all(&hello.to_bytes()).is_ok();
            check(place, hello, theirs)?;
            if let Some(socket) = sockets.get_mut(place).filter(|_| answered && place >= first) {
                *socket = Some(stream);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    sockets.iter().flatten().for_each(|socket| drop(socket.set_read_timeout(None)));
    Ok(())
}

/// What the other end says, when it is one of us.
fn read_hello(stream: &mut TcpStream) -> io::Result<Option<Hello>> {
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes)?;
    Ok(Hello::from_bytes(&bytes))
}

fn check(process: usize, ours: Hello, theirs: Hello) -> Result<(), MeshError> {
    let same = Hello { process: theirs.process, ..ours };
    if theirs == same { Ok(()) } else { Err(MeshError::Mismatch { process, theirs: theirs.shared(), ours: ours.shared() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_addresses(count: usize) -> Vec<String> {
        let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
    }

    fn start(addresses: &[String], process: usize, fingerprint: u64) -> std::thread::JoinHandle<Result<Vec<Option<TcpStream>>, MeshError>> {
        let cluster = Cluster { workers: 2, process, addresses: addresses.to_vec() };
        std::thread::spawn(move || connect(&cluster, fingerprint))
    }

    #[test]
    fn three_processes_meet_among_strangers() {
        let addresses = free_addresses(3);
        let first = start(&addresses, 0, 7);
        // A stranger that speaks and one that is silent.
        let knock = || loop {
            match TcpStream::connect(&addresses[0]) {
                Ok(stream) => return stream,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        knock().write_all(&[b'x'; HELLO_BYTES]).unwrap();
        let _silent = knock();
        let others = [start(&addresses, 2, 7), start(&addresses, 1, 7)];
        let mut meshes = vec![first.join().unwrap().unwrap()];
        for other in others {
            meshes.push(other.join().unwrap().unwrap());
        }
        let connected = |mesh: &Vec<Option<TcpStream>>| mesh.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(meshes.iter().map(connected).collect::<Vec<_>>(), [[false, true, true], [true, true, false], [true, false, true]]);
    }

    #[test]
    fn other_arguments_are_refused_on_both_sides() {
        let addresses = free_addresses(2);
        let (first, second) = (start(&addresses, 0, 7), start(&addresses, 1, 8));
        for process in [first, second] {
            let error = process.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("was started with other arguments"), "{error}");
        }
    }
}
