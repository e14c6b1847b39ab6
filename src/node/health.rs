//! How well something is, from the best to the worst.

use std::fmt;

/// How well something is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// It does all that it is for.
    Healthy,
    /// It does what it is for, worse than it should, and why.
    Degraded(String),
    /// It does not do what it is for, and why.
    Unhealthy(String),
}

impl Health {
    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }

    /// One word: `healthy`, `degraded`, `unhealthy`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded(_) => "degraded",
            Self::Unhealthy(_) => "unhealthy",
        }
    }

    /// What is wrong.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Healthy => None,
            Self::Degraded(reason) | Self::Unhealthy(reason) => Some(reason),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded(_) => 1,
            Self::Unhealthy(_) => 2,
        }
    }

    /// The worst of several, the first of those that are as bad; healthy where there is none.
    pub fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::Healthy, |worst, next| if next.rank() > worst.rank() { next } else { worst })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            None => f.write_str(self.word()),
            Some(reason) => write!(f, "{}: {reason}", self.word()),
        }
    }
}
