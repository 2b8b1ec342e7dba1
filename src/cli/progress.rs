//! How far a run is: a bar on a terminal, plain lines elsewhere.

use super::error::say;
use crate::engine::summary::Progress;
use crate::numbers::counted;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Where nobody watches a bar, a line is enough now and then.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows progress on stderr.
pub struct ProgressShown {
    kind: Kind,
}

enum Kind {
    Quiet,
    Bar(Option<ProgressBar>),
    Lines { started: Instant, told: Instant },
}

impl ProgressShown {
    /// A bar, lines, or nothing.
    pub fn new(quiet: bool) -> ProgressShown {
        let kind = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Kind::Quiet,
            (false, true) => Kind::Bar(None),
            (false, false) => Kind::Lines { started: Instant::now(), told: Instant::now() },
        };
        ProgressShown { kind }
    }

    /// Shows how far a batch is.
    pub fn show(&mut self, progress: Progress) {
        match &mut self.kind {
            Kind::Quiet => {}
            Kind::Bar(bar) => {
                let bar = bar.get_or_insert_with(|| new_bar(progress));
                bar.set_position(progress.bytes.min(progress.bytes_all));
                let rate = progress.records as f64 / bar.elapsed().as_secs_f64().max(1e-3);
                bar.set_message(format!("{:.1} M records, {:.2} M/s", progress.records as f64 / 1e6, rate / 1e6));
            }
            Kind::Lines { started, told } => {
                if told.elapsed() >= LINE_EVERY {
                    *told = Instant::now();
                    let rate = progress.records as f64 / started.elapsed().as_secs_f64();
                    say(&line(progress, rate));
                }
            }
        }
    }

    /// The batch is over.
    pub fn done(&mut self) {
        if let Kind::Bar(bar) = &mut self.kind {
            bar.take().into_iter().for_each(|bar| bar.finish_and_clear());
        }
    }
}

/// How far a batch is. Readers look beyond the ends of their splits, so more is read than there is; of streams elsewhere nobody knows how
/// much there is.
fn line(progress: Progress, rate: f64) -> String {
    let Progress { epoch, records, bytes, bytes_all } = progress;
    let (read, all, records) = (HumanBytes(bytes), HumanBytes(bytes_all), counted(records, "record"));
    match bytes_all {
        0 => format!("batch {epoch}: read {read}, {records}, {rate:.0} records/s"),
        _ if bytes < bytes_all => format!("batch {epoch}: read {read} of {all}, {records}, {rate:.0} records/s"),
        _ => format!("batch {epoch}: read all {all}, {records}; what follows from them is still to come"),
    }
}

fn new_bar(progress: Progress) -> ProgressBar {
    let style = ProgressStyle::with_template("batch {prefix} {wide_bar} {bytes}/{total_bytes} {msg}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(progress.bytes_all), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_prefix(progress.epoch.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_it_is() {
        let at = |bytes, bytes_all| line(Progress { epoch: 2, records: 1_234, bytes, bytes_all }, 10.4);
        assert_eq!(at(1 << 20, 1 << 21), "batch 2: read 1.00 MiB of 2.00 MiB, 1,234 records, 10 records/s");
        assert_eq!(at(1 << 20, 0), "batch 2: read 1.00 MiB, 1,234 records, 10 records/s");
        let first = line(Progress { epoch: 1, records: 1, bytes: 100, bytes_all: 0 }, 1.0);
        assert_eq!(first, "batch 1: read 100 B, 1 record, 1 records/s");
        assert_eq!(at(3 << 20, 1 << 21), "batch 2: read all 2.00 MiB, 1,234 records; what follows from them is still to come");
    }
}
