//! What all benches can be told.

use crate::Result;
use clap::{Args, ValueEnum};
use retally_core::contract::Dataflow;
use std::path::PathBuf;

/// The dataflows that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measured {
    /// Connectivity events, CSV.
    Online,
    /// App analytics events, JSON lines.
    Active,
    /// Events of schools and their devices, JSON lines.
    Usage,
    /// Measurements of sensors, CSV.
    Sensors,
}

impl Measured {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Measured::Online => "online",
            Measured::Active => "active",
            Measured::Usage => "usage",
            Measured::Sensors => "sensors",
        }
    }

    /// What its generator calls its keys.
    pub fn keys(self) -> &'static str {
        match self {
            Measured::Online | Measured::Usage => "devices",
            Measured::Active => "users",
            Measured::Sensors => "sensors",
        }
    }

    /// The dataflow.
    pub fn dataflow(self) -> Result<&'static dyn Dataflow> {
        retally::registry::dataflow(self.name()).ok_or_else(|| format!("there is no dataflow {:?}", self.name()).into())
    }

    /// The tables that stand for its daily use.
    pub fn two_tables(self) -> &'static str {
        match self {
            Measured::Online => "online_daily,online_rolling_28d",
            Measured::Active => "active_user_table,active_rolling",
            Measured::Usage => "usage_history,usage_schools",
            Measured::Sensors => "sensor_summary,sensor_segments,sensor_anomalies,sensor_incidents,sensor_unusual,sensor_issues",
        }
    }
}

/// What is generated, for the benches that load a workload.
#[derive(Args, Clone, Debug)]
pub struct Input {
    /// The dataflow
    #[arg(long, value_enum, default_value = "online")]
    pub dataflow: Measured,
    /// How many events (default: by bench and dataflow)
    #[arg(long)]
    pub events: Option<u64>,
    /// How many devices, users or sensors they are of
    #[arg(long)]
    pub keys: Option<u64>,
    /// Over how many days they are spread
    #[arg(long)]
    pub days: Option<u64>,
}

/// Options of every bench.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Everything tiny: shows that the bench works, measures nothing
    #[arg(long)]
    pub smoke: bool,
    /// How often a measurement is repeated; medians are reported
    #[arg(long, default_value_t = 1)]
    pub repeat: usize,
    /// Where result lines are appended (default: bench/results/DATE.jsonl; with --smoke: nowhere)
    #[arg(long)]
    pub results: Option<PathBuf>,
    /// Where workloads are kept (default: retally-bench in the folder for temporary files)
    #[arg(long)]
    pub cache: Option<PathBuf>,
}

impl Common {
    /// The folder for workloads.
    pub fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| std::env::temp_dir().join("retally-bench"))
    }
}

/// How large a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Events, about.
    pub events: u64,
    /// Devices or users.
    pub keys: u64,
    /// Days.
    pub days: u64,
    /// Events kept back.
    pub late: u64,
}

impl Size {
    /// The size of a load under these options.
    pub fn of_load(input: &Input, common: &Common) -> Size {
        let (events, keys, days) = match (input.dataflow, common.smoke) {
            (_, true) => (5_000, 100, 50),
            (Measured::Online, false) => (10_000_000, 100_000, 1_095),
            (Measured::Active, false) => (500_000, 50_000, 100),
            (Measured::Usage, false) => (10_000_000, 5_000, 730),
            (Measured::Sensors, false) => (10_000_000, 1_000, 35),
        };
        let or = |given: Option<u64>, default| given.unwrap_or(default);
        Size { events: or(input.events, events), keys: or(input.keys, keys), days: or(input.days, days), late: 0 }
    }
}
