//! The ids of the latest events, so that one that is sent again is not published again.
//!
//! They are read from the store when the node starts, and so known whoever was killed when.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::EventId;
use crate::store::{EventStore, Query, ReadError};

/// What is known of an id.
#[derive(Debug)]
pub(in super::super) enum Known {
    /// Nothing; it is taken now, to be published by whoever asked.
    New,
    /// It is in the store.
    Kept,
    /// Somebody is publishing it; this hears when that is over.
    UnderWay(watch::Receiver<()>),
}

/// So many ids at most, the oldest forgotten first.
pub(in super::super) struct KnownIds {
    max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: HashSet<EventId, ahash::RandomState>,
    /// In the order in which they came.
    order: VecDeque<EventId>,
    under_way: HashMap<EventId, watch::Sender<()>, ahash::RandomState>,
}

impl KnownIds {
    /// Those of the latest events of a store.
    ///
    /// # Errors
    /// When the store fails. What is damaged is passed over: an event that is in it may be published once more.
    pub(super) fn read(store: &dyn EventStore, max: usize) -> Result<Self, ReadError> {
        let mut latest = Vec::new();
        let mut query = Some(Query::new().newest_first().limit(max.min(Query::EVENTS_MAX)));
        while let Some(asked) = query.take().filter(|_| latest.len() < max) {
            query = match store.query(&asked) {
                Ok(page) => {
                    latest.extend(page.events.iter().map(|event| event.meta().id()));
                    page.next
                }
                Err(error) => Some(error.missing().map(|missing| *missing.start()).ok_or(error)?),
            }
            .map(|behind| asked.behind(behind));
        }
        let known = Self { max, inner: Mutex::default() };
        let mut inner = known.inner();
        latest.iter().take(max).rev().for_each(|id| inner.keep(*id, max));
        drop(inner);
        Ok(known)
    }

    /// What is known of an id. Where nothing is, whoever asked publishes it, and says so by [`end`](Self::end).
    pub(in super::super) fn begin(&self, id: EventId) -> Known {
        let mut inner = self.inner();
        if inner.kept.contains(&id) {
            return Known::Kept;
        }
        if let Some(under_way) = inner.under_way.get(&id) {
            return Known::UnderWay(under_way.subscribe());
        }
        inner.under_way.insert(id, watch::Sender::new(()));
        Known::New
    }

    /// Whether an event of this id is in the store.
    pub(in super::super) fn has(&self, id: EventId) -> bool {
        self.inner().kept.contains(&id)
    }

    /// Publishing these is over: they are in the store, or they are not.
    pub(in super::super) fn end(&self, ids: &[EventId], are_kept: bool) {
        let mut inner = self.inner();
        for id in ids {
            // Dropped, it tells those who wait.
            inner.under_way.remove(id);
            if are_kept {
                inner.keep(*id, self.max);
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Changed by steps that do not panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, id: EventId, max: usize) {
        if !self.kept.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, ExpectedVersion, MemoryStore};
    use crate::{Bus, Payload};

    #[test]
    fn the_latest_ids_of_a_store_are_known_and_the_oldest_forgotten() {
        let bus = Bus::builder().workers(1).pin(false).build().expect("the default is valid");
        let mut publisher = bus.publisher().expect("there is one");
        let store = MemoryStore::new();
        let ids: Vec<_> = (0..5_u8).map(|n| EventId::from_bytes([n; 16])).collect();
        for id in &ids {
            let frame = publisher.event().id(*id).to_frame("a", Payload::json("1")).expect("it is valid");
            store.append(&[frame], ExpectedVersion::Any, Durability::Accepted).expect("there is room");
        }
        let known = KnownIds::read(&store, 3).expect("it can be read");
        let are_known: Vec<_> = ids.iter().map(|id| matches!(known.begin(*id), Known::Kept)).collect();
        assert_eq!(are_known, [false, false, true, true, true]);

        assert!(matches!(known.begin(ids[0]), Known::UnderWay(_)), "whoever asked first has not ended");
        known.end(&ids[..1], false);
        assert!(matches!(known.begin(ids[0]), Known::New), "it was not kept");
        known.end(&ids[..1], true);
        assert!(matches!(known.begin(ids[0]), Known::Kept));
        assert!(matches!(known.begin(ids[2]), Known::New), "the oldest made room");
        bus.shutdown().expect("nothing is in hand");
    }
}
