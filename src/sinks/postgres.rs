//! Tables in a PostgreSQL database: `postgres://USER@HOST/DATABASE`.
//!
//! Tables are made and looked for in the first schema of the user's search path. All that a run writes is one transaction: rows come by
//! COPY, other writers wait, and readers see the tables of before until it is committed. The password is in the URL or in `PGPASSWORD`, and
//! is never shown. Connections are encrypted where the server takes that, or as `sslmode` says ([`super::tls`]).
//!
//! # Limits
//! A key of more than about 2,700 bytes does not fit into PostgreSQL's index.

use super::copy::{self, TooLarge};
use super::relation::{Dialect, Existing, Relation, quoted};
use super::relational::{self, PROGRESS, Reached, Session};
use super::server::{Became, Connection, Way};
use super::server_error::ServerError;
use super::tls::{self, Asked, Tls};
use super::{Applied, Deletions, Held, Sink, SinkError};
use crate::interrupt::Section;
use crate::lock::host;
use crate::tables::TableState;
use retally_core::contract::Table;
use retally_core::row::RowBatch;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Statement};

/// How long a server is waited for.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// After how long without a sign of life a server counts as gone, where nothing else is asked for.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long another writer is waited for, unless the connection has a `lock_timeout` of its own.
const LOCK_WAIT: &str = "10s";
/// What writers of this program hold while they write: no two make the same table.
const WRITER_LOCK: i64 = 0x0072_6574_616c_6c79;
/// So long may the name of a connection be.
const NAME_BYTES_MAX: usize = 63;
/// Bytes that are collected before they are sent.
const BUFFER_BYTES: usize = 1 << 17;

/// A database on a server.
pub struct Postgres {
    way: Way,
    place: String,
    /// How long a server may be silent.
    silence_max: Duration,
    /// The connection, as long as it is not lost.
    kept: Option<Kept>,
}

/// A connection, and the statements that are prepared in it.
struct Kept {
    connection: Connection,
    prepared: BTreeMap<String, Statement>,
}

