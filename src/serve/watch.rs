//! Watched folders: the folder is the table. A file that appears is a batch, one that changed is a batch that takes back what it held and
//! delivers what it holds, one that is gone is taken back.
//!
//! What a file held is known from the journal. Events of the system are hints: the folder is looked through when it starts, when there were
//! events, and every minute, since network folders have none. A file is taken when it has stayed the same for a while. One that can't be
//! read is told of once, and left until it changes.
//!
//! A folder that is another one than before (its disk is not mounted any more) takes nothing back.

use super::further::WatchStatus;
use super::service::{Incoming, Phase, Refused, Reply, Service, Wait};
use crate::engine;
use crate::ingest::format;
use crate::state::StateError;
use crate::state::folders::{self, Folder, Known, Seen};
use crate::state::frame::{Frame, Part};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use retally_core::contract::Input;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often a folder is looked through, whatever the system reports.
const RESCAN_EVERY: Duration = Duration::from_secs(60);
/// How often, where it says nothing: it can't, or files are not complete yet.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events that come together are one.
const TOGETHER: Duration = Duration::from_millis(50);
/// So many batches of a folder are under way at a time.
const UNDER_WAY_MAX: usize = 64;

/// A watched folder.
#[derive(Debug)]
pub struct Watched {
    /// The dataflow's place.
    dataflow: usize,
    folder: Folder,
    /// The folder by a name that is the same from wherever it is looked at.
    root: String,
    /// Which folder it is: another one in its place is not looked at.
    identity: (u64, u64),
    /// How long a file must have stayed the same.
    settle: Duration,
    /// What was delivered of it, by the place below it.
    known: BTreeMap<String, Known>,
    /// Files that were seen, and since when as they are.
    seen: BTreeMap<String, (Seen, Instant)>,
    /// Files that can't be read as they are.
    refused: BTreeMap<String, Seen>,
    /// A file has been there since this began.
    has_begun: bool,
}

