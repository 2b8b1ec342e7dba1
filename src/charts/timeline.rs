//! The picture of a key: values over time, the lines that describe them, what was expected, and what stands out.
//!
//! From back to front: stretches (with a strip at the top, so that short ones are seen), the band, the grid, values, lines, marks. Marks
//! differ by shape, so that nobody has to tell colours apart, and grow with what they weigh.

use super::axis;
use super::clock::{self, Mark};
use super::colors::{GREY, INK, OkabeIto};
use super::layout::{
    self, DATE_GAP, Drawn, GAP, HEIGHT, LEGEND_GAP, LEGEND_LINE, LEGEND_TEXT_MAX, LEGEND_TEXT_TOP, MARGIN, POINT, Plot, SWATCH, Scale,
    Sheet, TEXT_SIZE, TITLE_SIZE, WIDTH, draw_axes, widest,
};
use super::picture::{Picture, Standing};
use super::text::{fitted, style, width};
use plotters::prelude::{ChartBuilder, Circle, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, Palette, RGBColor, WHITE};
use retally_core::calendar::Calendar;
use retally_core::key_chart::KeyChart;
use retally_core::time::{HOUR, Moment, SECOND};
use std::cmp::Reverse;
use std::collections::BTreeSet;

const SUBTITLE_TOP: i32 = 58 * POINT;
const Y_LABEL_TOP: i32 = 84 * POINT;
const PLOT_TOP: i32 = 116 * POINT;
const PLOT_BOTTOM: i32 = 540 * POINT;
/// Where the second row of texts below the axis starts.
const BELOW_TOP: i32 = 568 * POINT;
/// A picture shows as much time at least.
const SPAN_MIN: i64 = 60 * SECOND;
/// Room before the first value and behind the last, as a share of the time between them.
const PAD: i64 = 100;
/// Values as few as these are dots too.
const DOTS_MAX: usize = 150;

const VALUES_WIDTH: u32 = 12;
const DOT: i32 = 16;
/// So few are large dots.
const FEW_MAX: usize = 12;
const DOT_OF_FEW: i32 = 35;
/// Values that are all the same lie under their line, and are seen beside it.
const CONSTANT_WIDTH: u32 = 50;
const LINES_WIDTH: u32 = 18;
/// More lines than these are a pattern of their own.
const LINES_FEW: usize = 40;
/// And more than these are a texture.
const LINES_MANY: usize = 200;
const STRETCH_WIDTH_MIN: f64 = 4.0 * POINT as f64;
const STRIP_HEIGHT: f64 = 5.0 * POINT as f64;
const STRETCH: f64 = 0.22;
const BAND: f64 = 0.32;
/// The half of a mark's height, and how much a weight more adds to it, up to some.
const MARK: i32 = 42;
const MARK_MORE: i32 = 8;
const WEIGHT_MAX: u64 = 5;
/// Marks that are nearer to another of their kind are this small.
const CROWD: i32 = 7 * POINT;
const MARK_SMALL: i32 = 15;

fn color(place: usize) -> RGBColor {
    let (r, g, b) = OkabeIto::COLORS.get(place).copied().unwrap_or_default();
    RGBColor(r, g, b)
}

/// Blue, orange, sky blue, dark grey and vermillion.
const VALUES: usize = 0;
const STRETCHES: usize = 1;
const EXPECTED: usize = 4;
const LINES: usize = 7;
const MARKS: usize = 3;

/// The document.
pub(super) fn svg(chart: &KeyChart, picture: &Picture, calendar: &Calendar) -> Drawn<String> {
    layout::document(|sheet| draw(sheet, chart, picture, calendar))
}

