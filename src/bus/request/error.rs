//! Why a request has no answer, and what to do about it.

use std::fmt;
use std::time::Duration;

use crate::bus::PublishError;
use crate::event::DecodeError;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// No answer came in time. Whether the query was handled is not known; an answer that comes later is counted as
    /// [late](crate::Requester::late).
    TimedOut {
        /// How long the request waited.
        after: Duration,
    },
    /// Nobody subscribes to the query's topic at this priority: said at once, and nothing was published.
    NoResponder {
        /// The query's topic.
        topic: &'static str,
    },
    /// So many requests wait for their answers already.
    Full {
        /// The limit, `pending_max`.
        pending_max: usize,
    },
    /// The bus is shutting down or has stopped, or the requester's subscription was ended.
    ShuttingDown,
    /// A worker would wait for itself. Use [`request_async`](crate::Requester::request_async) in a task, or another thread.
    OnWorker,
    /// A handler on a thread of its own (`handle_on`) or in a future (`run`) would hold its own mailbox up while it waits. Await
    /// [`request_async`](crate::Requester::request_async), or ask from another thread.
    InHandler,
    /// An answer came, and cannot be read as the answer's type.
    Undecodable(DecodeError),
    /// The query could not be published.
    Publish(PublishError),
}

impl RequestError {
    /// Whether asking again later can help. A query that timed out may have been handled: ask again what may be handled twice.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::NoResponder { .. } | Self::Full { .. } => true,
            Self::Publish(error) => error.is_temporary(),
            Self::ShuttingDown | Self::OnWorker | Self::InHandler | Self::Undecodable(_) => false,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => {
                write!(f, "no answer within {after:?}; give more time, or look at the responder's errors and panics")
            }
            Self::NoResponder { topic } => {
                write!(f, "nobody subscribes to {topic}; subscribe a responder before you ask")
            }
            Self::Full { pending_max } => write!(
                f,
                "{pending_max} requests wait for their answers already; wait, or make the requester with a greater pending_max"
            ),
            Self::ShuttingDown => f.write_str("the bus is shutting down, or the requester's subscription has ended"),
            Self::OnWorker => f.write_str("a worker cannot wait for an answer; ask in a task, or from another thread"),
            Self::InHandler => {
                f.write_str("a handler would hold its own mailbox up; await the answer, or ask from another thread")
            }
            Self::Undecodable(error) => write!(f, "the answer cannot be read: {error}"),
            Self::Publish(error) => write!(f, "the query was not published: {error}"),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Undecodable(error) => Some(error),
            Self::Publish(error) => Some(error),
            _ => None,
        }
    }
}

impl From<PublishError> for RequestError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::ShuttingDown => Self::ShuttingDown,
            error => Self::Publish(error),
        }
    }
}
