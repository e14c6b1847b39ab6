//! What can go wrong with a saga, its steps' own failures aside: those are part of its story.

use std::error::Error;
use std::fmt;

use crate::store::{LeaseError, StateError, StateReadError};

/// Why a saga did not begin or go on. It stays as it is kept, and goes on from there.
#[derive(Debug)]
#[non_exhaustive]
pub enum SagaError {
    /// A definition has no steps.
    NoSteps {
        /// The definition's name.
        saga: String,
    },
    /// Two steps of a definition have one name.
    SameName {
        /// The definition's name.
        saga: String,
        /// The steps' name.
        step: String,
    },
    /// An older definition has another name, or a version that is there already.
    NotOlder {
        /// Its name.
        saga: String,
        /// Its version.
        version: u32,
    },
    /// A name or id is empty or too long.
    Name {
        /// Which.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There is a saga of this id, which may have ended.
    AlreadyExists {
        /// The id.
        id: String,
    },
    /// There is no saga of this id, or it is in no phase that this can be asked of.
    NotFound {
        /// The id.
        id: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// As many sagas as may be active at once are.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// It was begun under a version of the definition that was not given.
    OtherVersion {
        /// The saga.
        id: String,
        /// The version it was begun under.
        found: u32,
        /// The current version.
        current: u32,
    },
    /// Its record is not as it was written, or of a newer program.
    Record {
        /// The saga.
        id: String,
    },
    /// Its data could not be read or written.
    Data {
        /// The saga.
        id: String,
        /// What its type says.
        error: Box<dyn Error + Send + Sync>,
    },
    /// Somebody else runs the sagas of this name.
    Lease(LeaseError),
    /// Its state could not be read.
    Read(StateReadError),
    /// Its state was not kept.
    Keep(StateError),
}

impl fmt::Display for SagaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSteps { saga } => write!(f, "saga {saga:?} has no steps; give it one"),
            Self::SameName { saga, step } => {
                write!(f, "saga {saga:?} has two steps {step:?}; their effects would share a key, rename one")
            }
            Self::NotOlder { saga, version } => {
                write!(
                    f,
                    "saga {saga:?} version {version} is no older version; it has another name, or was given before"
                )
            }
            Self::Name { what, bytes, max } => write!(f, "the {what} has {bytes} bytes, it may have 1 to {max}"),
            Self::AlreadyExists { id } => {
                write!(f, "there is a saga {id:?}; take another id, or forget the one that has ended")
            }
            Self::NotFound { id, wanted } => write!(f, "there is no saga {id:?} that {wanted}"),
            Self::TooMany { max } => {
                write!(f, "{max} sagas are active, which is the limit; raise active_max, or wait until some end")
            }
            Self::OtherVersion { id, found, current } => write!(
                f,
                "saga {id:?} was begun under version {found} of its definition, {current} is current; give version {found} as an older one"
            ),
            Self::Record { id } => {
                write!(f, "the record of saga {id:?} is not as it was written, or of a newer program")
            }
            Self::Data { id, error } => write!(f, "the data of saga {id:?} could not be read or written: {error}"),
            Self::Lease(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
            Self::Keep(error) => error.fmt(f),
        }
    }
}

impl Error for SagaError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Data { error, .. } => Some(&**error),
            Self::Lease(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Keep(error) => Some(error),
            _ => None,
        }
    }
}
