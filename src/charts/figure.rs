//! A chart's numbers: from the rows of its tables to what is drawn for each series.
//!
//! A series is known by its text. The same text has the same colour in all layers, whichever tables they come from,
//! and the series of a column of labels have the colour of their place among all labels, whether the others occur or not.
//! So `10-99` looks the same in every chart of a dataflow.

use super::ChartError;
use crate::tables::TableState;
use retally_core::calendar::Day;
use retally_core::chart::{Chart, Layer, Mark, Series};
use retally_core::row::{Column, ColumnType, Value, values};
use std::collections::BTreeMap;

/// What a mark covers on a day: from the first value to the second.
pub(super) type Span = (f64, f64);

/// How a layer is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Area,
    Bars,
    Line,
    Band,
}

/// What one layer draws.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Marks {
    pub(super) kind: Kind,
    /// For each series its place in the figure's list, and its days.
    pub(super) series: Vec<(usize, BTreeMap<Day, Span>)>,
}

/// All numbers of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figure {
    /// What series are called, by their place, which is also that of their colour.
    pub(super) names: Vec<String>,
    pub(super) layers: Vec<Marks>,
    /// Whether all values are counts.
    pub(super) counts: bool,
    /// The day of as-of, where it is known.
    pub(super) today: Option<Day>,
    /// What stands at the places of the horizontal axis, from day 0 on, where it has no days.
    pub(super) categories: Vec<String>,
}

/// More bars than these would have no room for their names; the others share one.
const CATEGORIES_MAX: usize = 8;

/// A series in its order: the place of its label or its number, then its text.
type Key = (u64, String);

