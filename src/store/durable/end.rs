//! The end of a durable publisher: what it still does, how long, and what it leaves.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Bus, Notice};

use super::super::Position;
use super::super::positions::Seated;
use super::commit::Job;
use super::{DurableCounts, DurableError, Progress, Shared};

/// Its threads.
const THREADS: usize = 3;
/// What they have to end when the time to deliver is over; one that a store holds longer is left to itself.
const END_MAX: Duration = Duration::from_secs(1);

/// A durable publisher that has not ended.
pub(super) struct Running {
    pub(super) bus: Bus,
    pub(super) name: String,
    /// Let go of when it has ended.
    pub(super) _seated: Seated,
    pub(super) sender: SyncSender<Job>,
    pub(super) shared: Arc<Shared>,
    /// In the order in which they end.
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) close_max: Duration,
}

/// Says that a thread has ended, also when it panics: nobody may wait for what does not come.
pub(super) struct Ended<'s>(pub(super) &'s Shared, pub(super) fn(&mut Progress));

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.change(self.1);
    }
}

impl Running {
    /// Ends it within a time.
    pub(super) fn end(self, limit: Duration) -> Result<DurableCounts, DurableError> {
        let Self { bus, name, _seated, sender, shared, threads, .. } = self;
        drop(sender);
        let ends_at = Instant::now() + limit;
        drop(shared.wait_while(limit, |inner| !inner.is_committed && threads.len() == THREADS));
        shared.change(|inner| inner.ends_at = Some(ends_at));
        let limit = ends_at.saturating_duration_since(Instant::now()) + END_MAX;
        let inner = shared.wait_while(limit, |inner| !inner.is_over && threads.len() == THREADS);
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        let (ready, counts) = (number(inner.ready), inner.counts);
        let has_ended = inner.is_committed && inner.is_over;
        drop(inner);
        if has_ended {
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        let (delivered, settled) = (number(counts.delivered_to), number(counts.settled_to));
        if settled >= ready {
            return Ok(counts);
        }
        let undelivered = ready.saturating_sub(delivered);
        let left = DurableError::Left { undelivered, unsettled: ready - settled - undelivered };
        bus.notify(&Notice::StorageFailed { name: &name, error: &left.to_string(), waiting: ready - settled });
        Err(left)
    }
}
