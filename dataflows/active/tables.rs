//! The outputs: tables with their columns, the chart, and how rows are written.

use retally_core::calendar::Day;
use retally_core::chart::{Chart, Layer, Mark, Series};
use retally_core::contract::Table;
use retally_core::row::{Column, ColumnType, Row};

/// The table of users by day.
pub const DAILY: &str = "active_user_table";
/// The table of users by window.
pub const ROLLING: &str = "active_rolling";
/// The table of engagements that do not count, and of events that lack something.
pub const ISSUES: &str = "active_issues";

/// All tables.
pub fn tables() -> Vec<Table> {
    use ColumnType::{Day, Text, UInt};
    vec![
        Table::new(
            DAILY,
            "users who were active on a day",
            1,
            vec![Column::new("date", Day, "the day"), Column::new("active_user_count", UInt, "users active on it")],
        ),
        Table::new(
            ROLLING,
            "users who were active on any of the last days, from the first active day to the day of the latest event",
            2,
            vec![
                Column::new("date", Day, "the last of the days"),
                Column::new("window_days", UInt, "how many days: 7 or 28"),
                Column::new("active_user_count", UInt, "users active on any of them"),
            ],
        ),
        Table::new(
            ISSUES,
            "engagements that make nobody active, by the first reason that holds, and events that lack something",
            1,
            vec![
                Column::new("issue", Text, "engagement_missing, below_threshold, not_valuable; no_user, offset_missing"),
                Column::new("events", UInt, "how many events"),
            ],
        ),
    ]
}

/// The chart: a bar a day, and a line for each window.
pub fn charts() -> Vec<Chart> {
    let layer = |table, mark, series| Layer { table, x: "date", mark, series, days_before: None };
    vec![Chart {
        name: "active_users",
        title: "Active users per day, and on any of the last 7 and 28 days",
        y_label: "users",
        layers: vec![
            layer(DAILY, Mark::Bars("active_user_count"), Series::One("that day")),
            layer(ROLLING, Mark::Line("active_user_count"), Series::By("window_days")),
        ],
        today: None,
    }]
}

/// A row of [`DAILY`].
pub fn daily_row(day: Day, users: i64) -> Row {
    Row::with_capacity(12).day(day).uint(users.unsigned_abs())
}

/// A row of [`ROLLING`].
pub fn rolling_row(day: Day, window_days: u16, users: i64) -> Row {
    Row::with_capacity(20).day(day).uint(window_days.into()).uint(users.unsigned_abs())
}

/// A row of [`ISSUES`].
pub fn issue_row(issue: &str, events: isize) -> Row {
    Row::with_capacity(32).text(issue).uint(events.unsigned_abs() as u64)
}
