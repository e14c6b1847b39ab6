//! The ids of the events that a store has, so that an import leaves them out.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::super::human::grouped;
use super::super::progress::Progress;
use super::Failure;
use super::read::each_event;
use crate::EventId;
use crate::store::{EventStore, LogStore, Position, Query};

/// Ids, so many at most.
pub(super) struct Known {
    ids: HashSet<EventId, ahash::RandomState>,
    max: usize,
}

impl Known {
    /// Those of a store. What cannot be read is said: an event that is in it may be imported once more.
    pub(super) fn read(store: &LogStore, max: usize) -> Result<Self, Failure> {
        let mut known = Self { ids: HashSet::default(), max };
        let progress = Progress::of_events(store.head().map_err(Failure::said)?.map_or(0, Position::get), false);
        let read = each_event(store, Query::new().limit(Query::EVENTS_MAX), &progress, |event| {
            known.add(event.meta().id())?;
            Ok(ControlFlow::Continue(()))
        });
        progress.end();
        read.map(|_| known)
    }

    /// Adds an id; says whether it is new.
    pub(super) fn add(&mut self, id: EventId) -> Result<bool, Failure> {
        if self.ids.len() >= self.max && !self.ids.contains(&id) {
            let max = grouped(self.max as u64);
            return Err(Failure::Said(format!(
                "there are more than {max} events, whose ids are all kept in memory; raise --ids-max, or import everything with --all"
            )));
        }
        Ok(self.ids.insert(id))
    }
}
