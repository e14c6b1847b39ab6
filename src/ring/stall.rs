//! A door into the window between claim and commit, for tests that stop a thread there. No ordinary build has it.
//!
//! Nothing but a few stores runs in that window, so nothing but the scheduler can stretch it. This is the scheduler at its
//! worst, on demand: a thread stops where the test says, for as long as it says.

use std::cell::RefCell;

type Stop = Box<dyn FnOnce(u64)>;

thread_local! {
    /// Visits that pass first, and what happens at the one after.
    static ARMED: RefCell<Option<(u32, Stop)>> = const { RefCell::new(None) };
}

/// Calls `stop` once, in the window, with the sequence it concerns, on the calling thread: at its next visit but
/// `visits`. It must not panic, nor publish by the publisher that is stopped.
///
/// An event visits twice: when its slot is claimed, and when it is written and not yet visible. A batch visits once when its
/// slots are claimed, with the first sequence, and once for each of its events before that is visible, the last first.
pub fn arm(visits: u32, stop: impl FnOnce(u64) + 'static) {
    ARMED.with_borrow_mut(|armed| *armed = Some((visits, Box::new(stop))));
}

/// Forgets what the calling thread was armed with. Returns whether it had not come to it yet.
pub fn disarm() -> bool {
    ARMED.take().is_some()
}

/// The calling thread is in the window.
pub(super) fn visit(sequence: u64) {
    // A thread that is being torn down may publish too.
    let stop = ARMED.try_with(|armed| match &mut *armed.borrow_mut() {
        Some((visits @ 1.., _)) => {
            *visits -= 1;
            None
        }
        due => due.take(),
    });
    if let Ok(Some((_, stop))) = stop {
        stop(sequence);
    }
}
