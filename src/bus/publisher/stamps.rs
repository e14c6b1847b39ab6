//! What is new about every event: its id, and its time when the policy, or a sleeping worker, asks for one.

use crate::event::{EventId, FLAG_MEASURED, FLAG_STAMPED, Header, IdSource};
use crate::worker::{Engine, StampPolicy};

use super::Envelope;

/// Stamps and ids of one publisher: one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Stamps {
    /// Stamps one event in so many.
    every: u32,
    /// Events until the policy asks for the next stamp.
    left: u32,
    /// Instant of the last stamp.
    last: u64,
    ids: IdSource,
}

impl Stamps {
    pub(super) fn new(policy: StampPolicy, ids: IdSource) -> Self {
        let every = match policy {
            StampPolicy::Every => 1,
            StampPolicy::OneIn(every) => every,
        };
        // The first event is stamped, whatever the policy.
        Self { every, left: 1, last: 0, ids }
    }

    /// The header of the next event; `wakes` says whether a worker sleeps that wants it. Extension and payload are to be added.
    #[inline(always)]
    pub(super) fn header(
        &mut self,
        engine: &Engine,
        envelope: &Envelope,
        type_id: u32,
        wakes: impl FnOnce() -> bool,
    ) -> Header {
        self.left -= 1;
        let stamped = self.left == 0 || wakes();
        if stamped {
            self.take(engine);
        }
        let foreign_time = envelope.time != 0;
        let id = envelope.id.unwrap_or_else(|| self.ids.next());
        Header {
            type_id,
            id: *id.as_bytes(),
            time: if foreign_time { envelope.time } else { self.last },
            deadline: envelope.deadline,
            source_id: envelope.source_id,
            schema: envelope.schema,
            priority: envelope.priority as u8,
            attempt: envelope.attempt,
            // An event that came with its own time, or waits on purpose, says nothing about this bus's latency.
            flags: match stamped {
                true if !foreign_time && envelope.due == 0 => FLAG_MEASURED | FLAG_STAMPED,
                true => FLAG_MEASURED,
                false => 0,
            },
            ..Header::BLANK
        }
    }

    /// An id that no event has.
    pub(super) fn fresh_id(&mut self) -> EventId {
        self.ids.next()
    }

    /// An event is not published with this header after all: the next one takes its turn.
    #[cold]
    pub(super) fn take_back(&mut self, header: &Header) {
        self.left = if header.has(FLAG_MEASURED) { 1 } else { self.left + 1 };
    }

    /// Not inlined: it would make the many publishes that take no stamp spill their registers.
    #[cold]
    #[inline(never)]
    fn take(&mut self, engine: &Engine) {
        let (now, rising_ns) = engine.directory.clock.now_and_rising_ns();
        self.left = self.every;
        self.last = now;
        self.ids.at(rising_ns);
    }
}
