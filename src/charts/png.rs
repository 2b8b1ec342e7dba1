//! A scene as PNG: two pixels a point, edges smoothed by how much of a pixel they cover.

use super::font;
use super::scene::{Anchor, Color, PAPER, Point, Scene, Shape};
use ab_glyph::Font;
use ab_glyph_rasterizer::{Rasterizer, point};

/// Pixels in a point, so that pictures are sharp on paper and on dense screens.
const SCALE: f64 = 2.0;

/// The file's bytes.
pub(super) fn document(scene: &Scene) -> Result<Vec<u8>, png::EncodingError> {
    let mut canvas = Canvas::new(scene.width, scene.height);
    for shape in &scene.shapes {
        match shape {
            Shape::Fill { rings, color, opacity } => canvas.fill(rings, *color, *opacity),
            Shape::Stroke { runs, color, width } => canvas.stroke(runs, *color, *width),
            Shape::Text { at, text, size, color, anchor } => canvas.text(*at, text, *size, *color, *anchor),
        }
    }
    canvas.encoded()
}

/// Pixels, row by row, three bytes each.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// Pixels from `x0` to before `x1` and from `y0` to before `y1`.
struct Area {
    x0: usize,
    y0: usize,
    x1: usize,
    y1: usize,
}

impl Area {
    fn width(&self) -> usize {
        self.x1 - self.x0
    }
}

impl Canvas {
    fn new(width: u32, height: u32) -> Canvas {
        let (width, height) = (pixel(f64::from(width) * SCALE), pixel(f64::from(height) * SCALE));
        let Color(red, green, blue) = PAPER;
        Canvas { width, height, pixels: [red, green, blue].repeat(width * height) }
    }

    /// The pixels within `margin` of these points (in pixels); `None` where there are none.
    fn area<'a>(&self, points: impl Iterator<Item = &'a Point>, margin: f64) -> Option<Area> {
        let (mut low, mut high) = ((f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY));
        for (x, y) in points {
            low = (low.0.min(*x), low.1.min(*y));
            high = (high.0.max(*x), high.1.max(*y));
        }
        let (x0, x1) = (pixel(low.0 - margin), pixel((high.0 + margin).ceil()).min(self.width));
        let (y0, y1) = (pixel(low.1 - margin), pixel((high.1 + margin).ceil()).min(self.height));
        (low.0.is_finite() && x0 < x1 && y0 < y1).then_some(Area { x0, y0, x1, y1 })
    }

    /// Puts `color` over the pixel, as much as it is covered.
    fn blend(&mut self, x: usize, y: usize, Color(red, green, blue): Color, cover: f64) {
        let at = (y * self.width + x) * 3;
        if let (true, Some(pixel)) = (x < self.width && cover > 0.0, self.pixels.get_mut(at..at + 3)) {
            for (under, over) in pixel.iter_mut().zip([red, green, blue]) {
                *under = byte(f64::from(*under) + (f64::from(over) - f64::from(*under)) * cover.min(1.0));
            }
        }
    }

    fn fill(&mut self, rings: &[Vec<Point>], color: Color, opacity: f64) {
        let rings: Vec<Vec<Point>> = rings.iter().map(|ring| scaled(ring)).collect();
        // The margin keeps what the rasterizer adds behind an edge within its row.
        let Some(area) = self.area(rings.iter().flatten(), 2.0) else { return };
        let mut rasterizer = Rasterizer::new(area.width(), area.y1 - area.y0);
        // What lies outside is drawn along the border.
        let side = (float(self.width), float(self.height));
        let place = |(x, y): Point| point(narrow(x.clamp(0.0, side.0) - float(area.x0)), narrow(y.clamp(0.0, side.1) - float(area.y0)));
        for ring in &rings {
            for (from, to) in ring.iter().zip(ring.iter().cycle().skip(1)) {
                rasterizer.draw_line(place(*from), place(*to));
            }
        }
        rasterizer.for_each_pixel_2d(|x, y, cover| {
            self.blend(area.x0 + x as usize, area.y0 + y as usize, color, f64::from(cover).min(1.0) * opacity);
        });
    }

    /// Each pixel is covered by its distance from the nearest piece of the line, so that no piece covers it twice.
    fn stroke(&mut self, runs: &[Vec<Point>], color: Color, width: f64) {
        let reach = width * SCALE / 2.0 + 0.5;
        let runs: Vec<Vec<Point>> = runs.iter().map(|run| scaled(run)).collect();
        let Some(area) = self.area(runs.iter().flatten(), reach) else { return };
        let mut covers = vec![0.0f64; area.width() * (area.y1 - area.y0)];
        for (from, to) in runs.iter().flat_map(|run| run.iter().zip(run.iter().skip(1))) {
            let Some(near) = self.area([from, to].into_iter(), reach) else { continue };
            for y in near.y0..near.y1 {
                for x in near.x0..near.x1 {
                    let distance = distance((float(x) + 0.5, float(y) + 0.5), *from, *to);
                    if let Some(cover) = covers.get_mut((y - area.y0) * area.width() + x - area.x0) {
                        *cover = cover.max((reach - distance).clamp(0.0, 1.0));
                    }
                }
            }
        }
        for (index, cover) in covers.into_iter().enumerate() {
            self.blend(area.x0 + index % area.width(), area.y0 + index / area.width(), color, cover);
        }
    }

    fn text(&mut self, (x, y): Point, text: &str, size: f64, color: Color, anchor: Anchor) {
        let (glyphs, width) = font::set(text, size * SCALE);
        let start = x * SCALE
            - match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => width / 2.0,
                Anchor::End => width,
            };
        for mut glyph in glyphs {
            glyph.position.x += narrow(start);
            glyph.position.y += narrow(y * SCALE);
            let Some(outlined) = font::font().outline_glyph(glyph) else { continue };
            let bounds = outlined.px_bounds();
            if bounds.min.x < 0.0 || bounds.min.y < 0.0 {
                continue;
            }
            let (left, top) = (pixel(f64::from(bounds.min.x)), pixel(f64::from(bounds.min.y)));
            outlined.draw(|x, y, cover| self.blend(left + x as usize, top + y as usize, color, f64::from(cover)));
        }
    }

    fn encoded(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut out = Vec::new();
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let mut encoder = png::Encoder::new(&mut out, side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(out)
    }
}

