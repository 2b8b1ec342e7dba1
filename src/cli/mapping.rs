//! How people's own data is read: `--map`, and the mapping and settings of a configuration file.
//!
//! A file has, for each dataflow, its settings by name, and under `map.INPUT` what is said of fields:
//!
//! ```toml
//! [online]
//! timezone = "Europe/Berlin"
//!
//! [online.map.events]
//! timestamp = { column = "ts", format = "unix_ms" }
//! device_id = "imei"
//! user_id   = { value = "0" }
//! connected = { column = "state", true = ["up"], false = ["down"] }
//! ```
//!
//! Flags count more than the file. What is not known is refused by name: a setting that is passed over changes numbers.

use super::error::CliError;
use super::files::{self, Given};
use crate::ingest::nearest::there_are;
use crate::staged::why;
use clap::ArgMatches;
use retally_core::contract::{Definition, Input};
use retally_core::mapping::{Column, Origin, Rule, Truth};
use retally_core::record::Holds;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A configuration file.
#[derive(Debug, Default, Deserialize)]
pub struct File {
    /// Where a service listens.
    pub listen: Option<String>,
    /// Where its state is.
    pub state: Option<String>,
    /// What a state in a bucket needs on this machine.
    pub scratch: Option<String>,
    /// Dataflows by name.
    #[serde(flatten)]
    dataflows: BTreeMap<String, Section>,
}

/// What a file may set for all dataflows.
const OF_ALL: [&str; 3] = ["listen", "state", "scratch"];

/// What it may set for each dataflow besides settings and how files are read.
const OF_SECTIONS: [&str; 6] = ["as-of", "tables", "map", "out", "watch", "source"];

/// What a file sets for a dataflow.
#[derive(Debug, Default, Deserialize)]
pub struct Section {
    /// Fields by input.
    #[serde(default)]
    map: BTreeMap<String, BTreeMap<String, toml::Value>>,
    /// The tables that are built, where not all.
    tables: Option<Vec<String>>,
    /// The time of as-of.
    #[serde(rename = "as-of")]
    as_of: Option<String>,
    /// Where a service writes its tables besides.
    #[serde(default)]
    out: Vec<String>,
    /// The folders that a service watches, by input.
    #[serde(default)]
    watch: BTreeMap<String, String>,
    /// The brokers whose messages a service reads, by input.
    #[serde(default)]
    source: BTreeMap<String, OneOrMore>,
    /// Settings, as they stand there.
    #[serde(flatten)]
    settings: BTreeMap<String, toml::Value>,
    /// The file, as errors name it.
    #[serde(skip)]
    path: Option<String>,
}

/// One text, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// What is said of a field, where that is more than its column.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    column: Option<String>,
    value: Option<toml::Value>,
    format: Option<String>,
    #[serde(rename = "true")]
    yes: Option<Vec<String>>,
    #[serde(rename = "false")]
    no: Option<Vec<String>>,
}

/// Reads the file of `--config`; an empty one where there is no such flag.
pub fn read(matches: &ArgMatches) -> Result<File, CliError> {
    let Some(path) = matches.get_one::<String>("config") else { return Ok(File::default()) };
    file(&text(path)?).map_err(|error| error.within(&format!("--config {path:?}")))
}

/// Reads what the file of `--config` sets for a dataflow; nothing where there is no such flag.
pub fn section(definition: &Definition, matches: &ArgMatches) -> Result<Section, CliError> {
    let Some(path) = matches.get_one::<String>("config") else { return Ok(Section::default()) };
    let section = parse(definition, &text(path)?).map_err(|error| error.within(&format!("--config {path:?}")))?;
    Ok(Section { path: Some(path.clone()), ..section })
}

/// On one line, as all errors are.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let place = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let place = place.map(|line| format!(" in line {line}")).unwrap_or_default();
    format!("TOML parse error{place}: {}", error.message())
}

fn text(path: &str) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| CliError::usage(format!("could not read --config {path:?}: {}", why(&error))))
}

