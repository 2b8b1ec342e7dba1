//! `page`: the page of a service with all tables, in Chromium: its first view, a large table, and how soon a change is on it.
//!
//! Times of the browser are since the address was opened, of a browser that was never there before; bytes are those that came over the
//! wire, headers included, without the stream of changes. A change is on the page when it is in its document.

use crate::browser::Browser;
use crate::load::sized;
use crate::numbers::Sorted;
use crate::options::{Common, Input, Measured, Size};
use crate::results::Line;
use crate::service::Service;
use crate::workload::Workload;
use crate::{Result, process};
use clap::Args;
use nix::sys::signal::Signal;
use std::time::{SystemTime, UNIX_EPOCH};

/// Options of `page`.
#[derive(Args)]
pub struct PageOptions {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    common: Common,
    /// Workers
    #[arg(long, short, default_value_t = 2)]
    workers: usize,
    /// How many single late events
    #[arg(long, default_value_t = 50)]
    singles: usize,
}

/// The views that are opened first, and what is there when they are whole.
const FIRST: [(&str, &str, &str); 3] = [
    ("overview", "overview", "document.querySelector('.overview-card path.area') && document.querySelector('.overview-card .facts dd')"),
    (
        "dataflow",
        "dataflow/online",
        "[...document.querySelectorAll('.chart-card')].every((card) => card.querySelector('path')) && document.querySelector('.rows td')",
    ),
    ("table of intervals", "dataflow/online?table=online_intervals", "document.querySelectorAll('.rows tbody tr').length === 25"),
];
/// The views on which changes are looked for, and what of them each changes.
const CHANGED: [(&str, &str, &str); 2] =
    [("overview", "overview", ".overview-card .last-batch"), ("batches", "batches/online", ".rows tbody tr")];

/// Runs the bench.
pub fn main(options: &PageOptions) -> Result<()> {
    let (common, input) = (&options.common, &options.input);
    if input.dataflow != Measured::Online {
        return Err("page is about online alone".into());
    }
    let singles = if common.smoke { 3 } else { options.singles };
    let load = Size::of_load(input, common);
    let late = (singles * CHANGED.len()) as u64;
    let workload = Workload::generated(common, Measured::Online, Size { events: load.events + late, late, ..load })?;
    let folder = tempfile::tempdir_in(common.cache())?;
    let line = || sized(Line::new("page", "online"), &workload).with("workers", options.workers);

    let service = Service::start(&folder.path().join("state"), "online", options.workers, &[])?;
    service.until("/readyz")?;
    let mut arguments = vec!["feed".to_string(), "online".into(), "--server".into(), service.address.clone(), "--quiet".into()];
    arguments.extend(workload.inputs());
    process::retally(&[arguments])?;

    for (what, view, whole) in FIRST {
        let mut browser = Browser::start();
        browser.open(&format!("{}/#/{view}", service.address), "document.body");
        let ms = number(&mut browser, &when(whole, "performance.now()"))?;
        let bytes = "performance.getEntries().reduce((sum, { transferSize }) => sum + (transferSize ?? 0), 0)";
        let bytes = number(&mut browser, bytes)?;
        browser.is_content();
        line().with("what", "first view").with("view", what).measured("whole_ms", ms).measured("bytes", bytes).publish(common)?;
    }
    let lines = workload.late_lines()?;
    let mut browser = Browser::start();
    for ((what, view, place), lines) in CHANGED.into_iter().zip(lines.chunks(singles)) {
        browser.open(&format!("{}/#/{view}", service.address), &format!("document.querySelector({place:?})"));
        browser.until_text(".state", "Live");
        let mut times = Vec::new();
        for event in lines {
            let text = format!("document.querySelector({place:?})?.textContent");
            browser.value(&format!("window.before = {text}"));
            // Asked for before the event is sent: a page may have the change before its sender has the answer.
            let changed = when(&format!("(({text}) ?? before) !== before"), "performance.timeOrigin + performance.now()");
            browser.value(&format!("window.changed = {changed}; 0"));
            service.post("online", &format!("{event}\n"), "text/csv")?;
            let answered = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3;
            times.push(number(&mut browser, "window.changed")? - answered);
        }
        browser.is_content();
        let times = Sorted::new(times);
        line()
            .with("what", "change")
            .with("view", what)
            .with("requests", times.len())
            .measured("after_answer_p50_ms", times.median())
            .measured("after_answer_max_ms", times.max())
            .publish(common)?;
    }
    service.end(Signal::SIGTERM)
}

/// A promise of a value as of the moment at which something is so in the document.
fn when(so: &str, value: &str) -> String {
    format!(
        "new Promise((resolve) => {{ const look = () => {{ if ({so}) {{ observer.disconnect(); resolve({value}) }} }}; \
         const observer = new MutationObserver(look); \
         observer.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }}); look() }})"
    )
}

fn number(browser: &mut Browser, expression: &str) -> Result<f64> {
    browser.value(expression).as_f64().ok_or_else(|| format!("{expression} is no number").into())
}
