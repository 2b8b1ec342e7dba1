//! Where the logic of an operator leaves its differences, and what of them is sent when.

use crate::calendar::Day;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::Hash;

/// Where the logic of an operator leaves its differences.
pub trait Emitter<O>: Default + 'static {
    /// One more difference.
    fn give(&mut self, data: O, diff: isize);
    /// All differences of a key have been given; `known`: the key had a state before.
    fn end_key(&mut self, known: bool);
    /// The differences that can go now; all that there are, at the end of the epoch.
    fn drain(&mut self, end_of_epoch: bool, send: impl FnMut(O, isize));
}

/// Emits each key's differences by themselves.
pub struct Each<O> {
    done: Vec<(O, isize)>,
    key_start: usize,
}

impl<O> Default for Each<O> {
    fn default() -> Self {
        Each { done: Vec::new(), key_start: 0 }
    }
}

impl<O: Ord + 'static> Emitter<O> for Each<O> {
    fn give(&mut self, data: O, diff: isize) {
        self.done.push((data, diff));
    }

    fn end_key(&mut self, known: bool) {
        // What a key says anew about its neighbours is often what it said before.
        if known && self.done.len() > self.key_start + 1 {
            let mut mine = self.done.split_off(self.key_start);
            differential_dataflow::consolidation::consolidate(&mut mine);
            self.done.append(&mut mine);
        }
        self.key_start = self.done.len();
    }

    fn drain(&mut self, _end_of_epoch: bool, mut send: impl FnMut(O, isize)) {
        self.done.drain(..).for_each(|(data, diff)| send(data, diff));
        self.key_start = 0;
    }
}

/// Sums up differences over all keys of an epoch: for operators that say little about much.
pub struct Summed<O> {
    sums: HashMap<O, isize, FixedState>,
}

impl<O> Default for Summed<O> {
    fn default() -> Self {
        Summed { sums: HashMap::default() }
    }
}

impl<O: Hash + Eq + 'static> Emitter<O> for Summed<O> {
    fn give(&mut self, data: O, diff: isize) {
        *self.sums.entry(data).or_default() += diff;
    }

    fn end_key(&mut self, _known: bool) {}

    fn drain(&mut self, end_of_epoch: bool, mut send: impl FnMut(O, isize)) {
        if end_of_epoch {
            self.sums.drain().filter(|(_, diff)| *diff != 0).for_each(|(data, diff)| send(data, diff));
        }
    }
}

/// Sums up differences of (thing, day) over all keys of an epoch: as [`Summed`], where things are few and days lie together.
pub struct DaySums<O> {
    things: Vec<(O, Days)>,
}

/// Sums by day.
struct Days {
    first: i32,
    sums: Vec<isize>,
}

impl Days {
    fn add(&mut self, day: i32, diff: isize) {
        if self.sums.is_empty() {
            self.first = day;
        }
        if day < self.first {
            // Room for the same number of days again, so that days going backwards are not moved one by one.
            let room = (self.first - day).max(i32::try_from(self.sums.len()).unwrap_or(i32::MAX));
            self.sums.splice(0..0, std::iter::repeat_n(0, room.unsigned_abs() as usize));
            self.first -= room;
        }
        let place = (day - self.first).unsigned_abs() as usize;
        if place >= self.sums.len() {
            self.sums.resize(place + 1, 0);
        }
        if let Some(sum) = self.sums.get_mut(place) {
            *sum += diff;
        }
    }
}

impl<O> Default for DaySums<O> {
    fn default() -> Self {
        DaySums { things: Vec::new() }
    }
}

impl<O: Eq> DaySums<O> {
    /// Both ends of a range.
    pub fn give_range(&mut self, thing: O, from: Day, until: Option<Day>, diff: isize) {
        let Some((_, days)) = self.of(thing) else { return };
        days.add(from.0, diff);
        if let Some(until) = until {
            days.add(until.0, -diff);
        }
    }

    fn of(&mut self, thing: O) -> Option<&mut (O, Days)> {
        let place = self.things.iter().position(|(other, _)| *other == thing).unwrap_or_else(|| {
            self.things.push((thing, Days { first: 0, sums: Vec::new() }));
            self.things.len() - 1
        });
        self.things.get_mut(place)
    }
}

impl<O: Eq + Clone + 'static> Emitter<(O, Day)> for DaySums<O> {
    fn give(&mut self, (thing, day): (O, Day), diff: isize) {
        if let Some((_, days)) = self.of(thing) {
            days.add(day.0, diff);
        }
    }

    fn end_key(&mut self, _known: bool) {}

    fn drain(&mut self, end_of_epoch: bool, mut send: impl FnMut((O, Day), isize)) {
        if !end_of_epoch {
            return;
        }
        for (thing, days) in self.things.drain(..) {
            for (day, sum) in (days.first..).zip(days.sums) {
                if sum != 0 {
                    send((thing.clone(), Day(day)), sum);
                }
            }
        }
    }
}
