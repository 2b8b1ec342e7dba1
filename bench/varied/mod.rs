//! Workloads that differ in one thing at a time: how wrong the stream is, how it is spread over keys, and in which order it comes.

mod active;
mod online;
mod usage;

use crate::Result;
use crate::options::Measured;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use retally_core::time::DAY;
use std::fs;
use std::path::Path;

/// The first moment: 2023-01-01.
const START: i64 = 19_358 * DAY;

type Draw = Box<dyn Fn(u64, u64) -> Drawn>;

/// A kind of workload.
pub struct Shape {
    /// What differs from the ordinary, and how.
    pub name: &'static str,
    draw: Draw,
}

impl Shape {
    fn new(name: &'static str, draw: impl Fn(u64, u64) -> Drawn + 'static) -> Shape {
        Shape { name, draw: Box::new(draw) }
    }

    /// Draws about so many events, and so many that come late; always the same.
    pub fn draw(&self, events: u64, late: u64) -> Drawn {
        (self.draw)(events, late)
    }
}

/// The shapes of a dataflow.
pub fn shapes(dataflow: Measured) -> Result<Vec<Shape>> {
    match dataflow {
        Measured::Online => Ok(online::shapes()),
        Measured::Usage => Ok(usage::shapes()),
        Measured::Active => Ok(active::shapes()),
        Measured::Sensors => Err("the bench anomaly is that of sensors in many shapes".into()),
    }
}

/// A batch of lines: the place of an input, 1 or -1, and the line.
pub type Further = Vec<(usize, isize, String)>;

/// A workload.
pub struct Drawn {
    /// The first batch.
    pub files: Vec<File>,
    /// Events that come late, of the first input, a line each.
    pub late: Vec<String>,
    /// Batches behind them.
    pub further: Vec<Further>,
}

/// A file of an input.
pub struct File {
    /// The input's place.
    pub input: usize,
    /// Its name, with an ending.
    pub name: &'static str,
    /// What stands above its lines.
    pub header: Option<&'static str>,
    /// Its lines.
    pub lines: Vec<String>,
}

impl File {
    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut text = String::with_capacity(self.lines.iter().map(|line| line.len() + 1).sum::<usize>() + 100);
        for line in self.header.into_iter().chain(self.lines.iter().map(String::as_str)) {
            text.push_str(line);
            text.push('\n');
        }
        Ok(fs::write(folder.join(self.name), text)?)
    }
}

/// The order of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// By time.
    Sorted,
    /// At random.
    Shuffled,
    /// The latest first.
    Reversed,
}

/// Takes some of the lines, which are by time, to come late, and puts the others into an order.
fn held_back(lines: Vec<String>, late: u64, order: Order, random: &mut ChaCha8Rng) -> (Vec<String>, Vec<String>) {
    let mut held = vec![false; lines.len()];
    for _ in 0..late {
        let place = random.random_range(0..held.len());
        if let Some(held) = held.get_mut(place) {
            *held = true;
        }
    }
    let mut places = held.iter();
    let (mut late, mut lines): (Vec<String>, Vec<String>) = lines.into_iter().partition(|_| places.next().is_some_and(|held| *held));
    late.shuffle(random);
    match order {
        Order::Sorted => {}
        Order::Shuffled => lines.shuffle(random),
        Order::Reversed => lines.reverse(),
    }
    (lines, late)
}
