//! What `query`, `why` and `rejected list` ask for.

use super::args;
use super::error::CliError;
use super::suggest::nearest;
use crate::registry;
use clap::ArgMatches;
use retally_core::contract::{Graph, Table};
use retally_core::row::ColumnType;
use std::collections::BTreeMap;

/// What is asked for: `DATAFLOW.TABLE`, and what else was said.
pub struct Asked<'m> {
    /// The dataflow.
    pub dataflow: &'m str,
    /// The table.
    pub table: &'m str,
    /// The whole of what was said.
    pub matches: &'m ArgMatches,
}

impl<'m> Asked<'m> {
    /// That of a command line.
    pub fn of(matches: &'m ArgMatches) -> Result<Asked<'m>, CliError> {
        let name = matches.get_one::<String>("measurement").map_or("", String::as_str);
        let Some((dataflow, table)) = name.split_once('.') else {
            return Err(CliError::usage(format!("{name:?} is not DATAFLOW.TABLE")));
        };
        Ok(Asked { dataflow, table, matches })
    }

    /// What a flag gives, where the command has it.
    pub fn text(&self, name: &str) -> Option<&str> {
        // Not every command has them all.
        self.matches.try_get_one::<String>(name).ok().flatten().map(String::as_str)
    }

    /// The graph of the dataflow, under the settings that its tables were made with, or the usual ones.
    pub fn graph(&self, settings: Option<&BTreeMap<String, String>>) -> Result<Box<dyn Graph>, CliError> {
        let dataflow = registry::dataflow(self.dataflow).ok_or_else(|| {
            let names: Vec<&str> = registry::dataflows().iter().map(|dataflow| dataflow.definition().name).collect();
            CliError::usage(format!("there is no dataflow {:?}", self.dataflow)).hint(nearest("dataflow", self.dataflow, &names))
        })?;
        let settings = args::known_settings(&dataflow.definition().settings, settings.cloned().unwrap_or_default());
        dataflow.graph(&settings).map_err(|error| CliError::failed(error.to_string()))
    }

    /// The table that is asked for, of this graph; `is_known`: under the settings that it was made with.
    pub fn table(&self, graph: &dyn Graph, is_known: bool) -> Result<Table, CliError> {
        let mut tables = graph.tables();
        tables.push(Table::rejected());
        let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
        let hint = nearest("table", self.table, &names);
        let Some(mut table) = tables.into_iter().find(|table| table.name == self.table) else {
            return Err(CliError::usage(format!("{} has no table {:?}", self.dataflow, self.table)).hint(hint));
        };
        if !is_known {
            // Labels may be others, and are texts then.
            table
                .columns
                .iter_mut()
                .filter(|column| matches!(column.kind, ColumnType::Label(_)))
                .for_each(|column| column.kind = ColumnType::Text);
        }
        Ok(table)
    }

    /// `COLUMN=VALUE`, as given.
    pub fn conditions(&self) -> Result<Vec<(String, String)>, CliError> {
        let given = self.matches.get_many::<String>("tags").into_iter().flatten();
        given
            .map(|given| {
                let parts = given.split_once('=').map(|(column, value)| (column.to_string(), value.to_string()));
                parts.ok_or_else(|| CliError::usage(format!("{given:?} is not COLUMN=VALUE")))
            })
            .collect()
    }
}
