//! One dataset, read once: two streams of lines in, points in the order of ticks out.
//!
//! Settings are read up to the first good line; then brushing lines are, and settings run ahead of them by one event, so that the event in
//! force at a tick is known. Before a tick that lies beyond that event, or far ahead, the events up to it are read and kept: how far ahead
//! a tick is in time, the events in force at both ticks say. At the end of brushing, the rest of the settings follows. What is kept does
//! not grow with the streams: two buffers, the event in force, those to come (`COMING_EVENTS_MAX` at most), and sums.
//!
//! Times are integers: nanoseconds, and tick intervals in femtoseconds. What is below a nanosecond is cut.
//!
//! # Decided here, where the contract is silent
//! - A settings line whose time is too far from its tick is taken if the next readable line has a greater tick, no earlier time, and is
//!   itself within the gap of where the line in doubt says. A time before the last one is never taken. How long ticks are is what the
//!   earlier of the two lines says: the last accepted one before the line in doubt, and the line in doubt before the next.
//! - The first good settings line is taken as it is: there is nothing to hold its time against.
//! - How far a tick lies ahead of another is the difference of their times, to the femtosecond.
//! - A brushing tick whose time lies before `--not-before`, after 2200, or more than a day ahead of the clock at arrival, is out of range.
//!   It is no readable line: it moves nothing, and decides nothing about the one before it. The time of a tick that is not above the last
//!   accepted one is by the event in force there, since those before it are gone; it is skipped in any case.
//! - Where more events than are kept lie before a tick, it is judged by the last of those that are. If it is accepted, and its own event
//!   says that its time is out of range, it is skipped and counted, and the stream goes on from it.
//! - Below a header that does not name all columns, each once, no line can be read: the error of the dataset names what the header lacks.
//! - Without a good settings line, brushing lines are not read, and not counted.
//! - Without a good brushing line, settings are points all the same, and the dataset has no start, end or loss.
//! - Of the skipped lines, those of settings come before those of brushing.

use crate::lines::{Filled, Lines, Next};
use crate::outcome::{Outcome, Status, Tooth};
use crate::records::{Accepted, Columns, Interval, Setting, Tick, plain_tick};
use crate::settings::{NANOSECOND_FS, Rules};
use crate::skipped::{KEPT_LINES_MAX, Reason, Skipped, SkippedLine};
use retally_core::points::{BATCH_POINTS, PointBatch, Values};
use retally_core::split::{ByteStream, StreamError};
use std::collections::VecDeque;

/// A brushing line must be shorter: 128 KiB, which is also the block in which the stream is read.
const BRUSHING_LINE_BYTES_MAX: usize = 128 << 10;
/// A settings line must be shorter: 64 KiB.
const SETTINGS_LINE_BYTES_MAX: usize = 64 << 10;
/// So many events are read ahead of the brushing stream at most: 4.5 hours of an event a second, and about 3 MB.
const COMING_EVENTS_MAX: usize = 16_384;
/// So many blocks are read in a step, before the worker does other things.
const BLOCKS_PER_STEP: u32 = 2;

/// A dataset being read.
pub struct Machine {
    rules: Rules,
    accepted_times: Accepted,
    brushing: Lines,
    /// No line has been read: there may be a header.
    at_start: bool,
    /// `None` before a line that tells.
    columns: Option<Columns>,
    /// Why the header can't be used.
    header_fault: Option<String>,
    /// The last accepted tick.
    last_tick: Option<i64>,
    /// A tick that waits for the events up to it, with what its line is skipped as.
    unjudged_tick: Option<Doubted<Tick>>,
    /// A tick that lies too far ahead, until the next one decides.
    doubted_tick: Option<Doubted<Tick>>,
    /// Ticks that are accepted and have no time yet, with their lines.
    accepted: VecDeque<(Tick, u64)>,
    skipped_brushing: Skipped,
    settings: Lines,
    /// The last accepted event.
    last_event: Option<Force>,
    /// An event whose tick or time lies too far away, until the next one decides.
    doubted_event: Option<Doubted<Setting>>,
    /// Events that are accepted and not yet in force.
    coming: VecDeque<(Setting, Force)>,
    skipped_settings: Skipped,
    force: Option<Force>,
    /// The next event to be in force; `Unknown` until the stream has been asked.
    next: Coming,
    stage: Stage,
    blocks_left: u32,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the first good settings line.
    First,
    /// While there are brushing lines.
    Ticks,
    /// After the last of them.
    Rest,
}

