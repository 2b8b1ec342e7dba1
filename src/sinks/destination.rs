//! What a user calls a sink: a folder, `sqlite:PATH`, or `postgres://…`.
//!
//! A URL holds a password as a rule, so none is ever shown as it was given.

use super::{Directory, Format, Postgres, Sink, SinkError, Sqlite};
use crate::shown;
use retally_core::contract::Table;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where tables are to go.
#[derive(Clone, PartialEq, Eq)]
pub enum Destination {
    /// A folder with a file for each table.
    Directory(PathBuf),
    /// An SQLite database in a file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by its URL.
    Postgres(String),
}

/// The text is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't write tables to {shown:?}: {why}")]
pub struct UnknownDestination {
    shown: String,
    why: &'static str,
    /// What would be right.
    pub hint: &'static str,
}

impl Destination {
    /// Reads a destination.
    pub fn parse(text: &str) -> Result<Destination, UnknownDestination> {
        let unknown = |why, hint| Err(UnknownDestination { shown: named(text), why, hint });
        if let Some(path) = text.strip_prefix("sqlite:") {
            return match path {
                "" => unknown("the path is missing", "give sqlite:PATH"),
                ":memory:" => unknown("a database in memory would be gone at once", "give sqlite:PATH"),
                path if shown::has_secret(path) => unknown("that is no path of this machine", "give sqlite:PATH"),
                path if path.starts_with("//") => {
                    unknown("that is a URL", "give sqlite:PATH, such as sqlite:tables.db or sqlite:/data/tables.db")
                }
                path if path.starts_with("file:") => {
                    unknown("it is a URI, and its parameters would be lost", "give sqlite:PATH; ./file:NAME, where a file is called that")
                }
                path => Ok(Destination::Sqlite(path.into())),
            };
        }
        if text.is_empty() {
            return unknown("the path is missing", KINDS);
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some("postgres" | "postgresql") => match super::postgres::why_not(text) {
                None => Ok(Destination::Postgres(text.into())),
                Some((why, hint)) => unknown(why, hint),
            },
            _ if text.starts_with("changes:") => {
                unknown("a file of changes is of a service", "give it to retally serve; of a run, --changes FILE")
            }
            _ if text.starts_with("webhook:") => unknown("webhooks are of a service", "give it to retally serve"),
            Some(_) => unknown(NO_SUCH_KIND, KINDS),
            None if is_parameters(text) => unknown("parameters of a connection are not read", "give postgres://USER@HOST/DATABASE"),
            // A folder that is there is meant, whatever it is called.
            None if Path::new(text).is_dir() => Ok(Destination::Directory(text.into())),
            None if text == "-" => unknown("that is standard output, and tables go to files", "give a folder"),
            None if is_elsewhere(text) => unknown("that is a place on another machine", KINDS),
            None if has_scheme(text) => {
                unknown(NO_SUCH_KIND, "give a folder (./NAME: for one with a colon), sqlite:PATH or postgres://USER@HOST/DATABASE")
            }
            None if shown::has_secret(text) => unknown("that is a URL without its scheme, or has a password in it", KINDS),
            None if is_database(text) => unknown("that is the name of a file with a database", "give sqlite:PATH, or the name of a folder"),
            None if is_table(text) => {
                unknown("that is the name of one file, and tables go to a folder", "give a folder; --format says how its files are written")
            }
            None => Ok(Destination::Directory(text.into())),
        }
    }

    /// Reads a destination that may say how its files are written: `csv:DIR`, `json:DIR` or `parquet:DIR`.
    pub fn with_format(text: &str) -> Result<(Destination, Format), UnknownDestination> {
        let (place, format) = match text.split_once(':') {
            Some((kind, place)) if let Some(format) = Format::named(kind) => (place, format),
            _ => (text, Format::default()),
        };
        match place {
            "" if !text.is_empty() => {
                let hint = "give csv:DIR, json:DIR or parquet:DIR";
                Err(UnknownDestination { shown: text.into(), why: "the path is missing", hint })
            }
            place => Ok((Destination::parse(place)?, format)),
        }
    }

    /// Opens it for these tables, and keeps other writers away. A place that is away, in use, or could not take them is refused here,
    /// before anything is computed. A server that is silent for longer than `silence_max` counts as gone.
    pub fn open<'t>(
        &self,
        format: Format,
        mut tables: impl Iterator<Item = &'t Table>,
        silence_max: Duration,
    ) -> Result<Box<dyn Sink>, SinkError> {
        Ok(match self {
            Destination::Directory(path) => Box::new(Directory::open(path, format)?),
            Destination::Sqlite(path) => Box::new(Sqlite::open(path, &mut tables)?),
            Destination::Postgres(url) => Box::new(Postgres::open_within(url, &mut tables, silence_max)?),
        })
    }

    /// Whether it is a folder with files, which have a format.
    pub fn has_files(&self) -> bool {
        matches!(self, Destination::Directory(_))
    }
}

