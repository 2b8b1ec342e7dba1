//! Tables in a PostgreSQL database: `postgres://USER@HOST/DATABASE`.
//!
//! Tables are made and looked for in the first schema of the user's search path. All that a run writes is one transaction: rows come by
//! COPY, other writers wait, and readers see the tables of before until it is committed. The password is in the URL or in `PGPASSWORD`, and
//! is never shown.
//!
//! # Limits
//! No TLS: `sslmode=require` is refused, and `prefer`, the default, goes without. A key of more than about 2,700 bytes does not fit into
//! PostgreSQL's index.

use super::copy::{self, TooLarge};
use super::relation::{Dialect, Existing, Relation, quoted};
use super::relational::{self, PROGRESS, Reached, Session};
use super::{Applied, Deletions, Sink, SinkError};
use crate::tables::TableState;
use postgres::config::{Host, SslMode};
use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Statement};
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

/// How long a server is waited for.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// After how long without an answer a server counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a kept connection is given for a sign of life.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long another writer is waited for, unless the connection has a `lock_timeout` of its own.
const LOCK_WAIT: &str = "10s";
/// What writers of this program hold while they write: no two make the same table.
const WRITER_LOCK: i64 = 0x0072_6574_616c_6c79;
/// Bytes that are collected before they are sent.
const BUFFER_BYTES: usize = 1 << 17;

/// A database on a server.
pub struct Postgres {
    config: Config,
    place: String,
    /// The connection, as long as it is not lost.
    kept: Option<Kept>,
}

/// A connection, and the statements that are prepared in it.
struct Kept {
    client: Client,
    prepared: BTreeMap<String, Statement>,
}

impl Postgres {
    /// The database at `url`, which must be there. Refuses one that could not take these tables.
    pub fn open<'t>(url: &str, tables: impl Iterator<Item = &'t Table>) -> Result<Postgres, SinkError> {
        let mut config: Config = url.parse().map_err(|error| failed("postgres://…", &error))?;
        if config.get_password().is_none()
            && let Some(password) = std::env::var_os("PGPASSWORD")
        {
            config.password(password.as_encoded_bytes());
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WAIT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE_MAX);
        }
        if config.get_application_name().is_none() {
            config.application_name("retally");
        }
        let mut postgres = Postgres { place: place(&config), config, kept: None };
        postgres.transact(|session| relational::check(session, tables))?;
        Ok(postgres)
    }

    /// All in one transaction, or nothing.
    fn transact<T>(&mut self, work: impl FnOnce(&mut Open<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let failed = |error| failed(&self.place, &error);
        // A connection may have been lost since: it is asked for a sign of life.
        let kept = self.kept.take().and_then(|mut kept| kept.client.is_valid(ANSWER_WAIT).is_ok().then_some(kept));
        let mut kept = match kept {
            Some(kept) => kept,
            None => Kept { client: self.config.connect(NoTls).map_err(failed)?, prepared: BTreeMap::new() },
        };
        let answer = {
            let transaction = kept.client.transaction().map_err(failed)?;
            let mut open = Open { transaction, prepared: &mut kept.prepared, place: &self.place };
            let answer = work(&mut open)?;
            open.transaction.commit().map_err(|error| match error.as_db_error() {
                // A server that is shut down says so, and not whether it was done.
                Some(refused) if !is_shutdown(refused.code()) => failed(error),
                _ => SinkError::Undecided { place: self.place.clone(), why: chain(&error) },
            })?;
            answer
        };
        self.kept = Some(kept);
        Ok(answer)
    }
}

impl Sink for Postgres {
    fn bring(&mut self, tables: &[&TableState], reached: &Reached, deletions: Deletions) -> Result<Vec<String>, SinkError> {
        let differences = self.transact(|session| {
            session.keep_writers_away()?;
            relational::bring(session, tables, reached, deletions)
        })?;
        Ok(super::differences(tables, &differences, &self.place))
    }

