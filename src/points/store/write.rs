//! Writing: points of a series into its blocks.
//!
//! Points wait in memory, by series, until there are many or someone wants them synced: a block that is changed is rewritten, so it
//! pays to change it once. Then they are put in order, the last said of a time counts, and go [`Store::apply`]'s way: each stretch of them
//! falls into one block, or before or behind all. A stretch behind a block that is long enough makes new blocks; any other is merged with
//! its block.

use super::block::{self, Block, absent};
use super::series::{StoredMeasurement, series_key};
use super::{BLOCK_POINTS, BLOCK_POINTS_MAX, Store, StoreError, block_key, first_of};
use fjall::{OwnedWriteBatch, PersistMode};
use retally_core::points::{Measurement, PointBatch, PointColumn, Series, Standing, Values};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// So much waits in memory, over all series.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// A series that has so many points waiting is written.
const WAITING_POINTS_MAX: usize = 32 * BLOCK_POINTS;
/// What is written at once.
const COMMIT_BYTES: usize = 1 << 20;
/// Series whose numbers are remembered.
const NUMBERS_MAX: usize = 100_000;

/// Writes points into a store.
pub struct Writer {
    store: Arc<Store>,
    last_number: u64,
    numbers: HashMap<Vec<u8>, u64>,
    /// What came last, and its numbers: mostly the next is the same.
    latest: Option<(Arc<Series>, u64)>,
    measurements: Vec<Declared>,
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
}

/// A measurement that a batch had.
struct Declared {
    declared: Arc<Measurement>,
    stored: StoredMeasurement,
    /// The number of each declared field.
    fields: Vec<usize>,
}

/// What waits of a series.
#[derive(Default)]
struct Waiting {
    /// All points that are stored are to be deleted.
    emptied: bool,
    /// The points, as they came.
    points: Block,
    /// Which of them are to be deleted; empty: none.
    gone: Vec<bool>,
    /// The place of the measurement in the list of those declared.
    measurement: Option<usize>,
}

impl Writer {
    /// Writes into this store.
    pub fn new(store: impl Into<Arc<Store>>) -> Result<Writer, StoreError> {
        let store = store.into();
        let last_number = store.last_number()?;
        let (numbers, waiting) = (HashMap::new(), BTreeMap::new());
        Ok(Writer { store, last_number, numbers, latest: None, measurements: Vec::new(), waiting, waiting_bytes: 0 })
    }

    /// The store, without the points that wait.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes the points of a batch.
    pub fn write(&mut self, batch: &PointBatch) -> Result<(), StoreError> {
        let number = self.number(&batch.series)?;
        let place = self.declare(&batch.series.measurement)?;
        let Some(declared) = self.measurements.get(place) else { return Ok(()) };
        let waiting = self.waiting.entry(number).or_default();
        waiting.push(batch, declared);
        waiting.measurement = Some(place);
        self.waiting_bytes += batch.len() * 9 * (1 + declared.stored.fields.len());
        if waiting.points.times_ns.len() >= WAITING_POINTS_MAX {
            let waiting = std::mem::take(waiting);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.points.times_ns.len() * 9 * (1 + waiting.points.columns.len()));
            let mut commit = Commit::new(&self.store);
            self.store.apply(number, waiting, &self.measurements, &mut commit)?;
            commit.finish()?;
        }
        if self.waiting_bytes >= WAITING_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Deletes a series.
    pub fn delete(&mut self, series: &Arc<Series>) -> Result<(), StoreError> {
        let number = self.number(series)?;
        // What waits was written before: it goes, too.
        self.waiting.insert(number, Waiting { emptied: true, ..Waiting::default() });
        Ok(())
    }

