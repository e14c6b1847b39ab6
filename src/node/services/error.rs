//! What can go wrong with services.

use std::error::Error;
use std::fmt;

/// Why a service could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFailure(String);

impl ServiceFailure {
    /// In words.
    pub fn new(said: impl Into<String>) -> Self {
        Self(said.into())
    }
}

impl fmt::Display for ServiceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ServiceFailure {}

/// Why services could not be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServicesError {
    /// There is no service of that name.
    Unknown(String),
    /// There is one already.
    Taken(String),
    /// That is no name.
    Name(String),
    /// A service that it needs is not there.
    Missing {
        /// Which service.
        name: String,
        /// What it needs.
        needs: String,
    },
    /// Others need it.
    Needed {
        /// Which service.
        name: String,
        /// By whom.
        by: Vec<String>,
    },
    /// There are as many as there can be.
    TooMany {
        /// That many.
        services_max: usize,
    },
    /// It does not run, and why.
    Failed {
        /// Which service.
        name: String,
        /// In its own words.
        reason: String,
    },
    /// It waits for one that is not wanted.
    Waits {
        /// Which service.
        name: String,
        /// For which.
        needs: String,
    },
    /// Somebody stopped it, or the node, meanwhile.
    Stopped(String),
    /// The node has ended.
    Ended,
}

impl fmt::Display for ServicesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "there is no service {name:?}; list them to see those that there are"),
            Self::Taken(name) => write!(f, "there is a service {name:?} already; unregister it first"),
            Self::Name(name) => {
                write!(f, "{name:?} is no name of a service; use 1 to 64 letters, digits, '-', '_' and '.'")
            }
            Self::Missing { name, needs } => {
                write!(f, "{name} needs the service {needs:?}, which is to be registered first")
            }
            Self::Needed { name, by } => write!(f, "{name} is needed by {}; unregister those first", by.join(", ")),
            Self::TooMany { services_max } => {
                write!(f, "{services_max} services are registered, which is the limit; raise core.max_services")
            }
            Self::Failed { name, reason } => write!(f, "{name} does not run: {reason}"),
            Self::Waits { name, needs } => {
                write!(f, "{name} waits for {needs}, which is stopped; start that one first")
            }
            Self::Stopped(name) => write!(f, "{name} was stopped before it ran"),
            Self::Ended => f.write_str("the node has ended; its services are stopped"),
        }
    }
}

impl Error for ServicesError {}