fn scaled(points: &[Point]) -> Vec<Point> {
    points.iter().map(|(x, y)| (x * SCALE, y * SCALE)).collect()
}

/// From `at` to the nearest point between `from` and `to`.
fn distance(at: Point, from: Point, to: Point) -> f64 {
    let along = (to.0 - from.0, to.1 - from.1);
    let length_squared = along.0 * along.0 + along.1 * along.1;
    let projected = (at.0 - from.0) * along.0 + (at.1 - from.1) * along.1;
    let share = if length_squared > 0.0 { (projected / length_squared).clamp(0.0, 1.0) } else { 0.0 };
    (at.0 - from.0 - share * along.0).hypot(at.1 - from.1 - share * along.1)
}

#[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate: what lies left of the picture is its edge")]
fn pixel(position: f64) -> usize {
    position as usize
}

#[expect(clippy::cast_possible_truncation, reason = "between two bytes")]
fn byte(shade: f64) -> u8 {
    shade.round() as u8
}

#[expect(clippy::cast_possible_truncation, reason = "positions in a picture; the rasterizer counts in 32 bits")]
fn narrow(position: f64) -> f32 {
    position as f32
}

fn float(pixel: usize) -> f64 {
    pixel as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(shape: impl Fn(&mut Canvas)) -> Vec<u8> {
        let mut canvas = Canvas::new(4, 2);
        shape(&mut canvas);
        canvas.pixels.chunks(3).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn a_pixel_is_as_dark_as_it_is_covered() {
        let ring = vec![(1.0, 0.5), (2.25, 0.5), (2.25, 1.0), (1.0, 1.0)];
        let pixels = canvas(|canvas| canvas.fill(std::slice::from_ref(&ring), Color(0, 0, 0), 1.0));
        assert_eq!(pixels[8..16], [255, 255, 0, 0, 128, 255, 255, 255]);
        assert!(pixels[..8].iter().chain(&pixels[16..]).all(|pixel| *pixel == 255));
    }

    #[test]
    fn lines_may_turn_back_without_getting_darker() {
        let there = vec![(0.0, 0.75), (4.0, 0.75)];
        let back: Vec<Point> = there.iter().copied().chain([(0.0, 0.75)]).collect();
        let once = canvas(|canvas| canvas.stroke(std::slice::from_ref(&there), Color(0, 0, 0), 0.75));
        let twice = canvas(|canvas| canvas.stroke(std::slice::from_ref(&back), Color(0, 0, 0), 0.75));
        assert_eq!(once, twice);
        assert_eq!(once[..16], [[191; 8], [0; 8]].concat()[..]);
    }

    #[test]
    fn what_lies_outside_is_cut() {
        let far = vec![(-50.0, -50.0), (50.0, -50.0), (50.0, 50.0), (-50.0, 50.0)];
        let pixels = canvas(|canvas| {
            canvas.fill(std::slice::from_ref(&far), Color(9, 9, 9), 1.0);
            canvas.text((-100.0, 1.0), "left", 12.0, Color(0, 0, 0), Anchor::Start);
            canvas.stroke(&[vec![(100.0, 100.0), (200.0, 200.0)]], Color(0, 0, 0), 3.0);
        });
        assert_eq!(pixels.len(), 32);
    }
}
