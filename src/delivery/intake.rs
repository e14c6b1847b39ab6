//! How events get into a mailbox: each into a cell of its own, or the newest of each key in place of older ones.

use crate::event::Meta;
use crate::ring::{Feeder, LatestFeeder, Put, Slot};
use crate::sync::contain::contained;

use super::Key;

/// The number of all events that have no key, which are one kind together. Any number would do.
const NO_KEY: u64 = 0xd6e8_feb8_6659_fd93;

/// What waits in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Every event.
    All,
    /// The newest event: of however many, there always is a place for it.
    Newest,
    /// The newest event of each of so many keys and no more.
    NewestOfEach,
}

/// The worker's way into a mailbox.
#[derive(Debug)]
pub(crate) enum Intake {
    /// Every event waits.
    Queue(Feeder),
    /// Only the newest event of each key does.
    Latest(LatestFeeder, Key),
}

impl Intake {
    /// Whether the next `put` would take an event like this one. True stays true until then.
    #[inline(always)]
    pub(crate) fn has_room(&self, meta: &Meta<'_>) -> bool {
        match self {
            Self::Queue(feeder) => feeder.has_room(),
            // A function of the user's that panics does so again when the event is put, and that is told.
            Self::Latest(feeder, key) => {
                feeder.has_room_for_any()
                    || contained(|| number(key, meta)).is_none_or(|number| feeder.has_room(number))
            }
        }
    }

    /// Frees the cell of the oldest event of `lane` that may be dropped. False when there is none.
    pub(crate) fn drop_oldest(&mut self, lane: usize) -> bool {
        match self {
            Self::Queue(feeder) => feeder.drop_oldest(lane),
            Self::Latest(feeder, _) => feeder.drop_oldest(lane),
        }
    }

    /// The way in for events that come back: for reliable delivery, where every event waits.
    pub(crate) fn queue(&mut self) -> Option<&mut Feeder> {
        match self {
            Self::Queue(feeder) => Some(feeder),
            Self::Latest(..) => None,
        }
    }
}

/// Lets the event of `slot` wait as the newest of its key. `None` when there is no room.
pub(super) fn put_latest(
    feeder: &mut LatestFeeder,
    key: &Key,
    lane: usize,
    meta: &Meta<'_>,
    slot: &Slot<'_>,
) -> Option<Put> {
    feeder.put(number(key, meta), lane, meta.sequence(), slot, meta.header().rest_bytes()).ok()
}

fn number(key: &Key, meta: &Meta<'_>) -> u64 {
    key.of(meta).unwrap_or(NO_KEY)
}
