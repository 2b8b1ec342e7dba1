//! The font that pictures carry with them, so that they look alike on every machine.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use std::sync::LazyLock;

static FONT: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    let bytes = epaint_default_fonts::UBUNTU_LIGHT;
    FontRef::try_from_slice(bytes).unwrap_or_else(|error| panic!("the font that is compiled in can't be read: {error}"))
});

/// The font.
pub(super) fn font() -> &'static FontRef<'static> {
    &FONT
}

/// A text's glyphs, set from x = 0 on a baseline at y = 0, and its width. `size` is that of an em, as in SVG.
pub(super) fn set(text: &str, size: f64) -> (Vec<Glyph>, f64) {
    // `PxScale` counts from ascent to descent, which is more than an em.
    #[expect(clippy::cast_possible_truncation, reason = "glyphs are placed in 32-bit floats")]
    let em = size as f32;
    let scale = FONT.units_per_em().map_or(em, |units| em * FONT.height_unscaled() / units);
    let font = FONT.as_scaled(PxScale::from(scale));
    let mut glyphs: Vec<Glyph> = Vec::new();
    let mut x = 0.0;
    for character in text.chars() {
        let id = font.glyph_id(character);
        x += glyphs.last().map_or(0.0, |before| font.kern(before.id, id));
        glyphs.push(id.with_scale_and_position(scale, point(x, 0.0)));
        x += font.h_advance(id);
    }
    (glyphs, f64::from(x))
}

/// How wide a text is, in points.
///
/// A viewer of the SVG file has a font of its own, so what is laid out by this needs some slack.
pub(super) fn width(text: &str, size: f64) -> f64 {
    set(text, size).1
}

/// The text, or as much of it as fits, with an ellipsis.
pub(super) fn fitted(text: &str, size: f64, width_max: f64) -> String {
    if width(text, size) <= width_max {
        return text.into();
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
        assert_eq!(fitted("short", 12.0, 100.0), "short");
        let cut = fitted("a label that goes on and on and on", 12.0, 100.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 100.0, "{cut}");
        assert!(width("wider", 24.0) > 1.9 * width("wider", 12.0));
    }
}
