//! Which cells name which fields.

use retally_core::contract::Input;
use retally_core::mapping::Origin;

/// The fields that are in the data, by their places.
pub(super) fn sought(input: &Input) -> Vec<usize> {
    (0..input.fields.len()).filter(|place| input.mapping.is_sought(*place)).collect()
}

/// Whether a cell of a header names the field at a place: by its own or its mapped name, rank 0, or by another that it has.
pub(super) fn names(input: &Input, place: usize, cell: &[u8]) -> Option<u8> {
    let cell = std::str::from_utf8(cell.trim_ascii()).ok()?;
    let field = input.fields.get(place)?;
    match input.mapping.origin(place) {
        Origin::Own if cell.eq_ignore_ascii_case(field.name) => Some(0),
        Origin::Own => (1..).zip(field.aliases).find(|(_, alias)| cell.eq_ignore_ascii_case(alias)).map(|(rank, _)| rank),
        Origin::Column(column) => (cell == column.name).then_some(0),
        Origin::Constant(_) | Origin::Absent => None,
    }
}
