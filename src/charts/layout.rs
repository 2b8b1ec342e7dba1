//! Where everything stands in the picture: title, axes, marks, legend.
//!
//! The legend has a column of its own on the right, and never lies over the data.

use super::axis;
use super::figure::{Figure, Kind, Marks, Span};
use super::font;
use super::scene::{AXIS, Anchor, Color, GREY, INK, Point, Scene, Shape, rectangle};
use retally_core::calendar::Day;
use retally_core::chart::Chart;
use std::collections::BTreeMap;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 600;
const MARGIN: f64 = 28.0;
const PLOT_TOP: f64 = 96.0;
const PLOT_BOTTOM: f64 = 552.0;
const TITLE_SIZE: f64 = 22.0;
const TEXT_SIZE: f64 = 13.0;
const LINE_WIDTH: f64 = 2.25;
/// A viewer's own font is wider than ours: DejaVu by a quarter.
const FONT_SLACK: f64 = 1.3;
const SWATCH: f64 = 14.0;
const LEGEND_LINE: f64 = 24.0;
const LEGEND_TEXT_MAX: f64 = 200.0;
const LEGEND_ENTRIES_MAX: usize = 19;

/// The plot: which days and values lie where.
struct Plot {
    left: f64,
    right: f64,
    first: Day,
    /// Days side by side.
    slots: f64,
    values: axis::Values,
}

impl Plot {
    /// Where `days` after the start of `day` lies.
    fn x(&self, day: Day, days: f64) -> f64 {
        self.left + (f64::from(day.0 - self.first.0) + days) / self.slots * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.values.low) / (self.values.high - self.values.low);
        PLOT_BOTTOM - share * (PLOT_BOTTOM - PLOT_TOP)
    }

    fn slot(&self) -> f64 {
        (self.right - self.left) / self.slots
    }
}

/// The picture of a chart.
pub(super) fn scene(chart: &Chart, figure: &Figure) -> Scene {
    let mut scene = Scene { width: WIDTH, height: HEIGHT, title: chart.title.into(), shapes: Vec::new() };
    let (width, height) = (f64::from(WIDTH), f64::from(HEIGHT));
    scene.rectangle((0.0, 0.0), width, height, super::scene::PAPER, 1.0);
    let title = font::fitted(chart.title, TITLE_SIZE, (width - 2.0 * MARGIN) / FONT_SLACK);
    scene.text((MARGIN, 44.0), title, TITLE_SIZE, INK, Anchor::Start);
    let Some((first, last)) = figure.days() else {
        scene.text((width / 2.0, height / 2.0), "no data", TITLE_SIZE, GREY, Anchor::Middle);
        return scene;
    };
    scene.text((MARGIN, 72.0), chart.y_label, TEXT_SIZE, GREY, Anchor::Start);

    let legend = legend(figure);
    let (low, high) = figure.range();
    let values = axis::values(low, high, figure.counts);
    let widest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| font::width(text, TEXT_SIZE)).fold(0.0, f64::max) * FONT_SLACK;
    let legend_width = SWATCH + 10.0 + widest(&mut legend.iter().map(|entry| &entry.name));
    // Very few days stand in the middle, as wide as a third of the plot at most.
    let days = last.0 - first.0 + 1;
    let pad = if days < 3 { 1 } else { 0 };
    let plot = Plot {
        left: MARGIN + widest(&mut values.marks.iter().map(|(_, text)| text)) + 10.0,
        right: width - MARGIN - legend_width - 24.0,
        first: first.plus(-pad),
        slots: f64::from(days + 2 * pad),
        values,
    };
    // Filled shapes lie under the grid, so that values can be read off, and lines lie over it.
    let over = figure.layers.iter().position(|layer| matches!(layer.kind, Kind::Line | Kind::Band)).unwrap_or(figure.layers.len());
    let (fills, lines) = figure.layers.split_at(over);
    fills.iter().for_each(|layer| draw_layer(&mut scene, &plot, figure, layer));
    draw_axes(&mut scene, &plot, first, last);
    lines.iter().for_each(|layer| draw_layer(&mut scene, &plot, figure, layer));
    draw_legend(&mut scene, &legend, plot.right + 24.0);
    scene
}

