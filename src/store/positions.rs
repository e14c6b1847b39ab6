//! A bus has positions of one store: a durable publisher gives its events theirs, and a journal goes by them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::Bus;

use super::EventStore;

/// What a part of a bus does with positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It publishes events with the positions that they have in its store.
    Publisher,
    /// It leaves out what has a position, as its store has it.
    Journal,
}

/// A part that is there.
struct Seat {
    bus: Bus,
    part: Part,
    name: String,
    /// Gone when everybody has let go of it: another may be opened in its place.
    store: Weak<dyn EventStore>,
}

/// Of all buses of the process.
static SEATS: Mutex<Vec<(u64, Seat)>> = Mutex::new(Vec::new());

/// A place beside the others, until it is dropped.
#[derive(Debug)]
pub(super) struct Seated(u64);

/// Who is in the way.
#[derive(Debug)]
pub(super) struct InTheWay {
    pub(super) part: Part,
    pub(super) name: String,
}

fn seats() -> MutexGuard<'static, Vec<(u64, Seat)>> {
    // Changed by steps that do not panic.
    SEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Whether another part cannot be beside it.
    fn excludes(&self, bus: &Bus, part: Part, store: &Arc<dyn EventStore>) -> bool {
        let is_other_store =
            || self.store.strong_count() > 0 && !std::ptr::addr_eq(self.store.as_ptr(), Arc::as_ptr(store));
        self.bus == *bus
            && match (self.part, part) {
                (Part::Publisher, Part::Publisher) => true,
                (Part::Journal, Part::Journal) => false,
                _ => is_other_store(),
            }
    }
}

impl Seated {
    /// Takes a place. A bus has one durable publisher, and journals beside it on the same store only.
    pub(super) fn take(bus: &Bus, part: Part, name: &str, store: &Arc<dyn EventStore>) -> Result<Self, InTheWay> {
        let mut seats = seats();
        if let Some((_, seat)) = seats.iter().find(|(_, seat)| seat.excludes(bus, part, store)) {
            return Err(InTheWay { part: seat.part, name: seat.name.clone() });
        }
        let key = seats.last().map_or(0, |(key, _)| key + 1);
        let (bus, name, store) = (bus.clone(), name.to_owned(), Arc::downgrade(store));
        seats.push((key, Seat { bus, part, name, store }));
        Ok(Self(key))
    }

    /// It goes on with this store: its own, opened again.
    pub(super) fn move_to(&self, store: &Arc<dyn EventStore>) {
        if let Some((_, seat)) = seats().iter_mut().find(|(key, _)| *key == self.0) {
            seat.store = Arc::downgrade(store);
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut seats = seats();
        let at = seats.iter().position(|(key, _)| *key == self.0);
        let gone = at.map(|at| seats.remove(at));
        drop(seats);
        // It may be the last of its bus, which then ends: not under the lock.
        drop(gone);
    }
}
