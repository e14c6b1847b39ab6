//! The journal's thread: takes events from its mailbox, appends them, and says a word about each.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_core::Stream;

use crate::{Bus, Degraded, Delivery, EventId, Frame, Mailbox, Meta, Notice, Pattern, Priority};

use super::super::guard::guarded;
use super::super::spill::Reference;
use super::super::{AppendError, Durability, EventStore, ExpectedVersion, Position, Query, ReadError};
use super::JournalState;
use super::shared::Shared;

/// Wakes the journal's thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An event that is to be appended, and the word that its mailbox waits for, unless it was given.
struct Kept {
    lane: usize,
    sequence: u64,
    frame: Frame,
    delivery: Option<Delivery<Pattern>>,
}

/// What is left in the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Perhaps more: it was not asked.
    Unknown,
    /// Perhaps more, which has to wait there until the store works.
    Held,
    /// Nothing for now; it wakes the thread when something comes.
    Nothing,
    /// Nothing, and nothing will come.
    Over,
}

/// A store that fails, since when, and when it is tried again.
struct Failing {
    since: Instant,
    again: Instant,
    /// It may have the events that were being appended.
    is_in_doubt: bool,
    _degraded: Degraded,
}

/// The thread.
pub(super) struct Keeper {
    bus: Bus,
    mailbox: Mailbox<Pattern>,
    name: String,
    shared: Arc<Shared>,
    batch_max: usize,
    keep_max: usize,
    durability: Durability,
    retry_every: Duration,
    /// Oldest first: at its front what is being appended.
    kept: VecDeque<Kept>,
    /// Events of the batch whose append failed, at the front.
    batch: usize,
    failing: Option<Failing>,
    /// The last event was dropped.
    is_dropping: bool,
}

impl Keeper {
    pub(super) fn new(bus: Bus, mailbox: Mailbox<Pattern>, name: String, shared: Arc<Shared>) -> Self {
        Self {
            bus,
            mailbox,
            name,
            shared,
            batch_max: 1,
            keep_max: 0,
            durability: Durability::Accepted,
            retry_every: Duration::ZERO,
            kept: VecDeque::new(),
            batch: 0,
            failing: None,
            is_dropping: false,
        }
    }

    pub(super) fn with_limits(self, batch_max: usize, keep_max: usize) -> Self {
        Self { batch_max, keep_max, ..self }
    }

    pub(super) fn with_word(self, durability: Durability, retry_every: Duration) -> Self {
        Self { durability, retry_every, ..self }
    }

    pub(super) fn run(mut self) {
        let thread = thread::current();
        self.shared.inner().thread = Some(thread.clone());
        let waker = Waker::from(Arc::new(Unpark(thread)));
        let mut context = Context::from_waker(&waker);
        loop {
            let left = self.take(&mut context);
            let is_due = self.is_due();
            if is_due {
                self.write();
            }
            let inner = self.shared.inner();
            let (is_ending, is_leaving, has_store) = (inner.is_ending, inner.is_leaving, inner.store.is_some());
            drop(inner);
            match &self.failing {
                Some(_) if is_ending => break,
                None if left == Left::Over || is_leaving => break,
                // A store may park the thread, and take a wake-up that was for the journal.
                _ if is_due || left == Left::Unknown => {}
                Some(failing) if has_store => {
                    thread::park_timeout(failing.again.saturating_duration_since(Instant::now()));
                }
                Some(_) | None => thread::park(),
            }
        }
        self.give_up();
    }

    /// Takes what is in the mailbox, at most as much as one append has: publishers may fill it faster than it is emptied.
    fn take(&mut self, context: &mut Context<'_>) -> Left {
        // What waits holds its cells of the mailbox.
        if self.failing.is_some() && self.keep_max == 0 {
            return Left::Held;
        }
        for _ in 0..self.batch_max {
            match Pin::new(&mut self.mailbox).poll_next(context) {
                Poll::Ready(Some(delivery)) => self.add(delivery),
                Poll::Ready(None) => return Left::Over,
                Poll::Pending => return Left::Nothing,
            }
        }
        Left::Unknown
    }

    fn add(&mut self, delivery: Delivery<Pattern>) {
        let meta = delivery.meta();
        let (lane, sequence) = (lane_of(&meta), meta.sequence());
        let mut inner = self.shared.inner();
        inner.counts.taken += 1;
        let writer = inner.trail.see(lane, sequence);
        let frame = || match writer {
            Some(writer) => Frame::in_lane(&meta, writer),
            None => Frame::of(&meta),
        };
        if let Some(position) = meta.position().and_then(Position::new) {
            inner.counts.already_stored += 1;
            if !meta.is_replay() {
                inner.trail.refer(Reference { lane, sequence, position, event: meta.id() });
            }
            inner.trail.pass_all(self.kept.is_empty());
            drop(inner);
            acknowledge(delivery);
        } else if self.failing.is_none() {
            inner.counts.waiting += 1;
            drop(inner);
            let frame = frame();
            self.kept.push_back(Kept { lane, sequence, frame, delivery: Some(delivery) });
        } else if self.kept.len() < self.keep_max {
            inner.counts.waiting += 1;
            inner.counts.in_memory += 1;
            drop(inner);
            let frame = frame();
            delivery.ack();
            self.kept.push_back(Kept { lane, sequence, frame, delivery: None });
        } else {
            inner.counts.dropped += 1;
            inner.trail.pass_all(self.kept.is_empty());
            drop(inner);
            let event = meta.id();
            if !std::mem::replace(&mut self.is_dropping, true) {
                self.tell_dropped(event, "the store fails, and as many events are in memory as may be");
            }
            delivery.fail("the store of the journal fails");
        }
    }

