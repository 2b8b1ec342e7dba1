//! A connection to a PostgreSQL server on which no wait is without end.
//!
//! A statement that works for long sends nothing meanwhile, so silence alone is no sign. After so much of it as the limit allows, the
//! server is asked on a second connection what the first one does. While it works for us, it may go on; it is given up when it waits for
//! what we have sent, when it is gone, and when nobody answers.
//!
//! # Limits
//! A process of the server that is stopped looks as if it worked. So a statement may take [`WORK_LIMITS`] times the limit at most.

use super::server_error::ServerError;
use super::tls::Tls;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, CopyInSink, Error, Row, Statement};

use bytes::Bytes;
use futures_util::SinkExt;

/// So many limits a statement may take, whatever the server says of it: an hour, where the limit is a minute.
const WORK_LIMITS: u32 = 60;
/// How long a server may take to let us in, where the limit is not less.
const CONNECT_WAIT: Duration = Duration::from_secs(30);
/// How long a server is given to hear that the connection ends.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How long what was found to be answered is given for its other steps, where the limit is not less.
const STEPS_WAIT: Duration = Duration::from_secs(1);
/// How long a connection that was kept is given for a sign of life.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How often a server that is not there, or not done, is asked again what became of a transaction.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How a server is reached.
#[derive(Clone)]
pub(super) struct Way {
    /// Where it is, and who asks.
    pub(super) config: Config,
    /// How that is secured.
    pub(super) tls: Tls,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// All of it is there.
    Done,
    /// Nothing of it is there.
    NotDone,
    /// That could not be found out, and why.
    Unknown(String),
}

/// A connection.
pub(super) struct Connection {
    runtime: Runtime,
    /// Gone when the connection ends.
    client: Option<Client>,
    driving: JoinHandle<()>,
    way: Way,
    /// The server's process that works for it.
    pid: i32,
    limit: Duration,
}

