//! Charts of tables, as SVG and PNG files.
//!
//! Three steps: the chart and its tables become numbers (`figure`), plotters draws the numbers as an SVG document
//! (`layout`), and resvg makes pixels of that very document (`png`), so that the two files cannot look different.
//! The same rows give the same bytes.
//!
//! # Limits
//! A mark a day, so a picture of decades is a large file. Colours come again after eight series. The embedded font
//! has Latin, Greek and Cyrillic letters; others are boxes in the PNG file (SVG viewers have fonts of their own).

mod axis;
mod colors;
mod figure;
mod layout;
mod png;
mod text;

use crate::engine::table::TableState;
use crate::sinks::staged::{Staged, why};
use figure::Figure;
use retally_core::chart::Chart;
use std::io::{self, Write};
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
        cause: io::Error,
    },
}

/// Draws a chart into `<name>.svg` and `<name>.png` in `dir`, which is created where it is missing. Answers their paths.
///
/// A table that `tables` does not know (it was not asked for) has no rows; a chart without any rows says so.
pub fn draw<'t>(chart: &Chart, tables: &dyn Fn(&str) -> Option<&'t TableState>, dir: &Path) -> Result<Vec<PathBuf>, ChartError> {
    let figure = Figure::read(chart, tables)?;
    let path = |extension: &str| dir.join(format!("{}.{extension}", chart.name));
    let (svg_path, png_path) = (path("svg"), path("png"));
    std::fs::create_dir_all(dir).map_err(|cause| ChartError::Write { path: dir.into(), cause })?;
    let document =
        layout::svg(chart, &figure).map_err(|error| ChartError::Write { path: svg_path.clone(), cause: io::Error::other(error) })?;
    let picture = png::picture(&document).map_err(|cause| ChartError::Write { path: png_path.clone(), cause })?;
    let svg = stage(svg_path, document.as_bytes())?;
    let png = stage(png_path, &picture)?;
    [svg, png].into_iter().map(publish).collect()
}

fn stage(path: PathBuf, bytes: &[u8]) -> Result<Staged, ChartError> {
    let write = || {
        let mut staged = Staged::create(&path)?;
        staged.file().write_all(bytes)?;
        staged.sync()?;
        Ok(staged)
    };
    write().map_err(|cause| ChartError::Write { path: path.clone(), cause })
}

fn publish(staged: Staged) -> Result<PathBuf, ChartError> {
    let path = staged.path().to_path_buf();
    staged.publish().map_err(|cause| ChartError::Write { path, cause })
}

#[cfg(test)]
mod tests;
