//! Whole processes: how long they took, on the clock and on the processors, and how much memory they had at most.
//!
//! The program is this one under another name: with [`USAGE_FILE`] in its environment it is `retally`, and leaves
//! its peak memory in that file. Its processor time comes from the system when it has ended, so that includes the end.

use crate::{Result, machine};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// The environment variable that makes this program `retally`; it names a file.
const USAGE_FILE: &str = "RETALLY_BENCH_USAGE_FILE";

/// Is `retally`, when it was started as that.
pub fn as_retally() -> Option<ExitCode> {
    let path = std::env::var_os(USAGE_FILE)?;
    let code = retally::cli::main();
    let peak = machine::status_bytes("VmHWM");
    Some(if std::fs::write(path, peak.to_string()).is_ok() { code } else { ExitCode::FAILURE })
}

/// This program as `retally`, whose memory nobody asks for.
pub fn as_command() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(USAGE_FILE, "/dev/null");
    Ok(command)
}

/// What processes used, together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// From the first start to the last end.
    pub wall_s: f64,
    /// In the program.
    pub user_s: f64,
    /// In the kernel.
    pub sys_s: f64,
    /// The sum of their greatest resident sizes.
    pub peak_rss_bytes: u64,
}

/// Runs `retally` once for each list of arguments, all at the same time.
pub fn retally(runs: &[Vec<String>]) -> Result<Usage> {
    let folder = tempfile::tempdir()?;
    let before = children()?;
    let started = Instant::now();
    let mut processes = Vec::new();
    for (number, arguments) in runs.iter().enumerate() {
        let usage = folder.path().join(number.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        let process = command.args(arguments).env(USAGE_FILE, &usage).stdout(Stdio::null()).spawn()?;
        processes.push((process, usage));
    }
    let mut peak_rss_bytes = 0;
    for (mut process, usage) in processes {
        let status = process.wait()?;
        if !status.success() {
            return Err(format!("retally {runs:?} ended with {status}").into());
        }
        peak_rss_bytes += read_number(&usage)?;
    }
    let wall_s = started.elapsed().as_secs_f64();
    let after = children()?;
    Ok(Usage { wall_s, user_s: after.0 - before.0, sys_s: after.1 - before.1, peak_rss_bytes })
}

/// User and system time of the children that have ended.
fn children() -> Result<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}

fn read_number(path: &Path) -> Result<u64> {
    Ok(std::fs::read_to_string(path)?.trim().parse()?)
}