fn file(text: &str) -> Result<File, CliError> {
    let failed = |error: toml::de::Error| CliError::usage(not_toml(text, &error));
    let dataflows: Vec<&str> = crate::registry::dataflows().iter().map(|dataflow| dataflow.definition().name).collect();
    for (name, value) in toml::from_str::<toml::Table>(text).map_err(failed)? {
        match (dataflows.contains(&name.as_str()), value.is_table()) {
            (true, false) => return Err(CliError::usage(format!("{name} is a section, [{name}], and no value"))),
            (false, true) => {
                let error = CliError::usage(format!("[{name}] is no dataflow"));
                return Err(error.hint(format!("dataflows are {}", dataflows.join(", "))));
            }
            (false, false) if !OF_ALL.contains(&name.as_str()) => return Err(not_known(&name, "setting of all dataflows", &name, &OF_ALL)),
            _ => {}
        }
    }
    toml::from_str(text).map_err(failed)
}

fn parse(definition: &Definition, text: &str) -> Result<Section, CliError> {
    let section = file(text)?.dataflows.remove(definition.name).unwrap_or_default();
    let known: Vec<&str> = definition.settings.iter().map(|setting| setting.name).chain(files::OPTIONS).chain(OF_SECTIONS).collect();
    if let Some(unknown) = section.settings.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(not_known(&format!("[{}] {unknown}", definition.name), "setting", unknown, &known));
    }
    Ok(section)
}

impl File {
    /// Where a service of these dataflows writes tables besides, and the tables of which, by their places.
    pub fn out(&self, names: &[&String]) -> Vec<(String, Vec<usize>)> {
        let mut out: Vec<(String, Vec<usize>)> = Vec::new();
        for (place, section) in names.iter().enumerate().filter_map(|(place, name)| Some((place, self.dataflows.get(*name)?))) {
            for given in &section.out {
                match out.iter_mut().find(|(known, _)| known == given) {
                    Some((_, places)) if places.contains(&place) => {}
                    Some((_, places)) => places.push(place),
                    None => out.push((given.clone(), vec![place])),
                }
            }
        }
        out
    }

    /// The brokers whose messages a service of these dataflows reads, as `DATAFLOW.INPUT=URL`.
    pub fn source(&self, names: &[&String]) -> Vec<String> {
        let sections = names.iter().filter_map(|name| Some((name, self.dataflows.get(*name)?)));
        let inputs = sections.flat_map(|(name, section)| section.source.iter().map(move |(input, urls)| (name, input, urls)));
        inputs.flat_map(|(name, input, urls)| urls.all().iter().map(move |url| format!("{name}.{input}={url}"))).collect()
    }

    /// The folders that a service of these dataflows watches, as `DATAFLOW.INPUT=DIR`.
    pub fn watch(&self, names: &[&String]) -> Vec<String> {
        let sections = names.iter().filter_map(|name| Some((name, self.dataflows.get(*name)?)));
        sections.flat_map(|(name, section)| section.watch.iter().map(move |(input, dir)| format!("{name}.{input}={dir}"))).collect()
    }
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

impl Section {
    /// The settings, as texts.
    pub fn settings(&self) -> impl Iterator<Item = (&str, String)> {
        let is_of_files = |(name, _): &(&String, &toml::Value)| files::OPTIONS.contains(&name.as_str());
        self.settings.iter().filter(move |setting| !is_of_files(setting)).map(|(name, value)| (name.as_str(), text_of(value)))
    }

    /// Whether it gives the value of a setting.
    pub fn has(&self, setting: &str) -> bool {
        self.settings.contains_key(setting)
    }

    /// An error of something that it says, with the name of the file.
    pub fn within(&self, error: CliError) -> CliError {
        match &self.path {
            Some(path) => error.within(&format!("--config {path:?}")),
            None => error,
        }
    }

    /// What it says of how the files of its dataflow are read.
    pub fn option(&self, dataflow: &str, option: &str) -> Option<Given> {
        let file = self.path.as_ref().map_or(String::new(), |path| format!("--config {path:?}: "));
        Some(Given { of: format!("{file}[{dataflow}] {option}"), value: text_of(self.settings.get(option)?) })
    }

    /// The tables that are built, where not all.
    pub fn tables(&self) -> Option<&[String]> {
        self.tables.as_deref()
    }

