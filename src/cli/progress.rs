//! How far a run is: a bar on a terminal, plain lines elsewhere.

use super::error::say;
use crate::engine::summary::Progress;
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
                    let (read, all) = (HumanBytes(progress.bytes), HumanBytes(progress.bytes_all));
                    say(&format!("batch {}: read {read} of {all}, {} records, {rate:.0} records/s", progress.epoch, progress.records));
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

fn new_bar(progress: Progress) -> ProgressBar {
    let style = ProgressStyle::with_template("batch {prefix} {wide_bar} {bytes}/{total_bytes} {msg}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(progress.bytes_all), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_prefix(progress.epoch.to_string())
}
