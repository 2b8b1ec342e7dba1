//! What all processes must see, beside their connections, as the folder of a state: process 0 shows a number there, and others look for it.

use std::fmt::Debug;
use std::io;

/// A place that process 0 has, and all others must see.
pub trait Shared: Debug + Send + Sync {
    /// What it is called in an error.
    fn name(&self) -> String;
    /// Shows a number there, on process 0.
    fn show(&self, number: u64) -> io::Result<()>;
    /// Looks for the number, on another process. An error reports what is there instead.
    fn sees(&self, number: u64) -> Result<(), String>;
}

/// What a process sees of what process 0 shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of it.
    All,
    /// Not the file that points are collected in.
    NotPoints,
    /// Not the state.
    NotState,
}

impl Sight {
    /// What is not seen.
    pub fn missing(self) -> &'static str {
        match self {
            Sight::All => "nothing",
            Sight::NotPoints => "the file that process 0 collects points in",
            Sight::NotState => "the state of process 0",
        }
    }

    /// As a byte on a connection.
    pub fn to_byte(self) -> u8 {
        self as u8
    }

    /// Reads what [`Sight::to_byte`] wrote.
    pub fn from_byte(byte: u8) -> Option<Sight> {
        [Sight::All, Sight::NotPoints, Sight::NotState].get(usize::from(byte)).copied()
    }
}

/// Something that a process does not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// What.
    pub sight: Sight,
    /// What is there instead.
    pub why: String,
}
