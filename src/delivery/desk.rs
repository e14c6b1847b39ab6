//! A consumer on the worker that hands each event on to whoever waits for that very one, and keeps time for them.

use std::sync::Arc;

use super::MailboxShared;
use super::in_hand::Hold;

/// Where a worker brings the events of a mailbox, instead of calling a handler.
pub(crate) trait Desk: Send + Sync {
    /// Worker: an event has come.
    fn bring(&self, hold: Hold, mailbox: &Arc<MailboxShared>);

    /// Worker: tells those whose time is over at the instant `now`. Returns the instant to look again at.
    fn attend(&self, now: u64) -> u64;

    /// Nothing will come any more. Wakes all, which is user code: not under a lock.
    fn close(&self);
}
