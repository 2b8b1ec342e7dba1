//! As [`by_key`](super::by_key()), with a horizon: a value that all workers see, such as the as-of time.

use super::pause::{ACTIVATION_MAX, Pause};
use super::stash::Epochs;
use super::{Emitter, Handling, State, Timing, Update, change_state, send};
use crate::{Collection, Epoch};
use differential_dataflow::{AsCollection, Data};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::hash::Hash;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// What an operator with a horizon is told.
///
/// A horizon is a value that all workers see, such as the as-of time. It changes seldom, and then for all keys.
pub trait WithHorizon<K, V, S, O>: 'static {
    /// The horizon's type.
    type Horizon: Data;

    /// The changes of a key's records, under the horizon of the epoch.
    fn apply(
        &mut self,
        key: &K,
        changes: &mut Vec<(V, isize)>,
        state: &mut S,
        horizon: Option<&Self::Horizon>,
        emitter: &mut impl Emitter<O>,
    );

    /// The horizon moved; called before the epoch's changes, for each key that has a state.
    fn moved(&mut self, key: &K, state: &mut S, from: Option<&Self::Horizon>, to: Option<&Self::Horizon>, emitter: &mut impl Emitter<O>);
}

/// As [`by_key`](super::by_key()), with a horizon: a collection of at most one record, which is told to all workers.
pub fn by_key_with_horizon<'s, K, V, S, O, E, P, L>(
    updates: Collection<'s, (K, V)>,
    horizon: Collection<'s, L::Horizon>,
    pact: P,
    name: &str,
    mut logic: L,
) -> Collection<'s, O>
where
    K: Data + Hash,
    V: Data,
    S: State,
    O: Data,
    E: Emitter<O>,
    P: ParallelizationContract<Epoch, Vec<Update<K, V>>>,
    L: WithHorizon<K, V, S, O>,
{
    let scope = updates.scope();
    let stream = updates.inner.binary_frontier(horizon.inner, pact, Pipeline, name, |_, info| {
        let activator = scope.activator_for(info.address);
        let mut epochs = Epochs::default();
        // The horizon's changes wait beside those of the records.
        let mut horizons: BTreeMap<Epoch, (Capability<Epoch>, Vec<(L::Horizon, isize)>)> = BTreeMap::new();
        let mut horizon: Option<L::Horizon> = None;
        let mut states: HashMap<K, S, FixedState> = HashMap::default();
        let mut emitter = E::default();
        let mut handling = Handling::default();
        move |(input, frontier), (horizon_input, horizon_frontier), output| {
            input.for_each(|capability, data| epochs.stash(data.drain(..), |epoch| capability.delayed(epoch, 0)));
            horizon_input.for_each(|capability, data| {
                for (value, epoch, diff) in data.drain(..) {
                    horizons.entry(epoch).or_insert_with(|| (capability.delayed(&epoch, 0), Vec::new())).1.push((value, diff));
                }
            });
            let complete = |epoch: &Epoch| !frontier.frontier().less_equal(epoch) && !horizon_frontier.frontier().less_equal(epoch);
            let first = [handling.capability(), epochs.first_capability(), horizons.values().next().map(|(capability, _)| capability)];
            let Some(first) = first.into_iter().flatten().min_by_key(|capability| *capability.time()).cloned() else { return };
            let mut session = output.session(&first);
            let mut output = |update| session.give(update);
            let mut pause = Pause::after(ACTIVATION_MAX);
            loop {
                // Epochs in order, and in each the horizon first, unless the epoch is under way already.
                while let Some(entry) = horizons.first_entry() {
                    if handling.is_under_way() || !complete(entry.key()) || epochs.first().is_some_and(|epoch| epoch < *entry.key()) {
                        break;
                    }
                    let epoch = *entry.key();
                    let (_, mut changes) = entry.remove();
                    differential_dataflow::consolidation::consolidate(&mut changes);
                    let to = changes.iter().find(|(_, diff)| *diff > 0).map(|(value, _)| value.clone());
                    if changes.is_empty() {
                        continue;
                    }
                    for (key, state) in &mut states {
                        logic.moved(key, state, horizon.as_ref(), to.as_ref(), &mut emitter);
                        emitter.end_key(true);
                    }
                    states.retain(|_, state| !state.is_empty());
                    horizon = to;
                    send(&mut emitter, true, epoch, &mut output);
                }
                if !handling.is_under_way() && !handling.begin(epochs.next(complete, |_| false, None), Timing::Complete) {
                    break;
                }
                let done = handling.go_on(&mut pause, &mut |key, changes: &mut Vec<_>| {
                    change_state(&mut states, key, changes, &mut emitter, &mut |key, changes, state, emitter| {
                        logic.apply(key, changes, state, horizon.as_ref(), emitter);
                    });
                });
                handling.send(done, &mut emitter, &mut output);
                if !done {
                    activator.activate();
                    break;
                }
            }
        }
    });
    stream.as_collection()
}
