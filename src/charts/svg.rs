//! A scene as SVG.
//!
//! Coordinates have two digits after the point: a hundredth of a point is not seen, and files stay small.

use super::scene::{Anchor, Color, Point, Scene, Shape};
use std::fmt::{self, Display, Write};

/// The document.
pub(super) fn document(scene: &Scene) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_document(scene, &mut out);
    out
}

fn write_document(scene: &Scene, out: &mut String) -> fmt::Result {
    let Scene { width, height, title, shapes } = scene;
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">"#
    )?;
    writeln!(out, "<title>{}</title>", Escaped(title))?;
    for shape in shapes {
        match shape {
            Shape::Fill { rings, color, opacity } => {
                out.push_str("<path d=\"");
                rings.iter().try_for_each(|ring| write_path(out, ring, "Z"))?;
                write!(out, "\" fill=\"{}\"", Hex(*color))?;
                if *opacity < 1.0 {
                    write!(out, " fill-opacity=\"{}\"", Short(*opacity))?;
                }
                out.push_str("/>\n");
            }
            Shape::Stroke { runs, color, width } => {
                out.push_str("<path d=\"");
                runs.iter().try_for_each(|run| write_path(out, run, ""))?;
                let (color, width) = (Hex(*color), Short(*width));
                writeln!(out, r#"" fill="none" stroke="{color}" stroke-width="{width}" stroke-linecap="round" stroke-linejoin="round"/>"#)?;
            }
            Shape::Text { at: (x, y), text, size, color, anchor } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let (x, y, size, color, text) = (Short(*x), Short(*y), Short(*size), Hex(*color), Escaped(text));
                writeln!(
                    out,
                    r#"<text x="{x}" y="{y}" font-family="sans-serif" font-size="{size}" text-anchor="{anchor}" fill="{color}">{text}</text>"#
                )?;
            }
        }
    }
    out.write_str("</svg>\n")
}

fn write_path(out: &mut String, points: &[Point], end: &str) -> fmt::Result {
    for (index, (x, y)) in points.iter().enumerate() {
        write!(out, "{}{} {}", if index == 0 { "M" } else { "L" }, Short(*x), Short(*y))?;
    }
    out.write_str(end)
}

struct Hex(Color);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Color(red, green, blue) = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// With at most two digits after the point.
struct Short(f64);

impl Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Adding 0 turns the -0 that rounding may leave into 0.
        ((self.0 * 100.0).round() / 100.0 + 0.0).fmt(f)
    }
}

/// Text between tags. What XML cannot hold at all, such as a zero byte, becomes the replacement character.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}'),
            control if control < ' ' => f.write_char('\u{fffd}'),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_become_elements() {
        let mut scene = Scene { width: 20, height: 10, title: "a < b".into(), shapes: Vec::new() };
        scene.rectangle((1.0, 2.005), 3.0, 4.0, Color(0, 0x72, 0xb2), 0.25);
        scene.shapes.push(Shape::Stroke { runs: vec![vec![(0.0, 0.0), (1.0, 1.5)]], color: Color(255, 0, 0), width: 2.0 });
        scene.text((5.0, 5.0), "x & \0", 12.0, Color(0, 0, 0), Anchor::End);
        let expected = concat!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"20\" height=\"10\" viewBox=\"0 0 20 10\" role=\"img\">\n",
            "<title>a &lt; b</title>\n",
            "<path d=\"M1 2.01L4 2.01L4 6.01L1 6.01Z\" fill=\"#0072b2\" fill-opacity=\"0.25\"/>\n",
            "<path d=\"M0 0L1 1.5\" fill=\"none\" stroke=\"#ff0000\" stroke-width=\"2\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/>\n",
            "<text x=\"5\" y=\"5\" font-family=\"sans-serif\" font-size=\"12\" text-anchor=\"end\" fill=\"#000000\">x &amp; \u{fffd}</text>\n",
            "</svg>\n",
        );
        assert_eq!(document(&scene), expected);
    }
}