impl Postgres {
    /// The database at `url`, which must be there. Refuses one that could not take these tables.
    pub fn open<'t>(url: &str, tables: impl Iterator<Item = &'t Table>) -> Result<Postgres, SinkError> {
        Postgres::open_within(url, tables, SILENCE_MAX)
    }

    /// The same, on a network where a server that is silent for so long counts as gone.
    pub fn open_within<'t>(url: &str, tables: impl Iterator<Item = &'t Table>, silence_max: Duration) -> Result<Postgres, SinkError> {
        let refused = |place: &str, why: String, hint| SinkError::Database { place: place.into(), why, hint };
        let (rest, asked) = Asked::take(url, tls::variable).map_err(|(why, hint)| refused("postgres://…", why.into(), hint))?;
        let mut config: Config = rest.parse().map_err(|error| failed("postgres://…", &ServerError::Postgres(error)))?;
        if config.get_password().is_none()
            && let Some(password) = std::env::var_os("PGPASSWORD")
        {
            config.password(password.as_encoded_bytes());
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WAIT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(silence_max);
        }
        if config.get_application_name().is_none() {
            // Who else wants to write is told of it.
            let name: String = format!("retally {} on {}", std::process::id(), host());
            config.application_name(name.chars().filter(char::is_ascii).take(NAME_BYTES_MAX).collect::<String>());
        }
        let place = place(&config);
        let tls =
            Tls::new(&asked).map_err(|why| refused(&place, why, "nothing was written; sslrootcert is a file of certificates in PEM"))?;
        tls.configure(&mut config);
        let mut postgres = Postgres { way: Way { config, tls }, place, silence_max, kept: None };
        postgres.read(|session| relational::check(session, tables))?;
        Ok(postgres)
    }

    /// The connection that was kept, if it gives a sign of life; otherwise a new one.
    fn connection(&mut self) -> Result<Kept, SinkError> {
        match self.kept.take().filter(|kept| kept.connection.is_alive()) {
            Some(kept) => Ok(kept),
            None => {
                let connection = Connection::open(&self.way, self.silence_max).map_err(|error| failed(&self.place, &error))?;
                Ok(Kept { connection, prepared: BTreeMap::new() })
            }
        }
    }

    /// Looks at what is there.
    fn read<T>(&mut self, work: impl FnOnce(&mut Transaction<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        self.look("BEGIN READ ONLY", work)
    }

    /// Does something in a transaction that is rolled back.
    fn look<T>(&mut self, begin: &str, work: impl FnOnce(&mut Transaction<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let mut kept = self.connection()?;
        let mut open = Transaction { connection: &kept.connection, prepared: &mut kept.prepared, place: &self.place };
        open.batch(begin)?;
        let answer = work(&mut open)?;
        open.batch("ROLLBACK")?;
        self.kept = Some(kept);
        Ok(answer)
    }

    /// All in one transaction, or nothing. When the answer to its end is lost, the server is asked what became of it.
    fn write<T>(&mut self, work: impl FnOnce(&mut Transaction<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let mut kept = self.connection()?;
        let mut open = Transaction { connection: &kept.connection, prepared: &mut kept.prepared, place: &self.place };
        open.batch("BEGIN")?;
        self.keep_writers_away(&open)?;
        let answer = work(&mut open)?;
        let transaction = open.first("SELECT txid_current()::text", 1)?.and_then(|row| row.into_iter().next()?).unwrap_or_default();
        let section = Section::begin();
        let is_kept = match open.connection.batch("COMMIT") {
            Ok(()) => true,
            // A server that is shut down says so, and not whether it was done.
            Err(ServerError::Postgres(error)) if error.code().is_some_and(|code| !is_shutdown(code)) => {
                return Err(failed(&self.place, &ServerError::Postgres(error)));
            }
            Err(lost) => match open.connection.look_up(&transaction) {
                Became::Done => false,
                Became::NotDone => {
                    let why = format!("{lost}; the server has rolled all of it back");
                    return Err(SinkError::Database { place: self.place.clone(), why, hint: AWAY });
                }
                Became::Unknown(why) => {
                    let why = format!("{lost}; and it can't be looked up: {why}");
                    return Err(SinkError::Undecided { place: self.place.clone(), why });
                }
            },
        };
        section.published();
        self.kept = is_kept.then_some(kept);
        Ok(answer)
    }

    /// Waits for other writers. One that goes on is named.
    fn keep_writers_away(&self, open: &Transaction<'_>) -> Result<(), SinkError> {
        let statements = format!(
            "SELECT set_config('lock_timeout', '{LOCK_WAIT}', true) WHERE current_setting('lock_timeout') = '0'; \
             SELECT pg_advisory_xact_lock({WRITER_LOCK})"
        );
        open.connection.batch(&statements).map_err(|error| match &error {
            ServerError::Postgres(refused) if refused.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let holder = self.writer().unwrap_or_else(|| "another process".into());
                SinkError::InUse { place: self.place.clone(), holder }
            }
            _ => failed(&self.place, &error),
        })
    }

    /// Who writes, in words.
    fn writer(&self) -> Option<String> {
        let connection = Connection::open(&self.way, self.silence_max).ok()?;
        let query = format!(
            "SELECT a.application_name, coalesce(host(a.client_addr), 'its own host'), coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '?') FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.granted \
             AND l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND (l.classid::bigint << 32 | l.objid::bigint) = {WRITER_LOCK}"
        );
        let rows = connection.query(&query, &[]).ok()?;
        let row = rows.first()?;
        let text = |place: usize| row.try_get::<_, String>(place).unwrap_or_default();
        Some(format!("{:?} (from {}, since {})", text(0), text(1), text(2)))
    }
}

impl Sink for Postgres {
    fn bring(&mut self, tables: &[&TableState], reached: &Reached, deletions: Deletions) -> Result<Vec<String>, SinkError> {
        let differences = self.write(|session| relational::bring(session, tables, reached, deletions))?;
        Ok(super::differences(tables, &differences, &self.place))
    }

    fn reached(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        self.read(|session| relational::reached(session, dataflow))
    }

    fn apply(&mut self, tables: &[Table], changes: &BTreeMap<String, Vec<RowBatch>>, reached: [&Reached; 2]) -> Result<Applied, SinkError> {
        self.write(|session| relational::apply(session, tables, changes, reached))
    }

    /// What is there is that of one moment. (Where nothing may be written, no temporary table can be made either.)
    fn compare(&mut self, tables: &[&TableState], dataflow: &str) -> Result<Option<Held>, SinkError> {
        self.look("BEGIN ISOLATION LEVEL REPEATABLE READ", |session| relational::compare(session, tables, dataflow))
    }

    fn check_left_out(&mut self, left_out: &[Table], dataflow: &str, fingerprint: &str) -> Result<(), SinkError> {
        self.read(|session| relational::check_left_out(session, left_out, dataflow, fingerprint))
    }
}

/// A transaction under way.
struct Transaction<'c> {
    connection: &'c Connection,
    prepared: &'c mut BTreeMap<String, Statement>,
    place: &'c str,
}

impl Transaction<'_> {
    fn batch(&self, statements: &str) -> Result<(), SinkError> {
        self.connection.batch(statements).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &ServerError) -> SinkError {
        failed(self.place, error)
    }
}

/// The table of this name in the schema where we would make it.
const OURS: &str = "c.relname = $1 AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";

