//! The picture of a chart: a sheet with title, plot and legend, drawn by plotters as an SVG document.
//!
//! Plotters places the marks and draws grid, axes and series. Title and legend are placed here: its caption stands in
//! the middle, and its legend lies over the data. Here the legend has a column of its own on the right.
//!
//! Plotters rounds to whole units. A unit is a tenth of a point, so that no rounding is seen.

use super::axis;
use super::colors::{AXIS, GREY, INK, OkabeIto};
use super::figure::{Figure, Kind, Marks, Span};
use super::text::{fitted, style, width};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    AreaSeries, Cartesian2d, ChartBuilder, ChartContext, Circle, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, LabelAreaPosition,
    LineSeries, PathElement, Polygon, Rectangle, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, Palette, TRANSPARENT, WHITE};
use retally_core::calendar::Day;
use retally_core::chart::Chart;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// A point (a pixel of a plain screen) in units; so are all lengths here.
pub(super) const POINT: i32 = 10;
pub(super) const WIDTH: i32 = 1200 * POINT;
pub(super) const HEIGHT: i32 = 600 * POINT;
pub(super) const MARGIN: i32 = 28 * POINT;
const Y_LABEL_TOP: i32 = 62 * POINT;
const PLOT_TOP: i32 = 96 * POINT;
const PLOT_BOTTOM: i32 = 552 * POINT;
pub(super) const DATE_GAP: i32 = 14 * POINT;
pub(super) const TITLE_SIZE: f64 = 220.0;
pub(super) const TEXT_SIZE: f64 = 130.0;
const HAIRLINE: u32 = POINT.cast_unsigned();
const LINE_WIDTH: u32 = 22;
/// Between an axis and its texts, and a swatch and its text.
pub(super) const GAP: i32 = 10 * POINT;
pub(super) const LEGEND_GAP: i32 = 24 * POINT;
pub(super) const LEGEND_LINE: i32 = 24 * POINT;
/// From a swatch's top: its text stands at its middle.
pub(super) const LEGEND_TEXT_TOP: i32 = 16;
pub(super) const LEGEND_TEXT_MAX: i32 = 200 * POINT;
const LEGEND_ENTRIES_MAX: usize = 19;
pub(super) const SWATCH: i32 = 14 * POINT;
/// How strong bars are that lines run over.
const PALE: f64 = 0.45;
/// How strong bands are.
const BAND: f64 = 0.22;

pub(super) type Sheet<'s> = DrawingArea<SVGBackend<'s>, Shift>;
/// Days, counted as `Day` counts them, and values.
pub(super) type Plot<'s> = ChartContext<'s, SVGBackend<'s>, Cartesian2d<Scale, Scale>>;
pub(super) type Drawn<T> = Result<T, DrawingAreaErrorKind<io::Error>>;

