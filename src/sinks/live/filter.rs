//! Which rows of a table are meant: `COLUMN=VALUE…`, looked at row by row.
//!
//! It means what [`super::read::Question::conditions`] means to the database. Values are compared as they lie in a row, byte by byte.

use super::super::cells;
use super::read::{BadQuestion, append, bad_value, named, parsed};
use retally_core::contract::Table;
use retally_core::row::{Column, ColumnType, Row};
use rusqlite::types::ValueRef;

/// Conditions, all of which hold of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// For each column, in its place, what it may hold; anything, where that is nothing.
    columns: Vec<Vec<Vec<u8>>>,
}

impl Filter {
    /// Only rows that have these values in these columns; of a column that is given more than once, any of them. An empty value is a
    /// missing one.
    pub fn new<'g>(table: &Table, given: impl Iterator<Item = (&'g str, &'g str)>) -> Result<Filter, BadQuestion> {
        let mut columns = vec![Vec::new(); table.columns.len()];
        for (name, value) in given {
            let (place, column) = named(table, name)?;
            let Some(values) = columns.get_mut(place) else { continue };
            if value.is_empty() && column.nullable {
                values.push(encoded(column, value, ValueRef::Null)?);
            }
            if !value.is_empty() || matches!(column.kind, ColumnType::Text) {
                values.push(encoded(column, value, ValueRef::from(&parsed(column, value)?))?);
            } else if !column.nullable {
                return Err(bad_value(column, value));
            }
        }
        Ok(Filter { columns })
    }

    /// Whether a row of the table is meant.
    ///
    /// # Panics
    /// When the bytes are not a row of this table.
    pub fn takes(&self, table: &Table, row: &[u8]) -> bool {
        let mut rest = row;
        table.columns.iter().zip(&self.columns).all(|(column, values)| {
            let before = rest;
            cells::take(column, &mut rest);
            let cell = before.get(..before.len() - rest.len()).unwrap_or_default();
            values.is_empty() || values.iter().any(|value| value == cell)
        })
    }
}

/// A value as it lies in a row.
fn encoded(column: &Column, given: &str, value: ValueRef<'_>) -> Result<Vec<u8>, BadQuestion> {
    append(Row::default(), column, 0, value).map(|row| row.0).map_err(|_| bad_value(column, given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::cells::tests::sample;

    #[test]
    fn rows_are_told_by_all_columns_and_any_value() {
        let state = sample();
        let table = state.table();
        let taken = |given: &[(&str, &str)]| -> Vec<usize> {
            let filter = Filter::new(table, given.iter().copied()).unwrap_or_else(|error| panic!("{given:?}: {error}"));
            state.rows().enumerate().filter(|(_, row)| filter.takes(table, row)).map(|(place, _)| place).collect()
        };
        assert_eq!(taken(&[]), [0, 1, 2]);
        assert_eq!(taken(&[("day", "2026-03-02")]), [1]);
        assert_eq!(taken(&[("day", "2026-03-02"), ("day", "2026-03-03")]), [1, 2]);
        assert_eq!(taken(&[("bool", "true"), ("int", "-3")]), [0]);
        assert_eq!(taken(&[("bool", "true"), ("int", "4")]), [] as [usize; 0]);
        assert_eq!(taken(&[("time", "2026-03-01T00:00:00.000001Z")]), [2]);
        assert_eq!((taken(&[("int", "")]), taken(&[("text", "")]), taken(&[("uuid", "")])), (vec![1], vec![1], vec![1]));
        assert_eq!((taken(&[("label", "1000+")]), taken(&[("float", "12.50")]), taken(&[("text", "plain")])), (vec![2], vec![0], vec![0]));
        assert_eq!(taken(&[("uuid", "C0FFEE00-0000-4000-8000-0000000000AB")]), [0]);
    }

    #[test]
    fn what_no_row_can_have_is_refused() {
        let table = sample().table().clone();
        for given in [("days", "2026-03-01"), ("day", "today"), ("day", ""), ("label", "x"), ("bool", "yes"), ("int", "1.5")] {
            assert!(Filter::new(&table, std::iter::once(given)).is_err(), "{given:?}");
        }
    }
}
