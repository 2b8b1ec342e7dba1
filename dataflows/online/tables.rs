//! The outputs: tables with their columns, charts, and how rows are written.

use crate::fleet::FleetSizes;
use crate::interval::{EndReason, Interval};
use retally_core::calendar::Day;
use retally_core::chart::{Chart, Layer, Mark, Series};
use retally_core::contract::Table;
use retally_core::ids::Ids;
use retally_core::row::{Column, ColumnType, Row};
use retally_core::time::Moment;

/// All tables.
pub fn tables(ids: Ids, sizes: &FleetSizes) -> Vec<Table> {
    use ColumnType::{Day, Float, Text, Time, UInt};
    let label = || ColumnType::Label(sizes.labels());
    let fleet = |about| {
        vec![
            Column::new("day", Day, "the day"),
            Column::new("fleet_size", label(), "how many devices the user had online"),
            Column::new("devices", UInt, about),
        ]
    };
    vec![
        Table::new(
            "online_daily",
            "unique online devices per day, by the size of their user's fleet that day",
            2,
            fleet("devices online that day"),
        ),
        Table::new(
            "online_rolling_28d",
            "the same over the 28 days that end with the day",
            2,
            fleet("devices online on any of the 28 days"),
        ),
        Table::new(
            "online_intervals",
            "the clean timeline: when each device was online",
            6,
            vec![
                Column::new("device_id", ids.number(), "the device"),
                Column::new("user_id", ids.number(), "its user"),
                Column::new("server_id", ids.number(), "its server"),
                Column::new("online_from", Time, "from when it was online"),
                Column::new("online_until", Time, "until when"),
                Column::new("end_reason", Text, "offline, reconnected, server_destroyed or still_online"),
            ],
        ),
        Table::new(
            "online_summary",
            "the fleet as a whole, for days on which a device was online",
            1,
            vec![
                Column::new("day", Day, "the day"),
                Column::new("devices", UInt, "distinct devices online that day, whoever their users"),
                Column::new("users", UInt, "users with a device online"),
                Column::new("online_hours", Float, "hours that devices were online, summed up over devices"),
                Column::new("new_devices", UInt, "devices that were online for the first time"),
            ],
        ),
        Table::new(
            "online_projection",
            "the next 28 days, from a line through the last 28 full days",
            2,
            vec![
                Column::new("day", Day, "the day"),
                Column::new("fleet_size", label(), "how many devices the user has online"),
                Column::new("devices", Float, "devices expected online"),
                Column::new("low", Float, "lower end of the 95 % prediction interval"),
                Column::new("high", Float, "its upper end"),
            ],
        ),
        Table::new(
            "online_issues",
            "events that are not as they should be",
            1,
            vec![Column::new("issue", Text, "what is wrong"), Column::new("events", UInt, "how many events")],
        ),
    ]
}

/// The table that has rows up to the day of as-of.
const ROLLING: &str = "online_rolling_28d";

/// All charts.
pub fn charts() -> Vec<Chart> {
    let areas = |table| Layer { table, x: "day", mark: Mark::StackedArea("devices"), series: Series::By("fleet_size"), days_before: None };
    let projection = |mark| Layer { table: "online_projection", x: "day", mark, series: Series::By("fleet_size"), days_before: None };
    let past = Layer { mark: Mark::Line("devices"), days_before: Some(28), ..areas("online_daily") };
    vec![
        Chart {
            name: "online_daily",
            title: "Online devices per day, by fleet size",
            y_label: "devices",
            layers: vec![areas("online_daily")],
            today: Some(ROLLING),
        },
        Chart {
            name: "online_rolling_28d",
            title: "Devices online in the last 28 days, by fleet size",
            y_label: "devices",
            layers: vec![areas(ROLLING)],
            today: Some(ROLLING),
        },
        Chart {
            name: "online_projection",
            title: "Online devices by fleet size: the last 28 days, and the next 28 with 95 % intervals",
            y_label: "devices per day",
            layers: vec![past, projection(Mark::Band("low", "high")), projection(Mark::Line("devices"))],
            today: Some(ROLLING),
        },
    ]
}

/// A row of `online_daily` or `online_rolling_28d`.
pub fn fleet_row(day: Day, bucket: u16, devices: i64) -> Row {
    Row::with_capacity(14).day(day).label(bucket).uint(devices.unsigned_abs())
}

/// A row of `online_intervals`.
pub fn interval_row(interval: &Interval, until: Moment, reason: EndReason) -> Row {
    let row = Row::with_capacity(60).uint(interval.device).uint(interval.user).uint(interval.server);
    row.time(interval.from).time(until).text(reason.name())
}

/// A row of `online_issues`.
pub fn issue_row(issue: &str, events: isize) -> Row {
    Row::with_capacity(32).text(issue).uint(events.unsigned_abs() as u64)
}
