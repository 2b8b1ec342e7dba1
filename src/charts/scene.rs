//! A picture as a list of shapes: what lies between a chart's numbers and its files.
//!
//! Both files are written from the same shapes, so that they cannot look different. Coordinates are points from
//! the upper left corner; a file decides how many pixels a point is.

/// Right and down, in points.
pub(super) type Point = (f64, f64);

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Color(pub(super) u8, pub(super) u8, pub(super) u8);

/// The sheet.
pub(super) const PAPER: Color = Color(255, 255, 255);
/// Titles.
pub(super) const INK: Color = Color(0x1f, 0x23, 0x28);
/// Labels of axes.
pub(super) const GREY: Color = Color(0x57, 0x60, 0x6a);
/// Axes.
pub(super) const AXIS: Color = Color(0x8c, 0x95, 0x9f);

/// Okabe and Ito's palette (2008), which colour-blind readers can tell apart; its yellow and black stand last,
/// since one is faint on paper and the other is heavy.
const PALETTE: [Color; 8] = [
    Color(0x00, 0x72, 0xb2),
    Color(0xe6, 0x9f, 0x00),
    Color(0x00, 0x9e, 0x73),
    Color(0xd5, 0x5e, 0x00),
    Color(0x56, 0xb4, 0xe9),
    Color(0xcc, 0x79, 0xa7),
    Color(0xf0, 0xe4, 0x42),
    Color(0x33, 0x33, 0x33),
];

impl Color {
    /// The colour of the series in this place. After eight, colours come again.
    pub(super) fn of_place(place: usize) -> Color {
        PALETTE.get(place % PALETTE.len()).copied().unwrap_or(INK)
    }
}

/// Which end of a text stands at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A shape of one colour.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Closed outlines of one direction, filled.
    Fill { rings: Vec<Vec<Point>>, color: Color, opacity: f64 },
    /// Lines with round ends and corners. A line of one point twice is a dot.
    Stroke { runs: Vec<Vec<Point>>, color: Color, width: f64 },
    /// A text whose baseline is at the point.
    Text { at: Point, text: String, size: f64, color: Color, anchor: Anchor },
}

/// Shapes from back to front.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scene {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) title: String,
    pub(super) shapes: Vec<Shape>,
}

impl Scene {
    pub(super) fn rectangle(&mut self, at: Point, width: f64, height: f64, color: Color, opacity: f64) {
        self.shapes.push(Shape::Fill { rings: vec![rectangle(at, width, height)], color, opacity });
    }

    pub(super) fn text(&mut self, at: Point, text: impl Into<String>, size: f64, color: Color, anchor: Anchor) {
        self.shapes.push(Shape::Text { at, text: text.into(), size, color, anchor });
    }
}

/// The outline of a rectangle with this upper left corner.
pub(super) fn rectangle((x, y): Point, width: f64, height: f64) -> Vec<Point> {
    vec![(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
}
