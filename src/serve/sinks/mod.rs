//! Further sinks of a service: where tables or their changes go besides its own database, each on a thread of its own.
//!
//! - [`tables`]: databases and folders, which have the tables
//! - [`changes`]: a file that gets all changes
//! - [`webhook`]: a server that is told the changes of a table
//!
//! One that is away holds up nobody: what it misses is kept elsewhere, and it is tried again, with pauses that double.

mod changes;
mod follower;
mod position;
mod post;
mod tables;
mod webhook;

use super::further::{Further, Reported};
use super::out::Out;
use super::service::Service;
use crate::backoff::Backoff;
use changes::Changes;
use follower::Follower;
use retally_core::Epoch;
use std::time::{Duration, Instant};
use tables::Writer;
use webhook::Telling;

/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often a sink that waits looks whether there is anything to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Writes to a sink what comes, until nothing more does. `began` reports what could be read before any batch was taken.
pub fn run(further: &Further, service: &Service, began: &[Option<Epoch>]) {
    let mut follower: Box<dyn Follower + '_> = match &further.wanted().out {
        Out::Tables(destination, format) => Box::new(Writer::new(further, service, destination, *format)),
        Out::Changes(path) => Box::new(Changes::new(further, service, path)),
        Out::Webhook(webhook) => Box::new(Telling::new(further, service, webhook, began)),
    };
    let (mut backoff, mut written, mut failing) = (Backoff::new(PAUSE, PAUSE_MAX), None::<Instant>, None::<Instant>);
    loop {
        let is_ending = wait(further, service, follower.as_ref(), written);
        let done = follower.step();
        let error = done.as_ref().err().map(|trouble| trouble.why.as_str());
        match further.report(error) {
            Reported::New => service.tell(&format!("{}; trying again", error.unwrap_or_default())),
            Reported::Over => service.tell(&format!("{} is written again", further.wanted().shown)),
            Reported::Nothing => {}
        }
        match done {
            Ok(()) => {
                backoff.reset();
                (written, failing) = (Some(Instant::now()), None);
            }
            Err(trouble) => {
                let since = *failing.get_or_insert_with(Instant::now);
                let is_over = further.wanted().patience.is_some_and(|patience| since.elapsed() >= patience);
                if trouble.is_final || is_over {
                    return give_up(further, service);
                }
                follower.close();
                further.pause(backoff.pause().max(trouble.pause_min));
            }
        }
        if is_ending {
            return;
        }
    }
}

/// Nothing more is written there until the next start.
fn give_up(further: &Further, service: &Service) {
    further.give_up();
    service.tell(&format!("{} is given up; at the next start it goes on where it is", further.wanted().shown));
}

/// Waits until there is something to do. Returns whether it is done for the last time: at the end nobody waits for what is away.
fn wait(further: &Further, service: &Service, follower: &dyn Follower, written: Option<Instant>) -> bool {
    let wanted = further.wanted();
    loop {
        let readable = service.readable().borrow().clone();
        let is_time = |written: Instant| written.elapsed() >= wanted.every || further.is_asked_for();
        let is_time = !wanted.out.is_periodic() || written.is_none_or(is_time);
        if is_time && follower.is_behind(&readable) {
            return further.is_ending();
        }
        if further.wait(LOOK_EVERY) {
            return true;
        }
    }
}
