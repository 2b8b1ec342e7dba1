//! What is done with a dataset: its points are written, retracted, or those of its new version are held against the old one.
//!
//! A phase can be restarted when a stream fails: what it gives is the same each time, so the points that were handed over before are
//! counted and left out. When a version replaces another, both are read, side by side, and where points are in the order of their times the
//! difference of the two is given; bounded memory, whatever their length.

use crate::machine::{Machine, Out, Step};
use crate::outcome::Outcome;
use crate::skipped::SkippedLine;
use retally_core::points::{BATCH_POINTS, Offered, PointBatch, PointWriter, Series, Standing};
use retally_core::split::StreamError;
use std::sync::Arc;

/// A dataset's series: of measurements `brushing` and `settings`.
pub type SeriesPair = [Arc<Series>; 2];

/// A part of the work on a dataset.
pub struct Phase {
    kind: Kind,
    /// How it ended, once it has; then what is in the batches goes.
    end: Option<Result<Ending, ReadError>>,
    /// Points handed over, by batch; and of them, those that this attempt has not come to yet.
    pub handed_over: [u64; 2],
    skip: [u64; 2],
}

enum Kind {
    /// All points of a version, with this standing.
    All(Box<Reader>),
    /// The difference of two versions' points of a measurement.
    Difference { measurement: usize, old: Box<Reader>, new: Box<Reader>, given: [PointBatch; 2] },
}

/// How a phase ends.
#[derive(Clone, Debug)]
pub struct Ending {
    /// What came of the version that was read.
    pub outcome: Outcome,
    /// Its first skipped lines, with the places of their streams.
    pub skipped: Vec<(usize, SkippedLine)>,
}

/// A stream can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// It is one of the old version.
    pub old: bool,
    /// Which, and why.
    pub why: StreamError,
}

/// What a step of a phase came to.
pub enum Went {
    /// There is more to do.
    On,
    /// A stream has nothing to give yet.
    Wait,
    /// The destination is behind.
    Behind,
    /// It has ended.
    End(Result<Ending, ReadError>),
}

/// A version being read.
pub struct Reader {
    machine: Machine,
    out: Out,
    /// The next point of the batch that is looked at.
    cursor: usize,
    outcome: Option<Outcome>,
    /// Its end is where it can't be read any more: so it was when it was read first.
    fails: bool,
}

impl Reader {
    /// Reads a version whose points are given with this standing.
    pub fn new(machine: Machine, series: &SeriesPair, standing: Standing, fails: bool) -> Reader {
        let [brushing, settings] = series;
        let batch = |series| PointBatch::new(Arc::clone(series), standing);
        Reader { machine, out: Out { brushing: batch(brushing), settings: batch(settings) }, cursor: 0, outcome: None, fails }
    }

    /// Reads on. `Ok(None)`: there may be more.
    fn read(&mut self) -> Result<Option<Step>, StreamError> {
        match self.machine.step(&mut self.out) {
            Ok(Step::Done(outcome)) => self.outcome = Some(*outcome),
            Ok(step) => return Ok(Some(step)),
            Err(StreamError::Broken(why)) if self.fails => self.outcome = Some(Outcome::failed(why, [0, 0])),
            Err(why) => return Err(why),
        }
        Ok(None)
    }

    fn batch(&self, measurement: usize) -> &PointBatch {
        if measurement == 0 { &self.out.brushing } else { &self.out.settings }
    }

    /// The time of the point that is looked at.
    fn time_ns(&self, measurement: usize) -> Option<i64> {
        self.batch(measurement).times_ns.get(self.cursor).copied()
    }

    /// Makes sure that there is a point to be looked at, or the end. `Some`: not yet.
    fn refill(&mut self, measurement: usize) -> Result<Option<Step>, StreamError> {
        if self.time_ns(measurement).is_some() || self.outcome.is_some() {
            return Ok(None);
        }
        self.out.brushing.clear();
        self.out.settings.clear();
        self.cursor = 0;
        let step = self.read()?;
        Ok(if self.time_ns(measurement).is_some() { None } else { step })
    }
}

impl Phase {
    /// All points of a version.
    pub fn all(reader: Reader) -> Phase {
        Phase { kind: Kind::All(Box::new(reader)), end: None, handed_over: [0, 0], skip: [0, 0] }
    }

