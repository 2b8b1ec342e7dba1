//! A service of this program, whose clients benches are.

use crate::{Result, machine, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use ureq::Agent;

/// Longer than a service takes to be ready.
const READY_MAX: Duration = Duration::from_secs(300);
/// Connections that are kept.
const CONNECTIONS: usize = 64;

/// A service of this program.
pub struct Service {
    child: Child,
    /// Where it listens.
    pub address: String,
    agent: Agent,
    began: Instant,
}

impl Service {
    /// Starts one, with these arguments besides.
    pub fn start(state: &Path, dataflow: &str, workers: usize, besides: &[&str]) -> Result<Service> {
        let began = Instant::now();
        let arguments = ["serve", dataflow, "--listen", "127.0.0.1:0", "-w", &workers.to_string()].map(String::from);
        let mut child = process::as_command()?.args(arguments).args(besides).arg("--state").arg(state).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("the service has no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").ok_or("the service did not start")?.to_string();
        let agent = Agent::config_builder().http_status_as_error(false).max_idle_connections_per_host(CONNECTIONS).build().new_agent();
        Ok(Service { child, address, agent, began })
    }

    /// Status and text of an answer.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut response = self.agent.get(format!("{}{path}", self.address)).call()?;
        Ok((response.status().as_u16(), response.body_mut().with_config().limit(1 << 30).read_to_string()?))
    }

    /// Seconds since its start until a path is answered as asked.
    pub fn until(&self, path: &str) -> Result<f64> {
        while self.began.elapsed() < READY_MAX {
            if matches!(self.get(path), Ok((200, _))) {
                return Ok(self.began.elapsed().as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("the service does not get ready".into())
    }

    /// Sends events, and returns how long the answer took.
    pub fn post(&self, dataflow: &str, body: &str, kind: &str) -> Result<Duration> {
        let began = Instant::now();
        let path = format!("{}/v1/{dataflow}/events", self.address);
        let mut response = self.agent.post(path).header("content-type", kind).send(body)?;
        let text = response.body_mut().read_to_string()?;
        if response.status() == 200 { Ok(began.elapsed()) } else { Err(text.into()) }
    }

    /// The sum and the count of a histogram.
    pub fn seconds(&self, name: &str) -> Result<(f64, f64)> {
        let (_, text) = self.get("/metrics")?;
        let value = |ending: &str| {
            let start = format!("retally_{name}_seconds_{ending} ");
            text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        Ok((value("sum"), value("count")))
    }

    /// Its memory in bytes.
    pub fn rss(&self) -> f64 {
        machine::status_bytes_of(&self.child.id().to_string(), "VmRSS") as f64
    }

    /// Ends it by a signal.
    pub fn end(mut self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        self.child.wait()?;
        Ok(())
    }
}
