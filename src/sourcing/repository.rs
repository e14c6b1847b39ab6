//! Loads aggregates from a store, and saves what has happened to them in one append.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::store::{
    AppendError, Durability, EventStore, ExpectedVersion, Position, Query, ReadError, Snapshot, SnapshotError,
    StateError, StoredEvent, Upcasters,
};
use crate::{EventId, PublishError, Publisher};

use super::{Aggregate, Root};

/// Aggregates of one kind in a store. One a thread, as its publisher, which events get their ids, times and source from.
///
/// Nothing is published: that is a [`Relay`](super::Relay)'s work, so that no event is told that was not kept.
pub struct Repository<A> {
    store: Arc<dyn EventStore>,
    publisher: Publisher,
    snapshot_every: u64,
    attempts_max: u32,
    durability: Durability,
    correlation: Option<EventId>,
    upcasters: Option<Arc<Upcasters>>,
    /// The store knows that aggregates of this kind are made of their events.
    is_known: bool,
    aggregate: PhantomData<fn() -> A>,
}

/// What saving has done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Saved {
    /// Where the events are.
    pub positions: RangeInclusive<Position>,
    /// The aggregate's version now.
    pub version: u64,
    /// Why the snapshot that was due was not kept. The events are: the next snapshot will do.
    pub snapshot_error: Option<SnapshotError>,
}

impl<A: Aggregate> Repository<A> {
    /// The aggregates of this kind in a store.
    pub fn new(store: Arc<dyn EventStore>, publisher: Publisher) -> Self {
        let durability = store.durability();
        Self {
            store,
            publisher,
            snapshot_every: 10,
            attempts_max: 8,
            durability,
            correlation: None,
            upcasters: None,
            is_known: false,
            aggregate: PhantomData,
        }
    }

    /// Takes a snapshot each time so many versions are full; 0 = never. Default 10.
    #[must_use]
    pub fn snapshot_every(self, versions: u64) -> Self {
        Self { snapshot_every: versions, ..self }
    }

    /// How often [`execute`](Self::execute) decides anew because another writer was faster, the first time included.
    /// At least 1, default 8.
    #[must_use]
    pub fn attempts_max(self, attempts: u32) -> Self {
        Self { attempts_max: attempts.max(1), ..self }
    }

    /// How much events have to survive before they count as saved. Default: as much as the store offers.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Brings events of older schema versions to the current one before the aggregate reads them. Default: the aggregate
    /// gets them as they are.
    #[must_use]
    pub fn upcasters(self, upcasters: Arc<Upcasters>) -> Self {
        Self { upcasters: Some(upcasters), ..self }
    }

    /// The story that events to come belong to. Default: none.
    pub fn set_correlation(&mut self, id: Option<EventId>) -> &mut Self {
        self.correlation = id;
        self
    }

    /// An aggregate as the store knows it: its snapshot, then later events. One that the store does not know is at version
    /// 0.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self, id: &str) -> Result<Root<A>, LoadError> {
        let snapshot = self.store.load_snapshot(A::KIND, id).map_err(LoadError::Read)?;
        let snapshot_version = snapshot.as_ref().map_or(0, Snapshot::version);
        let restored = snapshot.and_then(|snapshot| Some(Root::at(id, snapshot.version(), A::restore(&snapshot)?)));
        let mut root = restored.unwrap_or_else(|| Root::new(id));
        let later = Query::new().aggregate(A::KIND, id).after_version(root.version());
        let begun_at = root.version();
        for event in later.stream(&*self.store) {
            let event = event.map_err(LoadError::Read)?;
            let found = event.meta().aggregate().map_or(0, |of| of.version);
            if root.version() == begun_at && found > begun_at + 1 && self.has_removed()? {
                let (id, left) = (id.to_owned(), Some((found, event.position())));
                return Err(LoadError::Removed { kind: A::KIND, id, needed: begun_at + 1, left });
            }
            self.take(&mut root, &event)?;
        }
        if root.version() < snapshot_version {
            let (id, needed) = (id.to_owned(), root.version() + 1);
            return Err(LoadError::Removed { kind: A::KIND, id, needed, left: None });
        }
        Ok(root)
    }

    /// Whether the store has removed events.
    fn has_removed(&self) -> Result<bool, LoadError> {
        let first = self.store.first().map_err(LoadError::Read)?;
        Ok(first.is_some_and(|first| first > Position::FIRST))
    }

    /// Appends what has happened and is not saved yet, in one piece; `None` when there is nothing. Before the first append the store is
    /// told to [keep](EventStore::keep_history) what these aggregates are made of. Takes a snapshot when one is due: a panic of [`Aggregate::snapshot`] goes through to the caller, and the events are saved all the same.
    ///
    /// # Errors
    /// See [`SaveError`]; nothing was appended, and the events stay with the aggregate.
    pub fn save(&mut self, root: &mut Root<A>) -> Result<Option<Saved>, SaveError> {
        if root.is_torn() {
            return Err(SaveError::Torn { kind: A::KIND, id: root.id().to_owned() });
        }
        if root.uncommitted().is_empty() {
            return Ok(None);
        }
        let before = root.saved_version();
        let mut frames = Vec::with_capacity(root.uncommitted().len());
        for (event, version) in root.uncommitted().iter().zip(before + 1..) {
            let aggregate = crate::Aggregate { kind: A::KIND, id: root.id(), version };
            let mut outgoing = self.publisher.event().aggregate(aggregate);
            if let Some(id) = self.correlation {
                outgoing = outgoing.correlation(id);
            }
            frames.push(A::to_frame(event, outgoing).map_err(SaveError::Frame)?);
        }
        if !self.is_known {
            self.store.keep_history(A::KIND).map_err(SaveError::KeepHistory)?;
            self.is_known = true;
        }
        let expected = if before == 0 { ExpectedVersion::New } else { ExpectedVersion::Exact(before) };
        let appended = self.store.append(&frames, expected, self.durability).map_err(SaveError::Append)?;
        root.commit();
        let version = root.version();
        let is_due = self.snapshot_every != 0 && version / self.snapshot_every > before / self.snapshot_every;
        let snapshot = if is_due { root.state().snapshot(root.id(), version) } else { None };
        let snapshot_error = snapshot.and_then(|snapshot| self.store.save_snapshot(&snapshot).err());
        Ok(Some(Saved { positions: appended.positions(), version, snapshot_error }))
    }

    /// Loads an aggregate, lets a command happen to it, and saves it; when another writer was faster, from the beginning.
    ///
    /// # Errors
    /// See [`ExecuteError`]; nothing was appended.
    pub fn execute(&mut self, id: &str, command: &A::Command) -> Result<Root<A>, ExecuteError<A::Refusal>> {
        let mut attempt = 1;
        loop {
            let mut root = self.load(id).map_err(ExecuteError::Load)?;
            root.execute(command).map_err(ExecuteError::Refused)?;
            match self.save(&mut root) {
                Ok(_) => return Ok(root),
                Err(SaveError::Append(error)) if error.is_conflict() && attempt < self.attempts_max => attempt += 1,
                Err(error) => return Err(ExecuteError::Save(error)),
            }
        }
    }

    /// Applies an event of the store, if it is the next.
    fn take(&self, root: &mut Root<A>, event: &StoredEvent) -> Result<(), LoadError> {
        let position = event.position();
        let (found, needed) = (event.meta().aggregate().map_or(0, |of| of.version), root.version() + 1);
        if found != needed {
            return Err(LoadError::Gap { position, found, needed });
        }
        let unreadable = |error| LoadError::Event { position, error };
        let event = match &self.upcasters {
            Some(upcasters) => A::of_frame(&upcasters.frame(event.frame()).map_err(|error| unreadable(error.into()))?),
            None => A::of_frame(event.frame()),
        };
        root.replay(&event.map_err(unreadable)?);
        Ok(())
    }
}

