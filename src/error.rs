//! The sum of all errors, for callers' `?`.

use std::fmt;

use crate::bus::{
    BuildError, FlushError, PublishError, RateLimitError, RedriveError, RepublishError, RequestError, RulesError,
    SerializeError, ServiceError, SubscribeError,
};
use crate::delivery::{RateError, RecvError, TryRecvError};
use crate::event::{
    DecodeError, EnvelopeError, FrameError, ParseEventIdError, ParsePriorityError, TopicError, TypeConflict,
};
use crate::routing::PatternError;

macro_rules! sum {
    ($($(#[$doc:meta])* $variant:ident($error:ident)),* $(,)?) => {
        /// Any error of ringmain. Each operation has an error type of its own; this is only their sum.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])* $variant($error),)*
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(error) => error.fmt(f),)*
                }
            }
        }

        impl std::error::Error for Error {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(match self {
                    $(Self::$variant(error) => error,)*
                })
            }
        }

        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

sum! {
    /// Building a bus.
    Build(BuildError),
    /// Publishing.
    Publish(PublishError),
    /// Subscribing, or changing a subscription.
    Subscribe(SubscribeError),
    /// Receiving from a mailbox.
    Recv(RecvError),
    /// Looking into a mailbox.
    TryRecv(TryRecvError),
    /// Reading a payload.
    Decode(DecodeError),
    /// Reading a frame.
    Frame(FrameError),
    /// Encoding a payload.
    Serialize(SerializeError),
    /// Flushing or shutting down.
    Flush(FlushError),
    /// Parsing a pattern.
    Pattern(PatternError),
    /// Naming a topic.
    Topic(TopicError),
    /// Naming a topic that stands for another Rust type.
    Type(TypeConflict),
    /// Reading an envelope.
    Envelope(EnvelopeError),
    /// Parsing the id of an event.
    EventId(ParseEventIdError),
    /// Parsing a priority.
    Priority(ParsePriorityError),
    /// Asking and waiting for an answer.
    Request(RequestError),
    /// Sending a dead letter back.
    Redrive(RedriveError),
    /// Publishing a dead letter again.
    Republish(RepublishError),
    /// A rate that cannot be kept.
    Rate(RateError),
    /// Setting rate limits.
    RateLimit(RateLimitError),
    /// Changing routing rules.
    Rules(RulesError),
    /// Finding a service, or telling of one.
    Service(ServiceError),
}