fn draw_axes(scene: &mut Scene, plot: &Plot, first: Day, last: Day) {
    for (value, text) in &plot.values.marks {
        // At whole points lines are sharp.
        let y = plot.y(*value).round();
        let (color, opacity) = if *value == 0.0 { (AXIS, 1.0) } else { (INK, 0.1) };
        scene.rectangle((plot.left, y - 0.5), plot.right - plot.left, 1.0, color, opacity);
        scene.text((plot.left - 10.0, y + 4.5), text.clone(), TEXT_SIZE, GREY, Anchor::End);
    }
    let widest =
        |marks: &[(Day, String)]| marks.iter().map(|(_, text)| font::width(text, TEXT_SIZE)).fold(0.0, f64::max) * FONT_SLACK + 14.0;
    for (day, text) in axis::days(first, last, plot.right - plot.left, widest) {
        let x = plot.x(day, 0.5).round();
        scene.rectangle((x - 0.5, PLOT_TOP), 1.0, PLOT_BOTTOM - PLOT_TOP, INK, 0.05);
        scene.rectangle((x - 0.5, PLOT_BOTTOM), 1.0, 6.0, AXIS, 1.0);
        scene.text((x, PLOT_BOTTOM + 23.0), text, TEXT_SIZE, GREY, Anchor::Middle);
    }
}

fn draw_layer(scene: &mut Scene, plot: &Plot, figure: &Figure, layer: &Marks) {
    let shapes = layer.series.iter().flat_map(|(place, days)| series_shapes(plot, layer.kind, Color::of_place(*place), days));
    match layer.kind {
        // Each area reaches down to the ground, and those before it in the stack are drawn over it: two areas that
        // merely touch would let the paper shine through between them.
        Kind::Area | Kind::Bars => {
            let mut shapes: Vec<Shape> = shapes.collect();
            shapes.reverse();
            let lines_follow = figure.layers.iter().any(|other| other.kind == Kind::Line);
            if let (Kind::Bars, true, 1) = (layer.kind, lines_follow, layer.series.len()) {
                shapes.iter_mut().for_each(pale);
            }
            scene.shapes.extend(shapes);
        }
        Kind::Line | Kind::Band => scene.shapes.extend(shapes),
    }
}

/// How strong bars are that lines run over.
const PALE: f64 = 0.45;
/// How strong bands are.
const BAND: f64 = 0.22;

fn pale(shape: &mut Shape) {
    if let Shape::Fill { opacity, .. } = shape {
        *opacity = PALE;
    }
}

fn series_shapes(plot: &Plot, kind: Kind, color: Color, days: &BTreeMap<Day, Span>) -> Vec<Shape> {
    match kind {
        Kind::Area => vec![Shape::Fill { rings: runs(days).iter().map(|run| area(plot, run)).collect(), color, opacity: 1.0 }],
        Kind::Bars => vec![Shape::Fill { rings: bars(plot, days), color, opacity: 1.0 }],
        Kind::Band => vec![Shape::Fill { rings: runs(days).iter().map(|run| band(plot, run)).collect(), color, opacity: BAND }],
        Kind::Line => lines(plot, color, days),
    }
}

/// Days that follow one another.
fn runs(days: &BTreeMap<Day, Span>) -> Vec<Vec<(Day, Span)>> {
    let mut runs: Vec<Vec<(Day, Span)>> = Vec::new();
    for (day, span) in days {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|(before, _)| before.plus(1) == *day) => run.push((*day, *span)),
            _ => runs.push(vec![(*day, *span)]),
        }
    }
    runs
}

/// From the ground to the upper values, from the start of the first day to the end of the last.
fn area(plot: &Plot, run: &[(Day, Span)]) -> Vec<Point> {
    let (Some((first, first_span)), Some((last, last_span))) = (run.first(), run.last()) else { return Vec::new() };
    let (start, end, ground) = (plot.x(*first, 0.0), plot.x(*last, 1.0), plot.y(0.0));
    let mut ring = vec![(start, ground), (start, plot.y(first_span.1))];
    ring.extend(run.iter().map(|(day, (_, high))| (plot.x(*day, 0.5), plot.y(*high))));
    ring.extend([(end, plot.y(last_span.1)), (end, ground)]);
    ring
}

fn bars(plot: &Plot, days: &BTreeMap<Day, Span>) -> Vec<Vec<Point>> {
    // Thin bars touch: gaps narrower than a pixel would make stripes that are not in the data.
    let share = if plot.slot() < 4.0 { 1.0 } else { 0.76 };
    let ground = plot.y(0.0);
    let drawn = days.iter().filter(|(_, (low, high))| low != high);
    drawn
        .map(|(day, (_, high))| rectangle((plot.x(*day, (1.0 - share) / 2.0), plot.y(*high)), plot.slot() * share, ground - plot.y(*high)))
        .collect()
}

