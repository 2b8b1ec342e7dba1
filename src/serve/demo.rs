//! A demonstration: generated data that keeps arriving, in small batches through the queue that all batches go through.
//!
//! Half of it is there at the beginning. The rest comes within half an hour, late records among it, and now and then some records are taken
//! back and delivered again a moment later, as corrections are. When all is delivered the corrections go on, so it can be left alone: the
//! tables do not grow any more, and what is kept of changes is bounded. Which batch holds what follows from its number alone, so the same
//! seed gives the same tables, and a service that is started again goes on where it was.

use super::limits::INLINE_BYTES_MAX;
use super::service::{Incoming, Phase, Refused, Reply, Service, Wait};
use crate::engine;
use crate::ingest::batch::{Batch, Part as Delivered, Source};
use crate::ingest::plan::Plan;
use crate::state::StateError;
use crate::state::frame::{Content, Inline, InlineFormat, Part};
use retally_core::Epoch;
use std::io::{self, BufRead, BufReader, Cursor};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often a batch comes.
const TICK: Duration = Duration::from_millis(400);
/// All is delivered after so many of them: half an hour.
const TICKS: u64 = 4_500;
/// So often late records come.
const LATE_EVERY: u64 = 6;
/// So many records of a file are taken back at a time.
const CORRECTED: usize = 4;
/// After so many ticks they are delivered again.
const CORRECTED_AFTER: u64 = 3;

/// What a dataflow is fed with.
#[derive(Debug)]
pub struct Demo {
    /// The dataflow's place.
    pub place: usize,
    /// Files that are delivered at the beginning, with the place of their input.
    pub whole: Vec<(usize, PathBuf)>,
    /// What keeps arriving.
    pub streams: Vec<Stream>,
}

/// Records or datasets of an input that arrive one after the other.
#[derive(Debug)]
pub struct Stream {
    input: usize,
    held: Held,
    /// In the order in which they arrive: lines, or folders of datasets.
    now: Vec<String>,
    /// Those that come late.
    late: Vec<String>,
}

#[derive(Debug)]
enum Held {
    /// Lines of a file, below its header where it has one.
    Lines {
        format: InlineFormat,
        header: String,
    },
    Datasets,
}

/// Some of a stream that are delivered or taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Portion {
    sign: isize,
    is_late: bool,
    places: Vec<usize>,
}

impl Stream {
    /// The lines of a file, and those of another one that come late.
    pub fn lines(input: usize, file: &Path, late: &Path) -> io::Result<Stream> {
        let is_csv = file.extension().is_some_and(|ending| ending == "csv");
        let read = |path: &Path| BufReader::new(std::fs::File::open(path)?).lines().collect::<io::Result<Vec<String>>>();
        let (mut now, mut late) = (read(file)?, read(late)?);
        let (mut header, format) = (String::new(), if is_csv { InlineFormat::Csv } else { InlineFormat::Json });
        if is_csv && !now.is_empty() {
            header = now.remove(0);
            late.drain(..late.len().min(1));
            in_order_of_days(&mut now, &header);
        }
        Ok(Stream { input, held: Held::Lines { format, header }, now, late })
    }

    /// Folders of datasets.
    pub fn datasets(input: usize, now: &[PathBuf], late: &[PathBuf]) -> Stream {
        let texts = |folders: &[PathBuf]| folders.iter().map(|folder| folder.display().to_string()).collect();
        Stream { input, held: Held::Datasets, now: texts(now), late: texts(late) }
    }

    /// How many there are in all after a tick.
    fn delivered(all: usize, first: usize, tick: u64) -> usize {
        let more = (all - first) as u64 * tick.min(TICKS) / TICKS;
        first + usize::try_from(more).unwrap_or(usize::MAX)
    }

    fn portions(&self, tick: u64) -> Vec<Portion> {
        let every = if matches!(self.held, Held::Datasets) { 100 } else { 10 };
        portions(tick, self.now.len(), self.late.len(), every)
    }
}

