//! A subscriber's own queue: filled by its worker, pulled by its consumer, who may be on any thread or async runtime.

use std::sync::Arc;
use std::task::Waker;

use crate::event::{Directory, FLAG_STAMPED, Header, Meta};
use crate::metrics::{MailboxStages, SharedCounter};
use crate::ring::{Arrival, Custody, Keyed, Put, Returns, Slot};
use crate::sync::alarm::NEVER;
use crate::sync::bell::Bell;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering};

use super::in_hand::Hold;
use super::intake::put_latest;
use super::{Crew, DeadReason, Fed, Guard, Intake, Reliable, SpillShared, Waits};

mod books;
mod consumer;
mod ending;
mod guarded;
mod passing;
mod spilled;
mod timed;

pub(crate) use consumer::Farewell;
pub use consumer::{Iter, Mailbox, RecvError, TryRecvError};
pub(crate) use timed::Timed;

/// When dead letters that found no room are tried again.
const REDRIVE_AGAIN_NS: u64 = 1_000_000;

/// What happens when an event meets a full mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The worker stops reading that lane until there is room: nothing is lost, and publishers feel it when the lane
    /// fills. The default.
    #[default]
    Block,
    /// The event is dropped and counted. Under reliable delivery nothing is dropped: there it is a dead letter.
    DropNewest,
    /// The oldest queued event that is no more urgent is dropped and counted; when there is none, the new one.
    DropOldest,
    /// The event stays in a store, and comes from there when the consumer has come so far: nothing is lost, and nobody waits. Set by
    /// [`Subscribe::spill`](crate::Subscribe::spill), which names the store.
    Spill,
}

/// What became of a mailbox's events.
#[derive(Debug, Default)]
pub(super) struct MailboxCounts {
    pub(super) delivered: SharedCounter,
    pub(super) failed: SharedCounter,
    /// Events whose deadline passed while they were queued.
    pub(super) expired: SharedCounter,
    pub(super) discarded: SharedCounter,
    pub(super) dead_lettered: SharedCounter,
    /// Events of a service that went to one of its instances, or back.
    pub(super) passed_on: SharedCounter,
    /// Attempts after which the event came again.
    pub(super) retried: SharedCounter,
    /// Words that came too late.
    pub(super) late: SharedCounter,
    /// Attempts, or calls of a handler, whose time was over before their consumer said a word.
    pub(super) timed_out: SharedCounter,
}

/// What worker and consumer of a mailbox share.
#[derive(Debug)]
pub(crate) struct MailboxShared {
    custody: Arc<Custody>,
    /// Of a subscription with reliable delivery.
    reliable: Option<Reliable>,
    /// What stands between it and its consumer.
    guard: Option<Box<Guard>>,
    /// Of one whose consumer is a handler, without attempts that have a time.
    timed: Option<Box<Timed>>,
    /// What of its events is in a store.
    spill: Option<Arc<SpillShared>>,
    waits: Waits,
    overflow: Overflow,
    consumer: Bell,
    paused: AtomicBool,
    counts: MailboxCounts,
    /// Dead letters that came back.
    redelivered: SharedCounter,
    /// Instant of the last hand-over of a stamped event; 0 = none yet.
    last_delivered: AtomicU64,
    stages: MailboxStages,
    pub(super) directory: Arc<Directory>,
}

impl MailboxShared {
    pub(crate) fn new(
        custody: Arc<Custody>,
        reliable: Option<Reliable>,
        waits: Waits,
        overflow: Overflow,
        consumer: Bell,
        directory: Arc<Directory>,
        stages: MailboxStages,
    ) -> Self {
        Self {
            custody,
            reliable,
            guard: None,
            timed: None,
            spill: None,
            waits,
            overflow,
            consumer,
            paused: AtomicBool::new(false),
            counts: MailboxCounts::default(),
            redelivered: SharedCounter::default(),
            last_delivered: AtomicU64::new(0),
            stages,
            directory,
        }
    }

    /// With this between it and its consumer.
    pub(crate) fn guarded(self, guard: Option<Guard>) -> Self {
        Self { guard: guard.map(Box::new), ..self }
    }

