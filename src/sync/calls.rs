//! Calls of a handler by a consumer, against the end of its subscription: after it has ended no call begins.
//!
//! ```text
//!   consumer                           who unsubscribes
//!   say that I am calling              end the subscription
//!   light barrier                      heavy barrier
//!   look whether it has ended          look whether somebody calls, until nobody does
//!   not? call
//!   say that the call is over
//! ```
//!
//! A handler may end its own subscription: it does not wait for the call that it is in.

use std::cell::Cell;

use super::barrier::Barrier;
use super::mutant::mutant;
use super::primitive::{AtomicBool, AtomicU8, Ordering, thread_local};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Active = 0,
    Paused = 1,
    /// Unsubscribed; what still comes is dropped.
    Closed = 2,
}

/// The state of a subscription, and whether its consumer is in a call.
#[derive(Debug)]
pub struct Calls {
    state: AtomicU8,
    /// The consumer that calls the handler is between its look at `state` and the end of the call.
    calling: AtomicBool,
}

thread_local! {
    /// The address of the `Calls` whose handler this thread calls, or whose handler's future it polls, outside its
    /// worker; 0 = none.
    static CALLING: Cell<usize> = Cell::default();
}

/// Whether the calling thread is in a handler's call, outside its worker.
pub fn is_calling() -> bool {
    CALLING.with(Cell::get) != 0
}

impl Default for Calls {
    fn default() -> Self {
        Self::new()
    }
}

impl Calls {
    /// Of an active subscription.
    pub fn new() -> Self {
        Self { state: AtomicU8::new(State::Active as u8), calling: AtomicBool::new(false) }
    }

    #[inline(always)]
    pub fn state(&self) -> State {
        // Relaxed: a pause takes effect at some event soon; the end is ordered by the table's generation, and against
        // `begin` by the barriers.
        match self.state.load(Ordering::Relaxed) {
            0 => State::Active,
            1 => State::Paused,
            _ => State::Closed,
        }
    }

    /// Moves between active and paused; closed stays closed.
    pub fn set_state(&self, state: State) {
        let open = |now: u8| mutant!("calls.closed", now != State::Closed as u8 => true).then_some(state as u8);
        // Relaxed (both): see `state`.
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, open);
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The consumer steps in to call the handler. `None` when the subscription has ended: it must not call any more.
    pub fn begin(&self, barrier: Barrier) -> Option<Calling<'_>> {
        // Relaxed: the barrier orders it before the look at the state; `is_elsewhere` does the same the other way round.
        self.calling.store(true, Ordering::Relaxed);
        let call = Calling { calls: self, ends: true, _named: Named::new(self) };
        barrier.light();
        (self.state() != State::Closed).then_some(call)
    }

    /// Orders the end of the subscription before a look at `is_elsewhere`. Control plane.
    pub fn forbid(&self, barrier: Barrier) {
        barrier.heavy();
    }

    /// Another thread becomes the consumer, while the one before is in a call that does not end: that one has begun long ago, and
    /// nobody waits for it any more.
    pub fn relieve(&self) {
        // Relaxed: what the one before does in its call is nobody's to see.
        self.calling.store(false, Ordering::Relaxed);
    }

    /// Takes one step of the future that the handler has returned: what happens in it happens in the handler.
    pub fn poll<R>(&self, step: impl FnOnce() -> R) -> R {
        let _named = Named::new(self);
        step()
    }

    /// Whether the calling thread is in such a call or step.
    pub fn is_here(&self) -> bool {
        CALLING.with(Cell::get) == self.address()
    }

    /// Whether a consumer that may not have seen the end is in a call. Not the calling thread's own: it would wait for
    /// itself. Ask after `forbid`.
    pub fn is_elsewhere(&self) -> bool {
        // SYNC(calls.end): Acquire. Pairs with the end of the call; what the handler did is seen by who unsubscribed it.
        self.calling.load(mutant!("calls.look", Ordering::Acquire)) && mutant!("calls.own", !self.is_here() => true)
    }
}

/// Names the call that this thread is in, until it is dropped.
#[derive(Debug)]
struct Named {
    /// The call that this one is nested in.
    outer: usize,
}

impl Named {
    fn new(calls: &Calls) -> Self {
        Self { outer: CALLING.with(|calling| calling.replace(calls.address())) }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        CALLING.with(|calling| calling.set(mutant!("calls.outer", self.outer => 0)));
    }
}

/// A call of a handler by a consumer, until it is dropped.
#[derive(Debug)]
pub struct Calling<'a> {
    calls: &'a Calls,
    /// Whether its end is the end of the consumer's call: not when another thread is the consumer by now.
    ends: bool,
    _named: Named,
}

impl Calling<'_> {
    /// Another thread is the consumer by now, and may be in a call of its own.
    pub fn leave(mut self) {
        mutant!("calls.leave", self.ends = false => ());
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        if !self.ends {
            return;
        }
        // SYNC(calls.end): Release. Pairs with `is_elsewhere`.
        self.calls.calling.store(false, mutant!("calls.end", Ordering::Release));
    }
}
