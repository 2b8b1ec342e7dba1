//! `brushing`: one large dataset into a destination that takes everything, and many small ones on one worker and on two.
//!
//! The large one shows what reading costs, and that memory does not grow with it; the small ones, that datasets spread over workers.

use crate::Result;
use crate::numbers::Sorted;
use crate::options::Common;
use crate::process::{self, Usage};
use crate::results::Line;
use clap::Args;
use retally_core::contract::Settings;
use std::path::{Path, PathBuf};

/// Options of `brushing`.
#[derive(Args)]
pub struct BrushingOptions {
    #[command(flatten)]
    common: Common,
    /// How large the one dataset is
    #[arg(long, default_value_t = 1_000_000_000)]
    bytes: u64,
    /// How many small datasets there are
    #[arg(long, default_value_t = 1_000)]
    datasets: u64,
    /// How long a small one is
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
}

/// Runs the bench.
pub fn main(options: &BrushingOptions) -> Result<()> {
    let (bytes, datasets, minutes) =
        if options.common.smoke { (200_000, 10, 0.2) } else { (options.bytes, options.datasets, options.minutes) };
    one(options, bytes)?;
    many(options, datasets, minutes)
}

fn one(options: &BrushingOptions, bytes: u64) -> Result<()> {
    let (bytes_text, common) = (bytes.to_string(), &options.common);
    let input = generated(common, &format!("one-{bytes}"), &[("toothbrushes", "1"), ("datasets", "1"), ("bytes", &bytes_text)])?;
    let input_bytes = size(&input)?;
    let line = Line::new("brushing", "brushing").with("datasets", 1).with("input_bytes", input_bytes).with("workers", 1);
    let usages: Vec<Usage> = (0..common.repeat.max(1)).map(|_| run(&input, 1)).collect::<Result<_>>()?;
    let (line, wall_s) = measured(line, &usages);
    line.measured("input_bytes_per_s", input_bytes as f64 / wall_s).publish(common)
}

fn many(options: &BrushingOptions, datasets: u64, minutes: f64) -> Result<()> {
    let common = &options.common;
    let (count, length) = ((datasets / 10).max(1).to_string(), minutes.to_string());
    let name = format!("many-{count}-{length}");
    let input = generated(common, &name, &[("toothbrushes", "10"), ("datasets", &count), ("minutes", &length)])?;
    let input_bytes = size(&input)?;
    let mut usages: [Vec<Usage>; 2] = Default::default();
    // In rounds, so that what else the machine does meets both alike.
    for _ in 0..common.repeat.max(1) {
        for (usages, workers) in usages.iter_mut().zip(1..) {
            usages.push(run(&input, workers)?);
        }
    }
    let mut alone_s = None;
    for (usages, workers) in usages.iter().zip(1..) {
        let line = Line::new("brushing", "brushing").with("datasets", datasets).with("input_bytes", input_bytes).with("workers", workers);
        let (line, wall_s) = measured(line, usages);
        let alone_s = *alone_s.get_or_insert(wall_s);
        line.measured("input_bytes_per_s", input_bytes as f64 / wall_s).measured("speed_up", alone_s / wall_s).publish(common)?;
    }
    Ok(())
}

fn measured(line: Line, usages: &[Usage]) -> (Line, f64) {
    let wall_s = Sorted::new(usages.iter().map(|usage| usage.wall_s).collect()).median();
    (crate::load::measured(line.with("repeats", usages.len()), usages), wall_s)
}

fn run(input: &Path, workers: usize) -> Result<Usage> {
    let datasets = format!("datasets={}", input.display());
    let words = ["run", "brushing", &datasets, "--points", "file:/dev/null", "--quiet", "-w", &workers.to_string()];
    process::retally(&[words.map(String::from).into()])
}

/// A folder of generated input, made once.
fn generated(common: &Common, name: &str, options: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = common.cache().join(format!("brushing-{name}"));
    if folder.exists() {
        return Ok(folder);
    }
    let dataflow = retally::registry::dataflow("brushing").ok_or("there is no dataflow \"brushing\"")?;
    let defaults = Settings::defaults(&dataflow.definition().generator);
    let settings = options.iter().fold(defaults, |settings, (name, value)| settings.with(name, value));
    // Under another name until it is complete.
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    retally::cli::generate::into_folder(dataflow, &settings, &unfinished, retally::cli::generate::Others::Replaced)
        .map_err(|error| format!("could not generate input: {error:?}"))?;
    std::fs::rename(&unfinished, &folder)?;
    Ok(folder)
}

/// The bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
