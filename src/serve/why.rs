//! What is told of each change of a row besides what the tables know: how many of its batch's records were of the row's key.

use crate::state::StateError;
use crate::state::counts::Sought;
use crate::state::files::Files;
use crate::state::frame::Only;
use retally_core::Epoch;
use retally_core::contract::{Definition, Graph, Table};
use retally_core::ids::Ids;
use serde_json::Value;
use std::collections::BTreeMap;

/// Gives each change of a row its `records`: `null` where no column of the key is a field of records, where the files of the batch are
/// folded, or where they are large.
pub fn count(
    history: &mut [Value],
    key: &[(String, String)],
    table: &Table,
    graph: &dyn Graph,
    plain: &Definition,
    files: &Files,
) -> Result<(), StateError> {
    let exact = graph.ids() == Ids::Text;
    let in_key = |column: &str| table.columns.iter().take(table.key_columns).any(|known| known.name == column);
    let value = |column: &str| key.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone());
    let fields = graph.key_fields().iter().filter(|(column, ..)| in_key(column));
    let sought: Vec<Sought<'_>> = fields
        .filter_map(|(column, input, field)| Some(Sought { input, only: Only { field: (*field).into(), value: value(column)?, exact } }))
        .collect();
    let epoch = |change: &Value| change.get("epoch").and_then(Value::as_u64);
    let batch = |change: &Value| Some((epoch(change)?, change.get("batch")?.get("parts")?.as_u64()?));
    let batches: BTreeMap<Epoch, u64> = history.iter().filter_map(batch).collect();
    let counts = if sought.is_empty() { BTreeMap::new() } else { files.records_with(plain, &batches, &sought)? };
    for change in history {
        let records = epoch(change).and_then(|epoch| counts.get(&epoch)).copied();
        if let Some(change) = change.as_object_mut() {
            change.insert("records".into(), records.into());
        }
    }
    Ok(())
}
