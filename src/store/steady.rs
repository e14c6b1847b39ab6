//! The wall clock without its steps.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

/// When the process first asked, by the wall clock and by the monotonic one.
static BEGUN: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));

/// The time by the wall clock when the process first asked, and what has passed since by the monotonic clock: whoever sets the
/// wall clock, be it by an hour or by ten years, moves it neither forwards nor back. It is the same for all in the process; the next process goes by
/// the wall clock that it finds.
///
/// [`Sagas`](crate::sourcing::Sagas) and [`ReliableSubscription`](super::ReliableSubscription) go by it. Give it to whatever asks for the time, when what
/// counts is how much has passed: [`Schedule::publish_due`](super::Schedule::publish_due) and what is due in an hour,
/// [`HandledWindow::begin`](super::HandledWindow::begin). For what is due on a date, give both
/// [`SystemTime::now`]: that follows who corrects the clock.
///
/// On Linux time does not pass for it while the machine sleeps.
pub fn steady_now() -> SystemTime {
    let (wall, begun) = *BEGUN;
    wall + begun.elapsed()
}