    fn reached(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        self.transact(|session| relational::reached(session, dataflow))
    }

    fn apply(&mut self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: &Reached) -> Result<Applied, SinkError> {
        self.transact(|session| {
            session.keep_writers_away()?;
            relational::apply(session, tables, changes, reached)
        })
    }
}

/// A transaction under way.
struct Open<'c> {
    transaction: postgres::Transaction<'c>,
    prepared: &'c mut BTreeMap<String, Statement>,
    place: &'c str,
}

impl Open<'_> {
    fn keep_writers_away(&mut self) -> Result<(), SinkError> {
        let statements = format!(
            "SELECT set_config('lock_timeout', '{LOCK_WAIT}', true) WHERE current_setting('lock_timeout') = '0'; \
             SELECT pg_advisory_xact_lock({WRITER_LOCK})"
        );
        self.transaction.batch_execute(&statements).map_err(|error| failed(self.place, &error))
    }
}

/// The table of this name in the schema where we would make it.
const OURS: &str = "c.relname = $1 AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";

impl Session for Open<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn place(&self) -> &str {
        self.place
    }

    fn execute(&mut self, statement: &str) -> Result<u64, SinkError> {
        self.transaction.execute(statement, &[]).map_err(|error| failed(self.place, &error))
    }

    fn existing(&mut self, name: &str) -> Result<Option<Existing>, SinkError> {
        let columns = format!(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             WHERE {OURS} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        );
        let keys = format!(
            "SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
             WHERE {OURS} AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid"
        );
        let mut read = || {
            let columns = self.transaction.query(&columns, &[&name])?;
            let columns = columns.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, _>>()?;
            let keys = self.transaction.query(&keys, &[&name])?;
            let keys = keys.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            Ok((!columns.is_empty()).then_some(Existing { columns, keys }))
        };
        read().map_err(|error: postgres::Error| failed(self.place, &error))
    }

    fn progress(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        let query = format!("SELECT epoch, fingerprint FROM {PROGRESS} WHERE dataflow = $1");
        let mut read = || {
            let Some(row) = self.transaction.query_opt(&query, &[&dataflow])? else { return Ok(None) };
            let epoch: i64 = row.try_get(0)?;
            Ok(Some(Reached { dataflow: dataflow.into(), epoch: epoch.unsigned_abs(), fingerprint: row.try_get(1)? }))
        };
        read().map_err(|error: postgres::Error| failed(self.place, &error))
    }

    fn first(&mut self, query: &str, width: usize) -> Result<Option<Vec<Option<String>>>, SinkError> {
        let mut read = || {
            let Some(row) = self.transaction.query_opt(query, &[])? else { return Ok(None) };
            (0..width).map(|place| row.try_get(place)).collect::<Result<Vec<_>, _>>().map(Some)
        };
        read().map_err(|error: postgres::Error| failed(self.place, &error))
    }

    fn lock(&mut self, name: &str) -> Result<(), SinkError> {
        self.execute(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", quoted(name))).map(drop)
    }

    fn load(&mut self, into: &str, relation: &Relation, rows: &mut dyn Iterator<Item = &[u8]>) -> Result<u64, SinkError> {
        let statement = format!("COPY {into} ({}) FROM STDIN BINARY", relation.names());
        let mut writer = self.transaction.copy_in(&statement).map_err(|error| failed(self.place, &error))?;
        let mut bytes = Vec::with_capacity(BUFFER_BYTES * 2);
        copy::begin(&mut bytes);
        for row in rows {
            copy::row(relation, row, &mut bytes).map_err(|TooLarge(column)| SinkError::too_large(self.place, relation.name, column))?;
            if bytes.len() >= BUFFER_BYTES {
                writer.write_all(&bytes).map_err(|error| broken_off(self.place, &error))?;
                bytes.clear();
            }
        }
        copy::end(&mut bytes);
        writer.write_all(&bytes).map_err(|error| broken_off(self.place, &error))?;
        writer.finish().map_err(|error| failed(self.place, &error))
    }

    fn each(&mut self, statement: &str, relation: &Relation, cells: usize, rows: &[&[u8]]) -> Result<(), SinkError> {
        if rows.is_empty() {
            return Ok(());
        }
        let prepared = match self.prepared.get(statement) {
            Some(prepared) => prepared.clone(),
            None => {
                let prepared = self.transaction.prepare(statement).map_err(|error| failed(self.place, &error))?;
                self.prepared.insert(statement.into(), prepared.clone());
                prepared
            }
        };
        for row in rows {
            let parameters = copy::parameters(relation, row, cells);
            let parameters = parameters.map_err(|TooLarge(column)| SinkError::too_large(self.place, relation.name, column))?;
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|parameter| parameter as _).collect();
            self.transaction.execute(&prepared, &parameters).map_err(|error| failed(self.place, &error))?;
        }
        Ok(())
    }

    fn analyze(&mut self, table: &str) -> Result<(), SinkError> {
        self.execute(&format!("ANALYZE {table}")).map(drop)
    }
}