/// Sorts lines of CSV by their time where they are in the order of something else: seen from afar, lines of which some are late stay in
/// their order, and those that go from sensor to sensor do not.
fn in_order_of_days(lines: &mut [String], header: &str) {
    const LOOKED_AT: usize = 64;
    let Some(column) = header.split(',').position(|name| name == "timestamp") else { return };
    let time = |line: &String| line.split(',').nth(column).unwrap_or_default().to_string();
    let seen: Vec<String> = lines.iter().step_by((lines.len() / LOOKED_AT).max(1)).map(time).collect();
    let backwards = seen.windows(2).filter(|pair| pair.first() > pair.last()).count();
    if backwards > seen.len() / 16 {
        lines.sort_by_cached_key(time);
    }
}

/// What comes with a tick, of so many that arrive and so many that come late; corrections come once in `every` ticks.
fn portions(tick: u64, now: usize, late: usize, every: u64) -> Vec<Portion> {
    let came = |tick| Stream::delivered(now, now / 2, tick);
    let portion = |sign, is_late, places: Range<usize>| Portion { sign, is_late, places: places.collect() };
    if tick == 0 {
        return vec![portion(1, false, 0..came(0))];
    }
    let mut portions = vec![portion(1, false, came(tick - 1)..came(tick))];
    if tick.is_multiple_of(LATE_EVERY) {
        let came = |tick| Stream::delivered(late, 0, tick);
        portions.push(portion(1, true, came(tick - LATE_EVERY)..came(tick)));
    }
    // Some that had come before, from all over.
    let corrected = |tick: u64| {
        let there = came(tick - 1);
        let first = usize::try_from(tick * 7_919).unwrap_or(0);
        let places = (0..CORRECTED.min(there)).map(|number| (first + number * (there / CORRECTED).max(1)) % there);
        places.collect::<Vec<usize>>()
    };
    match tick % every {
        5 => portions.push(Portion { sign: -1, is_late: false, places: corrected(tick) }),
        8 => portions.push(Portion { sign: 1, is_late: false, places: corrected(tick - CORRECTED_AFTER) }),
        _ => {}
    }
    portions.retain(|portion| !portion.places.is_empty());
    portions
}

impl Demo {
    /// Feeds a service until it ends.
    pub fn run(&self, service: &Service) {
        let begun = service.readable().borrow().get(self.place).copied().flatten().unwrap_or(0);
        let mut epoch: Epoch = 0;
        for tick in 0.. {
            let is_empty = tick > 0 && self.streams.iter().all(|stream| stream.portions(tick).is_empty());
            if is_empty {
                std::thread::sleep(if epoch < begun { Duration::ZERO } else { TICK });
                continue;
            }
            epoch += 1;
            // It came before the service was started again.
            if epoch <= begun {
                continue;
            }
            let began = Instant::now();
            match self.feed(service, tick) {
                Ok(true) => std::thread::sleep(TICK.saturating_sub(began.elapsed())),
                Ok(false) => return,
                Err(error) => return service.tell(&format!("the demonstration ends: {error}")),
            }
        }
    }

    /// Delivers what comes with a tick, and waits until it can be read. Returns whether the service goes on.
    fn feed(&self, service: &Service, tick: u64) -> Result<bool, StateError> {
        loop {
            let (parts, plan) = self.batch(service, tick)?;
            let (reply, answer) = oneshot::channel();
            let (arrived, began) = (engine::now(), Instant::now());
            let batch = Incoming {
                dataflow: self.place,
                parts,
                plan,
                positions: Vec::new(),
                key: None,
                arrived,
                began,
                wait: Wait::Visible,
                reply,
            };
            if service.take_in_turn(batch).is_err() {
                return Ok(false);
            }
            match answer.blocking_recv() {
                Ok(Ok(Reply { .. })) => return Ok(true),
                Ok(Err(Refused::Full(_) | Refused::Disk(_))) if service.phase() != Phase::Ending => std::thread::sleep(TICK),
                Ok(Err(_)) | Err(_) => return Ok(false),
            }
        }
    }