    /// The time of as-of, where it is said.
    pub fn as_of(&self) -> Option<&String> {
        self.as_of.as_ref()
    }

    /// Maps the inputs of a dataflow.
    pub fn map(&self, definition: &mut Definition) -> Result<(), CliError> {
        self.map_all(definition).map_err(|error| self.within(error))
    }

    fn map_all(&self, definition: &mut Definition) -> Result<(), CliError> {
        for (input, fields) in &self.map {
            for (field, said) in fields {
                let name = format!("{input}.{field}");
                let rule = rule(said).map_err(|why| CliError::usage(format!("{name}: {why}")))?;
                set(definition, &name, input, field, rule)?;
            }
        }
        Ok(())
    }
}

/// What a file sets for a field: its column, or a table.
fn rule(said: &toml::Value) -> Result<Rule, String> {
    let said: Said = match said {
        toml::Value::String(column) if column.is_empty() => return Ok(Rule { origin: Origin::Absent, ..Rule::default() }),
        toml::Value::String(column) => return Ok(Rule { origin: Origin::Column(Column::parse(column)), ..Rule::default() }),
        toml::Value::Table(table) => table.clone().try_into().map_err(|error: toml::de::Error| error.message().to_string())?,
        other => return Err(format!("is the name of a column, or a table such as {{ column = \"x\" }}, and not {other}")),
    };
    let origin = match (&said.column, &said.value) {
        (Some(_), Some(_)) => return Err("has both a column and a value".into()),
        (Some(column), None) => Origin::Column(Column::parse(column)),
        (None, Some(value)) => Origin::Constant(text_of(value)),
        (None, None) => Origin::Own,
    };
    let time = said.format.as_ref().map(|format| format.parse()).transpose().map_err(|error| format!("{error}"))?;
    let truth = match (said.yes, said.no) {
        (None, None) => None,
        (Some(yes), Some(no)) => match yes.iter().find(|word| no.contains(word)) {
            Some(word) => return Err(format!("{word:?} is both true and false")),
            None => Some(Truth { yes, no }),
        },
        _ => return Err("needs both, what is true and what is false".into()),
    };
    Ok(Rule { origin, time, truth })
}

/// A value as a flag would have it.
fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(list) => list.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Maps inputs by `--map INPUT.FIELD=COLUMN`. What a file says of a field's times and words remains.
pub fn map<'g>(definition: &mut Definition, given: impl IntoIterator<Item = &'g String>) -> Result<(), CliError> {
    let mut names = BTreeSet::new();
    for given in given {
        let name = given.split_once('=').map_or(given.as_str(), |(name, _)| name);
        if !names.insert(name) {
            return Err(CliError::usage(format!("--map {name} is given twice")));
        }
        map_one(definition, given)?;
    }
    Ok(())
}

/// Maps a field by `INPUT.FIELD=COLUMN`.
fn map_one(definition: &mut Definition, given: &str) -> Result<(), CliError> {
    let parts = given.split_once('=').and_then(|(name, column)| Some((name, name.split_once('.')?, column)));
    let Some((name, (input, field), column)) = parts else {
        let error = CliError::usage(format!("--map {given:?} is not INPUT.FIELD=COLUMN"));
        return Err(error.hint("INPUT.FIELD==VALUE gives all records this value; INPUT.FIELD= says that there is none"));
    };
    let origin = match column.strip_prefix('=') {
        Some(value) => Origin::Constant(value.into()),
        None if column.is_empty() => Origin::Absent,
        None => Origin::Column(Column::parse(column)),
    };
    let known = definition.inputs.iter().find(|known| known.name == input);
    let place = known.and_then(|known| known.fields.iter().position(|known| known.name == field));
    let said = known.zip(place).and_then(|(known, place)| known.mapping.rule(place)).cloned().unwrap_or_default();
    set(definition, &format!("--map {name}"), input, field, Rule { origin, ..said })
}

