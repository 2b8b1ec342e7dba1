//! Why a run failed.

use super::unread::Unread;
use crate::cluster::mesh;
use crate::failure::Kind;
use crate::ingest::IngestError;
use crate::points::PointsError;
use retally_core::split::SplitError;

/// Why what came out could not be brought to where it belongs.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommitError {
    /// What was tried, on what, and why not.
    pub message: String,
    /// What one can do about it.
    pub hint: Option<String>,
    /// What the process exits with.
    pub code: u8,
}

impl From<PointsError> for CommitError {
    fn from(error: PointsError) -> Self {
        CommitError { message: error.to_string(), hint: None, code: 1 }
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Input could not be found, planned or opened: look at the path. Nothing of the batch has reached a dataflow.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Input could not be read to its end. A part of the batch may have reached the dataflow.
    #[error(transparent)]
    Read(SplitError),
    /// More records were refused than may be: look at the input, or allow more.
    #[error("refused more than --max-rejected {limit} records; the first: {first}")]
    Rejected {
        /// How many may be.
        limit: u64,
        /// The first of them, with its place and the reason.
        first: String,
    },
    /// Nothing of a file could be read: look at it, or say how many records may be refused.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// Too many batches wait: offer this one again when some are complete.
    #[error("could not take another batch of {dataflow:?}: {limit} are waiting")]
    Full {
        /// The dataflow.
        dataflow: &'static str,
        /// How many may wait.
        limit: usize,
    },
    /// What came out could not be committed, or brought to where it belongs.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Points could not be written.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// The processes could not be connected.
    #[error(transparent)]
    Mesh(#[from] mesh::MeshError),
    /// The workers could not be started, or one of them has ended.
    #[error("could not start the workers: {0}")]
    Start(String),
    /// A signal asked the process to end.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
    /// The process that drives has failed, and this one with it.
    #[error("process 0 failed: {0}")]
    Elsewhere(String),
    /// The workers have ended, and take no batches any more.
    #[error("the workers have ended")]
    Ended,
}

impl EngineError {
    /// What can be done about it. Once a batch has reached a dataflow it can't be taken back: what fails from there on ends the process.
    pub fn kind(&self) -> Kind {
        match self {
            EngineError::Ingest(error) => error.kind(),
            EngineError::Full { .. } => Kind::TryAgain,
            EngineError::Read(_)
            | EngineError::Rejected { .. }
            | EngineError::Unread(_)
            | EngineError::Commit(_)
            | EngineError::Points(_)
            | EngineError::Mesh(_)
            | EngineError::Start(_)
            | EngineError::Interrupted(_)
            | EngineError::Elsewhere(_)
            | EngineError::Ended => Kind::Lost,
        }
    }
}