fn draw(sheet: &Sheet, chart: &KeyChart, picture: &Picture, calendar: &Calendar) -> Drawn<()> {
    sheet.fill(&WHITE)?;
    let title = match picture.name.as_str() {
        _ if chart.named_by_id => picture.id.clone(),
        "" => format!("{} without a name", chart.noun),
        name => name.into(),
    };
    sheet.draw_text(&fitted(&title, TITLE_SIZE, WIDTH - 2 * MARGIN), &style(TITLE_SIZE, INK), (MARGIN, MARGIN))?;
    let times = format!("times in {}", calendar.name());
    let subtitle = if chart.named_by_id { times } else { format!("{} · {times}", picture.id) };
    sheet.draw_text(&fitted(&subtitle, TEXT_SIZE, WIDTH - 2 * MARGIN), &style(TEXT_SIZE, GREY), (MARGIN, SUBTITLE_TOP))?;
    let Some((first, last)) = picture.span() else {
        let style = style(TITLE_SIZE, GREY).pos(Pos::new(HPos::Center, VPos::Center));
        return sheet.draw_text("no data", &style, (WIDTH / 2, HEIGHT / 2));
    };
    sheet.draw_text(chart.y_label, &style(TEXT_SIZE, GREY), (MARGIN, Y_LABEL_TOP))?;

    let legend = legend(chart, picture);
    let (low, high) = picture.range();
    let values = axis::values(low, high, false);
    let left = widest(values.marks.iter().map(|(_, text)| text)) + GAP;
    let right = LEGEND_GAP + SWATCH + GAP + widest(legend.iter().map(|(_, name)| name)) + MARGIN;
    let pad = ((last.0 - first.0) / PAD).max((SPAN_MIN - (last.0 - first.0)) / 2);
    let (start, end) = (first.plus(-pad), last.plus(pad));
    let room = f64::from(WIDTH - MARGIN - left - right);
    let marks = clock::marks(start, end, calendar, room, |marks| f64::from(widest(marks.iter().map(|mark| &mark.text)) + DATE_GAP));
    let frame = Frame { start, low: values.low, high: values.high };
    let texts = marks.iter().map(|mark| (frame.x(mark.time), mark.text.clone())).collect();
    let x = Scale { range: (frame.x(start)..frame.x(end)).into(), marks: texts };
    let y = Scale { range: (values.low..values.high).into(), marks: values.marks };
    let mut plot = ChartBuilder::on(sheet)
        .margin_top(PLOT_TOP)
        .margin_left(MARGIN)
        .margin_right(right)
        .x_label_area_size(HEIGHT - PLOT_BOTTOM)
        .y_label_area_size(left)
        .build_cartesian_2d(x, y)?;
    draw_stretches(&mut plot, &frame, picture)?;
    draw_band(&mut plot, &frame, picture)?;
    draw_axes(&mut plot)?;
    draw_below(sheet, &plot, &frame, &marks)?;
    draw_values(&mut plot, &frame, picture)?;
    draw_lines(&mut plot, &frame, picture)?;
    draw_marks(sheet, &plot, &frame, picture)?;
    draw_legend(sheet, &legend, WIDTH - right + LEGEND_GAP)
}

/// Where things are in the plot: hours since its start, and values that are held at its edges.
struct Frame {
    start: Moment,
    low: f64,
    high: f64,
}

impl Frame {
    fn x(&self, time: Moment) -> f64 {
        (time.0 - self.start.0) as f64 / HOUR as f64
    }

    fn at(&self, (time, value): (Moment, f64)) -> (f64, f64) {
        (self.x(time), value.clamp(self.low, self.high))
    }
}

fn draw_stretches(plot: &mut Plot, frame: &Frame, picture: &Picture) -> Drawn<()> {
    let (width, height) = plot.plotting_area().dim_in_pixel();
    let hours = plot.plotting_area().get_x_range();
    let least = STRETCH_WIDTH_MIN * (hours.end - hours.start) / f64::from(width);
    let strip = frame.high - STRIP_HEIGHT * (frame.high - frame.low) / f64::from(height);
    for (from, until) in &picture.stretches {
        let (from, until) = (frame.x(*from), frame.x(*until));
        let more = ((least - (until - from)) / 2.0).max(0.0);
        let of = |low: f64, opacity: f64| {
            Rectangle::new([(from - more, low), (until + more, frame.high)], color(STRETCHES).mix(opacity).filled())
        };
        plot.draw_series([of(frame.low, STRETCH), of(strip, 1.0)])?;
    }
    Ok(())
}