fn set(definition: &mut Definition, given: &str, input: &str, field: &str, rule: Rule) -> Result<(), CliError> {
    let inputs: Vec<&str> = definition.inputs.iter().map(|input| input.name).collect();
    let Some(input) = definition.inputs.iter_mut().find(|known| known.name == input) else {
        return Err(not_known(given, "input", input, &inputs));
    };
    let Input { fields, mapping, .. } = input;
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    let Some(place) = names.iter().position(|name| *name == field) else { return Err(not_known(given, "field", field, &names)) };
    let holds = fields.get(place).map(|field| field.holds);
    if rule.time.is_some() && holds != Some(Holds::Time) {
        return Err(CliError::usage(format!("{given}: format is of times, and {field} is none")));
    }
    if rule.truth.is_some() && holds != Some(Holds::Truth) {
        return Err(CliError::usage(format!("{given}: true and false are of truth values, and {field} is none")));
    }
    *mapping = mapping.with(fields, place, rule);
    Ok(())
}

fn not_known(given: &str, what: &str, name: &str, known: &[&str]) -> CliError {
    CliError::usage(format!("{given} names no {what}: there is no {name:?}")).hint(there_are(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    fn mapped(text: &str) -> Result<Definition, String> {
        let mut definition = registry::dataflow("online").unwrap().definition();
        let section = parse(&definition, text).map_err(|error| error.to_string())?;
        section.map(&mut definition).map_err(|error| error.to_string())?;
        Ok(definition)
    }

    #[test]
    fn a_file_says_columns_values_formats_and_words() {
        let definition = mapped(
            "[online]\nfleet-sizes = '1-9'\n[online.map.events]\ntimestamp = { column = 'ts', format = 'unix_ms' }\ndevice_id = 'payload.imei'\n\
             user_id = { value = 0 }\nserver_id = ''\nconnected = { true = ['up'], false = ['down'] }\n[active.map.events]\nevent_name = 'x'\n",
        )
        .unwrap();
        let mapping = &definition.inputs[0].mapping;
        assert_eq!(mapping.rule(0).unwrap().time.as_ref().unwrap().to_string(), "unix_ms");
        assert_eq!(mapping.origin(1), &Origin::Column(Column { name: "payload.imei".into(), path: vec!["payload".into(), "imei".into()] }));
        assert_eq!((mapping.origin(2), mapping.origin(3)), (&Origin::Constant("0".into()), &Origin::Absent));
        assert_eq!(mapping.rule(4).unwrap().truth, Some(Truth { yes: vec!["up".into()], no: vec!["down".into()] }));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (text, error) in [
            ("[onlin]\n", "[onlin] is no dataflow"),
            ("[online]\n[onlin]\n", "[onlin] is no dataflow"),
            ("liste = ':1'\n", "liste names no setting of all dataflows: there is no \"liste\""),
            ("tokens = 'x'\n[online]\n", "tokens names no setting of all dataflows"),
            ("online = 1\n", "online is a section, [online], and no value"),
            ("listen = 1\n", "TOML parse error in line 1: "),
            ("[online]\ntimezon = 'UTC'\n", "[online] timezon names no setting: there is no \"timezon\""),
            ("[online.map.event]\nx = 'y'\n", "event.x names no input: there is no \"event\""),
            ("[online.map.events]\ndevice = 'y'\n", "events.device names no field: there is no \"device\""),
            ("[online.map.events]\ndevice_id = { format = 'unix_s' }\n", "events.device_id: format is of times, and device_id is none"),
            ("[online.map.events]\ntimestamp = { true = ['a'], false = ['b'] }\n", "events.timestamp: true and false are of truth values"),
            ("[online.map.events]\ntimestamp = { format = 'no' }\n", "events.timestamp: \"no\" is no format of times"),
            ("[online.map.events]\nconnected = { true = ['up'] }\n", "events.connected: needs both"),
            ("[online.map.events]\nuser_id = { column = 'x', value = '1' }\n", "events.user_id: has both"),
            ("[online.map.events]\nuser_id = { colum = 'x' }\n", "events.user_id: unknown field `colum`"),
            ("[online.map.events]\nuser_id = 7\n", "events.user_id: is the name of a column, or a table"),
            (
                "[online.map.events]\nconnected = { true = ['up', 'on'], false = ['on'] }\n",
                "events.connected: \"on\" is both true and false",
            ),
            ("[online\n", "TOML parse error"),
        ] {
            let found = mapped(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }
}
