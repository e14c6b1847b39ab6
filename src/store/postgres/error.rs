//! Why the server did not do what it was asked for.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio_postgres::error::SqlState;

/// What was asked of a server, and what came of it. In the sources of [`AppendError`](super::AppendError) and the others.
#[derive(Debug)]
pub struct PostgresFault {
    doing: &'static str,
    source: Box<dyn Error + Send + Sync>,
    is_last: bool,
}

impl PostgresFault {
    pub(super) fn new(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing, source: source.into(), is_last: false }
    }

    pub(super) fn timed_out(doing: &'static str, limit: Duration) -> Self {
        Self::new(doing, format!("no answer within `call_max` ({limit:?})"))
    }

    /// Whether the connection was at its end, closed or ended by the server, and another one will do.
    pub(super) fn is_of_connection(&self) -> bool {
        let Some(error) = self.source.downcast_ref::<tokio_postgres::Error>() else { return false };
        let ended = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
        let is_io = error.source().is_some_and(|source| source.is::<std::io::Error>());
        !self.is_last && (is_io || error.is_closed() || error.code().is_some_and(|code| ended.contains(code)))
    }

    /// As [`at`](Self::at), of a call that is not to be made again.
    pub(super) fn last<E: Error + Send + Sync + 'static>(doing: &'static str) -> impl Fn(E) -> Self {
        move |error| Self { is_last: true, ..Self::new(doing, error) }
    }

    /// To be given to `map_err`.
    pub(super) fn at<E: Error + Send + Sync + 'static>(doing: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::new(doing, error)
    }
}

impl fmt::Display for PostgresFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL could not {}: {}", self.doing, self.source)?;
        // What the server has said is there only.
        let mut inner = self.source.source();
        while let Some(error) = inner {
            write!(f, ": {error}")?;
            inner = error.source();
        }
        Ok(())
    }
}

impl Error for PostgresFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// Why a store in PostgreSQL was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostgresError {
    /// The URL names no database. What is wrong with it is not said: that would quote it, and it may have a password.
    Url,
    /// The name of the schema is none that needs no quotes.
    Schema {
        /// The name.
        name: String,
    },
    /// A setting is out of its range.
    Setting {
        /// Which.
        setting: &'static str,
        /// What it was set to.
        value: u64,
        /// The least it may be.
        min: u64,
        /// The most it may be.
        max: u64,
    },
    /// The tables were made by a newer program.
    TooNew {
        /// The schema they are in.
        schema: String,
        /// Their version.
        found: i32,
        /// The newest that this program knows.
        known: i32,
    },
    /// The server could not be asked, or refused.
    Failed(PostgresFault),
}

impl From<PostgresFault> for PostgresError {
    fn from(fault: PostgresFault) -> Self {
        Self::Failed(fault)
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str(
                "the URL names no database; it may have a password, so it is not shown: write \
                 postgres://user:password@host:port/database, in user and password %40 for @, %2F for / and so on",
            ),
            Self::Schema { name } => write!(
                f,
                "{name:?} cannot be the name of a schema here; take 1 to 48 of a-z, 0-9 and _, not a digit first"
            ),
            Self::Setting { setting, value, min, max } => {
                write!(f, "{setting} is {value}, it has to be from {min} to {max}")
            }
            Self::TooNew { schema, found, known } => write!(
                f,
                "the tables in schema {schema:?} have version {found}, this program knows {known}; use a newer one"
            ),
            Self::Failed(fault) => fault.fmt(f),
        }
    }
}

impl Error for PostgresError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(fault) => Some(fault),
            Self::Url | Self::Schema { .. } | Self::Setting { .. } | Self::TooNew { .. } => None,
        }
    }
}
