//! Why a bus was not built: every setting that cannot be, and what the system has not got.

use std::fmt;

use crate::delivery::RateError;

use super::RateLimitError;

/// One setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildFault {
    /// A value outside its limits.
    OutOfRange {
        /// Which.
        setting: &'static str,
        /// The value given.
        value: usize,
        /// The least allowed.
        min: usize,
        /// The most allowed.
        max: usize,
    },
    /// A value that has to be a multiple of another.
    NotAMultiple {
        /// Which.
        setting: &'static str,
        /// The value given.
        value: usize,
        /// What it has to be a multiple of.
        of: usize,
    },
    /// Two settings that do not go together.
    Contradiction {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A name that is empty, longer than 100 bytes, or has a zero byte.
    Name {
        /// Its length.
        bytes: usize,
    },
    /// A rate limit that cannot be kept.
    RateLimit(RateLimitError),
    /// A throttle that cannot be kept.
    Throttle(RateError),
    /// The system has not so much memory.
    Memory {
        /// What the bus would reserve.
        bytes: u64,
        /// The part that takes most of it.
        part: &'static str,
        /// Bytes of that part.
        part_bytes: u64,
        /// The settings that make it smaller.
        settings: &'static str,
    },
    /// The system refused a thread.
    Thread {
        /// What it said.
        error: String,
    },
}

impl BuildFault {
    pub(super) fn thread(error: &std::io::Error) -> Self {
        Self::Thread { error: error.to_string() }
    }
}

impl fmt::Display for BuildFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { setting, value, min, max } => {
                write!(f, "{setting} is {value}; it goes from {min} to {max}")
            }
            Self::NotAMultiple { setting, value, of } => write!(f, "{setting} is {value}; it is a multiple of {of}"),
            Self::Contradiction { first, second, hint } => write!(f, "{first} and {second} do not go together: {hint}"),
            Self::Name { bytes } => {
                write!(f, "the name has {bytes} bytes; it has from 1 to 100, none of them zero")
            }
            Self::RateLimit(error) => error.fmt(f),
            Self::Throttle(error) => write!(f, "the throttle: {error}"),
            Self::Memory { bytes, part, part_bytes, settings } => write!(
                f,
                "the bus takes {bytes} bytes of memory, more than the system gives; {part} take {part_bytes} of them: lower {settings}"
            ),
            Self::Thread { error } => write!(f, "a worker thread could not be started: {error}"),
        }
    }
}

/// Why a bus was not built: every fault there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    faults: Vec<BuildFault>,
}

impl BuildError {
    pub(super) fn new(faults: Vec<BuildFault>) -> Self {
        Self { faults }
    }

    pub(super) fn of(fault: BuildFault) -> Self {
        Self::new(vec![fault])
    }

    /// All faults.
    pub fn faults(&self) -> &[BuildFault] {
        &self.faults
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bus cannot be built: ")?;
        for (nth, fault) in self.faults.iter().enumerate() {
            let separator = if nth == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}
