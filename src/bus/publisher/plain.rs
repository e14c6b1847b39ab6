//! The short way of an event with nothing to say but topic, priority and payload, which is nearly every event.
//!
//! It makes the same steps as the long way of `send.rs`, with the same parts, and leaves out what such an event has no
//! use for. Before it has claimed anything it may say [`Detour`]: then it has published nothing, and the long way starts
//! from the beginning, at the price of encoding again. So there is no case that only this file knows.

use crate::event::{Encode, EncodeFault, EventId, Priority};
use crate::ring::{Draft, LaneFull, Room};
use crate::worker::{HangWatch, Phase};

use super::{Envelope, PublishError, Publisher, Subject};

/// A publisher that is refused so often where nothing moves looks why: not each time, for that would make refusals dear.
pub(super) const LOOK_REFUSALS: u32 = 64;

/// A payload that fits a slot.
enum Ready<'a> {
    /// To be copied as it lies in memory.
    Flat(Room<'a>, &'a [u8]),
    /// Encoded.
    Written(Draft<'a>),
}

/// Why an event was not published at once. No longer than two words, so that the short way hands it on in registers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Miss {
    /// It is of another topic than the one before, or the gate has to be looked at.
    Look,
    /// As [`Detour::LongWay`].
    LongWay,
    /// As [`Detour::TooLong`].
    TooLong(usize),
}

/// Why the short way led nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum Detour {
    /// Something unusual, which the long way knows how to treat, or to refuse.
    LongWay,
    /// The payload has so many bytes, more than fit a slot.
    TooLong(usize),
    /// The lane is full, and the event not even encoded.
    Full(LaneFull),
}

impl Detour {
    /// What the long way need not find out again.
    pub(super) fn needs(self) -> Option<usize> {
        match self {
            Self::TooLong(bytes) => Some(bytes),
            Self::LongWay | Self::Full(_) => None,
        }
    }
}

impl Publisher {
    /// Publishes an event without envelope and without waiting, if it is of the latest topic and there is room for sure;
    /// else [`after_a_miss`](Self::after_a_miss) comes next, in a function that is not inlined: a result of its that met
    /// this one's here would take all of them through memory.
    ///
    /// User code, which may fail or panic, runs while nothing is claimed: it encodes into the free slot itself when this is
    /// the only publisher, else into the scratch. A payload that is its own archive needs none, nor the scratch.
    #[inline(always)]
    pub(super) fn at_once<S: Subject<P>, P: Encode>(
        &mut self,
        topic: &S,
        payload: &P,
        priority: Priority,
    ) -> Result<EventId, Miss> {
        let lane = priority.lane();
        if !topic.is_latest(&self.latest) {
            return Err(Miss::Look);
        }
        if self.is_careful(priority) {
            return Err(Miss::LongWay);
        }
        let Some(room) = self.claimant.room(lane) else { return Err(Miss::Look) };
        // Id and time come before the payload: what is written to the slot has to wait for its lines, and whatever the
        // publisher writes after that waits behind it.
        let type_id = self.latest.type_id;
        let envelope = Envelope::plain(priority, self.source_id);
        let header = self.stamps.header(&self.engine, &envelope, type_id, || {
            self.parker.seems_parked(|| self.engine.wants.workers(type_id, lane))
        });
        // The sooner a slot is written to, the sooner its lines are here: what can be written before the claim is.
        let flat = if room.is_exclusive() { None } else { payload.as_bytes() };
        let ready = match flat {
            Some(bytes) if bytes.len() <= room.rest_bytes() => Ok((Ready::Flat(room, bytes), bytes.len())),
            Some(bytes) => Err(EncodeFault::Needs(bytes.len())),
            None => {
                let mut draft = room.draft(|| &mut self.scratch);
                payload.encode(draft.buffer(), &mut self.arena).map(|bytes| (Ready::Written(draft), bytes))
            }
        };
        let (ready, bytes) = match ready {
            Ok((ready, bytes)) if bytes <= self.payload_bytes_max => (ready, bytes),
            fault => {
                self.stamps.take_back(&header);
                return Err(match fault {
                    Err(EncodeFault::Needs(bytes)) => Miss::TooLong(bytes),
                    Ok(_) | Err(EncodeFault::Refused) => Miss::LongWay,
                });
            }
        };
        // The topic may be under a rate limit since it was met: then the publisher was told. Asked here, where the entrance is
        // needed in any case.
        if self.slot.is_told() {
            self.stamps.take_back(&header);
            return Err(Miss::LongWay);
        }
        // From here on each reference is taken when it is needed: there are fewer registers than steps.
        let (engine, parker) = (&*self.engine, &*self.parker);
        let Some(inside) = self.slot.enter(&engine.admission) else { return Err(Miss::LongWay) };
        // User code may have taken its time, and a worker begun to want this type and gone to sleep.
        let workers = engine.wants.workers(type_id, lane);
        if workers == 0 {
            // It has an id, is counted, and goes nowhere.
            inside.counts().pass_over(1);
            return Ok(header.event_id());
        }
        let header = header.with_payload(0, bytes, payload.encoding(), payload.flags());
        match ready {
            Ready::Flat(room, bytes) => room.put(header.words(), bytes),
            Ready::Written(draft) => draft.commit(header.words(), bytes),
        };
        inside.counts().route(1);
        drop(inside);
        parker.wake(workers);
        Ok(header.event_id())
    }

