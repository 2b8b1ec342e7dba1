//! Why a PostgreSQL server did not do what it was asked for.

use crate::failure;
use std::error::Error as _;
use std::fmt;
use tokio_postgres::Error;

/// Why something could not be done.
#[derive(Debug)]
pub(super) enum ServerError {
    /// The server refused, or the connection is lost.
    Postgres(Error),
    /// The server gives no answer.
    Silent(String),
    /// The connection could not be encrypted, or the server has not shown who it is.
    Tls {
        /// Why.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
}

impl From<Error> for ServerError {
    fn from(error: Error) -> ServerError {
        ServerError::Postgres(error)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Postgres(error) => f.write_str(&chain(error)),
            ServerError::Silent(why) | ServerError::Tls { why, .. } => f.write_str(why),
        }
    }
}

/// An error with its causes: the head says what was tried, and the end why not.
fn chain(error: &Error) -> String {
    if let Some(refused) = error.as_db_error() {
        return refused.message().into();
    }
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    failure::words(why.trim_end_matches('.'))
}
