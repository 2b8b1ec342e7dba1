//! The colours of pictures.

use plotters::style::{Palette, RGBColor};

/// Titles.
pub(super) const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
/// Labels of axes.
pub(super) const GREY: RGBColor = RGBColor(0x57, 0x60, 0x6a);
/// Axes.
pub(super) const AXIS: RGBColor = RGBColor(0x8c, 0x95, 0x9f);

/// Okabe and Ito's palette (2008), which colour-blind readers can tell apart; its yellow and black stand last,
/// since one is faint on paper and the other is heavy.
pub(super) struct OkabeIto;

impl Palette for OkabeIto {
    const COLORS: &'static [(u8, u8, u8)] = &[
        (0x00, 0x72, 0xb2),
        (0xe6, 0x9f, 0x00),
        (0x00, 0x9e, 0x73),
        (0xd5, 0x5e, 0x00),
        (0x56, 0xb4, 0xe9),
        (0xcc, 0x79, 0xa7),
        (0xf0, 0xe4, 0x42),
        (0x33, 0x33, 0x33),
    ];
}