#[derive(Clone, Copy, Debug)]
enum Coming {
    Unknown,
    Event(Force),
    None,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is more.
    More,
    /// A stream has nothing to give yet.
    Wait,
    /// The dataset has been read.
    Done(Box<Outcome>),
}

/// Why a step ends early.
enum Pause {
    Step(Step),
    Failed(StreamError),
}

/// The points of a dataset: a batch for each measurement, which is to be taken when it is full.
pub struct Out {
    /// Of measurement `brushing`.
    pub brushing: PointBatch,
    /// Of measurement `settings`.
    pub settings: PointBatch,
}

impl Out {
    fn is_full(&self) -> bool {
        self.brushing.len() >= BATCH_POINTS || self.settings.len() >= BATCH_POINTS
    }
}

/// A settings event with all its values: what times the ticks from it on.
#[derive(Clone, Copy, Debug)]
struct Force {
    tick: i64,
    time_ns: i64,
    battery: f64,
    interval: Interval,
    /// The interval in whole nanoseconds, and what remains in femtoseconds.
    whole_ns: i64,
    rest_fs: i64,
    /// The most ticks that another may lie ahead.
    gap_ticks_max: i64,
}

impl Force {
    fn new(setting: &Setting, battery: f64, interval: Interval, rules: &Rules) -> Force {
        // Settings limit intervals to 100 days, so nanoseconds fit.
        let whole_ns = i64::try_from(interval.fs / i128::from(NANOSECOND_FS)).unwrap_or(i64::MAX);
        let rest_fs = i64::try_from(interval.fs % i128::from(NANOSECOND_FS)).unwrap_or(0);
        let gap_ticks_max = i64::try_from(rules.gap_max_fs / interval.fs.max(1)).unwrap_or(i64::MAX);
        Force { tick: setting.tick, time_ns: setting.time_ns, battery, interval, whole_ns, rest_fs, gap_ticks_max }
    }

    /// This under a further event, whose line may leave out values.
    fn followed_by(&self, setting: &Setting, rules: &Rules) -> Force {
        Force::new(setting, setting.battery.unwrap_or(self.battery), setting.interval.unwrap_or(self.interval), rules)
    }

    /// The time of a tick, where 64 bits hold it.
    fn time_ns(&self, tick: i64) -> Option<i64> {
        // Ticks are from 0, so their difference fits.
        let ticks = tick - self.tick;
        let rest_ns = match ticks.checked_mul(self.rest_fs) {
            Some(fs) => fs.div_euclid(NANOSECOND_FS),
            None => i64::try_from((i128::from(ticks) * i128::from(self.rest_fs)).div_euclid(i128::from(NANOSECOND_FS))).ok()?,
        };
        self.time_ns.checked_add(ticks.checked_mul(self.whole_ns)?)?.checked_add(rest_ns)
    }

    /// The time of a tick in femtoseconds, exactly.
    fn time_fs(&self, tick: i64) -> i128 {
        let from_fs = i128::from(self.time_ns) * i128::from(NANOSECOND_FS);
        from_fs.saturating_add(self.lasting_fs(tick - self.tick))
    }

    /// Whether a time lies within the gap of where its tick says.
    fn agrees(&self, setting: &Setting, rules: &Rules) -> bool {
        let elapsed_fs = (i128::from(setting.time_ns) - i128::from(self.time_ns)) * i128::from(NANOSECOND_FS);
        elapsed_fs.saturating_sub(self.lasting_fs(setting.tick - self.tick)).saturating_abs() <= rules.gap_max_fs
    }

