//! Events outside the life of their server, and events of servers that nobody knows.
//!
//! State: the time of every event, 8 bytes, by server, on the worker of its device; all workers know the lifetimes. An event costs its
//! place behind that list, and a server's new row two searches in it, once what came last is merged.

use crate::records::{Lifetime, Until};
use crate::rules::Issue;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use retally_core::Collection;
use retally_core::operators::beside::{Beside, beside, latest};
use retally_core::operators::merged::MergedList;
use retally_core::time::Moment;
use std::collections::BTreeMap;

/// The issues, once per event, from events of servers, and the lifetimes, which all workers must know.
pub fn issues<'s>(seen: Collection<'s, (u64, Moment)>, servers: Collection<'s, (u64, Lifetime)>) -> Collection<'s, Issue> {
    beside(seen, servers, "events within lifetimes", Lifetimes::default())
}

#[derive(Default)]
struct Lifetimes {
    servers: HashMap<u64, Server, FixedState>,
}

#[derive(Default)]
struct Server {
    lifetime: Option<Lifetime>,
    /// Times of events.
    events: MergedList<Moment>,
}

impl Server {
    /// How many events there are of each issue under the lifetime.
    fn counts(&mut self) -> [(Issue, isize); 2] {
        let events = self.events.sorted();
        let behind = |is_before: &dyn Fn(&Moment) -> bool| events.partition_point(is_before);
        let all = events.len();
        let (unknown, outside) = match self.lifetime {
            None => (all, 0),
            Some(Lifetime { until: Until::Alive, created }) => (0, behind(&|moment| *moment < created)),
            // A server can be destroyed before it is created: then all events are outside.
            Some(Lifetime { until: Until::Destroyed(until), created }) => {
                let (before, within) = (behind(&|moment| *moment < created), behind(&|moment| *moment <= until));
                (0, all - within.saturating_sub(before))
            }
        };
        [(Issue::UnknownServer, unknown.cast_signed()), (Issue::OutsideServerLifetime, outside.cast_signed())]
    }
}

impl Beside<(u64, Moment), (u64, Lifetime), Issue> for Lifetimes {
    fn learn(&mut self, facts: Vec<((u64, Lifetime), isize)>, give: &mut impl FnMut(Issue, isize)) {
        for (id, lifetime) in latest(facts) {
            let server = self.servers.entry(id).or_default();
            server.counts().into_iter().for_each(|(issue, count)| give(issue, -count));
            server.lifetime = lifetime;
            server.counts().into_iter().for_each(|(issue, count)| give(issue, count));
            self.forget_empty(id);
        }
    }

    fn apply(&mut self, records: Vec<((u64, Moment), isize)>, give: &mut impl FnMut(Issue, isize)) {
        let mut counts: BTreeMap<Issue, isize> = BTreeMap::new();
        for ((id, moment), diff) in records {
            let server = self.servers.entry(id).or_default();
            server.events.change(moment, diff);
            issue(server.lifetime, moment).into_iter().for_each(|issue| *counts.entry(issue).or_default() += diff);
            if diff < 0 {
                self.forget_empty(id);
            }
        }
        counts.into_iter().filter(|(_, count)| *count != 0).for_each(|(issue, count)| give(issue, count));
    }
}

impl Lifetimes {
    fn forget_empty(&mut self, id: u64) {
        if self.servers.get(&id).is_some_and(|server| server.lifetime.is_none() && server.events.is_empty()) {
            self.servers.remove(&id);
        }
    }
}

fn issue(lifetime: Option<Lifetime>, moment: Moment) -> Option<Issue> {
    let Some(lifetime) = lifetime else { return Some(Issue::UnknownServer) };
    let outside = moment < lifetime.created || matches!(lifetime.until, Until::Destroyed(until) if moment > until);
    outside.then_some(Issue::OutsideServerLifetime)
}