    /// What a new version of a measurement's points changes.
    pub fn difference(measurement: usize, series: &SeriesPair, old: Reader, new: Reader) -> Phase {
        let [brushing, settings] = series;
        let series = if measurement == 0 { brushing } else { settings };
        let given = [Standing::Restored, Standing::Retracted].map(|standing| PointBatch::new(Arc::clone(series), standing));
        let kind = Kind::Difference { measurement, old: Box::new(old), new: Box::new(new), given };
        Phase { kind, end: None, handed_over: [0, 0], skip: [0, 0] }
    }

    /// This phase restarted, after another had handed over so many points.
    #[must_use]
    pub fn after(mut self, handed_over: [u64; 2]) -> Phase {
        self.handed_over = handed_over;
        self.skip = handed_over;
        self
    }

    /// How many bytes have been read.
    pub fn bytes_read(&self) -> u64 {
        match &self.kind {
            Kind::All(reader) => reader.machine.bytes_read(),
            Kind::Difference { old, new, .. } => old.machine.bytes_read() + new.machine.bytes_read(),
        }
    }

    /// Does a part of the work. An error is of the destination.
    pub fn step(&mut self, writer: &mut dyn PointWriter) -> Result<Went, String> {
        let least = if self.end.is_some() { 1 } else { BATCH_POINTS };
        let batches = match &mut self.kind {
            Kind::All(reader) => [&mut reader.out.brushing, &mut reader.out.settings],
            Kind::Difference { given: [written, retracted], .. } => [written, retracted],
        };
        for ((batch, skip), handed_over) in batches.into_iter().zip(&mut self.skip).zip(&mut self.handed_over) {
            if batch.len() < least {
                continue;
            }
            if *skip > 0 {
                let known = batch.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
                batch.drop_first(known);
                *skip -= known as u64;
            }
            let points = batch.len() as u64;
            if points > 0 && writer.offer(batch)? == Offered::Behind {
                return Ok(Went::Behind);
            }
            *handed_over += points;
        }
        if let Some(end) = &self.end {
            return Ok(Went::End(end.clone()));
        }
        Ok(match self.kind.read() {
            Ok(Some(Step::Wait)) => Went::Wait,
            Ok(Some(_)) => Went::On,
            Ok(None) => {
                self.end = self.kind.ending().map(Ok);
                Went::On
            }
            Err(error) => {
                self.end = Some(Err(error));
                Went::On
            }
        })
    }
}

impl Kind {
    fn ending(&self) -> Option<Ending> {
        let (Kind::All(reader) | Kind::Difference { new: reader, .. }) = self;
        let skipped = reader.machine.skipped_lines().map(|(stream, line)| (stream, line.clone())).collect();
        Some(Ending { outcome: reader.outcome.clone()?, skipped })
    }

    /// Reads on until a batch is full. `Ok(None)`: the end.
    fn read(&mut self) -> Result<Option<Step>, ReadError> {
        match self {
            Kind::All(reader) => reader.read().map_err(|why| ReadError { old: false, why }),
            Kind::Difference { measurement, old, new, given } => compare(*measurement, old, new, given),
        }
    }
}

/// Goes through two versions' points in the order of their times.
fn compare(measurement: usize, old: &mut Reader, new: &mut Reader, given: &mut [PointBatch; 2]) -> Result<Option<Step>, ReadError> {
    let [written, retracted] = given;
    loop {
        if written.len() >= BATCH_POINTS || retracted.len() >= BATCH_POINTS {
            return Ok(Some(Step::More));
        }
        if let Some(step) = old.refill(measurement).map_err(|why| ReadError { old: true, why })? {
            return Ok(Some(step));
        }
        if let Some(step) = new.refill(measurement).map_err(|why| ReadError { old: false, why })? {
            return Ok(Some(step));
        }
        match (old.time_ns(measurement), new.time_ns(measurement)) {
            (None, None) => {
                // A version without points at its end may still have more to read.
                if old.outcome.is_some() && new.outcome.is_some() {
                    return Ok(None);
                }
            }
            (Some(before), Some(now)) if before == now => {
                if !old.batch(measurement).same_fields(old.cursor, new.batch(measurement), new.cursor) {
                    written.push_from(new.batch(measurement), new.cursor);
                }
                old.cursor += 1;
                new.cursor += 1;
            }
            (Some(before), now) if now.is_none_or(|now| before < now) => {
                retracted.push_from(old.batch(measurement), old.cursor);
                old.cursor += 1;
            }
            _ => {
                written.push_from(new.batch(measurement), new.cursor);
                new.cursor += 1;
            }
        }
    }
}
