//! Requests that wait for their answers: the place of each is part of its query's id, so an answer finds it without a look-up.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::clock::Clock;
use crate::delivery::{Delivery, Desk, Hold, MailboxShared, Outcome};
use crate::event::{Event, EventId, KnownAs, Topic};
use crate::metrics::SharedCounter;
use crate::sync::places::{Places, Seen, Ticket};

use super::RequestError;

/// A requester may have so many places: their number is 16 bits of each query's id.
pub(super) const PENDING_MAX: usize = 1 << 16;

/// A version 7 id: 48 bits of milliseconds, 26 of the generation, 32 of the requester, 16 of the place.
fn id_of(ticket: Ticket, tag: u32, unix_ns: u64) -> EventId {
    let first = (unix_ns / 1_000_000) << 16 | 0x7000 | ticket.generation >> 14;
    let second = 1 << 63 | (ticket.generation & 0x3fff) << 48 | u64::from(tag) << 16 | ticket.place as u64;
    EventId::from(u128::from(first) << 64 | u128::from(second))
}

/// The requester that an id names, and the ticket.
fn named_by(id: EventId) -> (u32, Ticket) {
    let id = u128::from(id);
    let (first, second) = ((id >> 64) as u64, id as u64);
    let generation = (first & 0xfff) << 14 | second >> 48 & 0x3fff;
    ((second >> 16) as u32, Ticket { place: (second & 0xffff) as usize, generation })
}

/// Whether an id is one of the requester with this tag.
pub(super) fn is_of(id: EventId, tag: u32) -> bool {
    named_by(id).0 == tag
}

/// The tag of the requester that was given this id.
pub(super) fn tag_of(id: EventId) -> u32 {
    named_by(id).0
}

/// All requests of one requester.
pub(super) struct Pending<A: Event> {
    places: Places<Delivery<Topic<A>>>,
    tag: u32,
    known_as: KnownAs,
    clock: Clock,
    late: SharedCounter,
}

impl<A: Event> Pending<A> {
    pub(super) fn new(max: usize, tag: u32, known_as: KnownAs, clock: Clock) -> Self {
        Self { places: Places::new(max), tag, known_as, clock, late: SharedCounter::default() }
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.places.taken()
    }

    pub(super) fn late(&self) -> u64 {
        self.late.get()
    }

    /// Takes a place for a request whose time is over after `timeout`.
    pub(super) fn ask(self: &Arc<Self>, timeout: Duration) -> Result<Asked<A>, RequestError> {
        let begun = self.clock.now();
        let deadline = begun.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let full = RequestError::Full { pending_max: self.places.max() };
        let ticket = self.places.take(deadline).ok_or(full)?;
        Ok(Asked { pending: Arc::clone(self), ticket, begun, deadline })
    }

    /// An answer that no request waits for. It counts as failed at the answer's subscription.
    #[cold]
    fn put_aside(&self, answer: Delivery<Topic<A>>) {
        self.late.add(1);
        answer.settle(&Outcome::Failed(String::new()));
    }
}

impl<A: Event> Desk for Pending<A> {
    fn bring(&self, hold: Hold, mailbox: &Arc<MailboxShared>) {
        let answer = Delivery::new(hold, Arc::clone(mailbox), self.known_as);
        let late = match answer.meta().correlation() {
            Some(id) => self.places.bring(named_by(id).1, answer),
            None => Some(answer),
        };
        if let Some(answer) = late {
            self.put_aside(answer);
        }
    }

    fn attend(&self, now: u64) -> u64 {
        self.places.attend(now)
    }

    fn close(&self) {
        self.places.close();
    }
}

/// A request in its place. Dropped, it frees the place, and its answer is late.
pub(super) struct Asked<A: Event> {
    pending: Arc<Pending<A>>,
    ticket: Ticket,
    begun: u64,
    deadline: u64,
}

impl<A: Event> Asked<A> {
    /// The id of its query, and so the correlation of its answer.
    pub(super) fn id(&self) -> EventId {
        id_of(self.ticket, self.pending.tag, self.pending.clock.unix_ns(self.begun))
    }

    /// The instant at which its time is over.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Time left.
    pub(super) fn left(&self) -> Duration {
        Duration::from_nanos(self.deadline.saturating_sub(self.pending.clock.now()))
    }

    /// Leaves `waker`; look once more before waiting.
    pub(super) fn wait(&self, waker: &Waker) {
        self.pending.places.wait(self.ticket, waker);
    }

    pub(super) fn timed_out(&self) -> RequestError {
        RequestError::TimedOut { after: self.pending.clock.since(self.begun) }
    }

    /// What has come of it; `None`: nothing yet.
    pub(super) fn look(&self) -> Option<Result<Delivery<Topic<A>>, RequestError>> {
        match self.pending.places.look(self.ticket) {
            Some(Seen::Answered(answer)) => Some(Ok(answer)),
            Some(Seen::TimedOut) => Some(Err(self.timed_out())),
            Some(Seen::Closed) => Some(Err(RequestError::ShuttingDown)),
            None => (self.pending.clock.now() >= self.deadline).then(|| Err(self.timed_out())),
        }
    }
}

impl<A: Event> Drop for Asked<A> {
    fn drop(&mut self) {
        self.pending.places.give_back(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use crate::sync::places::GENERATIONS;

    use super::*;

    #[test]
    fn an_id_tells_requester_place_and_generation_and_is_a_version_7_uuid() {
        for ticket in [
            Ticket { place: 0, generation: 0 },
            Ticket { place: PENDING_MAX - 1, generation: GENERATIONS - 1 },
            Ticket { place: 0x1234, generation: 0x155_aaaa },
        ] {
            for tag in [0, 0xdead_beef, u32::MAX] {
                let id = id_of(ticket, tag, 1_700_000_000_000_000_000);
                assert_eq!(named_by(id), (tag, ticket));
                assert!(is_of(id, tag) && !is_of(id, !tag));
                let uuid = uuid::Uuid::from_bytes(*id.as_bytes());
                assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
            }
        }
    }
}
