//! The places where requests wait for their answers: taken, answered, given back, all without a lock.
//!
//! ```text
//!            ┌──────────── whoever asked lets go: the place is free ────────────┐
//!            ▼                                                                  │
//!   free ──ask──► waiting ──the worker brings the answer──► answered ───────────┤
//!                    └──────its time is over──────────────► timed out ──────────┘
//! ```
//!
//! State and generation are one word, so of an answer, the end of its time and a cancellation one comes first.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::clock::Clock;
use crate::delivery::{Delivery, Desk, Hold, MailboxShared, Outcome};
use crate::event::{Event, EventId, KnownAs, Topic};
use crate::metrics::SharedCounter;
use crate::sync::alarm::NEVER;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering};
use crate::sync::waker::WakerCell;

use super::RequestError;

/// A requester may have so many places: their number is 16 bits of each query's id.
pub(super) const PENDING_MAX: usize = 1 << 16;

/// Generations of a place go round: as many as an id has bits for.
const GENERATIONS: u64 = 1 << 26;
const FREE: u64 = 0;
const WAITING: u64 = 1;
const ANSWERED: u64 = 2;
const TIMED_OUT: u64 = 3;

const fn word(generation: u64, state: u64) -> u64 {
    generation << 2 | state
}

/// Whose answer, by the id of its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket {
    place: usize,
    generation: u64,
}

impl Ticket {
    /// A version 7 id: 48 bits of milliseconds, 26 of the generation, 32 of the requester, 16 of the place.
    fn id(self, tag: u32, unix_ns: u64) -> EventId {
        let first = (unix_ns / 1_000_000) << 16 | 0x7000 | self.generation >> 14;
        let second = 1 << 63 | (self.generation & 0x3fff) << 48 | u64::from(tag) << 16 | self.place as u64;
        EventId::from(u128::from(first) << 64 | u128::from(second))
    }

    /// The requester that an id names, and the ticket.
    fn of(id: EventId) -> (u32, Self) {
        let id = u128::from(id);
        let (first, second) = ((id >> 64) as u64, id as u64);
        let generation = (first & 0xfff) << 14 | second >> 48 & 0x3fff;
        ((second >> 16) as u32, Self { place: (second & 0xffff) as usize, generation })
    }
}

/// Whether an id is one of the requester with this tag.
pub(super) fn is_of(id: EventId, tag: u32) -> bool {
    Ticket::of(id).0 == tag
}

/// The tag of the requester that was given this id.
pub(super) fn tag_of(id: EventId) -> u32 {
    Ticket::of(id).0
}

struct Place<A: Event> {
    word: AtomicU64,
    /// The instant at which the request's time is over. Written before the word says that it waits.
    deadline: AtomicU64,
    waker: WakerCell,
    /// One answer.
    answer: ArrayQueue<Delivery<Topic<A>>>,
}

/// All places of one requester.
pub(super) struct Pending<A: Event> {
    places: Box<[Place<A>]>,
    free: ArrayQueue<u32>,
    tag: u32,
    known_as: KnownAs,
    clock: Clock,
    is_closed: AtomicBool,
    late: SharedCounter,
}