    /// With a time for each call of the handler that is its consumer.
    pub(crate) fn timed(self, timed: Option<Timed>) -> Self {
        Self { timed: timed.map(Box::new), ..self }
    }

    /// With a store for what finds no room.
    pub(crate) fn spilling(self, spill: Option<Arc<SpillShared>>) -> Self {
        Self { spill, ..self }
    }

    /// What of its events is in a store, where that may be.
    pub(crate) fn spill(&self) -> Option<&Arc<SpillShared>> {
        self.spill.as_ref()
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) fn stages(&self) -> &MailboxStages {
        &self.stages
    }

    /// Instant of the last hand-over; 0 = none yet.
    pub(crate) fn last_delivered(&self) -> u64 {
        // Relaxed: a figure.
        self.last_delivered.load(Ordering::Relaxed)
    }

    /// Where its events are.
    pub(crate) fn custody(&self) -> &Custody {
        &self.custody
    }

    /// The attempts of reliable delivery.
    #[inline]
    pub(crate) fn reliable(&self) -> Option<&Reliable> {
        self.reliable.as_ref()
    }

    /// Worker: copies the event of `slot` into a cell and queues it, see `Feeder::push` and `LatestFeeder::put`. `None` when
    /// there is no room.
    #[inline]
    pub(crate) fn push(&self, fed: &mut Fed, lane: usize, meta: &Meta<'_>, slot: &Slot<'_>) -> Option<Put> {
        self.push_into(&mut fed.intake, fed.keyed.as_mut(), lane, meta, slot)
    }

    #[inline]
    fn push_into(
        &self,
        intake: &mut Intake,
        keyed: Option<&mut Keyed>,
        lane: usize,
        meta: &Meta<'_>,
        slot: &Slot<'_>,
    ) -> Option<Put> {
        let (sequence, bytes) = (meta.sequence(), meta.header().rest_bytes());
        let queued = match (intake, &self.reliable) {
            (Intake::Queue(feeder), None) => feeder.push(lane, sequence, slot, bytes),
            (Intake::Queue(feeder), Some(reliable)) => {
                let key = reliable.key_of(meta);
                let mut returns = Returns { feeder, keyed };
                reliable.attempts.push(&mut returns, Arrival { lane, sequence, slot, rest_bytes: bytes, key })
            }
            (Intake::Latest(feeder, key), _) => return put_latest(feeder, key, lane, meta, slot),
        };
        queued.then_some(Put::Waits)
    }

    /// Worker: an event met a full mailbox, or came over the rate. Under reliable delivery it is a dead letter; false in other
    /// modes.
    #[cold]
    pub(crate) fn turn_away(&self, meta: &Meta<'_>, reason: DeadReason) -> bool {
        let Some(reliable) = &self.reliable else { return false };
        reliable.turn_away(&self.counts, meta, reason);
        true
    }

    /// Takes the oldest event of `lane`.
    #[inline(always)]
    fn take(&self, lane: usize) -> Option<Hold> {
        match &self.reliable {
            None => self.custody.take(lane).inspect(|_| self.made_place()).map(Hold::Once),
            Some(reliable) => reliable.take(lane).map(Hold::Attempt),
        }
    }

    /// An event was taken: where only so many keys wait, another may now, though its cell is still in use.
    #[inline(always)]
    fn made_place(&self) {
        if self.waits == Waits::NewestOfEach && self.overflow == Overflow::Block {
            self.custody.made_room();
        }
    }

    /// `None` when its deadline has passed while it was queued.
    #[inline(always)]
    fn hand_over(&self, hold: Hold, lane: usize) -> Option<Hold> {
        let header = Header::of_words(hold.event().parts().0);
        if header.has(FLAG_STAMPED) || header.deadline != 0 {
            let now = self.directory.clock.now();
            if header.deadline != 0 && now > header.deadline {
                self.expire(hold);
                return None;
            }
            if header.has(FLAG_STAMPED) {
                self.stages.total[lane].record(now.saturating_sub(header.time));
                // Relaxed: a figure.
                self.last_delivered.store(now, Ordering::Relaxed);
            }
        }
        Some(hold)
    }

