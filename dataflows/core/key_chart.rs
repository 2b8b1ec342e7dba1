//! Charts of single keys, such as sensors, over continuous time: a file for each key that is drawn.
//!
//! What is drawn of a key is in no table that is written: all values of all keys would be as much as the input. So a graph publishes
//! [`Piece`]s of the chosen keys alone, as rows of a table that is built when charts are asked for and otherwise costs nothing. The graph
//! chooses: the keys that were asked for, or else those that are worth a look. The runtime draws each key's pieces, and reports which keys
//! that were asked for are not there, and which come near to them.
//!
//! A key's pieces are bounded ([`crate::extremes`]), and so is its picture.

use crate::definition::Table;
use crate::row::{Column, ColumnType, Row, Value, values};
use crate::time::Moment;

/// What the charts of a dataflow's keys look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChart {
    /// What a key is called: `sensor`.
    pub noun: &'static str,
    /// The table of pieces: none of [`crate::contract::Graph::tables`].
    pub table: &'static str,
    /// The setting that names keys. It decides what is drawn, and no row of other tables.
    pub setting: &'static str,
    /// The type of a key.
    pub id: ColumnType,
    /// Keys have no names: their ids stand for them.
    pub named_by_id: bool,
    /// The keys that were asked for, by name or id.
    pub asked: Vec<String>,
    /// What the vertical axis shows, with its unit where there is one.
    pub y_label: &'static str,
    /// What values are called in the legend.
    pub values: String,
    /// What the band is called.
    pub band: String,
    /// What lines are called.
    pub lines: String,
    /// What stretches are called.
    pub stretches: String,
    /// What marks are called, by their kind.
    pub marks: Vec<String>,
}

/// Something that is drawn of a key, or known of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// The key is there, under this name. Said of all keys when some were asked for, so that near ones can be suggested.
    Known(String),
    /// The key is drawn.
    Drawn {
        /// Its name.
        name: String,
        /// The text that asked for it; empty where none did.
        asked: String,
    },
    /// A value.
    Value {
        /// When.
        time: Moment,
        /// The value.
        value: f64,
        /// Whether the line from the value before is broken.
        breaks: bool,
    },
    /// What is expected at a time.
    Band {
        /// When.
        time: Moment,
        /// From this value on.
        low: f64,
        /// Up to this.
        high: f64,
        /// Whether the band from the time before is broken.
        breaks: bool,
    },
    /// A line.
    Line {
        /// Its beginning.
        from: (Moment, f64),
        /// Its end.
        until: (Moment, f64),
    },
    /// A stretch of time.
    Stretch {
        /// Its beginning.
        from: Moment,
        /// Its end, which may be its beginning.
        until: Moment,
    },
    /// A value that stands out.
    Mark {
        /// When.
        time: Moment,
        /// The value.
        value: f64,
        /// The place of its kind in [`KeyChart::marks`].
        kind: u64,
        /// How much it stands out, from 1.
        weight: u64,
    },
}

impl KeyChart {
    /// The table of pieces.
    pub fn pieces(&self) -> Table {
        let columns = vec![
            Column::new("id", self.id.clone(), "the key"),
            Column::new("piece", ColumnType::UInt, "which kind of piece"),
            Column::new("time", ColumnType::Time, "when it starts"),
            Column::new("value", ColumnType::Float, "its value, or its lowest"),
            Column::new("until", ColumnType::Time, "when it ends"),
            Column::new("other", ColumnType::Float, "its value at the end, or its highest"),
            Column::new("kind", ColumnType::UInt, "of a mark its kind; 1 where a line is broken"),
            Column::new("weight", ColumnType::UInt, "of a mark"),
            Column::new("name", ColumnType::Text, "of a key"),
            Column::new("asked", ColumnType::Text, "by which it was asked for"),
        ];
        let about = "what charts of single keys are made of";
        Table::new(self.table, about, columns.len(), columns)
    }
}

