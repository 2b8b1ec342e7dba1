//! What is answered where something is wrong: a status, a code that stays the same, a message and a hint.

use crate::failure::Kind;
use crate::ingest::IngestError;
use crate::serve::service::{Phase, Refused};
use crate::sinks::SinkError;
use crate::sinks::live::read::{BadQuestion, HistoryError};
use crate::state::StateError;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::fmt;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ApiError {
    /// An error with its status and code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), hint: None }
    }

    /// The request is wrong.
    pub fn bad(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// There is no such thing.
    pub fn missing(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, code, message)
    }

    /// Not now.
    pub fn later(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// It is there, and something else will not have it: to send it again is of no use.
    pub fn not_passed_on(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "sink", message)
    }

    /// Its tables are being made.
    pub fn recovering() -> ApiError {
        ApiError::later("recovering", "its tables are being made").hint("ask again in a moment")
    }

    /// Something is wrong here.
    pub fn failed(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }

    /// With what one can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> ApiError {
        self.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(hint), Some(object)) = (self.hint, error.as_object_mut()) {
            object.insert("hint".into(), hint.into());
        }
        let body = axum::Json(json!({ "error": error }));
        let is_passing = matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT);
        if is_passing { (self.status, [(RETRY_AFTER, "1")], body).into_response() } else { (self.status, body).into_response() }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::Phase(phase) => phase.into(),
            Refused::Full(limit) => ApiError::later("busy", format!("{limit} batches are waiting")).hint("send it again in a moment"),
            Refused::Disk(why) => ApiError::later("disk", why).hint("nothing of the batch is there; make room on the disk"),
        }
    }
}

impl From<Phase> for ApiError {
    fn from(phase: Phase) -> ApiError {
        match phase {
            Phase::Recovering => ApiError::later("recovering", "the service takes up what was there").hint("send it again in a moment"),
            Phase::Stuck(why) => ApiError::later("disk", why).hint("batches are taken again when it can be written"),
            Phase::Damaged(why) => ApiError::later("damaged", why).hint("tables can be read; restore the state from a backup"),
            Phase::Ending | Phase::Ready => ApiError::later("ending", "the service ends").hint("send it again when it is back"),
        }
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> ApiError {
        match &error {
            StateError::Input { .. } => ApiError::bad("bad_body", error.to_string()),
            StateError::Ingest(ingest) => match ingest.kind() {
                Kind::BadInput => of_input(ingest),
                Kind::TryAgain | Kind::Lost => ApiError::later("unreadable", error.to_string()),
            },
            StateError::Io { .. } => ApiError::later("disk", error.to_string()).hint("nothing of the batch is there"),
            _ => ApiError::failed(error.to_string()),
        }
    }
}

fn of_input(error: &IngestError) -> ApiError {
    let answer = ApiError::bad("bad_body", error.to_string());
    match error.hint() {
        Some(hint) => answer.hint(hint),
        None => answer,
    }
}

impl From<SinkError> for ApiError {
    fn from(error: SinkError) -> ApiError {
        ApiError::failed(error.to_string())
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> ApiError {
        match error {
            HistoryError::Bad(error) => error.into(),
            HistoryError::Sink(error) => error.into(),
        }
    }
}

impl From<BadQuestion> for ApiError {
    fn from(error: BadQuestion) -> ApiError {
        let code = match error {
            BadQuestion::Column { .. } => "unknown_column",
            BadQuestion::Value { .. } => "bad_value",
            BadQuestion::NoTime(_) => "no_time",
            BadQuestion::Key { .. } => "not_a_key",
            BadQuestion::TooMany => "too_many_values",
        };
        ApiError::bad(code, error.to_string()).hint(error.hint())
    }
}
