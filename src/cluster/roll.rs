//! The roll: which processes are there, and what becomes of one that comes.

use super::claims::{Claims, Purpose};
use super::error::MeshError;
use super::generation::Generation;
use super::handshake::Verdict;
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many that are awaited are named.
const NAMED_MAX: usize = 5;

/// Which processes are there. It is shared by those who connect, who listen, and who wait.
pub struct Roll {
    state: Mutex<State>,
    changed: Condvar,
}

/// What is known at a moment.
pub struct State {
    ours: Claims,
    /// Of each process, once it has connected.
    members: Vec<Option<Member>>,
    /// All are there, and at work.
    complete: bool,
    /// Why they can't be.
    failure: Option<MeshError>,
    /// Who came instead of those that are awaited.
    came: Option<&'static str>,
}

/// A process that has connected to this one.
struct Member {
    incarnation: u64,
    /// It was told that its connection of workers is welcome.
    data: bool,
    /// That connection.
    stream: Option<TcpStream>,
}

impl Roll {
    /// None is there.
    pub fn new(ours: Claims) -> Roll {
        let members = (0..ours.processes).map(|_| None).collect();
        Roll { state: Mutex::new(State { ours, members, complete: false, failure: None, came: None }), changed: Condvar::new() }
    }

    /// The state, to be looked at or changed.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who waits that there is something new.
    pub fn tell(&self) {
        self.changed.notify_all();
    }

    /// The connection of workers of a process that was welcome is there.
    pub fn enter(&self, process: usize, stream: TcpStream) {
        if let Some(member) = self.lock().members.get_mut(process).and_then(Option::as_mut) {
            member.stream = Some(stream);
        }
        self.tell();
    }

    /// Waits for all processes behind this one, and returns their connections of workers.
    pub fn await_others(&self, timeout: Duration, deadline: Instant, addresses: &[String]) -> Result<Vec<(usize, TcpStream)>, MeshError> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            let awaited: Vec<usize> = state.awaited().collect();
            if awaited.is_empty() {
                state.complete = true;
                let streams = state.members.iter_mut().enumerate();
                return Ok(streams.filter_map(|(process, member)| Some((process, member.as_mut()?.stream.take()?))).collect());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let named = awaited.iter().take(NAMED_MAX).map(|process| match addresses.get(*process) {
                    Some(address) => format!("process {process} ({address})"),
                    None => format!("process {process}"),
                });
                let mut named = named.collect::<Vec<_>>().join(", ");
                if awaited.len() > NAMED_MAX {
                    named.push_str(&format!(" and {} others", awaited.len() - NAMED_MAX));
                }
                let came = state.came.map_or(String::new(), |came| format!("; {came} came"));
                return Err(MeshError::Absent { awaited: named, seconds: timeout.as_secs(), came });
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// What this process says of itself.
    pub fn ours(&self) -> &Claims {
        &self.ours
    }

    /// What process 0 has told.
    pub fn learn(&mut self, generation: Generation, shown: u64) {
        self.ours.generation = generation;
        self.ours.shown = shown;
    }

    /// Why the processes can't be connected.
    pub fn failure(&self) -> Option<MeshError> {
        self.failure.clone()
    }

    /// Notes who came that is none of those that are awaited.
    pub fn note(&mut self, came: &'static str) {
        self.came = Some(came);
    }

    /// Whether all are there, and at work.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn awaited(&self) -> impl Iterator<Item = usize> {
        let behind = self.members.iter().enumerate().skip(self.ours.place().saturating_add(1));
        behind.filter(|(_, member)| member.as_ref().is_none_or(|member| member.stream.is_none())).map(|(process, _)| process)
    }

    /// What becomes of a process that has proved that it holds the secret, and says this of itself. Where it is welcome, it is there.
    pub fn admit(&mut self, theirs: &Claims) -> Verdict {
        if let Err(error) = self.ours.agree(theirs) {
            return self.fail(error);
        }
        if theirs.generation != self.ours.generation {
            if theirs.generation < self.ours.generation {
                return Verdict::Older;
            }
            let ours = self.ours.generation.to_string();
            self.fail(MeshError::Older { process: theirs.place(), theirs: theirs.generation.to_string(), ours });
            return Verdict::Newer;
        }
        if !theirs.sees {
            return self.fail(MeshError::Unseen { process: theirs.place() });
        }
        let awaited = theirs.process > self.ours.process;
        let Some(place) = self.members.get_mut(theirs.place()).filter(|_| awaited) else { return Verdict::OutOfRange };
        match (place, theirs.purpose) {
            _ if self.complete => Verdict::Late,
            (place @ None, Purpose::Heartbeat) => {
                *place = Some(Member { incarnation: theirs.incarnation, data: false, stream: None });
                Verdict::Welcome
            }
            (Some(member), Purpose::Data) if member.incarnation == theirs.incarnation && !member.data => {
                member.data = true;
                Verdict::Welcome
            }
            _ => Verdict::Taken,
        }
    }