/// The server, or this connection, is being ended: 57P01 to 57P03.
fn is_shutdown(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
}

/// Why a URL can't be used, and what would be right. It may not be shown.
pub(super) fn why_not(url: &str) -> Option<(&'static str, &'static str)> {
    let parsed = url.parse::<Config>();
    if url.contains("sslmode=verify") || parsed.as_ref().is_ok_and(|config| config.get_ssl_mode() == SslMode::Require) {
        return Some((
            "it asks for TLS, which this program does not speak",
            "give sslmode=disable, and reach the server by a tunnel or a closed network",
        ));
    }
    let sound = parsed.is_ok_and(|config| {
        let named = |host: &Host| {
            matches!(host, Host::Tcp(name) if !name.is_empty() && !name.contains(['@', ':', ' '])) || matches!(host, Host::Unix(_))
        };
        !config.get_hosts().is_empty() && config.get_hosts().iter().all(named)
    });
    (!sound).then_some((
        "it is no URL of PostgreSQL",
        "give postgres://USER:PASSWORD@HOST:PORT/DATABASE, where a password's @ is %40, / is %2F and % is %25",
    ))
}

/// How messages call a database: all but its password and parameters.
fn place(config: &Config) -> String {
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let host = |(place, host): (usize, &Host)| {
        let port = config.get_ports().get(place).or(config.get_ports().first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => path.display().to_string(),
        }
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

/// What a failed COPY wrote is an error of the server within one of writing.
fn broken_off(place: &str, error: &std::io::Error) -> SinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
        Some(error) => failed(place, error),
        None => SinkError::Database { place: place.into(), why: error.to_string(), hint: AWAY },
    }
}

const AWAY: &str = "nothing was written; see that the server runs and can be reached, and run again";

fn failed(place: &str, error: &postgres::Error) -> SinkError {
    let (why, hint) = match error.as_db_error() {
        Some(refused) => (refused.message().to_string(), hint(refused.code())),
        None => (chain(error), AWAY),
    };
    SinkError::Database { place: place.into(), why, hint }
}

/// An error with its causes: the head says what was tried, and the end why not.
fn chain(error: &postgres::Error) -> String {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    why.trim_end_matches('.').into()
}

fn hint(code: &SqlState) -> &'static str {
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => "look at user and password of the URL, or PGPASSWORD",
        SqlState::INVALID_CATALOG_NAME => "create the database first",
        SqlState::INSUFFICIENT_PRIVILEGE => "nothing was written; the user needs the right to create and change tables",
        SqlState::LOCK_NOT_AVAILABLE => "nothing was written; another process is writing: run again when it is done",
        SqlState::DISK_FULL => "nothing was written; make room on the server and run again",
        SqlState::READ_ONLY_SQL_TRANSACTION => "give the address of the server that takes writes",
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => AWAY,
        _ => "nothing was written",
    }
}