    fn lasting_fs(&self, ticks: i64) -> i128 {
        i128::from(ticks).saturating_mul(self.interval.fs)
    }
}

/// A record that is garbage, unless the next one of its stream goes on from it.
struct Doubted<R> {
    record: R,
    /// What it is skipped as.
    line: SkippedLine,
}

/// How an event stands to the last accepted one.
enum Verdict {
    /// It is accepted.
    Good,
    /// The next one decides.
    Doubtful(Reason),
    /// It is skipped.
    Garbage(Reason),
}

fn judge(last: Option<&Force>, setting: &Setting, rules: &Rules) -> Verdict {
    match last {
        None if setting.battery.is_none() || setting.interval.is_none() => Verdict::Garbage(Reason::NotBoth),
        None => Verdict::Good,
        Some(last) if setting.tick <= last.tick => Verdict::Garbage(Reason::TickNotAbove),
        Some(last) if setting.time_ns < last.time_ns => Verdict::Garbage(Reason::TimeBefore),
        Some(last) if !follows(last.tick, setting.tick, last.gap_ticks_max) => Verdict::Doubtful(Reason::TickTooFar),
        Some(last) if !last.agrees(setting, rules) => Verdict::Doubtful(Reason::TimeTooFar),
        Some(_) => Verdict::Good,
    }
}

/// Whether an event goes on from one in doubt: in its tick where that is too far ahead, in its time where that is too far away.
fn confirms(last: &Force, doubted: &Setting, next: &Setting, rules: &Rules) -> bool {
    let force = last.followed_by(doubted, rules);
    let tick_doubted = !follows(last.tick, doubted.tick, last.gap_ticks_max);
    next.tick > doubted.tick
        && (!tick_doubted || follows(doubted.tick, next.tick, force.gap_ticks_max))
        && (last.agrees(doubted, rules) || (next.time_ns >= doubted.time_ns && force.agrees(next, rules)))
}

/// Takes an event, with the values that its line left out.
fn accept(setting: Setting, last: &mut Option<Force>, coming: &mut VecDeque<(Setting, Force)>, rules: &Rules) {
    let force = match last {
        Some(last) => Some(last.followed_by(&setting, rules)),
        None => setting.battery.zip(setting.interval).map(|(battery, interval)| Force::new(&setting, battery, interval, rules)),
    };
    if let Some(force) = force {
        *last = Some(force);
        coming.push_back((setting, force));
    }
}

/// Whether a tick goes on from another under the same event: it is greater, and not too far ahead.
fn follows(last: i64, tick: i64, gap_ticks_max: i64) -> bool {
    tick > last && tick - last <= gap_ticks_max
}

/// What is counted and summed up.
#[derive(Default)]
struct Tally {
    brushing: Span,
    settings: Span,
    /// Lost up to the last tick; and after it, should another tick come.
    lost_fs: i128,
    lost_since_fs: i128,
    /// The tick up to which losses are summed up.
    lost_until: i64,
    /// By tooth: points, and the sum of percentages in steps.
    teeth: Vec<(u64, u128)>,
}

/// The events of a stream.
#[derive(Default)]
struct Span {
    points: u64,
    first_ns: i64,
    last: Option<Last>,
    /// An event was not later than the one before it.
    unordered: bool,
}

/// The last event of a stream.
#[derive(Clone, Copy)]
struct Last {
    time_ns: i64,
    interval_ns: i64,
}

impl Tally {
    /// A tick has a point.
    #[inline]
    fn tick(&mut self, tick: &Tick, time_ns: i64, force: &Force) {
        self.lose_until(tick.tick, force);
        if self.lost_since_fs != 0 {
            self.lost_fs = self.lost_fs.saturating_add(std::mem::take(&mut self.lost_since_fs));
        }
        self.lost_until = tick.tick.saturating_add(1);
        if let Some((points, steps)) = self.teeth.get_mut(tick.tooth as usize) {
            *points += 1;
            *steps += u128::from(tick.percent_steps);
        }
        self.brushing.count(time_ns, force);
    }