impl Watched {
    /// A folder, which is there, with what the journal knows of it.
    pub fn new<'f>(
        dataflow: usize,
        input: &Input,
        folder: Folder,
        settle: Duration,
        frames: impl Iterator<Item = &'f Frame>,
    ) -> Result<Watched, StateError> {
        let root = folders::root(&folder.path)?;
        let identity = identity(&folder.path).map_err(|cause| StateError::Input { path: folder.path.clone(), cause })?;
        let known = folders::known(frames, input, &root);
        Ok(Watched { dataflow, folder, root, identity, settle, known, seen: BTreeMap::new(), refused: BTreeMap::new(), has_begun: false })
    }

    /// Watches, until the service ends.
    pub fn run(mut self, service: &Service, status: &WatchStatus) {
        let (sender, events) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Looking at files is an event too.
            if !matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_))) {
                sender.send(()).ok();
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(Path::new(&self.folder.path), RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            service.tell(&format!("{:?} is looked through every {LOOK_EVERY:?}: {error}", self.folder.path));
        }
        let mut said = None;
        loop {
            if service.phase() == Phase::Ending {
                return;
            }
            // While it is looked through, nothing of it is delivered once more.
            let mut again = status.again();
            again.drain(..).for_each(|part| self.learn(part));
            let error = match self.scan(service) {
                Ok(()) => None,
                Err(error) => Some(error.to_string()),
            };
            drop(again);
            if error != said {
                error.iter().for_each(|error| service.tell(&format!("{:?}: {error}", self.folder.path)));
                said.clone_from(&error);
            }
            status.set(json!({
                "folder": self.folder.path, "files": self.known.len(), "refused": self.refused.len(),
                "error": error.or_else(|| self.refused.keys().next().map(|file| format!("{file} can't be read"))),
            }));
            self.wait(service, &events, watcher.is_ok());
        }
    }

    /// Lines of a file were delivered once more.
    fn learn(&mut self, part: Part) {
        let Some(folder) = part.folder.as_ref().filter(|folder| folder.path == self.root) else { return };
        if let Some(known) = self.known.get_mut(&folder.file).filter(|known| known.part.input == part.input) {
            known.again.push(part);
        }
    }

    /// Waits until there is a reason to look again.
    fn wait(&self, service: &Service, events: &Receiver<()>, has_events: bool) {
        let began = Instant::now();
        let is_done = |(seen, _): &(Seen, Instant)| self.is_done(seen);
        let is_waiting = !self.seen.values().all(is_done) || !has_events;
        loop {
            match events.recv_timeout(LOOK_EVERY) {
                Ok(()) => {
                    std::thread::sleep(TOGETHER);
                    while events.try_recv().is_ok() {}
                    return;
                }
                Err(RecvTimeoutError::Timeout) if is_waiting || service.phase() == Phase::Ending => return,
                Err(RecvTimeoutError::Timeout) if began.elapsed() >= RESCAN_EVERY => return,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Whether a file is what was delivered, or is refused as it is.
    fn is_done(&self, seen: &Seen) -> bool {
        let is_known = self.known.get(&seen.below).is_some_and(|known| folders::is_same(&known.part, seen.bytes, seen.modified_ns));
        is_known || self.refused.get(&seen.below) == Some(seen)
    }

    /// Looks through the folder, and delivers what is new.
    fn scan(&mut self, service: &Service) -> Result<(), StateError> {
        if service.phase() != Phase::Ready {
            return Ok(());
        }
        let now = identity(&self.folder.path).map_err(|cause| StateError::Input { path: self.folder.path.clone(), cause })?;
        if now != self.identity {
            let cause = std::io::Error::other("it is another folder than before: nothing is taken back");
            return Err(StateError::Input { path: self.folder.path.clone(), cause });
        }
        let found = folders::find(&self.folder.path)?;
        self.has_begun |= !found.files.is_empty();
        if !self.has_begun && !self.known.is_empty() {
            // At the start, a disk may not be mounted yet.
            let known = if self.known.len() == 1 { "1 file of it is".into() } else { format!("{} files of it are", self.known.len()) };
            let why = format!("it is empty, and {known} known: nothing is taken back until a file is there");
            return Err(StateError::Input { path: self.folder.path.clone(), cause: std::io::Error::other(why) });
        }
        let mut there = BTreeSet::new();
        let mut ready = Vec::new();
        for file in &found.files {
            // It may have gone meanwhile.
            let Ok(seen) = Seen::of(&self.root, file) else { continue };
            there.insert(seen.below.clone());
            let since = match self.seen.get(&seen.below) {
                Some((before, since)) if *before == seen => *since,
                _ => Instant::now(),
            };
            self.seen.insert(seen.below.clone(), (seen.clone(), since));
            if !self.is_done(&seen) && (since.elapsed() >= self.settle || self.is_old(&seen)) {
                ready.push(seen);
            }
        }
        self.seen.retain(|below, _| there.contains(below));
        self.refused.retain(|below, _| there.contains(below));
        let gone = self.known.iter().filter(|(below, _)| !there.contains(*below));
        let gone: Vec<(String, Vec<Part>)> = gone.map(|(below, known)| (below.clone(), known.retraction())).collect();
        let mut under_way = Vec::new();
        let delivered = gone
            .into_iter()
            .try_for_each(|(below, parts)| self.deliver(service, below, None, parts, &mut under_way))
            .and_then(|()| ready.into_iter().try_for_each(|seen| self.take(service, seen, &mut under_way)));
        // What was handed over is there, whatever came of the rest.
        self.await_all(&mut under_way);
        delivered
    }

    /// Whether it was modified long enough ago.
    fn is_old(&self, seen: &Seen) -> bool {
        let now = engine::now().0.saturating_mul(1_000);
        let settle = i64::try_from(self.settle.as_nanos()).unwrap_or(i64::MAX);
        seen.modified_ns.is_some_and(|modified| now.saturating_sub(modified) >= settle)
    }

    /// Delivers a file.
    fn take(&mut self, service: &Service, seen: Seen, under_way: &mut Vec<UnderWay>) -> Result<(), StateError> {
        let Some(served) = service.dataflows.get(self.dataflow) else { return Ok(()) };
        let Some(input) = served.job.definition.inputs.get(self.folder.input) else { return Ok(()) };
        let arrival = engine::arrival(served.job.accept_from);
        let before = self.known.get(&seen.below);
        let parts = match service.files.compare(served.of(), input, &self.root, &seen, before, arrival) {
            Ok(parts) => parts,
            // It is being written, or has gone: the next look tells.
            Err(StateError::Input { .. }) => {
                self.seen.remove(&seen.below);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if parts.is_empty() {
            // Touched, and the same: it is known by its new time.
            if let Some(known) = self.known.get_mut(&seen.below)
                && let Some(folder) = &mut known.part.folder
            {
                folder.modified_ns = seen.modified_ns;
            }
            return Ok(());
        }
        self.deliver(service, seen.below.clone(), Some(seen), parts, under_way)
    }

    /// Plans a batch and hands it over. Where it can't be planned, the file is left until it changes.
    fn deliver(
        &mut self,
        service: &Service,
        below: String,
        seen: Option<Seen>,
        parts: Vec<Part>,
        under_way: &mut Vec<UnderWay>,
    ) -> Result<(), StateError> {
        let Some(served) = service.dataflows.get(self.dataflow) else { return Ok(()) };
        let planned = service.files.plan(served.of(), &parts.iter().collect::<Vec<_>>());
        // What is in the journal is read again at each start: it has to be whole. What comes as text was packed here.
        let planned = match &seen {
            Some(seen) if !format::is_plain_text(&seen.file) => planned.and_then(|plan| {
                plan.check_packed(served.of().definition, u64::MAX)?;
                Ok(plan)
            }),
            _ => planned,
        };
        let plan = match (planned, seen) {
            (Ok(plan), _) => plan,
            (Err(error), Some(seen)) => {
                service.tell(&format!("{:?} is not taken: {error}", seen.file));
                self.refused.insert(below, seen);
                return Ok(());
            }
            (Err(error), None) => return Err(error),
        };
        if under_way.len() >= UNDER_WAY_MAX {
            self.await_all(under_way);
        }
        let new = parts.last().filter(|part| part.sign > 0 && part.again.is_none()).cloned();
        let (reply, answer) = oneshot::channel();
        let (dataflow, arrived, began) = (self.dataflow, engine::now(), Instant::now());
        let batch = Incoming { dataflow, parts, plan, positions: Vec::new(), key: None, arrived, began, wait: Wait::Visible, reply };
        // Where it ends, the next start tells.
        if service.take_in_turn(batch).is_ok() {
            under_way.push(UnderWay { below, new, answer });
        }
        Ok(())
    }

    /// Waits until all that was handed over is there, and knows it.
    fn await_all(&mut self, under_way: &mut Vec<UnderWay>) {
        for UnderWay { below, new, answer } in under_way.drain(..) {
            match (answer.blocking_recv(), new) {
                (Ok(Ok(_)), Some(part)) => drop(self.known.insert(below, Known::new(part))),
                (Ok(Ok(_)), None) => drop(self.known.remove(&below)),
                // Nothing of it is there: it is looked at again.
                (Ok(Err(_)) | Err(_), _) => {}
            }
        }
    }
}

/// A batch that was handed over.
struct UnderWay {
    below: String,
    /// What is known of the file when it is there; nothing where the file is gone.
    new: Option<Part>,
    answer: oneshot::Receiver<Result<Reply, Refused>>,
}

/// What distinguishes a folder from another in its place.
fn identity(path: &str) -> std::io::Result<(u64, u64)> {
    let folder = std::fs::metadata(path)?;
    Ok((folder.dev(), folder.ino()))
}