impl<A> fmt::Debug for Repository<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("snapshot_every", &self.snapshot_every)
            .field("attempts_max", &self.attempts_max)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

/// Why an aggregate was not loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The store could not be read.
    Read(ReadError),
    /// An event could not be read as one of this aggregate.
    Event {
        /// Where it is.
        position: Position,
        /// What the aggregate says.
        error: Box<dyn Error + Send + Sync>,
    },
    /// An event of the aggregate is missing, or there twice: it was appended with no version expected.
    Gap {
        /// The event that is not the next.
        position: Position,
        /// Its version.
        found: u64,
        /// The version that would be next.
        needed: u64,
    },
    /// Events of the aggregate were removed from the store, and no snapshot that can be read has them.
    Removed {
        /// The aggregate's kind.
        kind: &'static str,
        /// Its id.
        id: String,
        /// The first version that is missing.
        needed: u64,
        /// The first version that is left behind it, and where that is; `None` = none is left.
        left: Option<(u64, Position)>,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Event { position, error } => write!(f, "the event at position {position} could not be read: {error}"),
            Self::Gap { position, found, needed } => write!(
                f,
                "the event at position {position} has version {found}, but {needed} would be next; append with a version expected"
            ),
            Self::Removed { kind, id, needed, left } => {
                write!(f, "{kind} {id:?} cannot be loaded: its events from version {needed} on ")?;
                match left {
                    Some((left, position)) => write!(
                        f,
                        "to {} were removed; the first that is left has version {left}, at position {position}",
                        left - 1
                    )?,
                    None => f.write_str("were removed, and its snapshot cannot be restored")?,
                }
                f.write_str("; restore the store from a backup, or import an export into a new one, and let retention keep what no snapshot has")
            }
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Event { error, .. } => Some(&**error),
            Self::Gap { .. } | Self::Removed { .. } => None,
        }
    }
}

/// Why nothing was saved.
#[derive(Debug)]
#[non_exhaustive]
pub enum SaveError {
    /// An event breaks a limit of the bus.
    Frame(PublishError),
    /// The store did not take down that these aggregates are made of their events.
    KeepHistory(StateError),
    /// The store refused, most often because another writer was faster.
    Append(AppendError),
    /// Applying an event has panicked: part of a command happened, and the rest did not.
    Torn {
        /// The aggregate's kind.
        kind: &'static str,
        /// Its id.
        id: String,
    },
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::KeepHistory(error) => error.fmt(f),
            Self::Append(error) => error.fmt(f),
            Self::Torn { kind, id } => {
                write!(
                    f,
                    "{kind} {id:?} has part of a command behind it, where applying an event panicked; load it anew"
                )
            }
        }
    }
}

impl Error for SaveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Frame(error) => Some(error),
            Self::KeepHistory(error) => Some(error),
            Self::Append(error) => Some(error),
            Self::Torn { .. } => None,
        }
    }
}

/// Why a command did not happen.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecuteError<R> {
    /// The aggregate was not loaded.
    Load(LoadError),
    /// It refused the command.
    Refused(R),
    /// It was not saved; after a conflict, as often as was allowed.
    Save(SaveError),
}

impl<R: fmt::Display> fmt::Display for ExecuteError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Save(error) => error.fmt(f),
        }
    }
}

impl<R: fmt::Debug + fmt::Display> Error for ExecuteError<R> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Load(error) => Some(error),
            Self::Save(error) => Some(error),
            Self::Refused(_) => None,
        }
    }
}
