//! Rows as PostgreSQL's binary COPY takes them.
//!
//! <https://www.postgresql.org/docs/current/sql-copy.html>, section "Binary Format": a signature, then for each row the number of its
//! columns, and for each column the length of its value (-1: missing) and the value in network order. Days and times count from 2000-01-01;
//! a NUMERIC is written in digits of base 10,000. Text is as it is, but for zero bytes, which PostgreSQL's text can't hold: each becomes
//! `␀0` (`\u{2400}` and a digit), and a `␀` of the text itself `␀␀`. So texts that differ are written differently.

use super::cells::Cell;
use super::relation::{Kind, Relation};
use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// What a COPY begins with: the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with, instead of a row's number of columns.
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// 2000-01-01, in days since 1970-01-01.
const DAYS_BEFORE: i32 = 10_957;
const MICROS_BEFORE: i64 = DAYS_BEFORE as i64 * 86_400_000_000;

/// What stands before a digit for a zero byte.
const ZERO: char = '\u{2400}';

/// A value that its column can't hold: the column's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge(pub(super) &'static str);

/// Appends what comes before all rows.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(HEADER);
}

/// Appends what comes behind all rows.
pub(super) fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(&TRAILER);
}

/// Appends a row.
pub(super) fn row(relation: &Relation, row: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let width = i16::try_from(relation.width()).unwrap_or_else(|_| panic!("a table of {} columns", relation.width()));
    out.extend_from_slice(&width.to_be_bytes());
    relation.cells(row, |column, kind, cell| value(kind, cell, out).ok_or(TooLarge(column)))
}

/// The first cells of a row, as the parameters of a statement: for each the value in the same form, or nothing where it is missing.
pub(super) fn parameters(relation: &Relation, row: &[u8], cells: usize) -> Result<Vec<Parameter>, TooLarge> {
    let mut parameters = Vec::with_capacity(cells);
    relation.cells(row, |column, kind, cell| {
        if parameters.len() < cells {
            let mut bytes = Vec::new();
            value(kind, cell, &mut bytes).ok_or(TooLarge(column))?;
            // Behind its length.
            parameters.push(Parameter(bytes.get(4..).filter(|_| !matches!(cell, Cell::Null)).map(<[u8]>::to_vec)));
        }
        Ok(())
    })?;
    Ok(parameters)
}

/// A value as PostgreSQL takes it, of whatever type its column is.
#[derive(Debug)]
pub(super) struct Parameter(Option<Vec<u8>>);

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Appends a value; nothing where it is too large.
fn value(kind: Kind, cell: &Cell<'_>, out: &mut Vec<u8>) -> Option<()> {
    match cell {
        Cell::Null => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Cell::Day(day) => fixed(out, day.0.checked_sub(DAYS_BEFORE)?.to_be_bytes()),
        Cell::Time(moment) => fixed(out, moment.0.checked_sub(MICROS_BEFORE)?.to_be_bytes()),
        Cell::UInt(number) if kind == Kind::Id => numeric(out, *number),
        Cell::UInt(number) => fixed(out, i64::try_from(*number).ok()?.to_be_bytes()),
        Cell::Int(number) => fixed(out, number.to_be_bytes()),
        Cell::Float(number) => fixed(out, number.to_be_bytes()),
        Cell::Bool(truth) => fixed(out, [u8::from(*truth)]),
        Cell::Uuid(uuid) => fixed(out, uuid.into_bytes()),
        Cell::Text(text) => {
            // Most texts have neither, and are looked at once.
            if !text.contains(['\0', ZERO]) {
                return sized(out, text.as_bytes());
            }
            return sized(out, text.replace(ZERO, "\u{2400}\u{2400}").replace('\0', "\u{2400}0").as_bytes());
        }
    }
    Some(())
}

fn fixed<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    out.extend_from_slice(&[0, 0, 0, N.to_le_bytes()[0]]);
    out.extend_from_slice(&bytes);
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend_from_slice(&i32::try_from(bytes.len()).ok()?.to_be_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

/// Digits of base 10,000 behind: how many, the weight of the first, the sign, and how many decimal digits are behind the point.
fn numeric(out: &mut Vec<u8>, number: u64) {
    // As many as the largest number has, the last first.
    let mut digits = [0u16; 5];
    let (mut rest, mut count) = (number, 0u8);
    for digit in &mut digits {
        if rest == 0 {
            break;
        }
        *digit = u16::try_from(rest % 10_000).unwrap_or_default();
        rest /= 10_000;
        count += 1;
    }
    out.extend_from_slice(&[0, 0, 0, 8 + 2 * count, 0, count]);
    out.extend_from_slice(&(i16::from(count) - i16::from(count > 0)).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    digits.iter().take(count.into()).rev().for_each(|digit| out.extend_from_slice(&digit.to_be_bytes()));
}
