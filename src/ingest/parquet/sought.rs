//! Where the fields of an input are in a Parquet file.

use super::cells::Cell;
use crate::ingest::IngestError;
use crate::ingest::nearest::{map_flag, map_flag_path, nearest};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use retally_core::contract::Input;
use retally_core::mapping::Origin;
use retally_core::record::{Field, Presence};
use std::sync::Arc;

/// Where the fields of an input are in a file.
pub struct Sought {
    /// Fields of single values: their places, and the columns.
    pub columns: Vec<(usize, usize)>,
    /// Which of these are times by the type of their column, a bit for each place.
    pub times: u64,
    /// Where some field is no single value.
    pub nested: Option<Nested>,
}

/// Columns that hold fields, of which some is no single value.
pub struct Nested {
    /// Their roots.
    pub roots: Vec<String>,
    /// Those of fields that are times: their paths, and how their values become text.
    pub times: Vec<(Vec<String>, Cell)>,
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
            let mut found = None;
            for path in &paths {
                found = PathTarget::find(schema, path, any_case).map_err(|()| {
                    let flag = map_flag(input, field, "COLUMN");
                    let hint = format!("{flag} says which column counts, by a name that stands there once");
                    error(format!("it names {} twice", path.join(".")), hint)
                })?;
                if found.is_some() {
                    break;
                }
            }
            match found {
                None if field.presence == Presence::OfSome => {}
                None => missing.push((place, field)),
                Some(PathTarget::Column(column)) => {
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
                Some(PathTarget::Within(root)) => {
                    nested = true;
                    roots.push(root);
                }
            }
        }
        if !missing.is_empty() {
            let lacking = missing.iter().map(|(place, field)| input.mapping.name(*place, field)).collect::<Vec<_>>().join(", ");
            let named = Named::of(schema);
            let flag = |(place, field): &(usize, &Field)| match named.nearest(input.mapping.name(*place, field)) {
                Some(path) => map_flag_path(input, field, path),
                None => map_flag(input, field, "COLUMN"),
            };
            let flags = missing.iter().map(flag).collect::<Vec<_>>().join(" ");
            return Err(error(format!("it has no column {lacking}"), format!("start from {flags}")));
        }
        roots.sort_unstable();
        roots.dedup();
        let time = |column| Cell::of(&schema.column(column)).filter(|cell| matches!(cell, Cell::Time { .. } | Cell::Date));
        let times =
            columns.iter().filter(|(place, column)| *place < 64 && time(*column).is_some()).fold(0, |times, (place, _)| times | 1 << place);
        let path = |column| schema.column(column).path().parts().to_vec();
        let nested = nested
            .then(|| Nested { roots, times: columns.iter().filter_map(|(_, column)| Some((path(*column), time(*column)?))).collect() });
        Ok(Sought { columns, times, nested })
    }
}

fn shown(schema: &SchemaDescriptor) -> String {
    schema.root_schema().get_fields().iter().map(|field| format!("{:?}", field.name())).collect::<Vec<_>>().join(", ")
}

/// What a field may be meant by: columns of single values, wherever they are, and what else stands in a row.
struct Named {
    /// By their whole paths, and by their last parts; those that stand in a row are the last ones, and count first.
    names: Vec<String>,
    paths: Vec<Vec<String>>,
}

impl Named {
    fn of(schema: &SchemaDescriptor) -> Named {
        let mut named = Named { names: Vec::new(), paths: Vec::new() };
        for column in schema.columns().iter().filter(|column| column.max_rep_level() == 0 && column.path().parts().len() > 1) {
            let parts = column.path().parts();
            named.add(parts.join("."), parts);
            named.add(parts.last().cloned().unwrap_or_default(), parts);
        }
        for root in schema.root_schema().get_fields() {
            named.add(root.name().into(), &[root.name().to_string()]);
        }
        named
    }

    fn add(&mut self, name: String, path: &[String]) {
        self.names.push(name);
        self.paths.push(path.to_vec());
    }

    /// The path of the one whose name is most like this.
    fn nearest(&self, sought: &str) -> Option<&[String]> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let found = nearest(sought, &names)?;
        let place = names.iter().rposition(|name| *name == found)?;
        self.paths.get(place).map(Vec::as_slice)
    }
}

/// Where a path of names leads.
enum PathTarget {
    /// A column of single values.
    Column(usize),
    /// Something else within this root.
    Within(String),
}

impl PathTarget {
    /// An error where several columns are named so: of a name in any case, those that are written so count first.
    fn find(schema: &SchemaDescriptor, path: &[String], any_case: bool) -> Result<Option<PathTarget>, ()> {
        let exactly = PathTarget::find_by(schema, path, |part, name| part == name)?;
        if exactly.is_some() || !any_case {
            return Ok(exactly);
        }
        PathTarget::find_by(schema, path, str::eq_ignore_ascii_case)
    }

    fn find_by(schema: &SchemaDescriptor, path: &[String], is_same: impl Fn(&str, &str) -> bool) -> Result<Option<PathTarget>, ()> {
        let leads = |column: &ColumnDescriptor| {
            let parts = column.path().parts();
            parts.len() >= path.len() && parts.iter().zip(path).all(|(part, name)| is_same(part, name))
        };
        let mut found = schema.columns().iter().enumerate().filter(|(_, column)| leads(column));
        let Some((place, column)) = found.next() else { return Ok(None) };
        let parts = column.path().parts();
        let single = column.max_rep_level() == 0 && parts.len() == path.len();
        // Others may be within the same root, where the path leads to more than one value.
        let is_other = |(other, column): (usize, &Arc<ColumnDescriptor>)| {
            single
                || schema.get_column_root_idx(other) != schema.get_column_root_idx(place)
                || column.path().parts().get(..path.len()) != parts.get(..path.len())
        };
        if found.any(is_other) {
            return Err(());
        }
        Ok(Some(if single { PathTarget::Column(place) } else { PathTarget::Within(parts.first().cloned().unwrap_or_default()) }))
    }
}
