//! What is left to do where a file of the state is not what was written: what the tables hold is read, and no batch is taken.
//!
//! Nothing is mended here, and nothing is passed over: the file is named, and whoever runs the service restores the state from a backup.

use super::door::Door;
use super::served::Served;
use super::service::{Phase, Service};
use super::{Event, Options, ServeError, ask, notify};
use crate::cluster::launched::GOES_ON_ALONE;
use crate::sinks::live::Live;
use crate::sinks::live::read::Readers;
use crate::state::State;
use crate::state::files::Files;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

/// Serves what the tables of a state hold whose batches can't be read, until a signal asks it to end. Returns `error`; at once, where there
/// is nothing to be read.
pub fn run(dataflows: Vec<Served>, mut options: Options, listening: impl FnOnce(SocketAddr), error: ServeError) -> Result<(), ServeError> {
    let home = &options.state;
    let tables = State::tables(home.local());
    if !tables.exists() {
        return Err(error);
    }
    let _lock = State::lock(home)?;
    let mut live = Live::open(&tables)?;
    let mut readable = Vec::new();
    for (place, served) in dataflows.iter().enumerate() {
        let reached = live.reached(served.name())?.filter(|reached| reached.fingerprint == served.fingerprint);
        readable.extend(reached.map(|reached| (place, reached.epoch)));
    }
    if readable.is_empty() {
        return Err(error);
    }
    // Nobody takes anything out of it.
    let (sender, _) = mpsc::sync_channel(0);
    let service = Arc::new(Service::new(dataflows, Files::of(home)?, Readers::new(live.path()), &options, sender));
    service.publish(&readable);
    service.enter(Phase::Damaged(error.to_string()));
    let door = Door::open(&service, &mut options)?;
    let (events, happened) = mpsc::channel();
    ask(&service, &events)?;
    listening(door.address());
    remain(&service, &error, &happened);
    door.close();
    Err(error)
}

/// Lets what can be read be read, until a signal asks the service to end.
pub fn remain(service: &Service, error: &ServeError, happened: &Receiver<Event>) {
    if service.readable().borrow().iter().all(Option::is_none) {
        return service.end();
    }
    let why = error.to_string();
    service.tell(&format!("{why}; {GOES_ON_ALONE}"));
    service.enter(Phase::Damaged(why));
    notify("READY=1");
    while happened.recv().is_ok_and(|event| !matches!(event, Event::Asked)) {}
}
