//! Read models: what the events come to, kept where it is read, with the position that it has come to.

mod error;
mod read_model;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::Pattern;
use crate::store::{
    Bookmark, Durability, EventStore, Leased, Position, Query, ReadError, StateChange, StateKind, StateStore,
    StoredEvent, StoredEventRef, Upcasters,
};

use super::view::{self, Place, View};

pub use error::ProjectionError;
pub use read_model::{ReadModel, ViewPage};

/// Events that a step reads.
const STEP_EVENTS: usize = 256;
/// Changes, and bytes of them, at which a step keeps what it has so far.
const KEEP_AT_CHANGES: usize = 512;
const KEEP_AT_BYTES: usize = 4 << 20;

/// What events come to: folds them into a [`View`], one after the other in the order of the store.
pub trait Projection {
    /// Changes the view as the event asks. What is put into the view is kept together with the position: each event counts
    /// once, whatever fails. What is done elsewhere is done at least once.
    ///
    /// # Errors
    /// When the event cannot be projected. Nothing of it is kept, and it is the next again.
    fn apply(&mut self, event: &StoredEventRef<'_>, view: &mut View<'_>) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl<F: FnMut(&StoredEventRef<'_>, &mut View<'_>) -> Result<(), Box<dyn Error + Send + Sync>>> Projection for F {
    fn apply(&mut self, event: &StoredEventRef<'_>, view: &mut View<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        self(event, view)
    }
}

/// Reads a store and keeps the view of one projection up to date. One at a time for each name and generation.
///
/// A view has generations. One is live: it is what [`ReadModel`](super::ReadModel) reads. [`rebuild`](Self::rebuild) makes the
/// next one beside it, from the first event on, and [`take_over`](Self::take_over) makes that one live when it has caught up.
/// Nothing wakes it: call [`step`](Self::step) after appends, or now and then.
///
/// With the position it keeps which event is there, and says when the store is another ([`ReadError::Diverged`]).
pub struct Projector<P> {
    store: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    projection: P,
    place: Place,
    pattern: Option<Pattern>,
    upcasters: Option<Arc<Upcasters>>,
    durability: Durability,
    bookmark: Bookmark,
    skips_missing: bool,
    /// A write failed that may have been made, or the store has not been looked at.
    is_in_doubt: bool,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Projected {
    /// Events that were applied.
    pub events: usize,
    /// Positions that were left out: their events cannot be read, and the projector [skips](Projector::skip_missing) them.
    pub missing: u64,
    /// Whether there is more.
    pub has_more: bool,
}

/// How far a projection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The last event that it has looked at.
    pub position: Option<Position>,
    /// The last event of the store.
    pub head: Option<Position>,
}

impl Progress {
    /// Events of the store that it has not looked at; also those that it does not want.
    pub fn behind(&self) -> u64 {
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        number(self.head).saturating_sub(number(self.position))
    }
}

impl<P: Projection> Projector<P> {
    /// Goes on with the live generation of a view; the first time, with the first event.
    ///
    /// # Errors
    /// See [`ProjectionError`].
    pub fn live(
        name: &str,
        store: Arc<dyn EventStore>,
        state: Arc<dyn StateStore>,
        projection: P,
    ) -> Result<Self, ProjectionError> {
        let generation = view::live_generation(&*state, name)?;
        Self::of(Place::new(name, generation)?, store, state, projection)
    }

    /// Makes the next generation of a view beside the live one, from the first event on; goes on with it when it was begun
    /// before. To begin anew, [`discard`](Self::discard) it.
    ///
    /// # Errors
    /// See [`ProjectionError`].
    pub fn rebuild(
        name: &str,
        store: Arc<dyn EventStore>,
        state: Arc<dyn StateStore>,
        projection: P,
    ) -> Result<Self, ProjectionError> {
        let generation = view::live_generation(&*state, name)? + 1;
        let projector = Self::of(Place::new(name, generation)?, store, state, projection)?;
        if projector.bookmark.position().is_none() {
            // What a generation left that was discarded, where the store failed meanwhile.
            view::remove(&*projector.state, &projector.place, projector.durability)?;
        }
        Ok(projector)
    }

