//! Workloads: what the dataflows' generators make under a seed, kept in a cache folder.
//!
//! A workload is made in a folder beside its place and renamed when it is complete, so one that is there is whole.
//!
//! # Limits
//! The key of a cached workload is its size: after a change to a generator, empty the cache.

use crate::options::{Common, Measured, Size};
use crate::{Result, columns};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retally::ingest::batch::{Batch, Body, Part, Source, TextFormat};
use retally_core::contract::{Files, Settings};
use retally_core::time::{DAY, Moment, SECOND};
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const SEED: u64 = 7;
const EVENTS_PARQUET: &str = "events.parquet";

/// Files of events.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Of which dataflow.
    pub dataflow: Measured,
    /// How many.
    pub size: Size,
    folder: PathBuf,
    is_parquet: bool,
}

impl Workload {
    /// What the dataflow's generator makes.
    pub fn generated(common: &Common, dataflow: Measured, size: Size) -> Result<Workload> {
        let Size { events, keys, days, late } = size;
        let folder = common.cache().join(format!("{}-{events}-{keys}-{days}-{late}", dataflow.name()));
        let per_key_and_day = events as f64 / (keys * days) as f64;
        let (per_day_name, per_day) = match dataflow {
            Measured::Online => ("events-per-day", per_key_and_day.to_string()),
            Measured::Active => ("events-per-day", (events / days).to_string()),
            // A session has a start and an end.
            Measured::Usage => ("sessions-per-day", (per_key_and_day / 2.0).to_string()),
            Measured::Sensors => ("interval", (keys * days * 86_400 / events).clamp(1, 86_400).to_string()),
        };
        made(&folder, |files: &mut dyn Files| {
            let generator = dataflow.dataflow()?;
            let settings = Settings::defaults(&generator.definition().generator);
            let settings = settings.with(dataflow.keys(), &keys.to_string()).with("days", &days.to_string()).with(per_day_name, &per_day);
            let settings = settings.with("late", &late.to_string()).with("seed", &SEED.to_string());
            Ok(generator.generate(&settings, files)?)
        })?;
        Ok(Workload { dataflow, size, folder, is_parquet: false })
    }

    /// Devices that all have the same number of events, spread evenly over the days.
    ///
    /// For `online` alone, whose generator draws devices at random and holds an hour or so between the events of one.
    pub fn even(common: &Common, size: Size) -> Result<Workload> {
        let Size { events, keys, days, late } = size;
        let folder = common.cache().join(format!("even-{events}-{keys}-{days}-{late}"));
        made(&folder, |files| write_even(size, files))?;
        Ok(Workload { dataflow: Measured::Online, size, folder, is_parquet: false })
    }

    /// The same events of `online`, with UUIDs for ids.
    pub fn with_text_ids(&self) -> Result<Workload> {
        if self.dataflow != Measured::Online {
            return Err("only workloads of online can have other ids".into());
        }
        let name = self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = self.folder.with_file_name(format!("text-{name}"));
        made(&folder, |files| {
            for (name, ids) in [("events.csv", 1..4), ("servers.csv", 0..1)] {
                let lines = BufReader::new(fs::File::open(self.folder.join(name))?).lines();
                let mut file = files.create(name)?;
                for line in lines {
                    let line = line?;
                    let uuid = |id: u64| Uuid::from_u64_pair(id.wrapping_mul(0x9e37_79b9_7f4a_7c15), !id).hyphenated().to_string();
                    let text = |cell: &str| cell.parse().map_or_else(|_| cell.to_string(), uuid);
                    let cells = line.split(',').enumerate();
                    let cells = cells.map(|(place, cell)| if ids.contains(&place) { text(cell) } else { cell.into() });
                    writeln!(file, "{}", cells.collect::<Vec<_>>().join(","))?;
                }
                file.flush()?;
            }
            Ok(())
        })?;
        Ok(Workload { folder, ..self.clone() })
    }

    /// The same events of `online`, with numbers for ids, as Parquet.
    pub fn as_parquet(&self) -> Result<Workload> {
        let path = self.folder.join(EVENTS_PARQUET);
        if self.dataflow != Measured::Online {
            return Err("only workloads of online can be written as Parquet".into());
        }
        if !path.exists() {
            let part = path.with_extension("part");
            columns::write(&self.events(), &part)?;
            fs::rename(&part, &path)?;
        }
        Ok(Workload { is_parquet: true, ..self.clone() })
    }

    /// The files by input, as the command line takes them.
    pub fn inputs(&self) -> Vec<String> {
        self.files().into_iter().map(|(input, path)| format!("{input}={}", path.display())).collect()
    }

    /// The file of events.
    pub fn events(&self) -> PathBuf {
        self.folder.join(self.events_name())
    }

    /// All files in one batch.
    pub fn batch(&self) -> Batch {
        let source = |path: &Path| Source::Path(path.display().to_string());
        let parts = self.files().into_iter().enumerate();
        Batch { parts: parts.map(|(input, (_, path))| Part { input, sign: 1, source: source(&path) }).collect() }
    }

    /// The events that were kept back, in random order, a line each.
    pub fn late_lines(&self) -> Result<Vec<String>> {
        let mut lines = self.lines_in(&self.folder.join("late"))?;
        lines.shuffle(&mut ChaCha8Rng::seed_from_u64(SEED));
        Ok(lines)
    }

