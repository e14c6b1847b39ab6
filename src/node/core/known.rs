//! The ids of the latest events, so that one that is sent again is not published again, and another one of its id is refused.
//!
//! They are read from the store when the node starts, and so known whoever was killed when; later ones when the store takes them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::{EventStore, Query, ReadError};
use crate::{EventId, Meta};

/// What is known of an id.
#[derive(Debug)]
pub(in super::super) enum Known {
    /// Nothing; it is taken now, to be published by whoever asked.
    New,
    /// It is in the store.
    Kept,
    /// It is that of another event.
    Taken,
    /// Somebody is publishing it; this hears when that is over.
    UnderWay(watch::Receiver<()>),
}

/// So many ids at most, the oldest forgotten first.
pub(in super::super) struct KnownIds {
    max: usize,
    /// Tells one event from another.
    hasher: ahash::RandomState,
    inner: Mutex<Inner>,
}

/// What an event says, in short: its type, source and data. Who sends it again may give it another time or trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print(u64);

#[derive(Default)]
struct Inner {
    kept: HashMap<EventId, Print, ahash::RandomState>,
    /// In the order in which they came.
    order: VecDeque<EventId>,
    under_way: HashMap<EventId, (Print, watch::Sender<()>), ahash::RandomState>,
}

impl KnownIds {
    /// Those of the latest events of a store.
    ///
    /// # Errors
    /// When the store fails. What is damaged is passed over: an event that is in it may be published once more.
    pub(super) fn read(store: &dyn EventStore, max: usize) -> Result<Self, ReadError> {
        let known = Self { max, hasher: ahash::RandomState::new(), inner: Mutex::default() };
        let mut latest = Vec::new();
        let mut query = Some(Query::new().newest_first().limit(max.min(Query::EVENTS_MAX)));
        while let Some(asked) = query.take().filter(|_| latest.len() < max) {
            query = match store.query(&asked) {
                Ok(page) => {
                    latest.extend(page.events.iter().map(|event| (event.meta().id(), known.print(&event.meta()))));
                    page.next
                }
                Err(error) => Some(error.missing().map(|missing| *missing.start()).ok_or(error)?),
            }
            .map(|behind| asked.behind(behind));
        }
        let mut inner = known.inner();
        latest.iter().take(max).rev().for_each(|(id, print)| inner.keep(*id, *print, max));
        drop(inner);
        Ok(known)
    }

    fn print(&self, event: &Meta<'_>) -> Print {
        let data = (event.encoding(), event.payload().bytes());
        Print(self.hasher.hash_one((event.topic(), event.source(), data)))
    }

    /// What is known of an event's id. Where nothing is, whoever asked publishes it, and says so by [`end`](Self::end).
    pub(in super::super) fn begin(&self, event: &Meta<'_>) -> Known {
        let (id, print) = (event.id(), self.print(event));
        let mut inner = self.inner();
        if let Some(kept) = inner.kept.get(&id) {
            return if *kept == print { Known::Kept } else { Known::Taken };
        }
        match inner.under_way.get(&id) {
            Some((other, _)) if *other != print => Known::Taken,
            Some((_, under_way)) => Known::UnderWay(under_way.subscribe()),
            None => {
                inner.under_way.insert(id, (print, watch::Sender::new(())));
                Known::New
            }
        }
    }

    /// These are in the store, whoever has published them.
    pub(super) fn note<'e>(&self, events: impl Iterator<Item = Meta<'e>>) {
        let prints: Vec<_> = events.map(|event| (event.id(), self.print(&event))).collect();
        let mut inner = self.inner();
        prints.into_iter().for_each(|(id, print)| inner.keep(id, print, self.max));
    }

    /// Whether an event of this id is in the store.
    pub(in super::super) fn has(&self, id: EventId) -> bool {
        self.inner().kept.contains_key(&id)
    }

    /// Publishing these is over: they are in the store, which has told so, or they are not.
    pub(in super::super) fn end(&self, ids: &[EventId]) {
        let mut inner = self.inner();
        for id in ids {
            // Dropped, it tells those who wait.
            inner.under_way.remove(id);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Changed by steps that do not panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, id: EventId, print: Print, max: usize) {
        // The first of an id is what is sent again.
        let Entry::Vacant(new) = self.kept.entry(id) else { return };
        new.insert(print);
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
    use std::sync::Arc;

    use super::super::noting::Noting;
    use super::*;
    use crate::store::{Durability, ExpectedVersion, MemoryStore};
    use crate::{Bus, Frame, Payload};

    #[test]
    fn the_latest_ids_of_a_store_are_known_and_the_oldest_forgotten() {
        let bus = Bus::builder().workers(1).pin(false).build().expect("the default is valid");
        let mut publisher = bus.publisher().expect("there is one");
        let store = MemoryStore::new();
        let mut frame = |n: u8, data| {
            publisher.event().id(EventId::from_bytes([n; 16])).to_frame("a", Payload::json(data)).expect("it is valid")
        };
        let frames: Vec<_> = (0..6).map(|n| frame(n, "1")).collect();
        let other = frame(4, "2");
        store.append(&frames[..5], ExpectedVersion::Any, Durability::Accepted).expect("there is room");
        let known = Arc::new(KnownIds::read(&store, 3).expect("it can be read"));
        let begin = |frame: &Frame| known.begin(&frame.meta());
        let are_known: Vec<_> = frames.iter().map(|frame| matches!(begin(frame), Known::Kept)).collect();
        assert_eq!(are_known, [false, false, true, true, true, false]);
        assert!(matches!(begin(&other), Known::Taken), "it says something else");

        let first = frames[0].meta().id();
        assert!(matches!(begin(&frames[0]), Known::UnderWay(_)), "whoever asked first has not ended");
        assert!(matches!(begin(&frame(0, "2")), Known::Taken), "nor does another wait for it");
        known.end(&[first]);
        assert!(matches!(begin(&frames[0]), Known::New), "it was not kept");
        let store = Noting::new(Arc::new(store), Arc::clone(&known));
        store.append(&frames[..1], ExpectedVersion::Any, Durability::Accepted).expect("there is room");
        known.end(&[first]);
        assert!(matches!(begin(&frames[0]), Known::Kept), "the store has told of it");
        assert!(matches!(begin(&frames[2]), Known::New), "the oldest made room");
        bus.shutdown().expect("nothing is in hand");
    }
}