    fn of(
        place: Place,
        store: Arc<dyn EventStore>,
        state: Arc<dyn StateStore>,
        projection: P,
    ) -> Result<Self, ProjectionError> {
        let (name, generation) = (place.name(), place.generation());
        let state = Leased::take(state, &format!("projection {name:?} generation {generation}"));
        let state = state.map_err(ProjectionError::Lease)?;
        let bookmark = place.bookmark(&*state)?;
        let durability = state.state_durability();
        let (pattern, upcasters, skips_missing, is_in_doubt) = (None, None, false, true);
        Ok(Self {
            store,
            state,
            projection,
            place,
            pattern,
            upcasters,
            durability,
            bookmark,
            skips_missing,
            is_in_doubt,
        })
    }

    /// Applies events of these topics only. Default: all.
    #[must_use]
    pub fn pattern(self, pattern: Pattern) -> Self {
        Self { pattern: Some(pattern), ..self }
    }

    /// Brings events of older schema versions to the current one before they are applied. Default: they are applied as they
    /// are.
    #[must_use]
    pub fn upcasters(self, upcasters: Arc<Upcasters>) -> Self {
        Self { upcasters: Some(upcasters), ..self }
    }

    /// Goes on behind events that cannot be read, since they are damaged or a retention has removed them; each position is counted in
    /// [`Projected::missing`]. Default: the step fails, and so does the next; also the first, where a view is begun when the first events are
    /// not there any more.
    #[must_use]
    pub fn skip_missing(self) -> Self {
        Self { skips_missing: true, ..self }
    }

    /// How much a step's changes have to survive. Default: as much as the store of state offers. With less, a crash takes
    /// view and position back together.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// The projection.
    pub fn projection(&self) -> &P {
        &self.projection
    }

    /// The generation of the view that it makes, from 1.
    pub fn generation(&self) -> u64 {
        self.place.generation()
    }

    /// Applies the next events, at most 256.
    ///
    /// # Errors
    /// See [`ProjectionError`]; what was applied before the event that failed is kept, and the next step begins with that
    /// one.
    pub fn step(&mut self) -> Result<Projected, ProjectionError> {
        let live = view::live_generation(&*self.state, self.place.name())?;
        if self.generation() < live {
            let (name, generation) = (self.place.name().to_owned(), self.generation());
            return Err(ProjectionError::Replaced { name, generation, live });
        }
        if self.is_in_doubt {
            self.bookmark = self.place.bookmark(&*self.state)?;
            self.bookmark.check(&*self.store).map_err(ProjectionError::Read)?;
            self.is_in_doubt = false;
        }
        let begun = self.bookmark.position();
        let head = self.store.head().map_err(ProjectionError::Read)?;
        let Some(head) = head.filter(|head| Some(*head) > begun) else { return Ok(Projected::default()) };
        let mut query = Query::new().limit(STEP_EVENTS).to_position(head).reading_on(begun);
        query = if let Some(pattern) = &self.pattern { query.pattern(pattern.clone()) } else { query };
        let mut projected = Projected::default();
        let mut batch = BTreeMap::new();
        let (mut reached, mut failed) = (self.bookmark, None);
        let store = Arc::clone(&self.store);
        let visited = store.visit(&query, &mut |event| {
            let applied = self.apply_one(event, &mut batch);
            if applied.is_ok() {
                reached = Bookmark::of(event);
                projected.events += 1;
            }
            let is_to_be_kept = applied.is_err() || view::is_large(&batch, KEEP_AT_CHANGES, KEEP_AT_BYTES);
            let kept = if is_to_be_kept { self.keep(std::mem::take(&mut batch), reached) } else { Ok(()) };
            failed = kept.and(applied).err();
            if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let next = match visited {
            Ok(next) => next,
            Err(error) => match error.behind().filter(|_| self.skips_missing) {
                Some(behind) => {
                    let missing = behind.get() - begun.map_or(0, Position::get);
                    self.keep(BTreeMap::new(), self.at(behind)?)?;
                    return Ok(Projected { events: 0, missing, has_more: true });
                }
                None => return Err(ProjectionError::Read(error)),
            },
        };
        if let Some(error) = failed {
            return Err(error);
        }
        projected.has_more = next.is_some();
        // Where there is no more, all up to the head was looked at.
        let end = next.unwrap_or(head);
        let reached = if reached.position() == Some(end) { reached } else { self.at(end)? };
        self.keep(batch, reached)?;
        Ok(projected)
    }

    /// The bookmark of a position.
    fn at(&self, position: Position) -> Result<Bookmark, ProjectionError> {
        Bookmark::at(&*self.store, position).map_err(ProjectionError::Read)
    }

    /// Applies an event, all of it or nothing.
    fn apply_one(&mut self, event: StoredEventRef<'_>, batch: &mut view::Changes) -> Result<(), ProjectionError> {
        let position = event.position();
        let current = self.upcasters.as_ref().map(|upcasters| upcasters.event(event)).transpose();
        let current = current.map_err(|error| ProjectionError::Upcast { position, error: Box::new(error) })?.flatten();
        let current = current.as_ref().map_or(event, StoredEvent::view);
        let mut view = View::new(&self.place, &*self.state, batch);
        let applied = self.projection.apply(&current, &mut view);
        let changes = view.into_changes();
        applied.map_err(|error| ProjectionError::Apply { position, error })?;
        batch.extend(changes);
        Ok(())
    }

    /// Keeps changes and position in one piece, when the events that they come from are durable.
    fn keep(&mut self, changes: view::Changes, reached: Bookmark) -> Result<(), ProjectionError> {
        if reached == self.bookmark {
            return Ok(());
        }
        let place_key = self.place.position_key();
        let value = reached.to_bytes();
        self.store.sync().map_err(ProjectionError::Sync)?;
        let mut batch: Vec<_> = changes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => StateChange::Put { kind: StateKind::VIEW, key, value },
                None => StateChange::Remove { kind: StateKind::VIEW, key },
            })
            .collect();
        batch.push(StateChange::Put { kind: StateKind::CURSOR, key: &place_key, value: &value });
        self.is_in_doubt = true;
        self.state.apply(&batch, self.durability).map_err(ProjectionError::Keep)?;
        (self.bookmark, self.is_in_doubt) = (reached, false);
        Ok(())
    }

