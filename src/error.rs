//! The sum of all errors, for callers' `?`.

use std::fmt;

use crate::bus::{BuildError, FlushError, PublishError, RateLimitError, RedriveError, RepublishError, SubscribeError};
use crate::delivery::RecvError;
use crate::event::DecodeError;
use crate::routing::PatternError;

/// Any error of ringmain. Each operation has an error type of its own; this is only their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Building a bus.
    Build(BuildError),
    /// Publishing.
    Publish(PublishError),
    /// Subscribing, or changing a subscription.
    Subscribe(SubscribeError),
    /// Receiving from a mailbox.
    Recv(RecvError),
    /// Reading a payload.
    Decode(DecodeError),
    /// Flushing or shutting down.
    Flush(FlushError),
    /// Parsing a pattern.
    Pattern(PatternError),
    /// Sending a dead letter back.
    Redrive(RedriveError),
    /// Publishing a dead letter again.
    Republish(RepublishError),
    /// Setting rate limits.
    RateLimit(RateLimitError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Publish(error) => error.fmt(f),
            Self::Subscribe(error) => error.fmt(f),
            Self::Recv(error) => error.fmt(f),
            Self::Decode(error) => error.fmt(f),
            Self::Flush(error) => error.fmt(f),
            Self::Pattern(error) => error.fmt(f),
            Self::Redrive(error) => error.fmt(f),
            Self::Republish(error) => error.fmt(f),
            Self::RateLimit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::Build(error) => error,
            Self::Publish(error) => error,
            Self::Subscribe(error) => error,
            Self::Recv(error) => error,
            Self::Decode(error) => error,
            Self::Flush(error) => error,
            Self::Pattern(error) => error,
            Self::Redrive(error) => error,
            Self::Republish(error) => error,
            Self::RateLimit(error) => error,
        })
    }
}

macro_rules! from {
    ($($error:ident => $variant:ident),* $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from! {
    BuildError => Build,
    PublishError => Publish,
    SubscribeError => Subscribe,
    RecvError => Recv,
    DecodeError => Decode,
    FlushError => Flush,
    PatternError => Pattern,
    RedriveError => Redrive,
    RepublishError => Republish,
    RateLimitError => RateLimit,
}
