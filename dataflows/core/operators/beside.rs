//! Records beside facts that all workers know: few facts that seldom change, and many records that depend on them.
//!
//! A join would bring the records to the facts, by key, over the network, and say everything about them twice. Here each worker has all
//! facts, and says of a record at once what is right. When facts change, what was said of the records that depend on them is corrected;
//! finding these is up to the caller's index.
//!
//! Records are handled as they come, as soon as nothing of an earlier epoch can; what was said too early is corrected within the epoch.

use crate::{Collection, Epoch};
use differential_dataflow::{AsCollection, Data};
use std::collections::BTreeMap;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// What is kept of records, and said of them under the facts.
///
/// What is said is a difference: what is said now, without what was said before. Changes of an epoch come in any order and in any number
/// of parts. A record or fact is taken away after it was added, or in the same part.
pub trait Beside<D, F, O>: 'static {
    /// Facts come and go.
    fn learn(&mut self, facts: Vec<(F, isize)>, give: &mut impl FnMut(O, isize));

    /// Records come and go.
    fn apply(&mut self, records: Vec<(D, isize)>, give: &mut impl FnMut(O, isize));

    /// All changes of an epoch have come.
    fn end(&mut self, _give: &mut impl FnMut(O, isize)) {}
}

/// States `records` under `facts`, which must be known to all workers that have records.
pub fn beside<'s, D: Data, F: Data, O: Data>(
    records: Collection<'s, D>,
    facts: Collection<'s, F>,
    name: &str,
    mut logic: impl Beside<D, F, O>,
) -> Collection<'s, O> {
    let stream = records.inner.binary_frontier(facts.inner, Pipeline, Pipeline, name, |_, _| {
        let mut waiting: BTreeMap<Epoch, Waiting<D, F>> = BTreeMap::new();
        move |(records, frontier), (facts, facts_frontier), output| {
            records.for_each(|capability, data| {
                for (record, epoch, diff) in data.drain(..) {
                    let of_epoch = waiting.entry(epoch).or_insert_with(|| Waiting::new(capability.delayed(&epoch, 0)));
                    of_epoch.records.push((record, diff));
                }
            });
            facts.for_each(|capability, data| {
                for (fact, epoch, diff) in data.drain(..) {
                    let of_epoch = waiting.entry(epoch).or_insert_with(|| Waiting::new(capability.delayed(&epoch, 0)));
                    of_epoch.facts.push((fact, diff));
                }
            });
            while let Some(mut first) = waiting.first_entry() {
                let epoch = *first.key();
                if frontier.frontier().less_than(&epoch) || facts_frontier.frontier().less_than(&epoch) {
                    return;
                }
                let of_epoch = first.get_mut();
                let mut session = output.session(&of_epoch.capability);
                let mut give = |data, diff| session.give((data, epoch, diff));
                if !of_epoch.facts.is_empty() {
                    logic.learn(std::mem::take(&mut of_epoch.facts), &mut give);
                }
                if !of_epoch.records.is_empty() {
                    logic.apply(std::mem::take(&mut of_epoch.records), &mut give);
                }
                if frontier.frontier().less_equal(&epoch) || facts_frontier.frontier().less_equal(&epoch) {
                    return;
                }
                logic.end(&mut give);
                drop(session);
                first.remove();
            }
        }
    });
    stream.as_collection()
}

/// The changes of an epoch that have not been handled.
struct Waiting<D, F> {
    capability: Capability<Epoch>,
    records: Vec<(D, isize)>,
    facts: Vec<(F, isize)>,
}

impl<D, F> Waiting<D, F> {
    fn new(capability: Capability<Epoch>) -> Self {
        Waiting { capability, records: Vec::new(), facts: Vec::new() }
    }
}