    /// The ticks before `tick` that have not come are missing.
    #[inline]
    fn lose_until(&mut self, tick: i64, force: &Force) {
        if tick > self.lost_until {
            self.lost_since_fs = self.lost_since_fs.saturating_add(force.lasting_fs(tick - self.lost_until));
            self.lost_until = tick;
        }
    }
}

impl Span {
    #[inline]
    fn count(&mut self, time_ns: i64, force: &Force) {
        self.points += 1;
        match &mut self.last {
            None => self.first_ns = time_ns,
            Some(last) => self.unordered |= last.time_ns >= time_ns,
        }
        self.last = Some(Last { time_ns, interval_ns: force.whole_ns });
    }

    /// From the first event to one tick after the last.
    fn ns(&self) -> Option<(i64, i64)> {
        let last = self.last?;
        Some((self.first_ns, last.time_ns.saturating_add(last.interval_ns)))
    }
}

impl Machine {
    /// Reads a dataset from its two streams.
    pub fn new(rules: &Rules, accepted_times: Accepted, brushing: Box<dyn ByteStream>, settings: Box<dyn ByteStream>) -> Machine {
        let teeth = vec![(0, 0); rules.teeth as usize];
        Machine {
            rules: rules.clone(),
            accepted_times,
            brushing: Lines::new(brushing, BRUSHING_LINE_BYTES_MAX),
            at_start: true,
            columns: None,
            header_fault: None,
            last_tick: None,
            unjudged_tick: None,
            doubted_tick: None,
            accepted: VecDeque::with_capacity(2),
            skipped_brushing: Skipped::default(),
            settings: Lines::new(settings, SETTINGS_LINE_BYTES_MAX),
            last_event: None,
            doubted_event: None,
            coming: VecDeque::with_capacity(2),
            skipped_settings: Skipped::default(),
            force: None,
            next: Coming::Unknown,
            stage: Stage::First,
            blocks_left: 0,
            tally: Tally { teeth, ..Tally::default() },
        }
    }

    /// How many bytes have been read.
    pub fn bytes_read(&self) -> u64 {
        self.brushing.bytes_read() + self.settings.bytes_read()
    }

    /// The first skipped lines, with the place of their stream: 0 for brushing, 1 for settings.
    pub fn skipped_lines(&self) -> impl Iterator<Item = (usize, &SkippedLine)> {
        let settings = self.skipped_settings.kept().iter().map(|line| (1, line));
        settings.chain(self.skipped_brushing.kept().iter().map(|line| (0, line))).take(KEPT_LINES_MAX)
    }

    /// Reads some blocks at most, and until a batch of `out` is full.
    ///
    /// An error names the stream that can't be read, and why; then the dataset has to be read from its start again.
    pub fn step(&mut self, out: &mut Out) -> Result<Step, StreamError> {
        self.blocks_left = BLOCKS_PER_STEP;
        match self.run(out) {
            Ok(outcome) => Ok(Step::Done(Box::new(outcome))),
            Err(Pause::Step(step)) => Ok(step),
            Err(Pause::Failed(error)) => Err(error),
        }
    }

    fn run(&mut self, out: &mut Out) -> Result<Outcome, Pause> {
        if self.stage == Stage::First {
            let Some(first) = self.event(out)? else {
                return Ok(self.unsalvageable(self.skipped_settings.error("settings.jsonlines")));
            };
            self.force = Some(first);
            self.stage = Stage::Ticks;
        }
        if self.stage == Stage::Ticks {
            self.brush(out)?;
            self.stage = Stage::Rest;
        }
        while self.event(out)?.is_some() {}
        Ok(match self.brushing_error() {
            Some(error) => self.unsalvageable(error),
            None => self.outcome(Status::Done),
        })
    }

