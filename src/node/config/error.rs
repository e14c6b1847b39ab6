//! Where a value comes from, and what is wrong with it.

use std::error::Error;
use std::fmt;

/// A line and a column of a file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// Where a value comes from. Later ones win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file.
    File {
        /// As it was named.
        path: String,
        /// Where in it.
        place: Place,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
    /// The program that the node is part of.
    Program,
    /// No single place: the configuration as a whole.
    Whole,
}

/// One thing that is wrong: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    origin: Origin,
    said: String,
}

/// All that is wrong with a configuration, none of which is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<Fault>,
}

impl Fault {
    pub(in super::super) fn new(origin: Origin, said: impl Into<String>) -> Self {
        Self { origin, said: said.into() }
    }

    /// Where it is wrong.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl ConfigError {
    pub(in super::super) fn new(faults: Vec<Fault>) -> Self {
        Self { faults }
    }

    /// What is wrong: at least one thing.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// As compilers write it, so that editors find the place: `ringmain.yaml:3:14`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, place } => write!(f, "{path}:{}:{}", place.line, place.column),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Program => f.write_str("program"),
            Self::Whole => f.write_str("configuration"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.said)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, fault) in self.faults.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl Error for Fault {}
impl Error for ConfigError {}