/// An axis with marks at places of our own.
pub(super) struct Scale {
    pub(super) range: RangedCoordf64,
    pub(super) marks: Vec<(f64, String)>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let marks = if hint.weight().allow_light_points() { &[] } else { self.marks.as_slice() };
        marks.iter().map(|(place, _)| *place).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        self.marks.iter().find(|(place, _)| place == value).map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

/// The document.
pub(super) fn svg(chart: &Chart, figure: &Figure) -> Drawn<String> {
    document(|sheet| draw(sheet, chart, figure))
}

/// A document with what is drawn on its sheet.
pub(super) fn document(draw: impl FnOnce(&Sheet) -> Drawn<()>) -> Drawn<String> {
    // Plotters' element, which closes when its sheet is dropped, stands in one that shows it at its size in points, and
    // that says how all lines end and bend.
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         stroke-linecap=\"round\" stroke-linejoin=\"round\">\n",
        WIDTH / POINT,
        HEIGHT / POINT,
    );
    let size = (WIDTH.cast_unsigned(), HEIGHT.cast_unsigned());
    draw(&SVGBackend::with_string(&mut svg, size).into_drawing_area())?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn draw(sheet: &Sheet, chart: &Chart, figure: &Figure) -> Drawn<()> {
    sheet.fill(&WHITE)?;
    sheet.draw_text(&fitted(chart.title, TITLE_SIZE, WIDTH - 2 * MARGIN), &style(TITLE_SIZE, INK), (MARGIN, MARGIN))?;
    let Some((first, last)) = figure.days() else {
        let style = style(TITLE_SIZE, GREY).pos(Pos::new(HPos::Center, VPos::Center));
        return sheet.draw_text("no data", &style, (WIDTH / 2, HEIGHT / 2));
    };
    sheet.draw_text(chart.y_label, &style(TEXT_SIZE, GREY), (MARGIN, Y_LABEL_TOP))?;

    let legend = legend(figure);
    let (low, high) = figure.range();
    let values = axis::values(low, high, figure.counts);
    let left = widest(values.marks.iter().map(|(_, text)| text)) + GAP;
    let right = LEGEND_GAP + SWATCH + GAP + widest(legend.iter().map(|entry| &entry.name)) + MARGIN;
    let room = WIDTH - MARGIN - left - right;
    let dates = if figure.categories.is_empty() {
        axis::days(first, last, f64::from(room), |marks| f64::from(widest(marks.iter().map(|(_, text)| text)) + DATE_GAP))
    } else {
        let slot = room / i32::try_from(figure.categories.len()).unwrap_or(i32::MAX).max(3) - GAP;
        (0..).map(Day).zip(figure.categories.iter().map(|name| fitted(name, TEXT_SIZE, slot))).collect()
    };
    let dates: Vec<_> = dates.into_iter().map(|(day, text)| (middle(day), text)).collect();
    // Very few days stand in the middle, as wide as a third of the plot at most.
    let pad = if last.0 - first.0 < 2 { 1 } else { 0 };
    let days = f64::from(first.0 - pad)..f64::from(last.0 + 1 + pad);
    let x = Scale { range: days.into(), marks: dates };
    let y = Scale { range: (values.low..values.high).into(), marks: values.marks };
    let mut plot = ChartBuilder::on(sheet)
        .margin_top(PLOT_TOP)
        .margin_left(MARGIN)
        .margin_right(right)
        .x_label_area_size(HEIGHT - PLOT_BOTTOM)
        .y_label_area_size(left)
        .build_cartesian_2d(x, y)?;
    // Filled shapes lie under the grid, so that values can be read off, and lines lie over it.
    let over = figure.layers.iter().position(|layer| matches!(layer.kind, Kind::Line | Kind::Band)).unwrap_or(figure.layers.len());
    let (fills, lines) = figure.layers.split_at(over);
    fills.iter().try_for_each(|layer| draw_layer(&mut plot, figure, layer))?;
    draw_axes(&mut plot)?;
    lines.iter().try_for_each(|layer| draw_layer(&mut plot, figure, layer))?;
    if let Some(today) = figure.today.filter(|today| (first..=last).contains(today)) {
        mark_today(sheet, &mut plot, today)?;
    }
    draw_legend(sheet, &legend, WIDTH - right + LEGEND_GAP)
}

pub(super) fn widest<'t>(texts: impl Iterator<Item = &'t String>) -> i32 {
    texts.map(|text| width(text, TEXT_SIZE)).max().unwrap_or(0)
}

fn middle(day: Day) -> f64 {
    f64::from(day.0) + 0.5
}

pub(super) fn draw_axes(plot: &mut Plot) -> Drawn<()> {
    // In two steps, as plotters has one style for both axes; that of values is not drawn but for its texts, which
    // stand two ticks away from the plot.
    plot.configure_mesh()
        .bold_line_style(INK.mix(0.1).stroke_width(HAIRLINE))
        .axis_style(TRANSPARENT)
        .label_style(style(TEXT_SIZE, GREY))
        .set_tick_mark_size(LabelAreaPosition::Left, GAP / 2)
        .y_label_offset(POINT)
        .disable_x_mesh()
        .disable_x_axis()
        .draw()?;
    plot.configure_mesh()
        .bold_line_style(INK.mix(0.05).stroke_width(HAIRLINE))
        .axis_style(AXIS.stroke_width(HAIRLINE))
        .label_style(style(TEXT_SIZE, GREY))
        .set_tick_mark_size(LabelAreaPosition::Bottom, 6 * POINT)
        .disable_y_mesh()
        .disable_y_axis()
        .draw()?;
    let (days, values) = (plot.plotting_area().get_x_range(), plot.plotting_area().get_y_range());
    if values.start < 0.0 && values.end > 0.0 {
        plot.draw_series(LineSeries::new([(days.start, 0.0), (days.end, 0.0)], AXIS.stroke_width(HAIRLINE)))?;
    }
    Ok(())
}