    /// Why nothing of the dataset could be read up to here, where that is so.
    pub fn error_so_far(&self) -> Option<String> {
        match self.stage {
            Stage::First => Some(self.skipped_settings.error("settings.jsonlines")),
            Stage::Ticks | Stage::Rest => self.brushing_error(),
        }
    }

    /// How many lines of both streams have been skipped.
    pub fn skipped_count(&self) -> u64 {
        self.skipped_brushing.count() + self.skipped_settings.count()
    }

    /// Why no brushing line is good, where there are some.
    fn brushing_error(&self) -> Option<String> {
        if self.tally.brushing.points > 0 || self.skipped_brushing.count() == 0 {
            return None;
        }
        let by_header = self.header_fault.as_ref().map(|fault| format!("no line of brushing.csv is good: {fault}"));
        Some(by_header.unwrap_or_else(|| self.skipped_brushing.error("brushing.csv")))
    }

    /// The next event of the settings stream; its point is given.
    fn event(&mut self, out: &mut Out) -> Result<Option<Force>, Pause> {
        loop {
            if out.is_full() {
                return Err(Pause::Step(Step::More));
            }
            if let Some((setting, force)) = self.coming.pop_front() {
                self.setting_point(&setting, &force, out);
                return Ok(Some(force));
            }
            if !self.read_settings()? {
                return Ok(None);
            }
        }
    }