impl Figure {
    /// Reads the tables, and puts areas and bars on top of one another. A table that is not there has no rows.
    pub(super) fn read<'t>(chart: &Chart, tables: &dyn Fn(&str) -> Option<&'t TableState>) -> Result<Figure, ChartError> {
        let mut figure = Figure::read_flat(chart, tables)?;
        // Areas stand on those of the layers before.
        let mut stack = BTreeMap::new();
        for layer in &mut figure.layers {
            match layer.kind {
                Kind::Area => pile(&mut layer.series, &mut stack),
                Kind::Bars => pile(&mut layer.series, &mut BTreeMap::new()),
                Kind::Line | Kind::Band => {}
            }
        }
        Ok(figure)
    }

    /// Reads the tables; each series has its own values. A layer whose table is not there is left out.
    pub(super) fn read_flat<'t>(chart: &Chart, tables: &dyn Fn(&str) -> Option<&'t TableState>) -> Result<Figure, ChartError> {
        let today = chart.today.and_then(tables).and_then(last_day);
        let mut figure = Figure { counts: true, today, ..Figure::default() };
        for layer in &chart.layers {
            let Some(state) = tables(layer.table) else { continue };
            if layer.mark == Mark::Count {
                figure.count(chart, layer, state)?;
                continue;
            }
            let columns = Columns::find(chart, layer, state)?;
            figure.counts &= columns.counts;
            let mut rows = columns.read(layer, state);
            if let Some(before) = layer.days_before {
                keep_days_before(&mut rows, today, before);
            }
            let kind = kind(&layer.mark);
            let series = rows.into_iter().map(|((_, name), days)| (figure.place(&name, &columns.labels), days)).collect();
            figure.layers.push(Marks { kind, series });
        }
        Ok(figure)
    }

    /// Counts rows by the values of a column.
    fn count(&mut self, chart: &Chart, layer: &Layer, state: &TableState) -> Result<(), ChartError> {
        let columns = &state.table().columns;
        let missing = ChartError::NoColumn { chart: chart.name, table: layer.table, column: layer.x, wanted: "values" };
        let column = columns.iter().position(|column| column.name == layer.x).ok_or(missing)?;
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for row in state.rows() {
            let value = values(columns, row).nth(column).filter(|value| *value != Value::Null);
            *counts.entry(value.map_or_else(|| "none".into(), |value| value.to_string())).or_default() += 1;
        }
        let mut counts: Vec<(String, u32)> = counts.into_iter().collect();
        // Equal ones stay in the order of their names.
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        if counts.len() > CATEGORIES_MAX {
            let others = counts.split_off(CATEGORIES_MAX - 1);
            counts.push((format!("{} others", others.len()), others.iter().map(|(_, count)| count).sum()));
        }
        let name = if let Series::One(name) = layer.series { name } else { layer.x };
        let place = self.place(name, &[]);
        let days = (0..).map(Day).zip(&counts).map(|(day, (_, count))| (day, (0.0, f64::from(*count)))).collect();
        self.layers.push(Marks { kind: Kind::Bars, series: vec![(place, days)] });
        self.categories = counts.into_iter().map(|(name, _)| name).collect();
        Ok(())
    }

    /// The place of a series; all labels of a column get theirs at once, in their order.
    fn place(&mut self, name: &str, labels: &[String]) -> usize {
        for label in labels.iter().map(String::as_str).chain([name]) {
            if !self.names.iter().any(|known| known == label) {
                self.names.push(label.into());
            }
        }
        self.names.iter().position(|known| known == name).unwrap_or(0)
    }

    /// The first and the last day with a mark.
    pub(super) fn days(&self) -> Option<(Day, Day)> {
        let series = || self.layers.iter().flat_map(|layer| &layer.series);
        let first = series().filter_map(|(_, days)| Some(*days.first_key_value()?.0)).min()?;
        let last = series().filter_map(|(_, days)| Some(*days.last_key_value()?.0)).max()?;
        Some((first, last))
    }

    /// The lowest and the highest value of the vertical axis, which starts at 0 unless lines alone run far from it.
    pub(super) fn range(&self) -> (f64, f64) {
        let spans = || self.layers.iter().flat_map(|layer| &layer.series).flat_map(|(_, days)| days.values());
        let low = spans().map(|(low, high)| low.min(*high)).fold(f64::INFINITY, f64::min);
        let high = spans().map(|(low, high)| low.max(*high)).fold(f64::NEG_INFINITY, f64::max);
        let stands_on_zero = self.layers.iter().any(|layer| matches!(layer.kind, Kind::Area | Kind::Bars));
        if !stands_on_zero && (low > 0.6 * high || high < 0.6 * low) { (low, high) } else { (low.min(0.0), high.max(0.0)) }
    }
}

/// The last day of a table, by its first column of days.
fn last_day(state: &TableState) -> Option<Day> {
    let columns = &state.table().columns;
    let column = columns.iter().position(|column| column.kind == ColumnType::Day)?;
    let day = |row| if let Some(Value::Day(day)) = values(columns, row).nth(column) { Some(day) } else { None };
    state.rows().filter_map(day).max()
}

/// Leaves so many days before `today`; or the last ones, where that is not known.
fn keep_days_before(rows: &mut BTreeMap<Key, BTreeMap<Day, Span>>, today: Option<Day>, before: i32) {
    let last = || rows.values().filter_map(|days| days.last_key_value()).map(|(day, _)| day.plus(1)).max();
    let Some(end) = today.or_else(last) else { return };
    rows.values_mut().for_each(|days| days.retain(|day, _| (end.plus(-before)..end).contains(day)));
}

fn kind(mark: &Mark) -> Kind {
    match mark {
        Mark::StackedArea(_) => Kind::Area,
        Mark::Bars(_) | Mark::Count => Kind::Bars,
        Mark::Line(_) => Kind::Line,
        Mark::Band(..) => Kind::Band,
    }
}