fn draw_band(plot: &mut Plot, frame: &Frame, picture: &Picture) -> Drawn<()> {
    for run in picture.band.chunk_by(|_, (_, _, _, breaks)| !breaks) {
        let upper = run.iter().map(|(time, _, high, _)| frame.at((*time, *high)));
        let lower = run.iter().rev().map(|(time, low, _, _)| frame.at((*time, *low)));
        plot.draw_series([Polygon::new(upper.chain(lower).collect::<Vec<_>>(), color(EXPECTED).mix(BAND))])?;
    }
    Ok(())
}

fn draw_values(plot: &mut Plot, frame: &Frame, picture: &Picture) -> Drawn<()> {
    let width = if picture.is_constant() { CONSTANT_WIDTH } else { VALUES_WIDTH };
    let (line, dot) = (color(VALUES).stroke_width(width), color(VALUES).filled());
    let radius = if picture.values.len() <= FEW_MAX { DOT_OF_FEW } else { DOT };
    for run in picture.values.chunk_by(|_, (_, _, breaks)| !breaks) {
        let points: Vec<(f64, f64)> = run.iter().map(|(time, value, _)| frame.at((*time, *value))).collect();
        if points.len() == 1 || picture.values.len() <= DOTS_MAX {
            plot.draw_series(points.iter().map(|point| Circle::new(*point, radius, dot)))?;
        }
        if points.len() > 1 {
            plot.draw_series([PathElement::new(points, line)])?;
        }
    }
    Ok(())
}

/// Lines, with paper around them, so that they are seen on values; very many are thin, so that values are seen beside them.
fn draw_lines(plot: &mut Plot, frame: &Frame, picture: &Picture) -> Drawn<()> {
    let few = [WHITE.mix(0.6).stroke_width(2 * LINES_WIDTH), color(LINES).stroke_width(LINES_WIDTH)];
    let many = [color(LINES).mix(if picture.lines.len() > LINES_MANY { 0.35 } else { 0.7 }).stroke_width(VALUES_WIDTH)];
    let styles = if picture.lines.len() > LINES_FEW { many.as_slice() } else { few.as_slice() };
    for style in styles {
        plot.draw_series(picture.lines.iter().map(|line| PathElement::new(line.map(|end| frame.at(end)), *style)))?;
    }
    Ok(())
}

/// Marks; of those that would lie on one another the heaviest, and the others small.
fn draw_marks(sheet: &Sheet, plot: &Plot, frame: &Frame, picture: &Picture) -> Drawn<()> {
    let mut marks: Vec<&Standing> = picture.marks.iter().collect();
    marks.sort_by_key(|mark| Reverse(mark.weight));
    let mut crowded = BTreeSet::new();
    let placed = marks.into_iter().map(|mark| (mark, plot.backend_coord(&frame.at((mark.time, mark.value)))));
    let (large, small): (Vec<_>, Vec<_>) = placed.partition(|(mark, (x, y))| {
        let (column, row) = (x.div_euclid(CROWD), y.div_euclid(CROWD));
        let free = !crowded.contains(&(mark.kind, column, row));
        if free {
            crowded.extend((-1..=1).flat_map(|right| (-1..=1).map(move |down| (mark.kind, column + right, row + down))));
        }
        free
    });
    small.iter().try_for_each(|(mark, at)| draw_shape(sheet, mark.kind, *at, MARK_SMALL, color(MARKS)))?;
    // The heaviest lie on top.
    large.iter().rev().try_for_each(|(mark, at)| draw_mark(sheet, mark.kind, *at, size(mark.weight)))
}

/// The second row of texts below the axis, as far as there is room: dates of midnights rather than that of the first mark.
fn draw_below(sheet: &Sheet, plot: &Plot, frame: &Frame, marks: &[Mark]) -> Drawn<()> {
    let texts: Vec<(i32, &String)> =
        marks.iter().filter_map(|mark| Some((plot.backend_coord(&(frame.x(mark.time), frame.low)).0, mark.below.as_ref()?))).collect();
    let half = |text: &str| width(text, TEXT_SIZE) / 2;
    let mut free_from = MARGIN;
    for (place, (x, text)) in texts.iter().enumerate() {
        let crowded = texts.get(1).is_some_and(|(next, other)| place == 0 && x + half(text) + DATE_GAP > next - half(other));
        let x = *x.max(&(MARGIN + half(text)));
        if !crowded && x - half(text) >= free_from {
            sheet.draw_text(text, &style(TEXT_SIZE, GREY).pos(Pos::new(HPos::Center, VPos::Top)), (x, BELOW_TOP))?;
            free_from = x + half(text) + DATE_GAP;
        }
    }
    Ok(())
}

