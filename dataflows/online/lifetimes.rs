//! Events outside the life of their server, and events of servers that nobody knows.
//!
//! State: the time of every event, 16 bytes, by server. An event costs its place in that list; a server's
//! new row is held against all events of the server, once.

use crate::records::Lifetime;
use crate::records::Until;
use crate::rules::Issue;
use retally_core::Collection;
use retally_core::operators::by_key::{Emitter, State, Summed, by_key, exchange};
use retally_core::operators::ordered::OrderedList;
use retally_core::time::Moment;
use serde::{Deserialize, Serialize};

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Known {
    Lives(Lifetime),
    Event(Moment),
}

#[derive(Default)]
struct Server {
    lifetime: Option<Lifetime>,
    /// Times of events, with how many there were.
    events: OrderedList<(Moment, i32)>,
}

impl State for Server {
    fn is_empty(&self) -> bool {
        self.lifetime.is_none() && self.events.is_empty()
    }
}

/// The issues, once per event.
pub fn issues<'s>(seen: Collection<'s, (u64, Moment)>, servers: Collection<'s, (u64, Lifetime)>) -> Collection<'s, Issue> {
    let known = seen
        .map(|(server, moment)| (server, Known::Event(moment)))
        .concat(servers.map(|(server, lifetime)| (server, Known::Lives(lifetime))));
    by_key(known, exchange(), "events within lifetimes", |_, changes, server: &mut Server, emitter: &mut Summed<Issue>| {
        let mut lifetime = server.lifetime;
        let mut events = Vec::new();
        for (known, diff) in changes.drain(..) {
            match known {
                Known::Lives(gone) if diff < 0 => lifetime = lifetime.filter(|lives| *lives != gone),
                Known::Lives(lives) => lifetime = Some(lives),
                Known::Event(moment) => events.push((moment, diff)),
            }
        }
        if lifetime != server.lifetime {
            for (moment, count) in server.events.iter() {
                issue(server.lifetime, *moment).into_iter().for_each(|issue| emitter.give(issue, -(*count as isize)));
                issue(lifetime, *moment).into_iter().for_each(|issue| emitter.give(issue, *count as isize));
            }
            server.lifetime = lifetime;
        }
        for (moment, diff) in &events {
            issue(lifetime, *moment).into_iter().for_each(|issue| emitter.give(issue, *diff));
        }
        count(&mut server.events, events);
    })
}

fn issue(lifetime: Option<Lifetime>, moment: Moment) -> Option<Issue> {
    let Some(lifetime) = lifetime else { return Some(Issue::UnknownServer) };
    let outside = moment < lifetime.created || matches!(lifetime.until, Until::Destroyed(until) if moment > until);
    outside.then_some(Issue::OutsideServerLifetime)
}

/// Adds sorted events to a list.
fn count(list: &mut OrderedList<(Moment, i32)>, events: Vec<(Moment, isize)>) {
    let narrow =
        |count: isize| i32::try_from(count).unwrap_or_else(|_| panic!("{count} events at one time of one server are beyond 32 bits"));
    if list.is_empty() {
        *list = OrderedList::from_sorted(events.into_iter().map(|(moment, diff)| (moment, narrow(diff))).collect());
        return;
    }
    for (moment, diff) in events {
        let place = list.lower_bound(|(other, _)| other.cmp(&moment));
        let before = list.get(place).filter(|(other, _)| *other == moment).map(|(_, count)| *count);
        if before.is_some() {
            list.remove(place);
        }
        let after = narrow(before.unwrap_or(0) as isize + diff);
        if after != 0 {
            let place = list.lower_bound(|(other, _)| other.cmp(&moment));
            list.insert(place, (moment, after));
        }
    }
}