    /// Writes what waits, and makes it survive a crash.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.store.tree.persist(PersistMode::SyncData).map_err(self.store.failed("sync"))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let mut commit = Commit::new(&self.store);
        for (series, waiting) in std::mem::take(&mut self.waiting) {
            self.store.apply(series, waiting, &self.measurements, &mut commit)?;
        }
        self.waiting_bytes = 0;
        commit.finish()
    }

    fn number(&mut self, series: &Arc<Series>) -> Result<u64, StoreError> {
        if let Some((latest, number)) = &self.latest
            && Arc::ptr_eq(latest, series)
        {
            return Ok(*number);
        }
        let key = series_key(series)?;
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None => {
                if self.numbers.len() >= NUMBERS_MAX {
                    self.numbers.clear();
                }
                let number = self.store.number(key.clone(), &mut self.last_number)?;
                self.numbers.insert(key, number);
                number
            }
        };
        self.latest = Some((Arc::clone(series), number));
        Ok(number)
    }

    /// The place of a measurement in the list.
    fn declare(&mut self, measurement: &Arc<Measurement>) -> Result<usize, StoreError> {
        if let Some(place) = self.measurements.iter().position(|known| Arc::ptr_eq(&known.declared, measurement)) {
            return Ok(place);
        }
        // Each series may have a copy of its own that says the same.
        if let Some(place) = self.measurements.iter().position(|known| known.declared == *measurement) {
            return Ok(place);
        }
        let stored = self.store.declare(measurement)?;
        for known in self.measurements.iter_mut().filter(|known| known.declared.name == measurement.name) {
            known.stored = stored.clone();
        }
        let fields = measurement.fields.iter().filter_map(|field| stored.field(field.name)).collect();
        self.measurements.push(Declared { declared: Arc::clone(measurement), stored, fields });
        Ok(self.measurements.len() - 1)
    }
}

impl Waiting {
    fn push(&mut self, batch: &PointBatch, declared: &Declared) {
        let (before, more) = (self.points.times_ns.len(), batch.len());
        self.points.add_columns(&declared.stored);
        self.points.times_ns.extend_from_slice(&batch.times_ns);
        let gone = batch.standing == Standing::Retracted;
        if gone || !self.gone.is_empty() {
            self.gone.resize(before, false);
            self.gone.resize(before + more, gone);
        }
        for (number, column) in self.points.columns.iter_mut().enumerate() {
            let given = declared.fields.iter().position(|field| *field == number).and_then(|place| batch.columns.get(place));
            extend(column, before, given.filter(|_| !gone), more);
        }
    }

    /// The points in order, each time once, as it was said last; and which of them are to be deleted.
    fn in_order(self) -> (Block, Vec<bool>) {
        let times = &self.points.times_ns;
        if times.is_sorted_by(|one, next| one < next) {
            return (self.points, self.gone);
        }
        let mut order: Vec<usize> = (0..times.len()).collect();
        // Of the same time, what came last is first, and the only one kept.
        let time = |place: &usize| times.get(*place).copied().unwrap_or_default();
        order.sort_by_key(|place| (time(place), std::cmp::Reverse(*place)));
        order.dedup_by_key(|place| time(place));
        let picks: Vec<Pick> = order.iter().map(|place| Pick::New(*place)).collect();
        let gone = order.iter().map_while(|place| self.gone.get(*place).copied()).collect();
        (gather(&picks, &Block::default(), &self.points), gone)
    }
}

impl Block {
    /// Adds the columns of fields that came to be known.
    fn add_columns(&mut self, stored: &StoredMeasurement) {
        for kind in stored.kinds().iter().skip(self.columns.len()) {
            self.columns.push(absent(*kind, self.times_ns.len()));
        }
    }
}

