//! Reading what a projection has come to.

use std::fmt;
use std::sync::Arc;

use crate::store::{Position, STATE_PAGE_MAX, StateStore, StateValue};

use super::super::view::{self, Place};
use super::ProjectionError;

/// Reads the live generation of a view.
#[derive(Clone)]
pub struct ReadModel {
    state: Arc<dyn StateStore>,
    name: String,
}

impl ReadModel {
    /// The view of this name.
    pub fn new(name: impl Into<String>, state: Arc<dyn StateStore>) -> Self {
        Self { state, name: name.into() }
    }

    /// The value of a key; `None` when it has none.
    ///
    /// # Errors
    /// When the store of state cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<StateValue>, ProjectionError> {
        self.of_live(|place| place.get(&*self.state, key))
    }

    /// Keys with their values in the order of their bytes, from a key on, at most `limit` (1 to [`STATE_PAGE_MAX`]); and the
    /// key to go on with, if there is more.
    ///
    /// # Errors
    /// When the store of state cannot be read.
    pub fn list(&self, from: &[u8], limit: usize) -> Result<ViewPage, ProjectionError> {
        self.of_live(|place| place.list(&*self.state, from, limit))
    }

    /// The last event that it has looked at.
    ///
    /// # Errors
    /// When the store of state cannot be read.
    pub fn position(&self) -> Result<Option<Position>, ProjectionError> {
        self.of_live(|place| place.bookmark(&*self.state).map(|bookmark| bookmark.position()))
    }

    /// Reads of the live generation, again when another took over meanwhile: its keys may be gone.
    fn of_live<T>(&self, read: impl Fn(&Place) -> Result<T, ProjectionError>) -> Result<T, ProjectionError> {
        loop {
            let generation = view::live_generation(&*self.state, &self.name)?;
            let found = read(&Place::new(&self.name, generation)?)?;
            if view::live_generation(&*self.state, &self.name)? == generation {
                return Ok(found);
            }
        }
    }
}

/// Keys of a view with their values, in order.
#[derive(Debug, Clone)]
pub struct ViewPage {
    /// Keys and values; fewer than the limit also where there are more.
    pub entries: Vec<(Box<[u8]>, StateValue)>,
    /// Where to go on; `None` when there is nothing more.
    pub next: Option<Box<[u8]>>,
}

impl ViewPage {
    /// The most entries that a page has.
    pub const ENTRIES_MAX: usize = STATE_PAGE_MAX;
}

impl fmt::Debug for ReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadModel").field("name", &self.name).finish_non_exhaustive()
    }
}
