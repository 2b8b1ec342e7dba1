//! How files are read whose names and first bytes do not say it: by flags, by `retally.toml`, and by `--set` of a service.

use super::error::CliError;
use crate::ingest::unpack;
use clap::ArgMatches;
use clap::parser::ValueSource;
use retally_core::definition::{FileOptions, TextFormat};

/// What can be said of files: the names of flags, and of settings.
pub const OPTIONS: [&str; 4] = ["input-format", "encoding", "header", "skip-rows"];
/// Those of a service: bodies say their format, watched files have it in their names, and each is read by its own header.
pub const OF_SERVICE: [&str; 2] = ["encoding", "skip-rows"];
/// What `input-format` may be.
pub const FORMATS: [&str; 4] = ["csv", "json", "jsonl", "parquet"];
/// What `header` may be.
pub const HEADERS: [&str; 1] = ["first"];

/// A value, and what it is of, as people said it: `--encoding`, or `[online] encoding`.
pub struct Given {
    /// What it is of.
    pub of: String,
    /// What it is.
    pub value: String,
}

/// What a command line gives for an option, where its command has it.
pub fn by_flag(matches: &ArgMatches, option: &str) -> Option<Given> {
    // Not every command has all of them.
    let raw = matches.try_get_raw(option).ok().flatten()?.next()?;
    let is_given = matches.value_source(option) == Some(ValueSource::CommandLine);
    is_given.then(|| Given { of: format!("--{option}"), value: raw.to_string_lossy().into_owned() })
}

/// How files are read, by what is said of each option.
pub fn options(said: impl Fn(&str) -> Option<Given>) -> Result<FileOptions, CliError> {
    let one_of = |option: &str, known: &[&str]| -> Result<Option<String>, CliError> {
        match said(option) {
            Some(Given { of, value }) if !known.contains(&value.as_str()) => {
                Err(CliError::usage(format!("{of} is {value:?}")).hint(format!("it can be {}", known.join(", "))))
            }
            said => Ok(said.map(|said| said.value)),
        }
    };
    let format = match one_of("input-format", &FORMATS)?.as_deref() {
        Some("csv") => Some(TextFormat::Csv),
        Some("json" | "jsonl") => Some(TextFormat::Json),
        // Its first bytes say that.
        _ => None,
    };
    let encoding = said("encoding");
    if let Some(Given { of, value }) = encoding.as_ref().filter(|said| unpack::encoding(&said.value).is_none()) {
        let error = CliError::usage(format!("{of} {value:?} is no encoding of text"));
        return Err(error.hint("names are those of browsers: windows-1252, iso-8859-15, utf-16le, shift_jis, gb18030"));
    }
    let skip_rows = match said("skip-rows") {
        None => 0,
        Some(Given { of, value }) => {
            value.parse().map_err(|_| CliError::usage(format!("{of} is {value:?}, and not how many lines are passed over")))?
        }
    };
    let first_header = one_of("header", &HEADERS)?.is_some();
    Ok(FileOptions { format, encoding: encoding.map(|said| said.value), first_header, skip_rows, wide: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: &[(&str, &str)]) -> Result<FileOptions, String> {
        let value = |option: &str| said.iter().find(|(name, _)| *name == option).map(|(_, value)| (*value).to_string());
        options(|option| Some(Given { of: format!("[online] {option}"), value: value(option)? })).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_usual() {
        assert_eq!(of(&[]), Ok(FileOptions::default()));
        let all = of(&[("encoding", "windows-1252"), ("header", "first"), ("skip-rows", "2"), ("input-format", "jsonl")]);
        let encoding = Some("windows-1252".into());
        assert_eq!(all, Ok(FileOptions { format: Some(TextFormat::Json), encoding, first_header: true, skip_rows: 2, wide: None }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (said, why) in [
            (("encoding", "latin"), "[online] encoding \"latin\" is no encoding of text"),
            (("header", "last"), "[online] header is \"last\""),
            (("skip-rows", "-1"), "[online] skip-rows is \"-1\", and not how many lines are passed over"),
            (("input-format", "xml"), "[online] input-format is \"xml\""),
        ] {
            assert_eq!(of(&[said]), Err(why.to_string()));
        }
    }
}