fn size(weight: u64) -> i32 {
    MARK + MARK_MORE * i32::try_from(weight.clamp(1, WEIGHT_MAX) - 1).unwrap_or(0)
}

/// A mark, with paper around it, so that marks are apart.
fn draw_mark(sheet: &Sheet, kind: usize, at: (i32, i32), size: i32) -> Drawn<()> {
    draw_shape(sheet, kind, at, size + POINT, WHITE)?;
    draw_shape(sheet, kind, at, size, color(MARKS))
}

/// The shape of a kind: a disc, a triangle, a square, a bar, a diamond, a triangle that points down, an hourglass, and again.
fn draw_shape(sheet: &Sheet, kind: usize, (x, y): (i32, i32), size: i32, color: RGBColor) -> Drawn<()> {
    let corners: &[(i32, i32)] = match kind % 7 {
        0 => return sheet.draw(&Circle::new((x, y), size, color.filled())),
        1 => &[(0, -13), (12, 9), (-12, 9)],
        2 => &[(-9, -9), (9, -9), (9, 9), (-9, 9)],
        3 => &[(-12, -5), (12, -5), (12, 5), (-12, 5)],
        4 => &[(0, -14), (11, 0), (0, 14), (-11, 0)],
        5 => &[(0, 13), (12, -9), (-12, -9)],
        _ => &[(-11, -11), (11, -11), (0, 0), (11, 11), (-11, 11), (0, 0)],
    };
    let corner = |(right, down): &(i32, i32)| (x + right * size / 10, y + down * size / 10);
    sheet.draw(&Polygon::new(corners.iter().map(corner).collect::<Vec<_>>(), color.filled()))
}

/// What is in the picture, as the legend shows it.
#[derive(Clone, Copy)]
enum Sign {
    Values,
    Band,
    Lines,
    Stretches,
    Mark(usize),
}

fn legend(chart: &KeyChart, picture: &Picture) -> Vec<(Sign, String)> {
    let there = [
        (!picture.values.is_empty(), Sign::Values, &chart.values),
        (!picture.band.is_empty(), Sign::Band, &chart.band),
        (!picture.lines.is_empty(), Sign::Lines, &chart.lines),
        (!picture.stretches.is_empty(), Sign::Stretches, &chart.stretches),
    ];
    let marks =
        chart.marks.iter().enumerate().map(|(kind, name)| (picture.marks.iter().any(|mark| mark.kind == kind), Sign::Mark(kind), name));
    let shown = there.into_iter().chain(marks).filter(|(there, _, _)| *there);
    shown.map(|(_, sign, name)| (sign, fitted(name, TEXT_SIZE, LEGEND_TEXT_MAX))).collect()
}

fn draw_legend(sheet: &Sheet, legend: &[(Sign, String)], x: i32) -> Drawn<()> {
    let mut y = PLOT_TOP;
    for (sign, name) in legend {
        let middle = y + SWATCH / 2;
        let line = |color: RGBColor, width| sheet.draw(&PathElement::new([(x, middle), (x + SWATCH, middle)], color.stroke_width(width)));
        let area = |color: RGBColor, opacity: f64, height| {
            sheet.draw(&Rectangle::new([(x, y), (x + SWATCH, y + height)], color.mix(opacity).filled()))
        };
        match sign {
            Sign::Values => line(color(VALUES), VALUES_WIDTH)?,
            Sign::Band => area(color(EXPECTED), BAND, SWATCH)?,
            Sign::Lines => line(color(LINES), LINES_WIDTH)?,
            Sign::Stretches => {
                area(color(STRETCHES), STRETCH, SWATCH)?;
                area(color(STRETCHES), 1.0, SWATCH / 4)?;
            }
            Sign::Mark(kind) => draw_mark(sheet, *kind, (x + SWATCH / 2, middle), MARK)?,
        }
        sheet.draw_text(name, &style(TEXT_SIZE, INK), (x + SWATCH + GAP, y + LEGEND_TEXT_TOP))?;
        y += LEGEND_LINE;
    }
    Ok(())
}
