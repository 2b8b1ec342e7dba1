//! A table for the terminal: a title, a head of rows, and how many more there are.
//!
//! Spaces between the columns, one rule, and no colours, so that it reads the same in a file or a mail. Values are
//! written as in CSV files; what could break a line or steer a terminal is escaped.

use super::terminal::{escaped, steers};
use crate::numbers::grouped;
use crate::tables::TableState;
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use retally_core::row::{Column, ColumnType, values};

/// Characters of a text that are shown: one cell should not push all others away.
const TEXT_CHARS_MAX: usize = 60;

const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The table's name and number of rows, and at most `rows_max` of its rows, within `width` characters where that is given.
///
/// Ends with a line feed.
pub fn render(state: &TableState, rows_max: usize, width: Option<usize>) -> String {
    let table = state.table();
    let is_number = |column: &Column| matches!(column.kind, ColumnType::UInt | ColumnType::Id | ColumnType::Int | ColumnType::Float);
    let columns: Vec<(&str, bool)> = table.columns.iter().map(|column| (column.name, is_number(column))).collect();
    let shown = state.rows().take(rows_max).map(|row| values(&table.columns, row).map(|value| value.to_string()).collect());
    render_cells(table.name, &columns, shown, state.len(), width)
}

/// The same of rows of text: the first of them, and how many there are. Of each column it is said whether it has numbers.
pub fn render_cells(
    name: &str,
    columns: &[(&str, bool)],
    shown: impl Iterator<Item = Vec<String>>,
    rows: u64,
    width: Option<usize>,
) -> String {
    let mut text = format!("{}: {}\n", escaped(name), counted(rows));
    let mut more = rows;
    let head = head(columns, shown.inspect(|_| more -= 1), width);
    if more < rows {
        head.trim_fmt().lines().for_each(|line| {
            text.push_str(line);
            text.push('\n');
        });
        if more > 0 {
            text.push_str(&format!("… {} more {}\n", grouped(&more.to_string()), if more == 1 { "row" } else { "rows" }));
        }
    }
    text
}

fn counted(rows: u64) -> String {
    match rows {
        0 => "no rows".into(),
        1 => "1 row".into(),
        _ => format!("{} rows", grouped(&rows.to_string())),
    }
}

fn head(columns: &[(&str, bool)], rows: impl Iterator<Item = Vec<String>>, width: Option<usize>) -> Table {
    let mut head = Table::new();
    // A width is ours to know: otherwise the same table would look different in a terminal and in a file.
    head.force_no_tty().load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        head.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    head.set_header(columns.iter().map(|(name, _)| Cell::new(escaped(name))));
    for row in rows {
        head.add_row(row.iter().map(|value| Cell::new(shown_value(value))));
    }
    let last = columns.len().saturating_sub(1);
    for (place, (shown, (_, is_number))) in head.column_iter_mut().zip(columns).enumerate() {
        shown.set_padding((0, if place < last { 1 } else { 0 }));
        if *is_number {
            shown.set_cell_alignment(CellAlignment::Right);
        }
    }
    head
}

/// A text as it may be shown: shortened, and with nothing that could steer a terminal or turn the order of what stands beside it.
pub fn shown_value(text: &str) -> String {
    let mut shown = String::new();
    for (place, character) in text.chars().enumerate() {
        match character {
            _ if place == TEXT_CHARS_MAX => {
                shown.push('…');
                break;
            }
            control if steers(control) => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use retally_core::calendar::Day;
    use retally_core::contract;
    use retally_core::row::{Column, Row, batches};

    fn sample(rows: u64) -> TableState {
        let columns = vec![
            Column::new("day", ColumnType::Day, ""),
            Column::new("school", ColumnType::Text, ""),
            Column::new("devices", ColumnType::UInt, ""),
            Column::nullable("hours", ColumnType::Float, ""),
        ];
        let mut state = TableState::new(contract::Table::new("school_daily", "", 2, columns));
        let row = |number: u64| {
            let row = Row::default()
                .day(Day::from_civil(2026, 3, 1))
                .text(["Süd", "a\nb \u{1b}[31m"][usize::from(number % 2 == 1)])
                .uint(number * 7);
            row.optional((number != 1).then_some(number as f64 / 2.0), Row::float)
        };
        state.apply(batches((0..rows).map(|number| (row(number), 1)).collect()));
        state
    }

    #[test]
    fn a_small_table_is_shown_whole() {
        let expected = "\
school_daily: 3 rows
day         school           devices  hours
───────────────────────────────────────────
2026-03-01  Süd                    0      0
2026-03-01  Süd                   14      1
2026-03-01  a\\nb \\u{1b}[31m        7
";
        assert_eq!(render(&sample(3), 10, None), expected);
    }

    #[test]
    fn a_large_table_is_a_head_and_a_count() {
        let text = render(&sample(12_347), 2, None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[5]), (6, "school_daily: 12,347 rows", "… 12,345 more rows"));
        assert!(render(&sample(2), 1, None).ends_with("\n… 1 more row\n"));
    }

    #[test]
    fn an_empty_table_is_a_line() {
        assert_eq!(render(&sample(0), 10, Some(80)), "school_daily: no rows\n");
        assert_eq!(render(&sample(1), 0, Some(80)), "school_daily: 1 row\n");
    }

    #[test]
    fn lines_keep_within_the_width() {
        for width in [24, 30, 40] {
            let text = render(&sample(4), 10, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        }
    }
}