/// Adds `more` values to a column of `before`.
fn extend(column: &mut PointColumn, before: usize, given: Option<&PointColumn>, more: usize) {
    let present = match given {
        Some(given) if given.present.is_empty() => &[],
        Some(given) => given.present.as_slice(),
        None => &[],
    };
    let all = given.is_some() && !present.contains(&false);
    if !all || !column.present.is_empty() {
        column.present.resize(before, true);
        if all || given.is_none() {
            column.present.resize(before + more, all);
        } else {
            column.present.extend_from_slice(present);
            column.present.resize(before + more, false);
        }
    }
    match (&mut column.values, given.map(|given| &given.values)) {
        (Values::Int(values), Some(Values::Int(given))) => values.extend_from_slice(given),
        (Values::Float(values), Some(Values::Float(given))) => values.extend_from_slice(given),
        _ => {}
    }
    match &mut column.values {
        Values::Int(values) => values.resize(before + more, 0),
        Values::Float(values) => values.resize(before + more, 0.0),
    }
}

/// Where a point comes from.
#[derive(Clone, Copy)]
enum Pick {
    Old(usize),
    New(usize),
}

/// Points from two blocks. `old` may have no columns, when nothing is picked from it.
fn gather(picks: &[Pick], old: &Block, new: &Block) -> Block {
    fn pick<T: Copy + Default>(picks: &[Pick], old: &[T], new: &[T]) -> Vec<T> {
        let value = |pick: &Pick| match pick {
            Pick::Old(place) => old.get(*place).copied(),
            Pick::New(place) => new.get(*place).copied(),
        };
        picks.iter().map(|pick| value(pick).unwrap_or_default()).collect()
    }
    let mut columns = Vec::with_capacity(new.columns.len());
    for (number, new) in new.columns.iter().enumerate() {
        let old = old.columns.get(number);
        let values = match (&new.values, old.map(|old| &old.values)) {
            (Values::Int(new), Some(Values::Int(old))) => Values::Int(pick(picks, old, new)),
            (Values::Int(new), _) => Values::Int(pick(picks, &[], new)),
            (Values::Float(new), Some(Values::Float(old))) => Values::Float(pick(picks, old, new)),
            (Values::Float(new), _) => Values::Float(pick(picks, &[], new)),
        };
        let everywhere = new.present.is_empty() && old.is_none_or(|old| old.present.is_empty());
        let is_present = |pick: &Pick| match pick {
            Pick::Old(place) => old.is_some_and(|old| old.is_present(*place)),
            Pick::New(place) => new.is_present(*place),
        };
        let present = if everywhere { Vec::new() } else { picks.iter().map(is_present).collect() };
        columns.push(PointColumn { values, present });
    }
    Block { times_ns: pick(picks, &old.times_ns, &new.times_ns), columns }
}

/// The points of a block, and those from `from` to `to` of others, which replace and delete some.
fn merge(old: &Block, new: &Block, gone: &[bool], from: usize, to: usize) -> Block {
    let mut picks = Vec::with_capacity(old.times_ns.len() + to - from);
    let mut olds = old.times_ns.iter().enumerate().peekable();
    for (place, time) in new.times_ns.iter().enumerate().take(to).skip(from) {
        while let Some((old_place, _)) = olds.next_if(|(_, old)| *old < time) {
            picks.push(Pick::Old(old_place));
        }
        olds.next_if(|(_, old)| *old == time);
        if !gone.get(place).copied().unwrap_or_default() {
            picks.push(Pick::New(place));
        }
    }
    picks.extend(olds.map(|(place, _)| Pick::Old(place)));
    gather(&picks, old, new)
}

/// Changes of blocks on their way into the tree. No key may be in it twice: within a commit there is no order.
struct Commit<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
    bytes: usize,
}

