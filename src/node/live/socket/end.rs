//! How a WebSocket ends: what is counted, and what is said.

use axum::extract::ws::CloseFrame;
use tungstenite::Error;
use tungstenite::error::CapacityError;

use super::super::counts::Counters;

/// Bytes that the reason in a close frame can have.
const REASON_BYTES_MAX: usize = 123;

/// Why it ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client has gone.
    Gone,
    /// The client is further behind than the window.
    Slow { behind: u64 },
    /// The client does not answer, or does not read.
    Silent,
    /// Another connection has taken its name.
    TakenOver,
    /// A message of the client is too long.
    Oversized,
    /// A message of the client is no text.
    Binary,
    /// The node goes away.
    GoingAway,
    /// The node cannot do it, and why.
    Failed(String),
}

/// Close codes that a client can meet, with what they mean.
pub(in super::super) const CLOSE_CODES: &[(u16, &str)] = &[
    (1001, "the node goes away"),
    (1003, "a message was binary; messages are text"),
    (1009, "a message was too long"),
    (1011, "the node failed"),
    (4000, "the client was slower than the events; it resumes after the last position that it has"),
    (4001, "the client did not answer a ping, or did not read, in time"),
    (4002, "another connection has taken the name"),
];

impl End {
    pub(super) fn of_error(error: axum::Error) -> Self {
        match error.into_inner().downcast_ref() {
            Some(Error::Capacity(CapacityError::MessageTooLong { .. })) => Self::Oversized,
            _ => Self::Gone,
        }
    }

    pub(super) fn count(&self, counts: &Counters) {
        match self {
            Self::Slow { .. } => counts.closed_slow.add(1),
            Self::Silent => counts.closed_silent.add(1),
            Self::TakenOver => counts.closed_taken_over.add(1),
            Self::Oversized => counts.closed_oversized.add(1),
            Self::Gone | Self::Binary | Self::GoingAway | Self::Failed(_) => {}
        }
    }

    /// What is said; nothing to one who has gone.
    pub(super) fn frame(&self) -> Option<CloseFrame> {
        let (code, mut reason) = match self {
            Self::Gone => return None,
            Self::Slow { behind } => {
                (4000, format!("slow: {behind} events behind, more than are kept in memory; resume after the last one"))
            }
            Self::Silent => (4001, "silent: no answer, or nothing was read, in time".to_owned()),
            Self::TakenOver => (4002, "another connection has taken the name".to_owned()),
            Self::Oversized => (1009, "the message is too long".to_owned()),
            Self::Binary => (1003, "messages are text".to_owned()),
            Self::GoingAway => (1001, "the node goes away".to_owned()),
            Self::Failed(error) => (1011, error.clone()),
        };
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        Some(CloseFrame { code, reason: reason.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_that_is_said_is_in_the_table_and_fits() {
        let ends = [
            End::Slow { behind: u64::MAX },
            End::Silent,
            End::TakenOver,
            End::Oversized,
            End::Binary,
            End::GoingAway,
            End::Failed("é".repeat(100)),
        ];
        let mut codes: Vec<_> = ends.iter().map(|end| end.frame().expect("it is said")).collect();
        assert!(codes.iter().all(|frame| frame.reason.len() <= REASON_BYTES_MAX), "{codes:?}");
        codes.sort_by_key(|frame| frame.code);
        assert!(codes.iter().map(|frame| frame.code).eq(CLOSE_CODES.iter().map(|(code, _)| *code)));
        assert!(End::Gone.frame().is_none());
    }
}