    /// Goes on with the short way where that can help.
    #[inline]
    pub(super) fn after_a_miss<S: Subject<P>, P: Encode>(
        &mut self,
        miss: Miss,
        topic: &S,
        payload: &P,
        priority: Priority,
    ) -> Result<EventId, Detour> {
        match miss {
            Miss::Look => self.after_a_look(topic, payload, priority),
            Miss::LongWay => Err(Detour::LongWay),
            Miss::TooLong(bytes) => Err(Detour::TooLong(bytes)),
        }
    }

    /// Turns to the topic, looks at the gate, and goes on.
    #[inline(never)]
    fn after_a_look<S: Subject<P>, P: Encode>(
        &mut self,
        topic: &S,
        payload: &P,
        priority: Priority,
    ) -> Result<EventId, Detour> {
        if !topic.is_latest(&self.latest) && !self.turn_to(topic) {
            return Err(Detour::LongWay);
        }
        let lane = priority.lane();
        match self.claimant.make_sure(lane, 1) {
            Ok(false) => {}
            Ok(true) => {
                self.parker.wake(self.engine.lanes.active());
                self.engine.feel_pressure();
            }
            // What nobody wants needs no room.
            Err(_) if self.engine.wants.workers(self.latest.type_id, lane) == 0 => return Err(Detour::LongWay),
            Err(full) => {
                self.engine.feel_pressure();
                return Err(Detour::Full(full));
            }
        }
        self.at_once(topic, payload, priority).map_err(|miss| match miss {
            Miss::TooLong(bytes) => Detour::TooLong(bytes),
            Miss::Look | Miss::LongWay => Detour::LongWay,
        })
    }

    /// Remembers a topic as the latest, if the short way can publish under it.
    fn turn_to<P, S: Subject<P>>(&mut self, topic: &S) -> bool {
        self.collected.clear();
        if self.prepared.is_some() {
            self.tidy_up();
        }
        match self.resolve(topic) {
            Ok(type_id) if type_id != 0 && self.source_id != 0 && !self.is_limited(type_id, topic.name()) => {
                topic.remember(&mut self.latest);
                self.latest.type_id = type_id;
                true
            }
            // A refusal comes again on the long way, which books it.
            _ => false,
        }
    }

    /// The refusal of an event that found its lane full and is not to wait. That its payload is too long, if that is known
    /// without encoding it, is said first: no room will ever help it.
    #[cold]
    pub(super) fn refuse<P: Encode>(&mut self, priority: Priority, full: LaneFull, payload: P) -> PublishError {
        let (bytes, max) = (payload.as_bytes().map_or(0, <[u8]>::len), self.payload_bytes_max);
        let refused = if bytes > max {
            PublishError::TooLarge { bytes, max }
        } else if self.engine.phase() == Phase::Running {
            self.wake_holders(priority.lane());
            super::lane_full(priority, full)
        } else {
            super::closed(&self.engine)
        };
        self.book(&refused);
        refused
    }

    /// Wakes the workers that may sleep in front of a full lane: those with no target for what fills it, which nobody
    /// wakes on its account.
    ///
    /// Once for each gate: while the slowest worker has not moved since it was woken, another wake-up would find it where the
    /// first did. It is running; or it waits for a mailbox, whose consumer wakes it; or for a slot that is claimed and not
    /// yet filled, and then it naps. Whoever moved the gate may have gone to sleep since, behind events of others: a
    /// refusal at another gate wakes anew. While it does not move, it may be in a handler that hangs, which it cannot tell itself:
    /// who is refused again and again looks now and then.
    pub(in crate::bus) fn wake_holders(&mut self, lane: usize) {
        let gate = Some(self.claimant.last_gate(lane));
        if self.woken_at[lane] != gate {
            self.woken_at[lane] = gate;
            self.engine.parker.wake(self.engine.lanes.active());
            return;
        }
        self.refusals_left = self.refusals_left.wrapping_sub(1);
        if self.refusals_left == 0 {
            self.refusals_left = LOOK_REFUSALS;
            self.look_for_hang(lane);
        }
    }

    /// Tells of the handler that the slowest worker of `lane` does not come back from, if so.
    #[cold]
    #[inline(never)]
    pub(super) fn look_for_hang(&mut self, lane: usize) {
        if let Some(worker) = self.claimant.slowest(lane)
            && self.engine.under_way[worker].is_calling()
        {
            self.shared.look_for_hang(worker);
        }
    }
}