    /// The lines of its events, in their order.
    pub fn lines(&self) -> Result<Vec<String>> {
        self.lines_in(&self.folder)
    }

    /// Its inputs without the last lines of its events, which are written to this folder, and these lines.
    pub fn before_the_last(&self, lines: usize, folder: &Path) -> Result<(Vec<String>, Vec<String>)> {
        let text = fs::read_to_string(self.events())?;
        let ends = text.trim_end().rmatch_indices('\n').map(|(end, _)| end + 1);
        let (before, last) = ends.take(lines).last().and_then(|end| text.split_at_checked(end)).unwrap_or((text.as_str(), ""));
        fs::write(folder.join(self.events_name()), before)?;
        let here = self.events();
        let inputs = self.files().into_iter().map(|(input, path)| {
            let path = if path == here { folder.join(self.events_name()) } else { path };
            format!("{input}={}", path.display())
        });
        Ok((inputs.collect(), last.lines().map(String::from).collect()))
    }

    fn lines_in(&self, folder: &Path) -> Result<Vec<String>> {
        let path = folder.join(self.events_name());
        let text = fs::read_to_string(&path).map_err(|error| format!("could not read {path:?}: {error}"))?;
        Ok(text.lines().skip(usize::from(self.is_csv())).map(String::from).collect())
    }

    /// A batch of lines.
    pub fn lines_batch(&self, lines: &[String]) -> Batch {
        let bytes = lines.join("\n").into_bytes();
        let format = if self.is_csv() { TextFormat::Csv } else { TextFormat::Json };
        let source = Source::Bytes(Body::plain(format, bytes));
        // Names come before measurements.
        let input = usize::from(self.dataflow == Measured::Sensors);
        Batch { parts: vec![Part { input, sign: 1, source }] }
    }

    fn events_name(&self) -> &'static str {
        match self.dataflow {
            Measured::Online if self.is_parquet => EVENTS_PARQUET,
            Measured::Online => "events.csv",
            Measured::Sensors => "data.csv",
            Measured::Active | Measured::Usage => "events.jsonl",
        }
    }

    fn is_csv(&self) -> bool {
        matches!(self.dataflow, Measured::Online | Measured::Sensors)
    }

    /// Files by input, in the order of the dataflow's inputs.
    fn files(&self) -> Vec<(&'static str, PathBuf)> {
        if self.dataflow == Measured::Sensors {
            return vec![("mapping", self.folder.join("mapping.csv")), ("data", self.events())];
        }
        let mut files = vec![("events", self.events())];
        if self.dataflow == Measured::Online {
            files.push(("servers", self.folder.join("servers.csv")));
        }
        files
    }
}

/// Generated files below a folder.
struct Folder(PathBuf);

impl Files for Folder {
    fn create(&mut self, path: &str) -> io::Result<Box<dyn Write>> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(Box::new(BufWriter::with_capacity(1 << 20, fs::File::create(path)?)))
    }
}

/// Makes a folder, unless it is there.
fn made(folder: &Path, make: impl FnOnce(&mut dyn Files) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    make(&mut Folder(part.clone()))?;
    fs::rename(&part, folder).map_err(|error| format!("could not put {folder:?} in its place: {error}").into())
}

/// The first moment of a workload of even density: 2023-01-01.
const START: i64 = 19_358 * DAY;
const SERVERS: u64 = 200;

fn write_even(size: Size, files: &mut dyn Files) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut servers = files.create("servers.csv")?;
    writeln!(servers, "id,created_at,destroyed_at")?;
    for id in 0..SERVERS {
        // Half of them are destroyed at some time.
        let destroyed = START + random.random_range(0..size.days as i64) * DAY;
        let destroyed = if id % 2 == 0 { Moment(destroyed).to_string() } else { String::new() };
        writeln!(servers, "{id},{},{destroyed}", Moment(START - DAY))?;
    }
    servers.flush()?;

    let span = size.days as i64 * DAY;
    let step = span / (size.events + 1) as i64;
    let rounds = size.events / size.keys;
    let mut events = files.create("events.csv")?;
    writeln!(events, "timestamp,device_id,user_id,server_id,connected")?;
    for round in 0..rounds {
        for key in 0..size.keys {
            let time = START + (round * size.keys + key) as i64 * step;
            // Off and on again at the same server, mostly.
            let server = if random.random_ratio(1, 20) { random.random_range(0..SERVERS) } else { (key + round / 2 * 17) % SERVERS };
            writeln!(events, "{},{key},{},{server},{}", Moment(time), key / 2, round % 2 == 0)?;
        }
    }
    events.flush()?;

    let mut late = files.create("late/events.csv")?;
    writeln!(late, "timestamp,device_id,user_id,server_id,connected")?;
    for _ in 0..size.late {
        let (time, key) = (START + random.random_range(0..span / SECOND) * SECOND, random.random_range(0..size.keys));
        writeln!(late, "{},{key},{},{},{}", Moment(time), key / 2, random.random_range(0..SERVERS), random.random_bool(0.5))?;
    }
    Ok(late.flush()?)
}