    /// Reads a line of settings, or a block of them; `false` at the end of the stream.
    fn read_settings(&mut self) -> Result<bool, Pause> {
        match self.settings.next() {
            Next::Line(range) => self.settings_line(range),
            Next::TooLong => self.skipped_settings.add(self.settings.number(), Reason::TooLong, b""),
            Next::Fill => fill(&mut self.settings, &mut self.blocks_left)?,
            Next::End => {
                self.doubted_event.take().into_iter().for_each(|doubted| self.skipped_settings.add_line(doubted.line));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads events until the one in force at a tick is known, as far as they are kept.
    fn look_ahead(&mut self, tick: i64) -> Result<(), Pause> {
        loop {
            let last = match (self.coming.back().map(|(_, force)| force.tick), self.next) {
                (Some(tick), _) | (None, Coming::Event(Force { tick, .. })) => Some(tick),
                (None, Coming::None) => return Ok(()),
                (None, Coming::Unknown) => None,
            };
            if last.is_some_and(|last| last > tick) || self.coming.len() >= COMING_EVENTS_MAX || !self.read_settings()? {
                return Ok(());
            }
        }
    }

    /// The event in force at a tick, of those that are known.
    fn force_at(&self, tick: i64) -> Option<&Force> {
        let behind = self.coming.partition_point(|(_, force)| force.tick <= tick);
        let coming = behind.checked_sub(1).and_then(|place| self.coming.get(place)).map(|(_, force)| force);
        let next = match &self.next {
            Coming::Event(next) if next.tick <= tick => Some(next),
            _ => None,
        };
        coming.or(next).or(self.force.as_ref())
    }

    /// Whether the time of a tick is accepted.
    fn is_in_time(&self, tick: i64) -> bool {
        self.force_at(tick).and_then(|force| force.time_ns(tick)).is_some_and(|time_ns| self.accepted_times.has(time_ns))
    }

    /// Whether a tick goes on from another: it is greater, and its time not too far ahead.
    fn goes_on(&self, from: i64, tick: i64) -> bool {
        let time_fs = |tick| self.force_at(tick).map_or(0, |force| force.time_fs(tick));
        tick > from && time_fs(tick).saturating_sub(time_fs(from)) <= self.rules.gap_max_fs
    }

    /// Whether nothing has to be read or decided before a tick is accepted.
    fn is_plain(&self, tick: i64) -> bool {
        let next_tick = match self.next {
            Coming::Event(event) => event.tick,
            Coming::None => i64::MAX,
            Coming::Unknown => return false,
        };
        let (Some(force), Some(last), None) = (&self.force, self.last_tick, &self.doubted_tick) else { return false };
        tick < next_tick
            && follows(last, tick, force.gap_ticks_max)
            && force.time_ns(tick).is_some_and(|time_ns| self.accepted_times.has(time_ns))
    }

    fn settings_line(&mut self, range: std::ops::Range<usize>) {
        let line = self.settings.line(range);
        if line.trim_ascii().is_empty() {
            return;
        }
        let number = self.settings.number();
        let setting = match Setting::read(line, &self.rules, &self.accepted_times) {
            Ok(setting) => setting,
            // What is before all times is before the last one, too.
            Err(Reason::TimeTooEarly) if self.last_event.is_some() => return self.skipped_settings.add(number, Reason::TimeBefore, line),
            Err(reason) => return self.skipped_settings.add(number, reason, line),
        };
        if let Some(doubted) = self.doubted_event.take() {
            match self.last_event {
                Some(last) if confirms(&last, &doubted.record, &setting, &self.rules) => {
                    accept(doubted.record, &mut self.last_event, &mut self.coming, &self.rules);
                }
                _ => self.skipped_settings.add_line(doubted.line),
            }
        }
        match judge(self.last_event.as_ref(), &setting, &self.rules) {
            Verdict::Good => accept(setting, &mut self.last_event, &mut self.coming, &self.rules),
            Verdict::Doubtful(reason) => {
                self.doubted_event = Some(Doubted { record: setting, line: SkippedLine::new(number, reason, line) });
            }
            Verdict::Garbage(reason) => self.skipped_settings.add(number, reason, line),
        }
    }

    /// An accepted event has a point.
    fn setting_point(&mut self, setting: &Setting, force: &Force, out: &mut Out) {
        self.tally.settings.count(force.time_ns, force);
        push(
            &mut out.settings,
            force.time_ns,
            &[Field::Int(setting.tick), Field::Some(setting.battery), Field::Some(setting.interval.map(|interval| interval.seconds))],
        );
    }

    /// All brushing lines.
    fn brush(&mut self, out: &mut Out) -> Result<(), Pause> {
        loop {
            while let Some((tick, line)) = self.accepted.front().copied() {
                self.advance(tick.tick, out)?;
                self.accepted.pop_front();
                self.point(tick, line, out);
            }
            if out.is_full() {
                return Err(Pause::Step(Step::More));
            }
            if let Some(unjudged) = &self.unjudged_tick {
                let tick = unjudged.record.tick;
                if self.last_tick.is_none_or(|last| tick > last) {
                    self.look_ahead(tick)?;
                }
                self.judge_tick();
                continue;
            }
            self.plain_lines(out);
            match self.brushing.next() {
                Next::Line(range) => self.brushing_line(range),
                Next::TooLong => {
                    self.skipped_brushing.add(self.brushing.number(), Reason::TooLong, b"");
                    self.at_start = false;
                }
                Next::Fill => fill(&mut self.brushing, &mut self.blocks_left)?,
                Next::End => {
                    self.doubted_tick.take().into_iter().for_each(|doubted| self.skipped_brushing.add_line(doubted.line));
                    return Ok(());
                }
            }
        }
    }

    /// The lines that are as they should be, one after the other, as long as nothing has to be decided. Nearly all are.
    fn plain_lines(&mut self, out: &mut Out) {
        let next_tick = match self.next {
            Coming::Event(event) => event.tick,
            Coming::None => i64::MAX,
            Coming::Unknown => return,
        };
        let (Some(force), Some(mut last), None) = (self.force, self.last_tick, &self.doubted_tick) else { return };
        if !self.columns.as_ref().is_some_and(Columns::are_plain) || self.brushing.is_dropping() {
            return;
        }
        let Some(mut columns) = TickColumns::of(&mut out.brushing) else { return };
        let (bytes, tally) = (self.brushing.rest(), &mut self.tally);
        let (mut used, mut lines) = (0, 0);
        for _ in columns.times_ns.len()..BATCH_POINTS {
            let Some((tick, length)) = bytes.get(used..).and_then(|rest| plain_tick(rest, self.rules.teeth)) else { break };
            if tick.tick >= next_tick || !follows(last, tick.tick, force.gap_ticks_max) {
                break;
            }
            let Some(time_ns) = force.time_ns(tick.tick).filter(|time_ns| self.accepted_times.has(*time_ns)) else { break };
            used += length;
            lines += 1;
            last = tick.tick;
            tally.tick(&tick, time_ns, &force);
            columns.push(time_ns, &tick, &force);
        }
        if used > 0 {
            self.last_tick = Some(last);
            self.brushing.consume(used, lines);
        }
    }

    fn brushing_line(&mut self, range: std::ops::Range<usize>) {
        let line = self.brushing.line(range);
        // Comments and `sep=;` stand before a header.
        let beside = |line: &[u8]| line.starts_with(b"#") || line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"sep="));
        if line.trim_ascii().is_empty() || (self.at_start && beside(line)) {
            return;
        }
        let at_start = std::mem::take(&mut self.at_start);
        let tick = match &self.columns {
            Some(columns) => columns.read(line, &self.rules),
            None => {
                let (columns, header) = Columns::seen(line);
                if header && at_start {
                    self.header_fault = columns.fault(line);
                    self.columns = Some(columns);
                    return;
                }
                // What the delimiter is, garbage doesn't tell: the first readable line does.
                let tick = columns.read(line, &self.rules);
                self.columns = tick.is_ok().then_some(columns);
                tick
            }
        };
        let number = self.brushing.number();
        match tick {
            Ok(tick) if self.is_plain(tick.tick) => self.accept_tick(tick, number),
            // Why it is skipped, if it is, is known when it is judged.
            Ok(tick) => self.unjudged_tick = Some(Doubted { record: tick, line: SkippedLine::new(number, Reason::OutOfTime, line) }),
            Err(reason) => self.skipped_brushing.add(number, reason, line),
        }
    }

    /// Decides about a tick, and about the one in doubt before it, when the events up to it are known.
    fn judge_tick(&mut self) {
        let Some(Doubted { record: tick, line }) = self.unjudged_tick.take() else { return };
        if !self.is_in_time(tick.tick) {
            return self.skipped_brushing.add_line(SkippedLine { reason: Reason::OutOfTime, ..line });
        }
        if let Some(doubted) = self.doubted_tick.take() {
            if self.goes_on(doubted.record.tick, tick.tick) {
                self.accept_tick(doubted.record, doubted.line.line);
            } else {
                self.skipped_brushing.add_line(doubted.line);
            }
        }
        match self.last_tick {
            Some(last) if tick.tick <= last => self.skipped_brushing.add_line(SkippedLine { reason: Reason::TickNotAbove, ..line }),
            Some(last) if !self.goes_on(last, tick.tick) => {
                self.doubted_tick = Some(Doubted { record: tick, line: SkippedLine { reason: Reason::TickTooFar, ..line } });
            }
            _ => self.accept_tick(tick, line.line),
        }
    }

    fn accept_tick(&mut self, tick: Tick, line: u64) {
        self.last_tick = Some(tick.tick);
        self.accepted.push_back((tick, line));
    }

    /// Brings the event in force up to a tick, and sums up what is missing before it.
    fn advance(&mut self, tick: i64, out: &mut Out) -> Result<(), Pause> {
        loop {
            let next = match self.next {
                Coming::Unknown => {
                    self.next = self.event(out)?.map_or(Coming::None, Coming::Event);
                    continue;
                }
                Coming::Event(event) if event.tick <= tick => event,
                Coming::Event(_) | Coming::None => return Ok(()),
            };
            if let Some(force) = self.force {
                self.tally.lose_until(next.tick, &force);
            }
            self.force = Some(next);
            self.next = Coming::Unknown;
        }
    }

    fn point(&mut self, tick: Tick, line: u64, out: &mut Out) {
        let Some(force) = self.force else { return };
        let Some(time_ns) = force.time_ns(tick.tick).filter(|time_ns| self.accepted_times.has(*time_ns)) else {
            // The line itself is gone by now: more events lie before it than are kept.
            self.skipped_brushing.add(line, Reason::OutOfTime, b"");
            return;
        };
        self.tally.tick(&tick, time_ns, &force);
        if let Some(mut columns) = TickColumns::of(&mut out.brushing) {
            columns.push(time_ns, &tick, &force);
        }
    }

    /// Of a dataset without a good line of a stream: what was written of it is counted.
    fn unsalvageable(&self, error: String) -> Outcome {
        Outcome { span_ns: None, lost_fs: 0, error, ..self.outcome(Status::Unsalvageable) }
    }

    fn outcome(&self, status: Status) -> Outcome {
        let tally = &self.tally;
        let spans = [tally.brushing.ns(), tally.settings.ns()];
        let spans = spans.iter().flatten();
        let numbered = (0u32..).zip(&tally.teeth).filter(|(_, (points, _))| *points > 0);
        Outcome {
            status,
            span_ns: spans.clone().map(|(start, _)| *start).min().zip(spans.map(|(_, end)| *end).max()),
            lost_fs: tally.lost_fs,
            brushing_points: tally.brushing.points,
            settings_points: tally.settings.points,
            skipped_lines: self.skipped_count(),
            error: String::new(),
            teeth: numbered.map(|(tooth, (points, steps))| Tooth { tooth, points: *points, percent_steps: *steps }).collect(),
            unordered: tally.brushing.unordered || tally.settings.unordered,
        }
    }
}

fn fill(lines: &mut Lines, blocks_left: &mut u32) -> Result<(), Pause> {
    let Some(left) = blocks_left.checked_sub(1) else { return Err(Pause::Step(Step::More)) };
    match lines.fill().map_err(Pause::Failed)? {
        Filled::Wait => Err(Pause::Step(Step::Wait)),
        Filled::Some => {
            *blocks_left = left;
            Ok(())
        }
    }
}

enum Field {
    Int(i64),
    Some(Option<f64>),
}

/// The columns of a batch of measurement `brushing`.
struct TickColumns<'a> {
    times_ns: &'a mut Vec<i64>,
    ticks: &'a mut Vec<i64>,
    teeth: &'a mut Vec<i64>,
    floats: [&'a mut Vec<f64>; 3],
}

impl<'a> TickColumns<'a> {
    fn of(batch: &'a mut PointBatch) -> Option<TickColumns<'a>> {
        let PointBatch { times_ns, columns, .. } = batch;
        let mut values = columns.iter_mut().map(|column| &mut column.values);
        let mut next = || values.next();
        let (Values::Int(ticks), Values::Int(teeth)) = (next()?, next()?) else { return None };
        let (Values::Float(percent), Values::Float(battery), Values::Float(interval)) = (next()?, next()?, next()?) else { return None };
        Some(TickColumns { times_ns, ticks, teeth, floats: [percent, battery, interval] })
    }

    #[inline]
    fn push(&mut self, time_ns: i64, tick: &Tick, force: &Force) {
        self.times_ns.push(time_ns);
        self.ticks.push(tick.tick);
        self.teeth.push(i64::from(tick.tooth));
        let [percent, battery, interval] = &mut self.floats;
        percent.push(tick.percent_clean);
        battery.push(force.battery);
        interval.push(force.interval.seconds);
    }
}

fn push(batch: &mut PointBatch, time_ns: i64, fields: &[Field]) {
    batch.times_ns.push(time_ns);
    for (column, field) in batch.columns.iter_mut().zip(fields) {
        match (&mut column.values, field) {
            (Values::Int(values), Field::Int(value)) => values.push(*value),
            (Values::Float(values), Field::Some(value)) => {
                values.push(value.unwrap_or(0.0));
                column.present.push(value.is_some());
            }
            (values, _) => panic!("a field of another type than {values:?}"),
        }
    }
}