impl<A: Event> Pending<A> {
    pub(super) fn new(max: usize, tag: u32, known_as: KnownAs, clock: Clock) -> Self {
        let place = |_| Place {
            word: AtomicU64::new(FREE),
            deadline: AtomicU64::new(NEVER),
            waker: WakerCell::new(),
            answer: ArrayQueue::new(1),
        };
        let free = ArrayQueue::new(max);
        (0..max as u32).for_each(|nth| free.push(nth).expect("there is room for each place"));
        Self {
            places: (0..max).map(place).collect(),
            free,
            tag,
            known_as,
            clock,
            is_closed: AtomicBool::new(false),
            late: SharedCounter::default(),
        }
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn late(&self) -> u64 {
        self.late.get()
    }

    /// Takes a place for a request whose time is over after `timeout`.
    pub(super) fn ask(self: &Arc<Self>, timeout: Duration) -> Result<Asked<A>, RequestError> {
        let nth = self.free.pop().ok_or(RequestError::Full { pending_max: self.places.len() })? as usize;
        let place = &self.places[nth];
        // Relaxed: shown by the queue of free places; nobody else writes the word of one.
        let generation = (place.word.load(Ordering::Relaxed) / 4 + 1) % GENERATIONS;
        let begun = self.clock.now();
        let deadline = begun.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        // Relaxed: shown with the word.
        place.deadline.store(deadline, Ordering::Relaxed);
        // SYNC(request.place): Release. Pairs with `attend`; the deadline is this request's.
        place.word.store(word(generation, WAITING), Ordering::Release);
        let ticket = Ticket { place: nth, generation };
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
        let ticket = answer.meta().correlation().map(|id| Ticket::of(id).1);
        let Some((ticket, place)) = ticket.and_then(|ticket| Some((ticket, self.places.get(ticket.place)?))) else {
            return self.put_aside(answer);
        };
        let (before, after) = (word(ticket.generation, WAITING), word(ticket.generation, ANSWERED));
        // Relaxed: the query's and the answer's trip has shown that it waits; the exchange decides.
        if place.word.load(Ordering::Relaxed) != before {
            return self.put_aside(answer);
        }
        if let Err(answer) = place.answer.push(answer) {
            return self.put_aside(answer);
        }
        // SYNC(request.place): Release. Pairs with `look`; the answer is in its place. Relaxed: an exchange that failed has done
        // nothing.
        if place.word.compare_exchange(before, after, Ordering::Release, Ordering::Relaxed).is_ok() {
            place.waker.wake();
        } else if let Some(answer) = place.answer.pop() {
            self.put_aside(answer);
        }
    }

    fn attend(&self, now: u64) -> u64 {
        let mut next = NEVER;
        if self.free.is_full() {
            return next;
        }
        for place in &self.places {
            // SYNC(request.place): Acquire. Pairs with `ask`.
            let seen = place.word.load(Ordering::Acquire);
            if seen % 4 != WAITING {
                continue;
            }
            // Relaxed: shown with the word.
            let deadline = place.deadline.load(Ordering::Relaxed);
            if deadline > now {
                next = next.min(deadline);
                continue;
            }
            // Relaxed (both): says that the time is over and nothing else.
            let over =
                place.word.compare_exchange(seen, seen / 4 * 4 + TIMED_OUT, Ordering::Relaxed, Ordering::Relaxed);
            if over.is_ok() {
                place.waker.wake();
            }
        }
        next
    }

    fn close(&self) {
        // Relaxed: the wake-up shows it, and who left a waker before it looks once more.
        self.is_closed.store(true, Ordering::Relaxed);
        self.places.iter().for_each(|place| place.waker.wake());
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
        self.ticket.id(self.pending.tag, self.pending.clock.unix_ns(self.begun))
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
        self.place().waker.register(waker);
    }

    fn place(&self) -> &Place<A> {
        &self.pending.places[self.ticket.place]
    }

    pub(super) fn timed_out(&self) -> RequestError {
        RequestError::TimedOut { after: self.pending.clock.since(self.begun) }
    }

    /// What has come of it; `None`: nothing yet.
    pub(super) fn look(&self) -> Option<Result<Delivery<Topic<A>>, RequestError>> {
        let place = self.place();
        // SYNC(request.place): Acquire. Pairs with `bring`.
        match place.word.load(Ordering::Acquire) % 4 {
            ANSWERED => return place.answer.pop().map(Ok),
            TIMED_OUT => return Some(Err(self.timed_out())),
            _ => {}
        }
        // Relaxed: see `close`.
        if self.pending.is_closed.load(Ordering::Relaxed) {
            return Some(Err(RequestError::ShuttingDown));
        }
        (self.pending.clock.now() >= self.deadline).then(|| Err(self.timed_out()))
    }
}

impl<A: Event> Drop for Asked<A> {
    fn drop(&mut self) {
        let place = self.place();
        // SYNC(request.place): Acquire. Pairs with `bring`; an answer that is there is taken out, and one that is on its way finds
        // that nobody waits.
        place.word.swap(word(self.ticket.generation, FREE), Ordering::Acquire);
        drop(place.answer.pop());
        self.pending.free.push(self.ticket.place as u32).expect("there is room for each place");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_requester_place_and_generation_and_is_a_version_7_uuid() {
        for ticket in [
            Ticket { place: 0, generation: 0 },
            Ticket { place: PENDING_MAX - 1, generation: GENERATIONS - 1 },
            Ticket { place: 0x1234, generation: 0x155_aaaa },
        ] {
            for tag in [0, 0xdead_beef, u32::MAX] {
                let id = ticket.id(tag, 1_700_000_000_000_000_000);
                assert_eq!(Ticket::of(id), (tag, ticket));
                assert!(is_of(id, tag) && !is_of(id, !tag));
                let uuid = uuid::Uuid::from_bytes(*id.as_bytes());
                assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
            }
        }
    }
}