impl Piece {
    /// The row of this piece of a key, which `id` writes. Pieces of a kind sort by time, and values at the same time by value.
    pub fn row(&self, id: impl FnOnce(Row) -> Row) -> Row {
        let row = move |piece: u64, from: (Moment, f64), until: (Moment, f64), kind: u64, weight: u64, name: &str, asked: &str| {
            let row = id(Row::with_capacity(80 + name.len() + asked.len())).uint(piece);
            row.time(from.0).float(from.1).time(until.0).float(until.1).uint(kind).uint(weight).text(name).text(asked)
        };
        let none = (Moment::FIRST, 0.0);
        match self {
            Piece::Known(name) => row(0, none, none, 0, 0, name, ""),
            Piece::Drawn { name, asked } => row(1, none, none, 0, 0, name, asked),
            Piece::Value { time, value, breaks } => row(2, (*time, *value), none, u64::from(*breaks), 0, "", ""),
            Piece::Band { time, low, high, breaks } => row(3, (*time, *low), (*time, *high), u64::from(*breaks), 0, "", ""),
            Piece::Line { from, until } => row(4, *from, *until, 0, 0, "", ""),
            Piece::Stretch { from, until } => row(5, (*from, 0.0), (*until, 0.0), 0, 0, "", ""),
            Piece::Mark { time, value, kind, weight } => row(6, (*time, *value), none, *kind, *weight, "", ""),
        }
    }

    /// The key and the piece of a row of [`KeyChart::pieces`]; `None` where the row is none of these.
    pub fn read(columns: &[Column], row: &[u8]) -> Option<(String, Piece)> {
        let mut row = values(columns, row);
        let (Some(Value::Text(id)), Some(Value::UInt(piece))) = (row.next(), row.next()) else { return None };
        let mut point = || match (row.next(), row.next()) {
            (Some(Value::Time(time)), Some(Value::Float(value))) => Some((time, value)),
            _ => None,
        };
        let (from, until) = (point()?, point()?);
        let (Some(Value::UInt(kind)), Some(Value::UInt(weight))) = (row.next(), row.next()) else { return None };
        let (Some(Value::Text(name)), Some(Value::Text(asked))) = (row.next(), row.next()) else { return None };
        let ((time, value), breaks) = (from, kind == 1);
        let piece = match piece {
            0 => Piece::Known(name),
            1 => Piece::Drawn { name, asked },
            2 => Piece::Value { time, value, breaks },
            3 => Piece::Band { time, low: value, high: until.1, breaks },
            4 => Piece::Line { from, until },
            5 => Piece::Stretch { from: time, until: until.0 },
            6 => Piece::Mark { time, value, kind, weight },
            _ => return None,
        };
        Some((id, piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_they_were_written() {
        let chart = KeyChart {
            noun: "sensor",
            table: "pieces",
            setting: "chart-sensor",
            id: ColumnType::Text,
            named_by_id: false,
            asked: Vec::new(),
            y_label: "value",
            values: String::new(),
            band: String::new(),
            lines: String::new(),
            stretches: String::new(),
            marks: Vec::new(),
        };
        let columns = chart.pieces().columns;
        let (time, until) = (Moment(7), Moment(9));
        let pieces = [
            Piece::Known("a\0b".into()),
            Piece::Drawn { name: String::new(), asked: "ü".into() },
            Piece::Value { time, value: -1.5, breaks: true },
            Piece::Value { time, value: -1.0, breaks: false },
            Piece::Band { time, low: -2.0, high: 2.5, breaks: false },
            Piece::Line { from: (time, 1.0), until: (until, 2.0) },
            Piece::Stretch { from: time, until },
            Piece::Mark { time, value: 3.0, kind: 4, weight: 5 },
        ];
        let rows: Vec<Row> = pieces.iter().map(|piece| piece.row(|row| row.text("id"))).collect();
        assert!(rows.is_sorted());
        for (row, piece) in rows.iter().zip(pieces) {
            assert_eq!(Piece::read(&columns, &row.0), Some(("id".to_string(), piece)));
        }
    }
}