type Parameters<'p> = &'p [&'p (dyn ToSql + Sync)];

impl Connection {
    /// Connects. Whatever is awaited later gives up a server that is silent for so long as `limit`.
    pub(super) fn open(way: &Way, limit: Duration) -> Result<Connection, ServerError> {
        let runtime = runtime()?;
        let (client, driving) = runtime.block_on(connect(way, limit))?;
        let mut connection = Connection { runtime, client: Some(client), driving, way: way.clone(), pid: 0, limit };
        // A server that is told to looks whether its client is still there, also while it works: from version 14 on.
        let checks = "SELECT set_config(name, '5s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'";
        connection.query(checks, &[])?;
        let row = connection.query("SELECT pg_backend_pid()", &[])?;
        connection.pid = row.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0);
        Ok(connection)
    }

    /// Whether it gives a sign of life.
    pub(super) fn is_alive(&self) -> bool {
        self.client().is_ok_and(|client| {
            let asked = async { timeout(ANSWER_WAIT, client.check_connection()).await };
            matches!(self.runtime.block_on(asked), Ok(Ok(())))
        })
    }

    /// Runs statements without parameters, separated by semicolons.
    pub(super) fn batch(&self, statements: &str) -> Result<(), ServerError> {
        self.wait(self.client()?.batch_execute(statements))
    }

    /// Runs a statement, and returns how many rows it wrote.
    pub(super) fn execute(&self, statement: &str) -> Result<u64, ServerError> {
        self.wait(self.client()?.execute(statement, &[]))
    }

    /// Runs a prepared statement, and returns how many rows it wrote.
    pub(super) fn execute_prepared(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<u64, ServerError> {
        self.wait(self.client()?.execute(statement, parameters))
    }

    /// Prepares a statement.
    pub(super) fn prepare(&self, statement: &str) -> Result<Statement, ServerError> {
        self.wait(self.client()?.prepare(statement))
    }

    /// The rows of a query.
    pub(super) fn query(&self, query: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, ServerError> {
        self.wait(self.client()?.query(query, parameters))
    }

    /// Begins a `COPY … FROM STDIN`.
    pub(super) fn copy(&self, statement: &str) -> Result<Copying<'_>, ServerError> {
        let sink = self.wait(self.client()?.copy_in(statement))?;
        Ok(Copying { connection: self, sink: Box::pin(sink) })
    }

    /// What became of a transaction whose COMMIT got no answer: the server is asked on another connection, and is awaited as long as the
    /// limit allows.
    pub(super) fn look_up(&self, transaction: &str) -> Became {
        self.runtime.block_on(async {
            let until = Instant::now() + self.limit;
            loop {
                let why = match status(&self.way, self.limit, transaction).await {
                    Ok(Some(status)) if status == "committed" => return Became::Done,
                    Ok(Some(status)) if status == "aborted" => return Became::NotDone,
                    Ok(Some(_)) => "the server is not done with it".to_string(),
                    Ok(None) => return Became::Unknown("the server does not know the transaction any more".into()),
                    Err(error) => error.to_string(),
                };
                if Instant::now() >= until {
                    return Became::Unknown(why);
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        })
    }

    fn client(&self) -> Result<&Client, ServerError> {
        self.client.as_ref().ok_or_else(|| ServerError::Silent("the connection was closed".into()))
    }

    /// Waits for the server, as long as it works.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, ServerError> {
        self.runtime.block_on(async {
            let mut work = pin!(work);
            let began = Instant::now();
            loop {
                match timeout(self.limit, work.as_mut()).await {
                    Ok(done) => return Ok(done?),
                    Err(_) if began.elapsed() >= self.limit.saturating_mul(WORK_LIMITS) => {
                        let cancel = self.client()?.cancel_token();
                        timeout(CLOSE_WAIT, cancel.cancel_query(self.way.tls.connector())).await.ok();
                        return Err(ServerError::Silent(format!("the server was not done after {:.0?}", began.elapsed())));
                    }
                    Err(_) => {
                        if let Err(silent) = self.is_working().await {
                            // The answer may have been there all the time: this process itself can have been stopped. Work of several steps
                            // sends the next one then.
                            return timeout(self.limit.min(STEPS_WAIT), work.as_mut()).await.map_or(Err(silent), |done| Ok(done?));
                        }
                    }
                }
            }
        })
    }

    /// Asks on a second connection whether the server works for this one.
    async fn is_working(&self) -> Result<(), ServerError> {
        let silent = |why: String| ServerError::Silent(format!("the server has given no answer for {:?}, and {why}", self.limit));
        let asked = async {
            let (client, _driving) = connect(&self.way, self.limit).await?;
            let query = "SELECT state = 'active' AND wait_event IS DISTINCT FROM 'ClientRead' FROM pg_stat_activity WHERE pid = $1";
            Ok(client.query_opt(query, &[&self.pid]).await?.map(|row| row.try_get::<_, Option<bool>>(0)))
        };
        match timeout(self.limit, asked).await {
            Err(_) => Err(silent("none on a second connection".into())),
            // It is there, and busy.
            Ok(Err(ServerError::Postgres(error))) if error.as_db_error().is_some() => Ok(()),
            Ok(Err(error)) => Err(silent(format!("a second connection fails: {error}"))),
            Ok(Ok(None)) => Err(silent("has ended this connection".into())),
            Ok(Ok(Some(Ok(Some(false))))) => Err(silent("is waiting for what it has not received".into())),
            Ok(Ok(Some(_))) => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.client.take());
        let driving = &mut self.driving;
        self.runtime.block_on(async { timeout(CLOSE_WAIT, driving).await.ok() });
    }
}

/// Rows on their way into a table.
pub(super) struct Copying<'c> {
    connection: &'c Connection,
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

impl Copying<'_> {
    /// Sends a part of them.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), ServerError> {
        let Copying { connection, sink } = self;
        connection.wait(sink.send(Bytes::copy_from_slice(bytes)))
    }

    /// Ends them, and returns how many were written.
    pub(super) fn finish(mut self) -> Result<u64, ServerError> {
        self.connection.wait(self.sink.as_mut().finish())
    }
}

/// One thread drives it, while it waits.
fn runtime() -> Result<Runtime, ServerError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| ServerError::Silent(format!("could not wait for a connection: {error}")))
}

async fn connect(way: &Way, limit: Duration) -> Result<(Client, JoinHandle<()>), ServerError> {
    let wait = limit.min(CONNECT_WAIT);
    match timeout(wait, way.tls.connect(&way.config)).await {
        Ok(connected) => {
            let (client, connection) = connected?;
            // Its end is noticed by whoever waits for an answer.
            let driving = tokio::spawn(async move { drop(connection.await) });
            Ok((client, driving))
        }
        Err(_) => Err(ServerError::Silent(format!("the server did not let us in within {wait:?}"))),
    }
}

/// The server's word for what became of a transaction; nothing where it has forgotten it.
async fn status(way: &Way, limit: Duration, transaction: &str) -> Result<Option<String>, ServerError> {
    let asked = async {
        let (client, _driving) = connect(way, limit).await?;
        Ok(client.query_one("SELECT txid_status($1::text::bigint)", &[&transaction]).await?.try_get(0)?)
    };
    let silent = || ServerError::Silent(format!("the server has given no answer for {limit:?}"));
    timeout(limit, asked).await.unwrap_or_else(|_| Err(silent()))
}