/// Marks the beginning of the day of as-of, of which only a part is there.
fn mark_today(sheet: &Sheet, plot: &mut Plot, today: Day) -> Drawn<()> {
    let (days, values) = (plot.plotting_area().get_x_range(), plot.plotting_area().get_y_range());
    let start = f64::from(today.0);
    plot.draw_series(LineSeries::new([(start, values.start), (start, values.end)], INK.mix(0.5).stroke_width(HAIRLINE)))?;
    let (x, _) = plot.backend_coord(&(start, values.end));
    // Towards the side that has more room.
    let side = if start - days.start > days.end - start { HPos::Right } else { HPos::Left };
    let style = style(TEXT_SIZE, GREY).pos(Pos::new(side, VPos::Bottom));
    sheet.draw_text(&format!("as of {today}, not over"), &style, (x, PLOT_TOP - GAP / 2))
}

fn draw_layer(plot: &mut Plot, figure: &Figure, layer: &Marks) -> Drawn<()> {
    // Each area reaches down to the ground, and those before it in the stack are drawn over it: two areas that
    // merely touch would let the paper shine through between them.
    for (place, days) in layer.series.iter().rev() {
        let color = OkabeIto::pick(*place).mix(opacity(figure, layer));
        match layer.kind {
            Kind::Area => plot.draw_series(AreaSeries::new(edge(days), 0.0, color))?,
            Kind::Bars => plot.draw_series(AreaSeries::new(bars(plot, days), 0.0, color))?,
            Kind::Band => plot.draw_series(runs(days).iter().map(|run| Polygon::new(band(run), color)))?,
            Kind::Line => {
                let (alone, joined): (Vec<_>, Vec<_>) = runs(days).into_iter().partition(|run| run.len() == 1);
                let high = |(day, (_, high)): (Day, Span)| (middle(day), high);
                plot.draw_series(alone.into_iter().flatten().map(|day| Circle::new(high(day), LINE_WIDTH * 3 / 2, color.filled())))?;
                let path = |run: Vec<_>| PathElement::new(run.into_iter().map(high).collect::<Vec<_>>(), color.stroke_width(LINE_WIDTH));
                plot.draw_series(joined.into_iter().map(path))?
            }
        };
    }
    Ok(())
}

fn opacity(figure: &Figure, layer: &Marks) -> f64 {
    let lines = figure.layers.iter().any(|other| other.kind == Kind::Line);
    match layer.kind {
        Kind::Bars if lines && layer.series.len() == 1 => PALE,
        Kind::Band => BAND,
        Kind::Area | Kind::Bars | Kind::Line => 1.0,
    }
}

/// Days that follow one another.
fn runs(days: &BTreeMap<Day, Span>) -> Vec<Vec<(Day, Span)>> {
    let days: Vec<_> = days.iter().map(|(day, span)| (*day, *span)).collect();
    days.chunk_by(|(before, _), (after, _)| before.plus(1) == *after).map(<[_]>::to_vec).collect()
}

/// The upper edge of an area, from the start of the first day to the end of the last.
fn edge(days: &BTreeMap<Day, Span>) -> Vec<(f64, f64)> {
    let start = days.first_key_value().map(|(day, (_, high))| (middle(*day) - 0.5, *high));
    let end = days.last_key_value().map(|(day, (_, high))| (middle(*day) + 0.5, *high));
    let middles = days.iter().map(|(day, (_, high))| (middle(*day), *high));
    start.into_iter().chain(middles).chain(end).collect()
}

