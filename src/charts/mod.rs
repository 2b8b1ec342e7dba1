//! Charts of tables, as SVG and PNG files, and of single keys, a file each.
//!
//! Three steps: the chart and its tables become numbers (`figure`), plotters draws the numbers as an SVG document
//! (`layout`), and resvg makes pixels of that very document (`png`), so that the two files cannot look different.
//! Pictures of single keys (`picture`, `timeline`) go the same way. The same rows give the same bytes.
//!
//! # Limits
//! A mark a day, so a picture of decades is a large file. Colours come again after eight series. The embedded font
//! has Latin, Greek and Cyrillic letters; others are boxes in the PNG file (SVG viewers have fonts of their own).

mod axis;
mod clock;
mod colors;
mod figure;
mod layout;
mod names;
mod numbers;
mod picture;
mod png;
mod text;
mod timeline;

pub use numbers::{LayerNumbers, Numbers, SeriesNumbers, numbers};

use crate::staged::{Staged, sweep, why};
use crate::tables::{TableState, Tables};
use figure::Figure;
use picture::Picture;
use retally_core::calendar::Calendar;
use retally_core::chart::Chart;
use retally_core::contract::Graph;
use retally_core::key_chart::KeyChart;
use std::io;
use std::path::{Path, PathBuf};

/// Why a chart was not drawn.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The chart and its table do not fit together: a mistake in the dataflow.
    #[error("could not draw chart {chart:?}: table {table:?} has no column {column:?} of {wanted}")]
    NoColumn {
        /// The chart.
        chart: &'static str,
        /// The table that a layer reads.
        table: &'static str,
        /// The column it looks for.
        column: &'static str,
        /// What the column should hold.
        wanted: &'static str,
    },
    /// A file could not be written. Nothing half-written is left.
    #[error("could not write chart {path:?}: {}", why(cause))]
    Write {
        /// The file, or the directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        cause: io::Error,
    },
}

/// Draws the charts of a graph whose tables were built. Returns the files.
pub fn draw_all(graph: &dyn Graph, tables: &Tables, dir: &Path) -> Result<Vec<PathBuf>, ChartError> {
    sweep(dir);
    let mut files = Vec::new();
    let charts = graph.charts();
    for chart in &charts {
        if chart.can_be_drawn(|table| tables.get(table).is_some()) {
            files.extend(draw(chart, &|name| tables.get(name), dir)?);
        }
    }
    let taken: Vec<&str> = charts.iter().map(|chart| chart.name).collect();
    for chart in graph.key_charts() {
        if let Some(pieces) = tables.pieces_of(&chart) {
            files.extend(draw_keys(&chart, pieces, &graph.calendar(), &taken, dir)?);
        }
    }
    Ok(files)
}

/// Draws a chart into `<name>.svg` and `<name>.png` in `dir`, which is created where it is missing. Returns their paths.
///
/// A table that `tables` does not know (it was not asked for) has no rows; a chart without any rows states it.
pub fn draw<'t>(chart: &Chart, tables: &dyn Fn(&str) -> Option<&'t TableState>, dir: &Path) -> Result<Vec<PathBuf>, ChartError> {
    let figure = Figure::read(chart, tables)?;
    write(dir, chart.name, layout::svg(chart, &figure))
}

/// Draws the chosen keys of a table of pieces into a file each, in `dir`; `taken` are the names of other charts there. Returns their paths.
pub fn draw_keys(
    chart: &KeyChart,
    pieces: &TableState,
    calendar: &Calendar,
    taken: &[&str],
    dir: &Path,
) -> Result<Vec<PathBuf>, ChartError> {
    let pictures = picture::read(pieces);
    let keys = pictures.iter().map(|picture| (picture.name.as_str(), picture.id.as_str()));
    let files = names::file_names(keys, taken);
    let draw = |(picture, name): (&Picture, &String)| write(dir, name, timeline::svg(chart, picture, calendar));
    let drawn: Vec<_> = pictures.iter().zip(&files).map(draw).collect::<Result<_, _>>()?;
    Ok(drawn.concat())
}

/// The keys that were asked for and are not there, and the names and ids of all that are.
pub fn missing_keys(chart: &KeyChart, pieces: &TableState) -> (Vec<String>, Vec<String>) {
    let (known, found) = picture::known(pieces);
    let missing = chart.asked.iter().filter(|asked| !found.contains(*asked)).cloned().collect();
    (missing, known)
}

/// Writes a document and its picture.
fn write(dir: &Path, name: &str, document: layout::Drawn<String>) -> Result<Vec<PathBuf>, ChartError> {
    let path = |extension: &str| dir.join(format!("{name}.{extension}"));
    let (svg_path, png_path) = (path("svg"), path("png"));
    std::fs::create_dir_all(dir).map_err(|cause| ChartError::Write { path: dir.into(), cause })?;
    let document = document.map_err(|error| ChartError::Write { path: svg_path.clone(), cause: io::Error::other(error) })?;
    let picture = png::picture(&document).map_err(|cause| ChartError::Write { path: png_path.clone(), cause })?;
    let svg = stage(svg_path, document.as_bytes())?;
    let png = stage(png_path, &picture)?;
    [svg, png].into_iter().map(publish).collect()
}

fn stage(path: PathBuf, bytes: &[u8]) -> Result<Staged, ChartError> {
    Staged::of(&path, bytes).map_err(|cause| ChartError::Write { path, cause })
}

fn publish(staged: Staged) -> Result<PathBuf, ChartError> {
    let path = staged.path().to_path_buf();
    staged.publish().map_err(|cause| ChartError::Write { path, cause })
}

#[cfg(test)]
mod keys_tests;
#[cfg(test)]
mod tests;