    /// How far it has come.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn progress(&self) -> Result<Progress, ReadError> {
        Ok(Progress { position: self.bookmark.position(), head: self.store.head()? })
    }

    /// Makes its generation the live one, if it has come at least as far as the one that is; then removes older ones.
    /// Readers see the one or the other, and never a mixture. Call [`step`](Self::step) before until there is no more.
    ///
    /// # Errors
    /// [`ProjectionError::Behind`] when the live generation has come further. Any other: it may be called again.
    pub fn take_over(&mut self) -> Result<(), ProjectionError> {
        let name = self.place.name();
        let live = view::live_generation(&*self.state, name)?;
        let generation = self.generation();
        if generation < live {
            return Err(ProjectionError::Replaced { name: name.to_owned(), generation, live });
        }
        if generation > live {
            let other = Place::new(name, live)?.bookmark(&*self.state)?.position();
            let position = self.bookmark.position();
            if other > position {
                return Err(ProjectionError::Behind { position, live: other });
            }
            let (key, value) = (view::live_key(name), generation.to_le_bytes());
            let change = StateChange::Put { kind: StateKind::CURSOR, key: &key, value: &value };
            self.state.apply(&[change], self.durability).map_err(ProjectionError::Keep)?;
        }
        view::remove_before(&*self.state, name, generation, self.durability)
    }

    /// Removes a generation that did not take over, to begin it anew.
    ///
    /// # Errors
    /// When it is live, or the store of state fails.
    pub fn discard(self) -> Result<(), ProjectionError> {
        let (name, generation) = (self.place.name(), self.generation());
        if view::live_generation(&*self.state, name)? >= generation {
            return Err(ProjectionError::Live { name: name.to_owned() });
        }
        view::remove(&*self.state, &self.place, self.durability)
    }
}

impl<P> fmt::Debug for Projector<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projector")
            .field("place", &self.place)
            .field("bookmark", &self.bookmark)
            .finish_non_exhaustive()
    }
}
