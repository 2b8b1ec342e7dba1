//! Where the fields of an input are in a Parquet file.

use super::cells::Cell;
use crate::ingest::IngestError;
use crate::ingest::nearest::{map_flag, nearest};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use retally_core::contract::Input;
use retally_core::mapping::Origin;
use retally_core::record::Presence;

/// Where the fields of an input are in a file.
pub struct Sought {
    /// Fields of single values: their places, and the columns.
    pub columns: Vec<(usize, usize)>,
    /// Which of these are times by the type of their column, a bit for each place.
    pub times: u64,
    /// The roots of columns that hold fields, where some field is no single value.
    pub nested: Option<Vec<String>>,
}

impl Sought {
    /// Finds them, by the names that they have here. Errors call the file by this name.
    pub fn find(name: &str, schema: &SchemaDescriptor, input: &Input) -> Result<Sought, IngestError> {
        let error = |why: String, hint: String| IngestError::Header { path: name.into(), why, columns: shown(schema), hint };
        let (mut columns, mut roots, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut nested = false;
        for (place, field) in input.fields.iter().enumerate() {
            if !input.mapping.is_sought(place) {
                continue;
            }
            let (mut paths, any_case) = input.mapping.paths(place, field);
            if let Origin::Column(column) = input.mapping.origin(place) {
                // A column may have a dot in its name.
                paths.insert(0, vec![column.name.clone()]);
            }
            let found = paths.iter().find_map(|path| Place::find(schema, path, any_case));
            match found {
                None if field.presence == Presence::OfSome => {}
                None => missing.push((place, field)),
                Some(Place::Column(column)) => {
                    let descriptor = schema.column(column);
                    roots.extend(descriptor.path().parts().first().cloned());
                    if Cell::of(&descriptor).is_none() {
                        let kind = match descriptor.logical_type_ref() {
                            Some(logical) => format!("{logical:?}"),
                            None => descriptor.physical_type().to_string(),
                        };
                        let why = format!("its column {:?} holds values that are not read ({kind})", descriptor.path().string());
                        return Err(error(why, String::new()));
                    }
                    columns.push((place, column));
                }
                Some(Place::Within(root)) => {
                    nested = true;
                    roots.push(root);
                }
            }
        }
        if !missing.is_empty() {
            let names: Vec<&str> = schema.root_schema().get_fields().iter().map(|field| field.name()).collect();
            let lacking = missing.iter().map(|(place, field)| input.mapping.name(*place, field)).collect::<Vec<_>>().join(", ");
            let column = |place, field| nearest(input.mapping.name(place, field), &names).unwrap_or("COLUMN");
            let flags = missing.iter().map(|(place, field)| map_flag(input, field, column(*place, field))).collect::<Vec<_>>().join(" ");
            return Err(error(format!("it has no column {lacking}"), format!("start from {flags}")));
        }
        roots.dedup();
        let local = |(_, column): &(usize, usize)| matches!(Cell::of(&schema.column(*column)), Some(Cell::Time { utc: false, .. }));
        if nested && columns.iter().any(local) {
            return Err(error("it has local times beside nested columns".into(), "write times in UTC".into()));
        }
        let is_time = |column| matches!(Cell::of(&schema.column(column)), Some(Cell::Time { .. } | Cell::Date));
        let times =
            columns.iter().filter(|(place, column)| *place < 64 && is_time(*column)).fold(0, |times, (place, _)| times | 1 << place);
        Ok(Sought { columns, times, nested: nested.then_some(roots) })
    }
}

fn shown(schema: &SchemaDescriptor) -> String {
    schema.root_schema().get_fields().iter().map(|field| format!("{:?}", field.name())).collect::<Vec<_>>().join(", ")
}

/// Where a path of names leads.
enum Place {
    /// A column of single values.
    Column(usize),
    /// Something else within this root.
    Within(String),
}

impl Place {
    fn find(schema: &SchemaDescriptor, path: &[String], any_case: bool) -> Option<Place> {
        let same = |a: &str, b: &str| a == b || (any_case && a.eq_ignore_ascii_case(b));
        let leads = |column: &ColumnDescriptor| {
            let parts = column.path().parts();
            parts.len() >= path.len() && parts.iter().zip(path).all(|(part, name)| same(part, name))
        };
        let (place, column) = schema.columns().iter().enumerate().find(|(_, column)| leads(column))?;
        let single = column.max_rep_level() == 0 && column.path().parts().len() == path.len();
        if single { Some(Place::Column(place)) } else { Some(Place::Within(column.path().parts().first()?.clone())) }
    }
}
