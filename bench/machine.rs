//! When, on what commit and on which machine something was measured.

use serde_json::{Value, json};
use std::process::Command;

/// The time, to the second.
pub fn date() -> String {
    let now = retally::engine::now().to_string();
    format!("{}Z", now.get(..19).unwrap_or(&now))
}

/// The commit that was built, `-dirty` where files were changed since.
///
/// Results and reports are not part of what is measured.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let changed = git(&["status", "--porcelain", "--", ":/", ":!/bench/results"]).is_some_and(|changed| !changed.is_empty());
    if changed { format!("{commit}-dirty") } else { commit }
}

/// Processor, cores and memory.
pub fn machine() -> Value {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_string()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    json!({ "cpu": field("/proc/cpuinfo", "model name"), "cores": cores, "memory_bytes": memory * 1_024 })
}

/// How many threads wanted to run in the last minute, on average: what else the machine was busy with.
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// A line of this process's `/proc/self/status`, in bytes.
pub fn status_bytes(name: &str) -> u64 {
    status_bytes_of("self", name)
}

/// A line of a process's `/proc/PROCESS/status`, in bytes.
pub fn status_bytes_of(process: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1_024
}