    fn batch(&self, service: &Service, tick: u64) -> Result<(Vec<Part>, Plan), StateError> {
        let mut parts = Vec::new();
        if tick == 0 {
            for (input, path) in &self.whole {
                parts.extend(self.kept(service, *input, 1, path)?);
            }
        }
        for stream in &self.streams {
            for portion in stream.portions(tick) {
                let from = if portion.is_late { &stream.late } else { &stream.now };
                let units: Vec<&str> = portion.places.iter().filter_map(|place| from.get(*place)).map(String::as_str).collect();
                match &stream.held {
                    Held::Lines { format, header } => {
                        let mut text = String::new();
                        for line in Some(header.as_str()).filter(|header| !header.is_empty()).into_iter().chain(units) {
                            text += line;
                            text.push('\n');
                        }
                        parts.extend(self.lines(service, stream.input, &portion, *format, text)?);
                    }
                    Held::Datasets => {
                        for folder in units {
                            parts.extend(self.kept(service, stream.input, portion.sign, Path::new(folder))?);
                        }
                    }
                }
            }
        }
        let Some(served) = service.dataflows.get(self.place) else { return Ok((parts, Plan::default())) };
        let plan = service.files.plan(served.of(), &parts.iter().collect::<Vec<_>>())?;
        Ok((parts, plan))
    }

    fn lines(
        &self,
        service: &Service,
        input: usize,
        portion: &Portion,
        format: InlineFormat,
        text: String,
    ) -> Result<Option<Part>, StateError> {
        let Some(served) = service.dataflows.get(self.place) else { return Ok(None) };
        let Some(declared) = served.job.definition.inputs.get(input) else { return Ok(None) };
        let name = match (portion.sign, portion.is_late) {
            (-1, _) => "demo, taken back",
            (_, true) => "demo, late",
            _ => "demo",
        };
        let content = if text.len() <= INLINE_BYTES_MAX {
            Content::Inline(Inline { format, text })
        } else {
            let ending = if format == InlineFormat::Csv { "csv" } else { "jsonl" };
            Content::Blob(service.files.keep_stream(&format!("demo.{ending}"), Cursor::new(text))?)
        };
        let arrival = engine::arrival(served.job.accept_from);
        Ok(Some(service.files.part(served.of(), declared, portion.sign, name, content, arrival)))
    }

    /// A file or a folder, of which a copy is kept.
    fn kept(&self, service: &Service, input: usize, sign: isize, path: &Path) -> Result<Vec<Part>, StateError> {
        let Some(served) = service.dataflows.get(self.place) else { return Ok(Vec::new()) };
        let batch = Batch { parts: vec![Delivered { input, sign, source: Source::Path(path.display().to_string()) }] };
        let mut kept = service.files.keep(served.of(), &batch, engine::arrival(served.job.accept_from))?;
        kept.parts.iter_mut().for_each(|part| part.name = "demo".into());
        Ok(kept.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn all_is_delivered_once_and_what_is_taken_back_comes_again() {
        for (now, late, every) in [(40_000, 200, 10), (35, 2, 100), (1, 0, 10), (0, 5, 10)] {
            let mut there: BTreeMap<(bool, usize), i64> = BTreeMap::new();
            // Up to a tick at which nothing is taken back.
            for tick in 0..=TICKS + every {
                for portion in portions(tick, now, late, every) {
                    assert!(tick == 0 || portion.places.len() <= 10, "{tick}: {portion:?}");
                    for place in portion.places {
                        *there.entry((portion.is_late, place)).or_default() += i64::try_from(portion.sign).unwrap();
                    }
                }
                assert!(there.values().all(|times| (0..=1).contains(times)), "after {tick} of {now}");
            }
            assert_eq!((there.len(), there.values().sum::<i64>()), (now + late, i64::try_from(now + late).unwrap()));
        }
    }
}
