//! Brings what was appended to a bus: the store is the outbox, so nothing is told that was not kept.

use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::store::{
    Bookmark, EventStore, Position, Query, ReadError, StoredEventRef, SyncError, UpcastError, Upcasters,
};
use crate::{PublishError, Publisher};

/// Publishes the events of a store on a bus, in the order of their positions.
///
/// It goes on behind the bookmark that it is told. Keep its [`bookmark`](Self::bookmark) somewhere and begin there again: an
/// event that was published after that was kept is published twice, none is left out. What it publishes is durable before. Nothing wakes it:
/// call [`step`](Self::step) after appends, or now and then.
pub struct Relay {
    store: Arc<dyn EventStore>,
    publisher: Publisher,
    bookmark: Bookmark,
    /// The store is known to be the one that the bookmark is of.
    is_checked: bool,
    skips_missing: bool,
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
    /// Positions that were left out: their events cannot be read, and the relay [skips](Relay::skip_missing) them.
    pub missing: u64,
    /// Whether there is more.
    pub has_more: bool,
}

impl Relay {
    /// A relay that begins behind `bookmark`; with [`Bookmark::START`] at the first event.
    pub fn new(store: Arc<dyn EventStore>, publisher: Publisher, bookmark: Bookmark) -> Self {
        Self { store, publisher, bookmark, is_checked: false, skips_missing: false, upcasters: None }
    }

    /// Goes on behind events that cannot be read, since they are damaged or a retention has removed them; each position is counted in
    /// [`Relayed::missing`]. Default: the step fails, and so does the next.
    #[must_use]
    pub fn skip_missing(self) -> Self {
        Self { skips_missing: true, ..self }
    }

    /// Publishes events of older schema versions in the current one. Default: as they were appended.
    #[must_use]
    pub fn upcasters(self, upcasters: Arc<Upcasters>) -> Self {
        Self { upcasters: Some(upcasters), ..self }
    }

    /// The last event that was published or left out.
    pub fn bookmark(&self) -> Bookmark {
        self.bookmark
    }

    /// Publishes the next page of events, at most 1,000. At a full lane it does what its publisher's
    /// [`FullPolicy`](crate::FullPolicy) says.
    ///
    /// # Errors
    /// See [`RelayError`]; events before the one that failed were published, and the next step begins with that one.
    pub fn step(&mut self) -> Result<Relayed, RelayError> {
        if !self.is_checked {
            self.bookmark.check(&*self.store).map_err(RelayError::Read)?;
            self.is_checked = true;
        }
        let mut relayed = Relayed { published: 0, expired: 0, missing: 0, has_more: true };
        let query = Query::new().reading_on(self.bookmark.position());
        let (store, mut is_synced, mut failed) = (Arc::clone(&self.store), false, None);
        let visited = store.visit(&query, &mut |event| {
            let told = if is_synced { Ok(()) } else { store.sync().map_err(RelayError::Sync) };
            is_synced = true;
            match told.and_then(|()| self.publish(event, &mut relayed)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        let next = match visited {
            Ok(next) => next,
            Err(error) => match error.behind().filter(|_| self.skips_missing) {
                Some(behind) => {
                    relayed.missing = behind.get() - self.bookmark.position().map_or(0, Position::get);
                    self.bookmark = Bookmark::at(&*self.store, behind).map_err(RelayError::Read)?;
                    return Ok(relayed);
                }
                None => return Err(RelayError::Read(error)),
            },
        };
        if let Some(error) = failed {
            return Err(error);
        }
        relayed.has_more = next.is_some();
        // A page may have looked further than its last event.
        if let Some(next) = next.filter(|next| self.bookmark.position() < Some(*next)) {
            self.bookmark = Bookmark::at(&*self.store, next).map_err(RelayError::Read)?;
        }
        Ok(relayed)
    }

    fn publish(&mut self, event: StoredEventRef<'_>, relayed: &mut Relayed) -> Result<(), RelayError> {
        let position = event.position();
        let current = self.upcasters.as_ref().map(|upcasters| upcasters.event(event)).transpose();
        let current = current.map_err(|error| RelayError::Upcast { position, error: Box::new(error) })?.flatten();
        // With its position a journal of the same store knows it, and does not keep it once more for the next step.
        let frame = self.publisher.frame(current.as_ref().map_or(event.frame(), |current| current.frame().view()));
        match frame.at_position(position.get()).publish() {
            Ok(_) => relayed.published += 1,
            Err(PublishError::Expired { .. }) => relayed.expired += 1,
            Err(error) => return Err(RelayError::Publish { position, error }),
        }
        self.bookmark = Bookmark::of(event);
        Ok(())
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("bookmark", &self.bookmark).finish_non_exhaustive()
    }
}

/// Why a relay stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayError {
    /// The store could not be read.
    Read(ReadError),
    /// The events are not known to be durable, so none was published.
    Sync(SyncError),
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
            Self::Sync(error) => error.fmt(f),
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
            Self::Sync(error) => error,
            Self::Upcast { error, .. } => error,
            Self::Publish { error, .. } => error,
        })
    }
}