impl Session for Transaction<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn place(&self) -> &str {
        self.place
    }

    fn execute(&mut self, statement: &str) -> Result<u64, SinkError> {
        self.connection.execute(statement).map_err(|error| self.failed(&error))
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
        let read = || {
            let columns = self.connection.query(&columns, &[&name])?;
            let columns = columns.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, ServerError>>()?;
            let keys = self.connection.query(&keys, &[&name])?;
            let keys = keys.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_, ServerError>>()?;
            Ok((!columns.is_empty()).then_some(Existing { columns, keys }))
        };
        read().map_err(|error| self.failed(&error))
    }

    fn meddlers(&mut self, name: &str) -> Result<bool, SinkError> {
        let query = format!(
            "SELECT 1 FROM pg_class c WHERE {OURS} AND (c.relrowsecurity OR EXISTS (SELECT 1 FROM pg_rewrite r WHERE r.ev_class = c.oid) \
             OR EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal))"
        );
        let rows = self.connection.query(&query, &[&name]).map_err(|error| self.failed(&error))?;
        Ok(!rows.is_empty())
    }

    fn progress(&mut self, dataflow: &str) -> Result<Option<Reached>, SinkError> {
        let query = format!("SELECT epoch, fingerprint FROM {PROGRESS} WHERE dataflow = $1");
        let read = || {
            let rows = self.connection.query(&query, &[&dataflow])?;
            let Some(row) = rows.first() else { return Ok(None) };
            let epoch: i64 = row.try_get(0)?;
            Ok(Some(Reached { dataflow: dataflow.into(), epoch: epoch.unsigned_abs(), fingerprint: row.try_get(1)? }))
        };
        read().map_err(|error: ServerError| self.failed(&error))
    }

    fn first(&mut self, query: &str, width: usize) -> Result<Option<Vec<Option<String>>>, SinkError> {
        let read = || {
            let rows = self.connection.query(query, &[])?;
            let Some(row) = rows.first() else { return Ok(None) };
            (0..width).map(|place| Ok(row.try_get(place)?)).collect::<Result<Vec<_>, ServerError>>().map(Some)
        };
        read().map_err(|error| self.failed(&error))
    }

    fn lock(&mut self, name: &str) -> Result<(), SinkError> {
        self.execute(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", quoted(name))).map(drop)
    }

    fn load(&mut self, into: &str, relation: &Relation, rows: &mut dyn Iterator<Item = &[u8]>) -> Result<u64, SinkError> {
        let failed = |error: &ServerError| failed(self.place, error);
        let statement = format!("COPY {into} ({}) FROM STDIN BINARY", relation.names());
        let mut copying = self.connection.copy(&statement).map_err(|error| failed(&error))?;
        let mut bytes = Vec::with_capacity(BUFFER_BYTES * 2);
        copy::begin(&mut bytes);
        for row in rows {
            copy::row(relation, row, &mut bytes).map_err(|TooLarge(column)| SinkError::too_large(self.place, relation.name, column))?;
            if bytes.len() >= BUFFER_BYTES {
                copying.send(&bytes).map_err(|error| failed(&error))?;
                bytes.clear();
            }
        }
        copy::end(&mut bytes);
        copying.send(&bytes).map_err(|error| failed(&error))?;
        copying.finish().map_err(|error| failed(&error))
    }

    fn each(&mut self, statement: &str, relation: &Relation, cells: usize, rows: &[&[u8]]) -> Result<u64, SinkError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let prepared = match self.prepared.get(statement) {
            Some(prepared) => prepared.clone(),
            None => {
                let prepared = self.connection.prepare(statement).map_err(|error| self.failed(&error))?;
                self.prepared.insert(statement.into(), prepared.clone());
                prepared
            }
        };
        let mut written = 0;
        for row in rows {
            let parameters = copy::parameters(relation, row, cells);
            let parameters = parameters.map_err(|TooLarge(column)| SinkError::too_large(self.place, relation.name, column))?;
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|parameter| parameter as _).collect();
            written += self.connection.execute_prepared(&prepared, &parameters).map_err(|error| self.failed(&error))?;
        }
        Ok(written)
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
    let parsed = match Asked::take(url, tls::variable) {
        Ok((rest, _)) => rest.parse::<Config>(),
        Err(not_that) => return Some(not_that),
    };
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

const AWAY: &str = "nothing was written; see that the server runs and can be reached, and run again";

fn failed(place: &str, error: &ServerError) -> SinkError {
    let refused = |code| SinkError::Database { place: place.into(), why: error.to_string(), hint: hint(code) };
    let hint = match error {
        ServerError::Postgres(error) => match error.code() {
            Some(code) if !is_shutdown(code) => return refused(code),
            Some(_) | None => AWAY,
        },
        ServerError::Tls { hint, .. } => hint,
        ServerError::Silent(_) => "nothing was written; see that the server runs and can be reached, or wait for longer: --network-timeout",
    };
    SinkError::Away { place: place.into(), why: error.to_string(), hint }
}

fn hint(code: &SqlState) -> &'static str {
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => "look at user and password of the URL, or PGPASSWORD",
        SqlState::INVALID_CATALOG_NAME => "create the database first",
        SqlState::INSUFFICIENT_PRIVILEGE => "nothing was written; the user needs the right to create and change tables",
        SqlState::LOCK_NOT_AVAILABLE => "nothing was written; another process is writing: run again when it is done",
        SqlState::DISK_FULL => "nothing was written; make room on the server and run again",
        SqlState::READ_ONLY_SQL_TRANSACTION => "give the address of the server that takes writes",
        _ => "nothing was written",
    }
}
