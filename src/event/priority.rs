//! Four priorities, one lane each.

use std::fmt;
use std::str::FromStr;

/// How urgent an event is. Ordered, so that `priority >= Priority::High` reads as it sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Metrics, maintenance: first to be shed under pressure.
    Low = 0,
    /// File and data changes: the default.
    #[default]
    Normal = 1,
    /// Service failures, configuration changes.
    High = 2,
    /// Shutdowns, security violations: overtakes everything between two events.
    Critical = 3,
}

impl Priority {
    /// All priorities, most urgent first: the order of the lanes.
    pub const ALL: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Normal, Priority::Low];

    /// `"critical"`, `"high"`, `"normal"` or `"low"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }

    /// The lane of this priority: Critical is 0.
    #[inline(always)]
    pub(crate) const fn lane(self) -> usize {
        3 - self as usize
    }

    /// The priority of a lane below 4.
    #[inline(always)]
    pub(crate) const fn of_lane(lane: usize) -> Self {
        Self::ALL[lane & 3]
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePriorityError(String);

impl fmt::Display for ParsePriorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no priority; use critical, high, normal or low", self.0)
    }
}

impl std::error::Error for ParsePriorityError {}

impl FromStr for Priority {
    type Err = ParsePriorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str() == text)
            .ok_or_else(|| ParsePriorityError(text.chars().take(40).collect()))
    }
}
