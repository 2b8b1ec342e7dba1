//! A chart's numbers without a picture: for whoever draws it elsewhere.

use super::ChartError;
use super::figure::{Figure, Kind};
use crate::tables::TableState;
use retally_core::chart::{Chart, Mark, Series};
use serde::Serialize;

/// The numbers of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// The name of the chart.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What the vertical axis counts.
    pub y_label: &'static str,
    /// The names of all series, by their place, which is that of their colour.
    pub names: Vec<String>,
    /// Whether all values are counts.
    pub counts: bool,
    /// The day of as-of, where it is known: it is not over.
    pub today: Option<String>,
    /// What stands at the places of the horizontal axis, where it has no days.
    pub categories: Vec<String>,
    /// The layers, from back to front.
    pub layers: Vec<LayerNumbers>,
}

/// The numbers of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerNumbers {
    /// `area`, `bars`, `line` or `band`.
    pub kind: &'static str,
    /// The table that they come from.
    pub table: &'static str,
    /// Its column of days, or the one whose values are counted.
    pub x: &'static str,
    /// The column that tells series apart, where there is one.
    pub by: Option<&'static str>,
    /// Its columns of values.
    pub columns: Vec<&'static str>,
    /// The series.
    pub series: Vec<SeriesNumbers>,
}

/// A series: its place among the names, and a day (or a place among the categories) with a value each; of bands, from where to where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesNumbers {
    /// Its place among the names.
    pub place: usize,
    /// The days, each once, in order.
    pub days: Vec<String>,
    /// The value of each day; of a band the lower end.
    pub values: Vec<f64>,
    /// Of a band the upper ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub highs: Vec<f64>,
}

/// Reads the numbers of a chart. A table that is not there has no rows. Values are not put on top of one another.
///
/// # Errors
/// A table has not the columns that the chart draws.
pub fn numbers<'t>(chart: &Chart, tables: &dyn Fn(&str) -> Option<&'t TableState>) -> Result<Numbers, ChartError> {
    let figure = Figure::read_flat(chart, tables)?;
    let has_days = figure.categories.is_empty();
    let there = chart.layers.iter().filter(|layer| tables(layer.table).is_some());
    let layers = there.zip(&figure.layers).map(|(layer, marks)| {
        let series = marks.series.iter().map(|(place, days)| SeriesNumbers {
            place: *place,
            days: days.keys().map(|day| if has_days { day.to_string() } else { day.0.to_string() }).collect(),
            values: days.values().map(|(low, high)| if marks.kind == Kind::Band { *low } else { *high }).collect(),
            highs: days.values().filter(|_| marks.kind == Kind::Band).map(|(_, high)| *high).collect(),
        });
        LayerNumbers {
            kind: match marks.kind {
                Kind::Area => "area",
                Kind::Bars => "bars",
                Kind::Line => "line",
                Kind::Band => "band",
            },
            table: layer.table,
            x: layer.x,
            by: if let Series::By(column) = layer.series { Some(column) } else { None },
            columns: match layer.mark {
                Mark::StackedArea(value) | Mark::Bars(value) | Mark::Line(value) => vec![value],
                Mark::Band(low, high) => vec![low, high],
                Mark::Count => Vec::new(),
            },
            series: series.collect(),
        }
    });
    Ok(Numbers {
        name: chart.name,
        title: chart.title,
        y_label: chart.y_label,
        counts: figure.counts,
        today: figure.today.map(|day| day.to_string()),
        layers: layers.collect(),
        categories: figure.categories.clone(),
        names: figure.names.clone(),
    })
}