    /// Worker: whether its own handler may try an event where it lies, in its lane: nothing is before it or stands in between, and
    /// there is a cell for it to come back to.
    #[inline]
    pub(crate) fn may_try_in_place(&self, fed: &Fed, meta: &Meta<'_>) -> bool {
        let is_next = self.custody.queued() == 0 && fed.keyed.as_ref().is_none_or(Keyed::is_empty);
        let is_live = fed.spill.as_ref().is_none_or(|spill| spill.is_live());
        self.guard.is_none() && is_next && is_live && !self.is_paused() && fed.intake.has_room(meta)
    }

    fn of_attempts(&self) -> &Reliable {
        self.reliable.as_ref().expect("only a reliable mailbox hands out attempts")
    }

    /// Worker: queues what is due, takes away what has been in hand for too long, tells the consumer when it may have what is
    /// queued. Returns the instant to look again at.
    pub(crate) fn attend(&self, fed: &mut Fed, now: u64) -> u64 {
        let next = self.reliable.as_ref().map_or(NEVER, |reliable| self.attend_attempts(reliable, fed, now));
        let due = self.consumer_due(now);
        if due <= now {
            self.notify();
            return next;
        }
        next.min(due)
    }

    fn attend_attempts(&self, reliable: &Reliable, fed: &mut Fed, now: u64) -> u64 {
        reliable.take_back(&self.counts, fed, || self.redelivered.add(1));
        let (next, lost) = reliable.attend(&self.counts, fed, now);
        if let Some(guard) = &self.guard {
            (0..lost).for_each(|_| self.tell_breaker(guard, now, None));
        }
        self.suspend_if_due(reliable);
        // For want of a cell; nobody tells when one comes free.
        if reliable.redriven.is_empty() { next } else { next.min(now + REDRIVE_AGAIN_NS) }
    }

    /// The oldest event of `lane`, and whether it is still wanted: what has expired is given up.
    #[inline(always)]
    pub(crate) fn take_fresh(&self, lane: usize) -> Option<Hold> {
        self.take(lane).and_then(|hold| self.hand_over(hold, lane))
    }

    /// From now on these threads consume it.
    pub(crate) fn set_crew(&self, crew: Arc<Crew>) {
        let unset = self.of_attempts().crew.set(crew);
        debug_assert!(unset.is_ok(), "whoever makes the subscription says so once");
    }

    /// A thread that stands by: `waker` hears when it may be on duty, and when the mailbox is closed. Look once more before
    /// waiting.
    pub(crate) fn wait_for_relief(&self, waker: &Waker) {
        self.of_attempts().lost.wait(waker);
    }

    /// Whether events wait for their time to come again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reliable.as_ref().is_some_and(|reliable| reliable.attempts.waiting() > 0)
    }

    /// Whether its consumer would find something, now or when it may have it.
    pub(crate) fn needs_consumer(&self) -> bool {
        self.custody.queued() > 0 && !self.is_paused()
    }

    /// Whether it is full and its worker waits for room in it. Exact for its consumer, who alone makes room.
    pub(crate) fn holds_up(&self) -> bool {
        // An event that is over keeps its cell while somebody reads it, so that only the cells know.
        let cells = self.custody.cells();
        let is_full = !cells.has_room() || self.waits == Waits::NewestOfEach && cells.is_full(0);
        self.overflow == Overflow::Block && is_full
    }

    /// Worker: tells the consumer that something was queued.
    #[inline]
    pub(crate) fn notify(&self) {
        self.consumer.ring();
    }

    /// No more events will come; what is queued can still be taken.
    pub(crate) fn close(&self) {
        self.custody.close();
        if let Some(spill) = &self.spill {
            spill.close();
        }
        self.consumer.ring();
        if let Some(reliable) = &self.reliable {
            // For a thread that stands by.
            reliable.lost.ring();
        }
        self.custody.made_room();
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        // Relaxed: takes effect at some event soon; the bell orders it for a waiting consumer.
        self.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.consumer.ring();
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        // Relaxed: see `set_paused`.
        self.paused.load(Ordering::Relaxed)
    }
}
