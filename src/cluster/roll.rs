//! The roll: which processes are there, and what becomes of one that comes.

use super::claims::{Claims, Purpose};
use super::error::MeshError;
use super::generation::Generation;
use super::handshake::Verdict;
use super::shared::Sight;
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many that are awaited are named.
const NAMED_MAX: usize = 5;

/// Which processes are there. It is shared by those who connect, who listen, and who wait.
pub struct Roll {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether each other process has a connection for points to process 0.
    relays: bool,
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
    /// Likewise, for points.
    points: bool,
    relay: Option<TcpStream>,
}

impl Roll {
    /// None is there. On process 0, `relays` reports whether connections for points are awaited, too.
    pub fn new(ours: Claims, relays: bool) -> Roll {
        let relays = relays && ours.process == 0;
        let members = (0..ours.processes).map(|_| None).collect();
        Roll { state: Mutex::new(State { ours, members, complete: false, failure: None, came: None }), changed: Condvar::new(), relays }
    }

    /// The state, to be looked at or changed.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who waits that there is something new.
    pub fn tell(&self) {
        self.changed.notify_all();
    }

    /// A connection of a process that was welcome is there: of workers, or for points.
    pub fn enter(&self, claims: &Claims, stream: TcpStream) {
        if let Some(member) = self.lock().members.get_mut(claims.place()).and_then(Option::as_mut) {
            match claims.purpose {
                Purpose::Points => member.relay = Some(stream),
                Purpose::Data | Purpose::Heartbeat => member.stream = Some(stream),
            }
        }
        self.tell();
    }

    /// The connections for points, when all are there.
    pub fn relays(&self) -> Vec<TcpStream> {
        self.lock().members.iter_mut().flatten().filter_map(|member| member.relay.take()).collect()
    }

    /// Waits for all processes behind this one, and returns their connections of workers.
    pub fn await_others(&self, timeout: Duration, deadline: Instant, addresses: &[String]) -> Result<Vec<(usize, TcpStream)>, MeshError> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            let awaited: Vec<usize> = state.awaited(self.relays).collect();
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

    fn awaited(&self, relays: bool) -> impl Iterator<Item = usize> {
        let behind = self.members.iter().enumerate().skip(self.ours.place().saturating_add(1));
        let is_there = move |member: &Member| member.stream.is_some() && (!relays || member.relay.is_some());
        behind.filter(move |(_, member)| !member.as_ref().is_some_and(is_there)).map(|(process, _)| process)
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
        if theirs.sight != Sight::All {
            // What is there instead, the other one says.
            return self.fail(MeshError::Unseen { process: theirs.place(), sight: theirs.sight, why: String::new() });
        }
        let awaited = theirs.process > self.ours.process;
        let Some(place) = self.members.get_mut(theirs.place()).filter(|_| awaited) else { return Verdict::OutOfRange };
        match (place, theirs.purpose) {
            _ if self.complete => Verdict::Late,
            (place @ None, Purpose::Heartbeat) => {
                *place = Some(Member { incarnation: theirs.incarnation, data: false, stream: None, points: false, relay: None });
                Verdict::Welcome
            }
            (Some(member), Purpose::Data) if member.incarnation == theirs.incarnation && !member.data => {
                member.data = true;
                Verdict::Welcome
            }
            (Some(member), Purpose::Points) if member.incarnation == theirs.incarnation && member.data && !member.points => {
                member.points = true;
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
            (Some(member), Purpose::Points) => member.points = false,
            (None, Purpose::Data | Purpose::Points) => {}
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
        Roll::new(Claims { process: 0, ..claims() }, false)
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
        roll.enter(&data(process), stream());
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
        roll.enter(&data(1), stream());
        assert_eq!(waited(&roll), Ok(()));
        assert_eq!(roll.lock().admit(&beats(1)), Verdict::Late);
        let many = Roll::new(Claims { process: 0, processes: 9, ..claims() }, false);
        assert!(waited(&many).unwrap_err().contains("process 5 and 3 others"));
    }

    #[test]
    fn connections_for_points_are_awaited_by_process_0() {
        let points = |process: u64| Claims { purpose: Purpose::Points, ..beats(process) };
        let roll = Roll::new(Claims { process: 0, ..claims() }, true);
        enters(&roll, 1);
        assert_eq!(roll.lock().admit(&beats(2)), Verdict::Welcome);
        assert_eq!(roll.lock().admit(&points(2)), Verdict::Taken, "it comes last");
        assert_eq!(roll.lock().admit(&data(2)), Verdict::Welcome);
        roll.enter(&data(2), stream());
        for process in [1, 2] {
            assert!(waited(&roll).unwrap_err().contains("process 2"));
            assert_eq!(roll.lock().admit(&points(process)), Verdict::Welcome);
            roll.lock().forget(&points(process));
            assert_eq!(roll.lock().admit(&points(process)), Verdict::Welcome);
            assert_eq!(roll.lock().admit(&points(process)), Verdict::Taken);
            roll.enter(&points(process), stream());
        }
        assert_eq!((waited(&roll), roll.relays().len(), roll.relays().len()), (Ok(()), 2, 0));
        // Others connect to process 0 alone.
        let other = Roll::new(claims(), true);
        enters(&other, 2);
        assert_eq!(waited(&other), Ok(()));
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
            (Claims { sight: Sight::NotState, ..beats(1) }, Verdict::Disagrees, "process 1 does not see the state of process 0"),
            (Claims { sight: Sight::NotPoints, ..beats(1) }, Verdict::Disagrees, "process 1 does not see the file"),
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