/// Puts each series on top of those before, and of what `stack` holds. A day without a row, from the first day
/// of any series here to the last, counts as 0.
fn pile(series: &mut [(usize, BTreeMap<Day, Span>)], stack: &mut BTreeMap<Day, f64>) {
    let first = series.iter().filter_map(|(_, days)| days.first_key_value()).map(|(day, _)| day.0).min();
    let last = series.iter().filter_map(|(_, days)| days.last_key_value()).map(|(day, _)| day.0).max();
    let (Some(first), Some(last)) = (first, last) else { return };
    for (_, days) in series {
        for day in (first..=last).map(Day) {
            let base = stack.entry(day).or_insert(0.0);
            let value = days.get(&day).map_or(0.0, |(_, value)| *value);
            days.insert(day, (*base, *base + value));
            *base += value;
        }
    }
}

/// Where a layer's columns stand in its table.
struct Columns {
    day: usize,
    low: usize,
    high: usize,
    series: Option<usize>,
    /// The labels of the column that tells series apart, where it is one of labels.
    labels: Vec<String>,
    counts: bool,
}

impl Columns {
    fn find(chart: &Chart, layer: &Layer, state: &TableState) -> Result<Columns, ChartError> {
        let columns = &state.table().columns;
        let find = |name: &'static str, wanted: &'static str, fits: fn(&ColumnType) -> bool| {
            let found = columns.iter().enumerate().find(|(_, column)| column.name == name && fits(&column.kind));
            found.ok_or(ChartError::NoColumn { chart: chart.name, table: layer.table, column: name, wanted })
        };
        let number = |name| find(name, "numbers", |kind| matches!(kind, ColumnType::UInt | ColumnType::Int | ColumnType::Float));
        let (low, high) = match layer.mark {
            Mark::StackedArea(value) | Mark::Bars(value) | Mark::Line(value) => (number(value)?, number(value)?),
            Mark::Band(low, high) => (number(low)?, number(high)?),
            // Counts have no columns of numbers, and are read on their own.
            Mark::Count => (number(layer.x)?, number(layer.x)?),
        };
        let series = match layer.series {
            Series::By(name) => Some(find(name, "values", |_| true)?),
            Series::One(_) => None,
        };
        let whole = |column: &Column| column.kind != ColumnType::Float;
        Ok(Columns {
            day: find(layer.x, "days", |kind| *kind == ColumnType::Day)?.0,
            low: low.0,
            high: high.0,
            series: series.map(|(place, _)| place),
            labels: match series.map(|(_, column)| &column.kind) {
                Some(ColumnType::Label(labels)) => labels.to_vec(),
                _ => Vec::new(),
            },
            counts: whole(low.1) && whole(high.1),
        })
    }

    /// Each series in order. Rows of the same series and day are added up; one without a day or a value is left out.
    fn read(&self, layer: &Layer, state: &TableState) -> BTreeMap<Key, BTreeMap<Day, Span>> {
        let mut series: BTreeMap<Key, BTreeMap<Day, Span>> = BTreeMap::new();
        for row in state.rows() {
            let row: Vec<Value> = values(&state.table().columns, row).collect();
            let day = match row.get(self.day) {
                Some(Value::Day(day)) => *day,
                _ => continue,
            };
            let (Some(low), Some(high)) = (row.get(self.low).and_then(number), row.get(self.high).and_then(number)) else { continue };
            let key = match (&layer.series, self.series.and_then(|column| row.get(column))) {
                (Series::One(name), _) => (0, (*name).to_string()),
                (Series::By(_), value) => self.key(value.unwrap_or(&Value::Null)),
            };
            let span = series.entry(key).or_default().entry(day).or_insert((0.0, 0.0));
            *span = (span.0 + low, span.1 + high);
        }
        series
    }

    fn key(&self, value: &Value) -> Key {
        let place = match value {
            Value::UInt(number) => *number,
            Value::Int(number) => number.cast_unsigned() ^ (1 << 63),
            Value::Text(text) => self.labels.iter().position(|label| label == text).map_or(0, |place| place as u64),
            _ => 0,
        };
        let name = if *value == Value::Null { "none".into() } else { value.to_string() };
        (place, name)
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::UInt(number) => Some(*number as f64),
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}