impl<'a> Commit<'a> {
    fn new(store: &'a Store) -> Commit<'a> {
        Commit { store, batch: store.tree.batch(), bytes: 0 }
    }

    fn insert(&mut self, key: [u8; 16], value: Vec<u8>) {
        self.bytes += value.len();
        self.batch.insert(&self.store.blocks, key, value);
    }

    fn remove(&mut self, key: [u8; 16]) {
        self.bytes += key.len();
        self.batch.remove(&self.store.blocks, key);
    }

    /// Between two series, it may be cut.
    fn may_end(&mut self) -> Result<(), StoreError> {
        if self.bytes >= COMMIT_BYTES {
            self.bytes = 0;
            std::mem::replace(&mut self.batch, self.store.tree.batch()).commit().map_err(self.store.failed("write"))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), StoreError> {
        if self.batch.is_empty() { Ok(()) } else { self.batch.commit().map_err(self.store.failed("write")) }
    }
}

impl Store {
    /// Changes the blocks of a series.
    fn apply(&self, series: u64, mut waiting: Waiting, measurements: &[Declared], commit: &mut Commit) -> Result<(), StoreError> {
        let emptied = waiting.emptied;
        let measurement = waiting.measurement.and_then(|place| measurements.get(place));
        if let Some(measurement) = measurement {
            waiting.points.add_columns(&measurement.stored);
        }
        let kinds = measurement.map(|measurement| measurement.stored.kinds()).unwrap_or_default();
        let (points, gone) = waiting.in_order();
        if emptied {
            let written = insert(series, &merge(&Block::default(), &points, &gone, 0, points.times_ns.len()), commit);
            for entry in self.blocks.prefix(series.to_be_bytes()) {
                let key = entry.key().map_err(self.failed("read"))?;
                if let (Some(first), true) = (first_of(&key), key.len() == 16)
                    && !written.contains(&first)
                {
                    commit.remove(block_key(series, first));
                }
            }
            return commit.may_end();
        }
        let mut from = 0;
        while let Some(time) = points.times_ns.get(from) {
            let (around, next) = (self.block_around(series, *time)?, self.block_behind(series, *time)?);
            let to = next.map_or(points.times_ns.len(), |next| points.times_ns.partition_point(|time| *time < next));
            match around {
                Some((first, bytes)) => {
                    let head = block::head(first, &bytes).ok_or_else(|| self.damaged("a block of points"))?;
                    let old = if head.last_ns < *time && head.points >= BLOCK_POINTS {
                        Block::default()
                    } else {
                        block::decode(first, &bytes, &kinds).ok_or_else(|| self.damaged("a block of points"))?
                    };
                    let written = insert(series, &merge(&old, &points, &gone, from, to), commit);
                    if !old.times_ns.is_empty() && !written.contains(&first) {
                        commit.remove(block_key(series, first));
                    }
                }
                None => drop(insert(series, &merge(&Block::default(), &points, &gone, from, to), commit)),
            }
            from = to;
        }
        commit.may_end()
    }

    /// The last block of a series that begins at this time or before, with its first time.
    fn block_around(&self, series: u64, time_ns: i64) -> Result<Option<(i64, fjall::Slice)>, StoreError> {
        let Some(entry) = self.blocks.range(block_key(series, i64::MIN)..=block_key(series, time_ns)).next_back() else { return Ok(None) };
        let (key, bytes) = entry.into_inner().map_err(self.failed("read"))?;
        Ok(first_of(&key).map(|first| (first, bytes)))
    }

    /// The first time of the first block of a series that begins after this time.
    fn block_behind(&self, series: u64, time_ns: i64) -> Result<Option<i64>, StoreError> {
        let Some(after) = time_ns.checked_add(1) else { return Ok(None) };
        let Some(entry) = self.blocks.range(block_key(series, after)..=block_key(series, i64::MAX)).next() else { return Ok(None) };
        Ok(first_of(&entry.key().map_err(self.failed("read"))?))
    }
}

/// Writes points as blocks of about the same length. Returns the first time of each.
fn insert(series: u64, points: &Block, commit: &mut Commit) -> BTreeSet<i64> {
    let all = points.times_ns.len();
    let blocks = if all <= BLOCK_POINTS_MAX { 1 } else { all.div_ceil(BLOCK_POINTS) };
    let mut firsts = BTreeSet::new();
    for number in 0..blocks {
        let (from, to) = (all * number / blocks, all * (number + 1) / blocks);
        if let Some(first) = points.times_ns.get(from) {
            commit.insert(block_key(series, *first), block::encode(points, from, to));
            firsts.insert(*first);
        }
    }
    firsts
}
