//! Why records were refused, with samples: for people, who look at kinds of faults and not at each record.

use super::super::SinkError;
use super::read::Snapshot;
use retally_core::reasons::kind;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// So many reasons are told apart, and so many records are shown of each.
const REASONS_MAX: usize = 200;
const SAMPLES_MAX: usize = 3;
/// Stands for those that are not told apart.
const OTHERS: &str = "other reasons";

/// Records that were refused for a reason.
#[derive(Debug, Serialize)]
pub struct Refused {
    /// The input that they were delivered for.
    pub input: String,
    /// The reason: where it is not the same of all, without the values in it.
    pub reason: String,
    /// How many.
    pub records: u64,
    /// The first of them.
    pub samples: Vec<Sample>,
}

/// A record that was refused.
#[derive(Debug, Serialize)]
pub struct Sample {
    /// The file, as given.
    pub source: Option<String>,
    /// Its line, from 1.
    pub line: Option<i64>,
    /// Its first bytes.
    pub raw: Option<String>,
}

impl Snapshot<'_> {
    /// Why records of a dataflow were refused, the most frequent reason first.
    pub fn reasons(&self, dataflow: &str) -> Result<Vec<Refused>, SinkError> {
        let read = || {
            let query = "SELECT input, reason, source, line, raw FROM rejected WHERE dataflow = ?1";
            let mut statement = self.transaction.prepare(query)?;
            let (mut rows, mut found) = (statement.query([dataflow])?, BTreeMap::<(String, String), Refused>::new());
            while let Some(row) = rows.next()? {
                let (input, reason) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
                let mut of = (input.to_string(), kind(reason));
                if found.len() >= REASONS_MAX && !found.contains_key(&of) {
                    of.1 = OTHERS.into();
                }
                let refused = found.entry(of.clone()).or_insert_with(|| Refused {
                    input: input.into(),
                    reason: reason.into(),
                    records: 0,
                    samples: Vec::new(),
                });
                refused.records += 1;
                if refused.reason != reason {
                    refused.reason = of.1;
                }
                if refused.samples.len() < SAMPLES_MAX {
                    refused.samples.push(Sample { source: row.get(2)?, line: row.get(3)?, raw: row.get(4)? });
                }
            }
            let mut found: Vec<Refused> = found.into_values().collect();
            found.sort_by_key(|refused| Reverse(refused.records));
            Ok(found)
        };
        read().map_err(|error: rusqlite::Error| self.failed(&error))
    }
}
