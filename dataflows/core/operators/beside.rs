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

/// What is known of each key after changes of facts, of which a key has one at most; nothing of a key whose fact is gone.
pub fn latest<K: Ord, V>(changes: impl IntoIterator<Item = ((K, V), isize)>) -> BTreeMap<K, Option<V>> {
    let mut latest = BTreeMap::new();
    for ((key, fact), diff) in changes {
        if diff > 0 {
            latest.insert(key, Some(fact));
        } else {
            latest.entry(key).or_insert(None);
        }
    }
    latest
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Config, check_operator, updates};
    use proptest::prelude::*;
    use timely::dataflow::operators::vec::Broadcast;

    /// A record of a kind, or the amount of a kind.
    type Input = Result<(u8, u16), (u8, u16)>;

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![5 => (0u8..4, 0u16..50).prop_map(Ok), 1 => (0u8..4, 0u16..5).prop_map(Err)]
    }

    /// Records and amounts by kind, with how often they are there.
    #[derive(Default)]
    struct Amounts {
        records: BTreeMap<(u8, u16), isize>,
        amounts: BTreeMap<(u8, u16), isize>,
    }

    impl Beside<(u8, u16), (u8, u16), (u8, u16, u16)> for Amounts {
        fn learn(&mut self, facts: Vec<((u8, u16), isize)>, give: &mut impl FnMut((u8, u16, u16), isize)) {
            for ((kind, amount), diff) in facts {
                *self.amounts.entry((kind, amount)).or_default() += diff;
                for ((_, record), count) in self.records.range((kind, 0)..=(kind, u16::MAX)) {
                    give((kind, *record, amount), count * diff);
                }
            }
        }

        fn apply(&mut self, records: Vec<((u8, u16), isize)>, give: &mut impl FnMut((u8, u16, u16), isize)) {
            for ((kind, record), diff) in records {
                *self.records.entry((kind, record)).or_default() += diff;
                for ((_, amount), count) in self.amounts.range((kind, 0)..=(kind, u16::MAX)) {
                    give((kind, record, *amount), count * diff);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(crate::testing::proptests())]

        /// Whatever the order of records and facts, each record is said with the amounts of its kind.
        #[test]
        fn equals_a_join_at_every_epoch(epochs in updates(input(), 6, 30), config in Config::any()) {
            let naive = |inputs: &BTreeMap<Input, isize>| {
                let mut pairs = BTreeMap::new();
                for (record, count) in inputs.iter().filter_map(|(input, count)| Some((input.ok()?, count))) {
                    for (amount, times) in inputs.iter().filter_map(|(input, times)| Some((input.err()?, times))) {
                        if record.0 == amount.0 && count * times != 0 {
                            pairs.insert((record.0, record.1, amount.1), count * times);
                        }
                    }
                }
                pairs
            };
            check_operator(config, epochs, naive, |inputs| {
                let records = inputs.clone().flat_map(Result::ok);
                let facts = inputs.flat_map(Result::err).inner.broadcast().as_collection();
                beside(records, facts, "amounts", Amounts::default())
            });
        }
    }
}
