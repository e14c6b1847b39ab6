//! A door into the loop of a worker, for tests that have it panic between two steps of its own. No ordinary build has it.
//!
//! User code cannot get there: what it panics at is contained where it is called. So this stands for a bug of ours.

use std::cell::RefCell;

/// What a worker panics with here, so that a panic hook may tell it from others.
pub const STRUCK: &str = "a worker that was struck on purpose";

/// Between which steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// A turn begins.
    Begin,
    /// Events that came due are in their lanes.
    Timers,
    /// What comes back has been looked after, services among it.
    Attended,
    /// Before an event, or a run of them, is served.
    Serve,
    /// It is being asked which services an event goes to.
    Asked,
    /// An event was given to its subscriptions, and not yet to its services.
    Given,
    /// An event was given to a service.
    Served,
    /// An event was given to all, and the worker still stands before it.
    Whole,
    /// The worker has gone past it.
    Passed,
    /// All of a turn is done, and nobody was told how far it came.
    Unreleased,
    /// Publishers were told.
    Released,
    /// It was to say that it sleeps.
    Asleep,
    /// It goes on after such a panic.
    Again,
}

type Strike = Box<dyn FnMut(Boundary) -> bool>;

thread_local! {
    static ARMED: RefCell<Option<Strike>> = const { RefCell::new(None) };
}

/// From now on a worker that runs on the calling thread panics wherever `strike` says so.
pub fn arm(strike: impl FnMut(Boundary) -> bool + 'static) {
    ARMED.with_borrow_mut(|armed| *armed = Some(Box::new(strike)));
}

/// Takes that back.
pub fn disarm() {
    ARMED.take();
}

/// A worker is between two steps.
pub(super) fn visit(boundary: Boundary) {
    let struck = ARMED.try_with(|armed| armed.borrow_mut().as_mut().is_some_and(|strike| strike(boundary)));
    if struck == Ok(true) {
        std::panic::panic_any(STRUCK);
    }
}