    /// Whether it is time to append: at once, or when a store that failed is to be tried again.
    fn is_due(&self) -> bool {
        let Some(failing) = &self.failing else { return !self.kept.is_empty() };
        let mut inner = self.shared.inner();
        inner.store.is_some()
            && (std::mem::take(&mut inner.is_urgent) || inner.is_ending || Instant::now() >= failing.again)
    }

    /// Appends what waits, batch after batch, until the store fails.
    fn write(&mut self) {
        while !self.kept.is_empty() {
            let Some(store) = self.shared.inner().store.clone() else { return };
            if self.failing.as_ref().is_some_and(|failing| failing.is_in_doubt) {
                match self.find(&*store) {
                    Ok(found) => self.settle_doubt(found),
                    Err(error) => return self.fail(error, true, store),
                }
                continue;
            }
            match self.append(&*store) {
                ControlFlow::Continue(()) => self.recover(),
                ControlFlow::Break(error) => {
                    let is_in_doubt =
                        matches!(error, AppendError::Disk(_) | AppendError::Failed(_) | AppendError::InDoubt(_));
                    return self.fail(error, is_in_doubt, store);
                }
            }
        }
        self.batch = 0;
    }

    /// Appends one batch, or less where the store takes only less at once.
    fn append(&mut self, store: &dyn EventStore) -> ControlFlow<AppendError> {
        let mut events = self.kept.len().min(self.batch_max);
        loop {
            let frames: Vec<_> = self.kept.iter().take(events).map(|kept| kept.frame.clone()).collect();
            // What a failure leaves in doubt is this very batch.
            self.batch = events;
            let append = || store.append(&frames, ExpectedVersion::Any, self.durability);
            match guarded(append, AppendError::InDoubt) {
                Ok(appended) => {
                    self.shared.inner().last = Some(*appended.positions().end());
                    self.settle(events);
                    return ControlFlow::Continue(());
                }
                Err(error) if error.is_refusal() && events > 1 => events /= 2,
                Err(error) if error.is_refusal() => {
                    self.refuse(&error);
                    return ControlFlow::Continue(());
                }
                Err(error) => return ControlFlow::Break(error),
            }
        }
    }

    /// The oldest events are in the store.
    fn settle(&mut self, events: usize) {
        let in_memory = self.kept.iter().take(events).filter(|kept| kept.delivery.is_none()).count() as u64;
        let mut inner = self.shared.inner();
        inner.counts.written += events as u64;
        inner.counts.waiting -= events as u64;
        inner.counts.in_memory -= in_memory;
        let last = inner.last;
        for Kept { lane, sequence, .. } in self.kept.iter().take(events) {
            inner.trail.pass(*lane, *sequence);
        }
        inner.trail.pass_all(self.kept.len() == events);
        inner.trail.mark(last);
        drop(inner);
        self.shared.grow();
        self.kept.drain(..events).filter_map(|kept| kept.delivery).for_each(acknowledge);
    }

    /// The store can never take the oldest event.
    fn refuse(&mut self, error: &AppendError) {
        let Some(Kept { lane, sequence, frame, delivery }) = self.kept.pop_front() else { return };
        let mut inner = self.shared.inner();
        inner.counts.refused += 1;
        inner.counts.waiting -= 1;
        inner.counts.in_memory -= u64::from(delivery.is_none());
        inner.trail.pass(lane, sequence);
        inner.trail.pass_all(self.kept.is_empty());
        drop(inner);
        self.shared.grow();
        let reason = error.to_string();
        self.tell_dropped(frame.meta().id(), &reason);
        if let Some(delivery) = delivery {
            delivery.fail(reason);
        }
    }

