//! What is known of a service.

use std::collections::VecDeque;
use std::fmt;
use std::time::SystemTime;

use super::super::health::Health;

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceState {
    /// It is known, and was never started.
    Registered,
    /// It is wanted, and waits for one that it needs.
    Waiting,
    /// Its start is under way.
    Starting,
    /// It runs.
    Running,
    /// Its stop is under way.
    Stopping,
    /// It was stopped.
    Stopped,
    /// It failed, and is started again after a wait.
    Recovering,
    /// It failed, and is started again by nobody but you.
    Failed,
}

impl ServiceState {
    /// Whether nothing of it runs and nothing is about to.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Registered | Self::Stopped | Self::Failed)
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registered => "registered",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Recovering => "recovering",
            Self::Failed => "failed",
        })
    }
}

/// A step of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceChange {
    /// It is somewhere else in its life.
    State {
        /// Which service.
        name: String,
        /// Where it was.
        from: ServiceState,
        /// Where it is.
        to: ServiceState,
        /// Why, where something failed.
        reason: Option<String>,
    },
    /// Its health is another.
    Health {
        /// Which service.
        name: String,
        /// How it was.
        from: Health,
        /// How it is.
        to: Health,
    },
    /// It is no longer known.
    Unregistered {
        /// Which service.
        name: String,
    },
}

/// One check of a service's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRecord {
    /// When.
    pub at: SystemTime,
    /// What came of it.
    pub health: Health,
}

/// A service as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Services that it needs.
    pub needs: Vec<String>,
    /// Where it is in its life.
    pub state: ServiceState,
    /// The last that is known of its health.
    pub health: Health,
    /// Checks, the oldest first.
    pub history: VecDeque<HealthRecord>,
    /// Times that it was started again since it was last healthy.
    pub recoveries: u32,
    /// Why it failed last.
    pub failure: Option<String>,
    /// Since when it is in its state.
    pub since: SystemTime,
}
