//! `retally serve --source`: which brokers are read.

use super::error::CliError;
use super::mapping;
use crate::ingest::nearest::there_are;
use crate::serve::served::Served;
use crate::serve::sources::Wanted;
use crate::shown;
use crate::sources::gather::Limits;
use crate::sources::text::MessageFormat;
use crate::sources::url::Url;
use clap::ArgMatches;
use retally_core::contract::{Input, InputKind};
use std::time::Duration;

/// The sources, by flags and by the configuration file.
pub fn sources(matches: &ArgMatches, names: &[&String], dataflows: &[Served]) -> Result<Vec<Wanted>, CliError> {
    let mut given: Vec<String> = matches.get_many::<String>("source").into_iter().flatten().cloned().collect();
    if given.is_empty() {
        given = mapping::read(matches)?.source(names);
    }
    let usual = Limits::default();
    let limits = Limits {
        messages: matches.get_one::<u64>("batch-events").copied().unwrap_or(usual.messages),
        time: matches.get_one::<Duration>("batch-time").copied().unwrap_or(usual.time),
    };
    let mut sources: Vec<Wanted> = Vec::new();
    for text in given {
        let wanted = source(&text, dataflows, limits)?;
        let is_same = |other: &Wanted| (other.dataflow, other.input, &other.url) == (wanted.dataflow, wanted.input, &wanted.url);
        if sources.iter().any(is_same) {
            return Err(CliError::usage(format!("--source {:?} is given twice", wanted.url.shown())).hint("give it once"));
        }
        sources.push(wanted);
    }
    Ok(sources)
}

/// A dataflow that is served with its place, and an input.
pub type Of<'d, 't> = (usize, &'d Served, &'t str);

/// What `DATAFLOW.INPUT` names. `wrong` is the error of what is none.
pub fn served_input<'d, 't>(of: &'t str, dataflows: &'d [Served], wrong: impl Fn() -> CliError) -> Result<Of<'d, 't>, CliError> {
    let (name, input) = of.split_once('.').ok_or_else(&wrong)?;
    let found = dataflows.iter().enumerate().find(|(_, served)| served.name() == name);
    let (place, served) = found.ok_or_else(|| wrong().hint(format!("{name:?} is not served")))?;
    Ok((place, served, input))
}

fn source(text: &str, dataflows: &[Served], limits: Limits) -> Result<Wanted, CliError> {
    let wrong = || CliError::usage(format!("--source {:?} is not DATAFLOW.INPUT=URL", shown::location(text)));
    let (of, url) = text.split_once('=').ok_or_else(wrong)?;
    let (dataflow, served, input) = served_input(of, dataflows, wrong)?;
    let definition = &served.job.definition;
    let (place, input) = definition.inputs.iter().enumerate().find(|(_, known)| known.name == input).ok_or_else(|| {
        let names: Vec<&str> = definition.inputs.iter().map(|input| input.name).collect();
        wrong().hint(format!("the inputs of {} are {}", served.name(), names.join(", ")))
    })?;
    if input.kind != InputKind::Records {
        let error = CliError::usage(format!("--source {of}: messages are records, and this input is of datasets"));
        return Err(error.hint("deliver a folder of datasets by a run with the same state"));
    }
    let url = Url::parse(url).map_err(|error| CliError::usage(format!("--source {of}: {error}")).hint(error.hint))?;
    check_names(of, &url, input)?;
    MessageFormat::new(&url, input)
        .check(&url.shown(), definition, place)
        .map_err(|error| CliError::usage(format!("--source {of}: {error}")).hint("?columns= says what the columns are called, in order"))?;
    Ok(Wanted { dataflow, input: place, url, limits })
}

/// An error where a part of topics, or their keys, is taken for a field that there is not: it would be left out without a word.
fn check_names(of: &str, url: &Url, input: &Input) -> Result<(), CliError> {
    let named = |(place, field)| std::iter::once(input.mapping.name(place, field)).chain(field.aliases.iter().copied());
    let known: Vec<&str> = input.fields.iter().enumerate().flat_map(named).collect();
    let given = url.pattern.iter().flat_map(|pattern| pattern.fields()).map(|name| ("topic", name));
    let unknown = given.chain(url.key.iter().map(|key| ("key", key.as_str()))).find(|(_, name)| {
        let is_it = |known: &&str| known.eq_ignore_ascii_case(name);
        !known.iter().any(is_it)
    });
    let Some((parameter, name)) = unknown else { return Ok(()) };
    let error = CliError::usage(format!("--source {of}: ?{parameter}= names {name:?}, which is no field of {}", input.name));
    Err(error.hint(format!("{}; + stands for a part of topics that is none", there_are(name, &known))))
}