const NO_SUCH_KIND: &str = "there is no such kind of destination";
const KINDS: &str = "give a folder, sqlite:PATH or postgres://USER@HOST/DATABASE";

/// `me@host:tables`, as programs that copy files have it.
fn is_elsewhere(text: &str) -> bool {
    text.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'))
}

/// `duckdb:tables`, `C:tables`: what stands before a colon is no part of a path.
fn has_scheme(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// `host=db user=me`, `Server=db;Database=x`: how some programs name a database.
fn is_parameters(text: &str) -> bool {
    const NAMES: [&str; 13] = [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "service",
        "sslmode",
        "server",
        "data source",
        "database",
        "driver",
        "uid",
    ];
    text.split_once('=').is_some_and(|(name, _)| NAMES.iter().any(|known| known.eq_ignore_ascii_case(name.trim())))
}

fn is_database(text: &str) -> bool {
    let endings = [".sqlite", ".sqlite3", ".db", ".db3", ".duckdb"];
    endings.iter().any(|ending| text.to_ascii_lowercase().ends_with(ending))
}

fn is_table(text: &str) -> bool {
    let endings = [".csv", ".json", ".jsonl", ".ndjson", ".parquet"];
    endings.iter().any(|ending| text.to_ascii_lowercase().ends_with(ending))
}

/// Of a URL that is wrong, any part may be the password.
fn named(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…"),
        None if is_parameters(text) => text.split_once('=').map_or("…".into(), |(name, _)| format!("{name}=…")),
        None => shown::location(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Destination::parse(text).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_a_destination() {
        let parse = |text: &str| Destination::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert!(parse("out/tables") == Destination::Directory("out/tables".into()));
        assert!(parse("sqlite:/a/b.sqlite") == Destination::Sqlite("/a/b.sqlite".into()));
        for url in ["postgres://me:secret@host/db", "postgresql://host:5433/db?sslmode=disable", "postgres://host/db?sslmode=verify-full"] {
            assert!(parse(url) == Destination::Postgres(url.into()));
        }
        assert_eq!(error("sqlite:"), "can't write tables to \"sqlite:\": the path is missing");
        assert_eq!(error(""), "can't write tables to \"\": the path is missing");
        for text in ["", "csv:", "json:", "parquet:"] {
            let error = Destination::with_format(text).map(drop).unwrap_err().to_string();
            assert_eq!(error, format!("can't write tables to {text:?}: the path is missing"));
        }
        for uri in ["sqlite:file:x?mode=memory", "sqlite:file::memory:", "sqlite:file:/a/b.sqlite"] {
            assert!(error(uri).ends_with("it is a URI, and its parameters would be lost"), "{uri}");
        }
        assert!(parse("sqlite:./file:x") == Destination::Sqlite("./file:x".into()));
        assert_eq!(error("mysql://me@host/db"), "can't write tables to \"mysql://…\": there is no such kind of destination");
        assert_eq!(error("duckdb:x"), "can't write tables to \"duckdb:x\": there is no such kind of destination");
        assert_eq!(error("password=secret host=db"), "can't write tables to \"password=…\": parameters of a connection are not read");
        for (text, why) in [
            ("sqlite://x.db", "that is a URL"),
            ("-", "that is standard output, and tables go to files"),
            ("me@host:tables", "that is a place on another machine"),
            ("C:\\tables", "there is no such kind of destination"),
            ("Server=db;Database=x", "parameters of a connection are not read"),
        ] {
            assert!(error(text).ends_with(&format!(": {why}")), "{text}: {}", error(text));
        }
        assert_eq!(error("tables.db"), "can't write tables to \"tables.db\": that is the name of a file with a database");
        assert!(error("out/daily.CSV").contains("one file"));
        for folder in ["./duckdb:x", "a/b:c", "day=2024-03-01", "x.y", "C"] {
            assert!(parse(folder) == Destination::Directory(folder.into()));
        }
    }

    /// Whatever is wrong with a URL, and wherever the password ends up by it.
    #[test]
    fn no_password_is_shown() {
        for url in [
            "postgress://me:hunter2@host/db",
            "postgres://me:hunter2@hunter2@host/db",
            "postgres://me:hunter2",
            "postgres://host:port/db?password=hunter2",
            "postgres://host/db?hunter2",
            "postgres://host/db?hunter2=1",
            "postgres://me:hunter2@host/db?sslmode=verify-fully",
            "postgres://me%ff:hunter2@host/db",
            "postgres:/me:hunter2@host/db",
            "postgres//me:hunter2@host/db",
            "me:hunter2@host/db",
            "sqlite://me:hunter2@host/db",
        ] {
            let error = error(url);
            assert!(!error.is_empty() && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
