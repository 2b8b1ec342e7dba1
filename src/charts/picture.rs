//! The numbers of a key's picture, from the rows of a table of pieces.

use crate::tables::TableState;
use retally_core::extremes::{Covered, Drawn};
use retally_core::key_chart::Piece;
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// What is drawn of a key; each list in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) values: Vec<Drawn>,
    pub(super) band: Vec<Covered>,
    pub(super) lines: Vec<[(Moment, f64); 2]>,
    pub(super) stretches: Vec<(Moment, Moment)>,
    pub(super) marks: Vec<Standing>,
}

/// A value that stands out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    pub(super) time: Moment,
    pub(super) value: f64,
    pub(super) kind: usize,
    pub(super) weight: u64,
}

/// The pictures of the keys that are drawn, by name and id.
pub(super) fn read(state: &TableState) -> Vec<Picture> {
    let mut titles: BTreeMap<String, String> = BTreeMap::new();
    let mut pictures: BTreeMap<String, Picture> = BTreeMap::new();
    for (id, piece) in pieces(state) {
        if let Piece::Drawn { name, .. } = piece {
            titles.insert(id, name);
            continue;
        }
        let picture = pictures.entry(id).or_default();
        match piece {
            Piece::Value { time, value, breaks } => picture.values.push((time, value, breaks)),
            Piece::Band { time, low, high, breaks } => picture.band.push((time, low, high, breaks)),
            Piece::Line { from, until } => picture.lines.push([from, until]),
            Piece::Stretch { from, until } => picture.stretches.push((from, until)),
            Piece::Mark { time, value, kind, weight } => {
                picture.marks.push(Standing { time, value, kind: usize::try_from(kind).unwrap_or(0), weight });
            }
            Piece::Known(_) | Piece::Drawn { .. } => {}
        }
    }
    let mut drawn: Vec<Picture> =
        titles.into_iter().map(|(id, name)| Picture { name, id: id.clone(), ..pictures.remove(&id).unwrap_or_default() }).collect();
    drawn.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    drawn
}

/// The names of all keys and then their ids, and the texts that keys were found by.
pub(super) fn known(state: &TableState) -> (Vec<String>, BTreeSet<String>) {
    let (mut names, mut ids, mut found) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for (id, piece) in pieces(state) {
        match piece {
            Piece::Known(name) => {
                names.insert(name);
                ids.push(id);
            }
            Piece::Drawn { asked, .. } => drop(found.insert(asked)),
            _ => {}
        }
    }
    (names.into_iter().filter(|name| !name.is_empty()).chain(ids).collect(), found)
}

fn pieces(state: &TableState) -> impl Iterator<Item = (String, Piece)> {
    state.rows().filter_map(|row| Piece::read(&state.table().columns, row))
}

impl Picture {
    /// The first and the last time of a value.
    pub(super) fn span(&self) -> Option<(Moment, Moment)> {
        Some((self.values.first()?.0, self.values.last()?.0))
    }

    /// Whether all values are the same.
    pub(super) fn is_constant(&self) -> bool {
        self.values.windows(2).all(|pair| matches!(pair, [(_, one, _), (_, other, _)] if one == other))
    }

    /// The lowest and the highest value to be seen: all values, and of what was expected as much as leaves them room. Where all values are
    /// the same, what was expected about them is seen.
    pub(super) fn range(&self) -> (f64, f64) {
        let bounds = |all: &mut dyn Iterator<Item = f64>| {
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
        };
        let (low, high) = bounds(&mut self.values.iter().map(|(_, value, _)| *value));
        let room = if self.is_constant() { f64::INFINITY } else { BAND_ROOM * (high - low) };
        let lines = self.lines.iter().flatten().map(|(_, value)| *value);
        let (least, most) = bounds(&mut self.band.iter().flat_map(|(_, low, high, _)| [*low, *high]).chain(lines));
        (low.min(least.max(low - room)), high.max(most.min(high + room)))
    }
}

/// How much of the axis the band may take on each side, as a share of what values take.
const BAND_ROOM: f64 = 0.25;