/// Between the lower and the upper values; a day alone is as wide as most of its slot.
fn band(plot: &Plot, run: &[(Day, Span)]) -> Vec<Point> {
    if let [(day, (low, high))] = run {
        return rectangle((plot.x(*day, 0.1), plot.y(*high)), plot.slot() * 0.8, plot.y(*low) - plot.y(*high));
    }
    let upper = run.iter().map(|(day, (_, high))| (plot.x(*day, 0.5), plot.y(*high)));
    let lower = run.iter().rev().map(|(day, (low, _))| (plot.x(*day, 0.5), plot.y(*low)));
    upper.chain(lower).collect()
}

/// Lines where days follow one another, and dots for days alone.
fn lines(plot: &Plot, color: Color, days: &BTreeMap<Day, Span>) -> Vec<Shape> {
    let (alone, joined): (Vec<_>, Vec<_>) = runs(days).into_iter().partition(|run| run.len() == 1);
    let points = |run: &Vec<(Day, Span)>| run.iter().map(|(day, (_, high))| (plot.x(*day, 0.5), plot.y(*high))).collect::<Vec<Point>>();
    let joined: Vec<_> = joined.iter().map(points).collect();
    let alone: Vec<_> = alone.iter().map(points).map(|dot| [dot.clone(), dot].concat()).collect();
    let strokes = [(joined, LINE_WIDTH), (alone, 3.0 * LINE_WIDTH)];
    strokes.into_iter().filter(|(runs, _)| !runs.is_empty()).map(|(runs, width)| Shape::Stroke { runs, color, width }).collect()
}

/// A line of the legend: a series, and how it is drawn.
struct Entry {
    name: String,
    color: Color,
    kinds: Vec<Kind>,
    pale: bool,
}

/// The series that are there, areas from the top of the stack down, as the reader sees them.
fn legend(figure: &Figure) -> Vec<Entry> {
    let lines = figure.layers.iter().any(|layer| layer.kind == Kind::Line);
    let mut entries: Vec<Entry> = Vec::new();
    for (place, name) in figure.names.iter().enumerate() {
        let layers = figure.layers.iter().filter(|layer| layer.series.iter().any(|(of, days)| *of == place && !days.is_empty()));
        let layers: Vec<&Marks> = layers.collect();
        let pale = lines && layers.iter().any(|layer| layer.series.len() == 1);
        let kinds: Vec<Kind> = layers.iter().map(|layer| layer.kind).collect();
        if !kinds.is_empty() {
            entries.push(Entry { name: font::fitted(name, TEXT_SIZE, LEGEND_TEXT_MAX), color: Color::of_place(place), kinds, pale });
        }
    }
    let (mut areas, others): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.kinds.contains(&Kind::Area));
    areas.reverse();
    areas.into_iter().chain(others).collect()
}

fn draw_legend(scene: &mut Scene, entries: &[Entry], x: f64) {
    let shown = if entries.len() > LEGEND_ENTRIES_MAX { LEGEND_ENTRIES_MAX - 1 } else { entries.len() };
    let mut y = PLOT_TOP;
    for entry in entries.iter().take(shown) {
        for kind in &entry.kinds {
            let opacity = match kind {
                Kind::Line | Kind::Band if entry.kinds.contains(&Kind::Area) => continue,
                Kind::Line => {
                    let run = vec![(x, y + SWATCH / 2.0), (x + SWATCH, y + SWATCH / 2.0)];
                    scene.shapes.push(Shape::Stroke { runs: vec![run], color: entry.color, width: LINE_WIDTH });
                    continue;
                }
                Kind::Band => BAND,
                Kind::Bars if entry.pale => PALE,
                Kind::Area | Kind::Bars => 1.0,
            };
            scene.rectangle((x, y), SWATCH, SWATCH, entry.color, opacity);
        }
        scene.text((x + SWATCH + 10.0, y + 11.5), entry.name.clone(), TEXT_SIZE, INK, Anchor::Start);
        y += LEGEND_LINE;
    }
    if shown < entries.len() {
        scene.text((x, y + 11.5), format!("… {} more", entries.len() - shown), TEXT_SIZE, GREY, Anchor::Start);
    }
}