    /// Whether the store has the batch that was being appended when it failed, of which it has all or nothing; then where
    /// the batch ends. Any event of it tells: others may lie among what cannot be read, which is said and passed over.
    fn find(&self, store: &dyn EventStore) -> Result<Option<Position>, AppendError> {
        let mut batch = HashMap::new();
        for (nth, kept) in self.kept.iter().take(self.batch).enumerate() {
            batch.entry(kept.frame.meta().id()).or_insert((nth, &kept.frame));
        }
        let mut looked_at = self.shared.inner().last;
        loop {
            let query = match looked_at {
                Some(looked_at) => Query::new().behind(looked_at),
                None => Query::new(),
            };
            let page = match guarded(|| store.query(&query), ReadError::Failed) {
                Ok(page) => page,
                Err(error) => match error.behind() {
                    Some(behind) => {
                        self.tell_failed(&error.to_string());
                        looked_at = Some(behind);
                        continue;
                    }
                    None => return Err(AppendError::Failed(Box::new(error))),
                },
            };
            for event in &page.events {
                if let Some((nth, frame)) = batch.get(&event.meta().id())
                    && *frame == event.frame()
                {
                    return Ok(Position::new(event.position().get() + (self.batch - 1 - nth) as u64));
                }
            }
            if page.next.is_none() {
                return Ok(None);
            }
            looked_at = page.next;
        }
    }

    fn settle_doubt(&mut self, found: Option<Position>) {
        if let Some(last) = found {
            self.shared.inner().last = Some(last);
            self.settle(self.batch);
            self.recover();
        } else if let Some(failing) = &mut self.failing {
            failing.is_in_doubt = false;
        }
    }

    /// The store has taken something.
    fn recover(&mut self) {
        let Some(Failing { since, .. }) = self.failing.take() else { return };
        self.is_dropping = false;
        let mut inner = self.shared.inner();
        inner.state = JournalState::Writing;
        let dropped = inner.counts.dropped;
        drop(inner);
        self.bus.notify(&Notice::StorageReturned { name: &self.name, after: since.elapsed(), dropped });
    }

    fn fail(&mut self, error: AppendError, is_in_doubt: bool, store: Arc<dyn EventStore>) {
        let reason = error.to_string();
        let is_lost = matches!(error, AppendError::Disk(_));
        let mut inner = self.shared.inner();
        // It may have been replaced meanwhile.
        let is_current = inner.store.as_ref().is_some_and(|current| Arc::ptr_eq(current, &store));
        let released = if is_lost && is_current { inner.store.take() } else { None };
        inner.state = match is_lost {
            true => JournalState::Lost(reason.clone()),
            false => JournalState::Retrying(reason.clone()),
        };
        drop(inner);
        // Whoever opens it again needs it closed.
        drop((released, store));
        let now = Instant::now();
        let again = if is_current { now + self.retry_every } else { now };
        match &mut self.failing {
            Some(failing) => (failing.again, failing.is_in_doubt) = (again, is_in_doubt),
            None => {
                let degraded = self.bus.degrade();
                self.failing = Some(Failing { since: now, again, is_in_doubt, _degraded: degraded });
                self.tell_failed(&reason);
                if self.keep_max > 0 {
                    self.let_go();
                }
            }
        }
    }

    /// Acknowledges what waits: it is in memory from now on.
    fn let_go(&mut self) {
        let deliveries: Vec<_> = self.kept.iter_mut().filter_map(|kept| kept.delivery.take()).collect();
        self.shared.inner().counts.in_memory += deliveries.len() as u64;
        deliveries.into_iter().for_each(acknowledge);
    }

    /// The end: what could not be written is dropped.
    fn give_up(mut self) {
        let mut left: Vec<_> = self.kept.drain(..).collect();
        let waiting = left.len() as u64;
        // On a worker thread nobody could end the subscription: what comes from now on is not the journal's.
        for _ in 0..self.mailbox.len() {
            let Ok(delivery) = self.mailbox.try_recv() else { break };
            let meta = delivery.meta();
            let (lane, sequence, frame) = (lane_of(&meta), meta.sequence(), Frame::of(&meta));
            left.push(Kept { lane, sequence, frame, delivery: Some(delivery) });
        }
        let events = left.len() as u64;
        let mut inner = self.shared.inner();
        inner.counts.taken += events - waiting;
        inner.counts.dropped += events;
        inner.counts.waiting = 0;
        inner.counts.in_memory = 0;
        if inner.state == JournalState::Writing {
            inner.state = JournalState::Ended;
        }
        // What it has written may still be read back.
        let released = if inner.trail.is_read() { None } else { inner.store.take() };
        inner.trail.end();
        drop(inner);
        drop(released);
        self.shared.grow();
        if let Some(first) = left.first() {
            self.tell_dropped(first.frame.meta().id(), "the journal was closed while its store did not work");
        }
        for delivery in left.into_iter().filter_map(|kept| kept.delivery) {
            delivery.fail("the journal was closed while its store did not work");
        }
    }

    fn tell_failed(&self, error: &str) {
        let waiting = self.shared.inner().counts.waiting;
        self.bus.notify(&Notice::StorageFailed { name: &self.name, error, waiting });
    }

    fn tell_dropped(&self, event: EventId, reason: &str) {
        self.bus.notify(&Notice::StorageDropped { name: &self.name, event, reason });
    }
}

/// The lane of an event: Critical's is the first.
fn lane_of(meta: &Meta<'_>) -> usize {
    Priority::Critical as usize - meta.priority() as usize
}

fn acknowledge(delivery: Delivery<Pattern>) {
    delivery.ack();
}
