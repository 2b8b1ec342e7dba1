//! Texts, in the font that pictures carry with them: the PNG file looks alike on every machine.
//!
//! A viewer of the SVG file has a font of its own, so what is laid out has some room to spare.

use plotters::style::{Color, FontDesc, FontFamily, FontStyle, RGBColor, TextStyle, register_font};
use std::sync::LazyLock;

/// The font file.
pub(super) const FONT: &[u8] = epaint_default_fonts::UBUNTU_LIGHT;
/// What the font calls itself.
pub(super) const FONT_FAMILY: &str = "Ubuntu";
/// Plotters' SVG documents divide sizes by this.
const SVG_SIZE_DIVISOR: f64 = 1.24;

/// Plotters has a table of fonts for the whole process.
static REGISTERED: LazyLock<()> = LazyLock::new(|| {
    assert!(register_font("sans-serif", FontStyle::Normal, FONT).is_ok(), "the font that is compiled in can't be read");
});

fn font(size: f64) -> FontDesc<'static> {
    LazyLock::force(&REGISTERED);
    FontDesc::new(FontFamily::SansSerif, size * SVG_SIZE_DIVISOR, FontStyle::Normal)
}

/// Text of this size (that of an em, as in SVG) and colour.
pub(super) fn style(size: f64, color: RGBColor) -> TextStyle<'static> {
    TextStyle { color: color.to_backend_color(), ..font(size).into() }
}

/// The width that a text needs in the fonts of most viewers: a third more than ours, as DejaVu is wider by a quarter.
pub(super) fn width(text: &str, size: f64) -> i32 {
    // Plotters answers a tenth too much: it takes the size for the height of a line.
    let (width, _) = font(size).box_size(text).unwrap_or_else(|error| panic!("the registered font can't be used: {error}"));
    (width + width / 5).cast_signed()
}

/// The text, or as much of it as fits, with an ellipsis. What XML cannot hold becomes the replacement character.
pub(super) fn fitted(text: &str, size: f64, width_max: i32) -> String {
    let text = text.replace(|letter: char| letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}'), "\u{fffd}");
    if width(&text, size) <= width_max {
        return text;
    }
    let mut kept: Vec<char> = text.chars().collect();
    loop {
        kept.pop();
        let cut: String = kept.iter().copied().chain(['…']).collect();
        if kept.is_empty() || width(&cut, size) <= width_max {
            return cut;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_to_the_width() {
        assert_eq!(fitted("short", 12.0, 100), "short");
        let cut = fitted("a label that goes on and on and on", 12.0, 100);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 100, "{cut}");
        assert!(f64::from(width("wider", 240.0)) > 1.9 * f64::from(width("wider", 120.0)));
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(fitted("x & \0", 12.0, 100), "x & \u{fffd}");
    }
}
