//! Brings what was appended to a bus: the store is the outbox, so nothing is told that was not kept.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::store::{EventStore, Position, Query, ReadError, UpcastError, Upcasters};
use crate::{PublishError, Publisher};

/// Publishes the events of a store on a bus, in the order of their positions.
///
/// It goes on behind the position that it is told. Keep [`position`](Self::position) somewhere and begin there again: an
/// event that was published after the position was kept is published twice, none is left out. Nothing wakes it: call
/// [`step`](Self::step) after appends, or now and then.
pub struct Relay {
    store: Arc<dyn EventStore>,
    publisher: Publisher,
    position: Option<Position>,
    upcasters: Option<Arc<Upcasters>>,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relayed {
    /// Events that were published.
    pub published: usize,
    /// Events that were left out: their deadlines have passed.
    pub expired: usize,
    /// Whether there is more.
    pub has_more: bool,
}

impl Relay {
    /// A relay that begins behind `position`; `None` = with the first event.
    pub fn new(store: Arc<dyn EventStore>, publisher: Publisher, position: Option<Position>) -> Self {
        Self { store, publisher, position, upcasters: None }
    }

    /// Publishes events of older schema versions in the current one. Default: as they were appended.
    #[must_use]
    pub fn upcasters(self, upcasters: Arc<Upcasters>) -> Self {
        Self { upcasters: Some(upcasters), ..self }
    }

    /// The last event that was published or left out.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Publishes the next page of events, at most 1,000. At a full lane it does what its publisher's
    /// [`FullPolicy`](crate::FullPolicy) says.
    ///
    /// # Errors
    /// See [`RelayError`]; events before the one that failed were published, and the next step begins with that one.
    pub fn step(&mut self) -> Result<Relayed, RelayError> {
        let query = match self.position {
            Some(position) => Query::new().behind(position),
            None => Query::new(),
        };
        let page = self.store.query(&query).map_err(RelayError::Read)?;
        let mut relayed = Relayed { published: 0, expired: 0, has_more: page.next.is_some() };
        for event in page.events {
            let upcasters = self.upcasters.as_ref();
            let current = upcasters.map(|upcasters| upcasters.frame(event.frame())).transpose();
            let current =
                current.map_err(|error| RelayError::Upcast { position: event.position(), error: Box::new(error) })?;
            // With its position a journal of the same store knows it, and does not keep it once more for the next step.
            let frame = self.publisher.frame(current.as_ref().unwrap_or(event.frame()));
            match frame.at_position(event.position().get()).publish() {
                Ok(_) => relayed.published += 1,
                Err(PublishError::Expired { .. }) => relayed.expired += 1,
                Err(error) => return Err(RelayError::Publish { position: event.position(), error }),
            }
            self.position = Some(event.position());
        }
        // A page may have looked further than its last event.
        self.position = page.next.or(self.position);
        Ok(relayed)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Why a relay stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayError {
    /// The store could not be read.
    Read(ReadError),
    /// An event was not brought to the current version of its schema.
    Upcast {
        /// Where it is.
        position: Position,
        /// Why.
        error: Box<UpcastError>,
    },
    /// The bus refused an event.
    Publish {
        /// Where it is.
        position: Position,
        /// Why.
        error: PublishError,
    },
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Upcast { position, error } => write!(f, "the event at position {position} is not published: {error}"),
            Self::Publish { position, error } => {
                write!(f, "the event at position {position} was not published: {error}")
            }
        }
    }
}

impl Error for RelayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Read(error) => error,
            Self::Upcast { error, .. } => error,
            Self::Publish { error, .. } => error,
        })
    }
}