    /// A process that was admitted could not be told so.
    pub fn forget(&mut self, theirs: &Claims) {
        let Some(place) = self.members.get_mut(theirs.place()) else { return };
        match (place, theirs.purpose) {
            (place, Purpose::Heartbeat) => *place = None,
            (Some(member), Purpose::Data) => member.data = false,
            (None, Purpose::Data) => {}
        }
    }

    /// Those that are at work are not to be disturbed.
    fn fail(&mut self, error: MeshError) -> Verdict {
        if !self.complete {
            self.failure.get_or_insert(error);
        }
        Verdict::Disagrees
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::claims::tests::claims;

    fn roll() -> Roll {
        Roll::new(Claims { process: 0, ..claims() })
    }

    fn data(process: u64) -> Claims {
        Claims { process, purpose: Purpose::Data, ..claims() }
    }

    fn beats(process: u64) -> Claims {
        Claims { process, ..claims() }
    }

    fn waited(roll: &Roll) -> Result<(), String> {
        let addresses = ["a:1".into(), "b:2".into()];
        roll.await_others(Duration::from_secs(7), Instant::now(), &addresses).map(|_| ()).map_err(|error| error.to_string())
    }

    fn stream() -> TcpStream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    fn enters(roll: &Roll, process: u64) {
        for claims in [beats(process), data(process)] {
            assert_eq!(roll.lock().admit(&claims), Verdict::Welcome);
        }
        roll.enter(usize::try_from(process).unwrap(), stream());
    }

    #[test]
    fn all_are_awaited_by_name_until_both_their_connections_are_there() {
        let roll = roll();
        assert_eq!(waited(&roll), Err("waited 7 s in vain for process 1 (b:2), process 2 to connect".into()));
        enters(&roll, 2);
        assert_eq!(roll.lock().admit(&beats(1)), Verdict::Welcome);
        roll.lock().note("someone with another secret");
        let said = "waited 7 s in vain for process 1 (b:2) to connect; someone with another secret came";
        assert_eq!(waited(&roll), Err(said.into()));
        assert_eq!(roll.lock().admit(&data(1)), Verdict::Welcome);
        assert_eq!(waited(&roll), Err(said.into()), "it has been told, and is not there yet");
        roll.enter(1, stream());
        assert_eq!(waited(&roll), Ok(()));
        assert_eq!(roll.lock().admit(&beats(1)), Verdict::Late);
        let many = Roll::new(Claims { process: 0, processes: 9, ..claims() });
        assert!(waited(&many).unwrap_err().contains("process 5 and 3 others"));
    }

    /// Each claim that may come, when process 1 of 3 has its first connection.
    #[test]
    fn who_is_welcome() {
        let table = [
            (data(1), Verdict::Welcome),
            (beats(2), Verdict::Welcome),
            // Another process of the same number, and what comes before its time.
            (Claims { incarnation: 6, ..beats(1) }, Verdict::Taken),
            (Claims { incarnation: 6, ..data(1) }, Verdict::Taken),
            (beats(1), Verdict::Taken),
            (data(2), Verdict::Taken),
            (beats(0), Verdict::OutOfRange),
            (beats(3), Verdict::OutOfRange),
            (beats(u64::MAX), Verdict::OutOfRange),
            (Claims { generation: Generation(76), ..data(1) }, Verdict::Older),
            (Claims { generation: Generation::UNKNOWN, ..data(1) }, Verdict::Older),
        ];
        for (claims, verdict) in table {
            let roll = roll();
            roll.lock().admit(&beats(1));
            assert_eq!(roll.lock().admit(&claims), verdict, "{claims:?}");
            assert!(roll.lock().failure().is_none());
        }
    }

    #[test]
    fn who_could_not_be_told_may_come_again() {
        let roll = roll();
        for claims in [beats(1), data(1)] {
            assert_eq!(roll.lock().admit(&claims), Verdict::Welcome);
            roll.lock().forget(&claims);
            assert_eq!(roll.lock().admit(&claims), Verdict::Welcome);
            assert_eq!(roll.lock().admit(&claims), Verdict::Taken);
        }
    }

    #[test]
    fn who_disagrees_ends_the_wait_but_not_the_work() {
        let table = [
            (Claims { fingerprint: 8, ..beats(1) }, Verdict::Disagrees, "other arguments"),
            (Claims { sees: false, ..beats(1) }, Verdict::Disagrees, "process 1 does not see"),
            (Claims { generation: Generation(78), ..beats(1) }, Verdict::Newer, "of 000000000000004d, which is over"),
        ];
        for (claims, verdict, said) in table {
            let waiting = roll();
            assert_eq!(waiting.lock().admit(&claims), verdict);
            assert!(waited(&waiting).unwrap_err().contains(said));
            let working = roll();
            enters(&working, 1);
            enters(&working, 2);
            waited(&working).unwrap();
            assert_eq!(working.lock().admit(&claims), verdict);
            assert!(working.lock().failure().is_none());
        }
    }
}
