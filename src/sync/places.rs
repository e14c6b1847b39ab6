//! Places where something is waited for: taken, answered, given back, all without a lock.
//!
//! ```text
//!            ┌──────────── whoever took it lets go: the place is free ──────────┐
//!            ▼                                                                  │
//!   free ──take──► waiting ──the worker brings the answer──► answered ──────────┤
//!                     └──────its time is over──────────────► timed out ─────────┘
//! ```
//!
//! State and generation are one word, so of an answer, the end of its time and who lets go one comes first.

use std::task::Waker;

use super::alarm::NEVER;
use super::mutant::mutant;
use super::primitive::{ArrayQueue, AtomicBool, AtomicU64, BeforeWrite, Ordering};
use super::waker::WakerCell;

/// Generations of a place go round.
pub const GENERATIONS: u64 = 1 << 26;

const FREE: u64 = 0;
const WAITING: u64 = 1;
const ANSWERED: u64 = 2;
const TIMED_OUT: u64 = 3;

const fn word(generation: u64, state: u64) -> u64 {
    generation << 2 | state
}

/// A place that was taken, until it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub place: usize,
    /// Which of those who had the place.
    pub generation: u64,
}

/// What has come of waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<T> {
    Answered(T),
    TimedOut,
    /// Nothing will come any more.
    Closed,
}

#[derive(Debug)]
struct Place<T> {
    word: AtomicU64,
    /// The instant at which its time is over. Written before the word says that it waits.
    deadline: AtomicU64,
    waker: WakerCell,
    /// One answer.
    answer: ArrayQueue<T>,
}

/// So many places for answers of one kind.
#[derive(Debug)]
pub struct Places<T> {
    places: Box<[Place<T>]>,
    free: ArrayQueue<u32>,
    is_closed: AtomicBool,
}

impl<T> Places<T> {
    /// # Panics
    /// When there are more than a `u32` counts.
    pub fn new(max: usize) -> Self {
        let place = |_| Place {
            word: AtomicU64::new(FREE),
            deadline: AtomicU64::new(NEVER),
            waker: WakerCell::new(),
            answer: ArrayQueue::new(1),
        };
        let free = ArrayQueue::new(max);
        for nth in 0..max {
            let nth = u32::try_from(nth).expect("places are numbered in 32 bits");
            free.push(nth).expect("there is room for each place");
        }
        Self { places: (0..max).map(place).collect(), free, is_closed: AtomicBool::new(false) }
    }

    /// Places, taken or not.
    pub fn max(&self) -> usize {
        self.places.len()
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a place until the instant `deadline`. `None` when there is none.
    pub fn take(&self, deadline: u64) -> Option<Ticket> {
        let nth = self.free.pop()? as usize;
        let place = &self.places[nth];
        // Relaxed: shown by the queue of free places; nobody else writes the word of one.
        let generation = mutant!("places.generation", (place.word.before_write() / 4 + 1) % GENERATIONS => 1);
        // Relaxed: shown with the word.
        place.deadline.store(deadline, Ordering::Relaxed);
        // SYNC(request.place): Release. Pairs with `attend`; the deadline is this one's.
        place.word.store(word(generation, WAITING), mutant!("places.take", Ordering::Release));
        Some(Ticket { place: nth, generation })
    }

    /// Worker: brings an answer to whoever has this ticket. Gives it back when nobody waits for it; who lets go meanwhile may
    /// have taken it out.
    pub fn bring(&self, ticket: Ticket, answer: T) -> Option<T> {
        let Some(place) = self.places.get(ticket.place) else { return Some(answer) };
        let (before, after) = (word(ticket.generation, WAITING), word(ticket.generation, ANSWERED));
        // Relaxed: the trips of question and answer have shown that it waits; the exchange decides.
        if place.word.load(Ordering::Relaxed) != before {
            return Some(answer);
        }
        if let Err(answer) = place.answer.push(answer) {
            return Some(answer);
        }
        // SYNC(request.place): Release. Pairs with `give_back`; the answer is in its place. Relaxed: an exchange that failed has
        // done nothing.
        let brought =
            place.word.compare_exchange(before, after, mutant!("places.bring", Ordering::Release), Ordering::Relaxed);
        if mutant!("places.late", brought.is_ok() => true) {
            mutant!("places.wake", place.waker.wake() => ());
            return None;
        }
        mutant!("places.take_out", place.answer.pop() => None)
    }

    /// Worker: tells those whose time is over at the instant `now`. Returns the instant to look again at.
    pub fn attend(&self, now: u64) -> u64 {
        let mut next = NEVER;
        if self.free.is_full() {
            return next;
        }
        for place in &self.places {
            // SYNC(request.place): Acquire. Pairs with `take`.
            let seen = place.word.load(mutant!("places.attend", Ordering::Acquire));
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
                mutant!("places.wake_late", place.waker.wake() => ());
            }
        }
        next
    }

    /// Nothing will come any more. Wakes all, which is user code.
    pub fn close(&self) {
        // Relaxed: the wake-up shows it, and who left a waker before it looks once more.
        self.is_closed.store(true, Ordering::Relaxed);
        mutant!("places.wake_all", self.places.iter().for_each(|place| place.waker.wake()) => ());
    }

    /// Leaves `waker`; look once more before waiting.
    pub fn wait(&self, ticket: Ticket, waker: &Waker) {
        self.places[ticket.place].waker.register(waker);
    }

    /// What has come of it; `None`: nothing yet. An answer is seen once.
    pub fn look(&self, ticket: Ticket) -> Option<Seen<T>> {
        let place = &self.places[ticket.place];
        // Relaxed: the queue shows the answer, and who does not find it there yet is still to be woken for it.
        match place.word.load(Ordering::Relaxed) % 4 {
            ANSWERED => place.answer.pop().map(Seen::Answered),
            TIMED_OUT => Some(Seen::TimedOut),
            // Relaxed: see `close`.
            _ => self.is_closed.load(Ordering::Relaxed).then_some(Seen::Closed),
        }
    }

    /// Frees the place. An answer that comes now is nobody's.
    ///
    /// # Panics
    /// When it was free already.
    pub fn give_back(&self, ticket: Ticket) {
        let place = &self.places[ticket.place];
        // SYNC(request.place): Acquire. Pairs with `bring`; an answer that is there is taken out, and one that is on its way finds
        // that nobody waits.
        place.word.swap(word(ticket.generation, FREE), mutant!("places.give_back", Ordering::Acquire));
        mutant!("places.empty", drop(place.answer.pop()) => ());
        self.free.push(ticket.place as u32).expect("there is room for each place");
    }
}