/// The upper edge of bars, which goes down to the ground between them.
fn bars(plot: &Plot, days: &BTreeMap<Day, Span>) -> Vec<(f64, f64)> {
    let range = plot.plotting_area().get_x_range();
    let slot = f64::from(plot.plotting_area().dim_in_pixel().0) / (range.end - range.start);
    // Thin bars touch: gaps narrower than a pixel would make stripes that are not in the data.
    let half = if slot < f64::from(4 * POINT) { 0.5 } else { 0.38 };
    let corners = |(day, (_, high)): (&Day, &Span)| {
        let (start, end) = (middle(*day) - half, middle(*day) + half);
        [(start, 0.0), (start, *high), (end, *high), (end, 0.0)]
    };
    days.iter().flat_map(corners).collect()
}

/// Between the lower and the upper values; a day alone is as wide as most of its slot.
fn band(run: &[(Day, Span)]) -> Vec<(f64, f64)> {
    if let [(day, (low, high))] = run {
        let (start, end) = (middle(*day) - 0.4, middle(*day) + 0.4);
        return vec![(start, *high), (end, *high), (end, *low), (start, *low)];
    }
    let upper = run.iter().map(|(day, (_, high))| (middle(*day), *high));
    let lower = run.iter().rev().map(|(day, (low, _))| (middle(*day), *low));
    upper.chain(lower).collect()
}

/// A line of the legend.
struct Entry {
    name: String,
    place: usize,
    /// How each layer draws it, and how strong.
    layers: Vec<(Kind, f64)>,
}

impl Entry {
    fn is_area(&self) -> bool {
        self.layers.iter().any(|(kind, _)| *kind == Kind::Area)
    }
}

/// The series that are there, areas from the top of the stack down, as the reader sees them.
fn legend(figure: &Figure) -> Vec<Entry> {
    let drawn = |place: usize| {
        let layers = figure.layers.iter().filter(move |layer| layer.series.iter().any(|(of, days)| *of == place && !days.is_empty()));
        layers.map(|layer| (layer.kind, opacity(figure, layer))).collect::<Vec<_>>()
    };
    let names = figure.names.iter().enumerate();
    let entries = names.map(|(place, name)| Entry { name: fitted(name, TEXT_SIZE, LEGEND_TEXT_MAX), place, layers: drawn(place) });
    let (mut areas, others): (Vec<_>, Vec<_>) = entries.filter(|entry| !entry.layers.is_empty()).partition(Entry::is_area);
    areas.reverse();
    areas.into_iter().chain(others).collect()
}

fn draw_legend(sheet: &Sheet, entries: &[Entry], x: i32) -> Drawn<()> {
    let shown = if entries.len() > LEGEND_ENTRIES_MAX { LEGEND_ENTRIES_MAX - 1 } else { entries.len() };
    let mut y = PLOT_TOP;
    for entry in entries.iter().take(shown) {
        for (kind, opacity) in &entry.layers {
            let color = OkabeIto::pick(entry.place).mix(*opacity);
            match kind {
                Kind::Line | Kind::Band if entry.is_area() => {}
                Kind::Line => {
                    let middle = y + SWATCH / 2;
                    sheet.draw(&PathElement::new([(x, middle), (x + SWATCH, middle)], color.stroke_width(LINE_WIDTH)))?;
                }
                Kind::Area | Kind::Bars | Kind::Band => {
                    sheet.draw(&Rectangle::new([(x, y), (x + SWATCH, y + SWATCH)], color.filled()))?;
                }
            }
        }
        sheet.draw_text(&entry.name, &style(TEXT_SIZE, INK), (x + SWATCH + GAP, y + LEGEND_TEXT_TOP))?;
        y += LEGEND_LINE;
    }
    if shown < entries.len() {
        sheet.draw_text(&format!("… {} more", entries.len() - shown), &style(TEXT_SIZE, GREY), (x, y + LEGEND_TEXT_TOP))?;
    }
    Ok(())
}
