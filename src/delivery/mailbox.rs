//! A subscriber's own queue: filled by its worker, pulled by its consumer, who may be on any thread or async runtime.

use std::sync::Arc;
use std::task::Waker;

use crate::event::{Directory, FLAG_STAMPED, Header, Meta};
use crate::metrics::{MailboxStages, SharedCounter};
use crate::ring::{Arrival, Attempt, AttemptWords, Custody, Keyed, LANES, Put, Returns, Slot, Taken, Tried};
use crate::sync::alarm::NEVER;
use crate::sync::bell::Bell;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering};

use super::in_hand::Hold;
use super::intake::put_latest;
use super::{
    Crew, DeadReason, Dropped, Fed, Guard, Intake, Notice, Outcome, Reliable, Settled, SpillShared, SubscriptionLedger,
    Waits,
};

mod consumer;
mod guarded;
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

    /// Cells, their queues and the histograms.
    pub(crate) fn reserved_bytes(&self) -> usize {
        let capacity = self.custody.cells().capacity();
        let attempts = self.reliable.as_ref().map_or(0, |reliable| {
            let keyed = if reliable.order.is_some() { Keyed::bytes_for(capacity) } else { 0 };
            (AttemptWords::bytes_for(capacity) + keyed) as usize
        });
        // Of a store, the buffer has as many cells again.
        let buffers = 1 + usize::from(self.spill.is_some());
        attempts
            + size_of::<Self>()
            + buffers * self.custody.cells().reserved_bytes()
            + MailboxStages::bytes_for(self.reliable.is_some())
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

    /// Whether every event from before `ends`, a sequence a lane, is over.
    pub(crate) fn has_passed(&self, ends: &[u64; LANES]) -> bool {
        if !self.has_come_back(ends) {
            return false;
        }
        match &self.reliable {
            None => self.custody.has_passed(ends),
            // An event goes round between queue, hands and waiting: only its cell shows it at any moment.
            Some(reliable) => {
                // Where nothing is left, the figures are to say so, too.
                let cells = self.custody.cells();
                !reliable.is_returning()
                    && !cells.has_before(ends)
                    && (reliable.attempts.waiting() == 0 || !cells.is_over())
            }
        }
    }

    /// Whether no event is queued, waits or is in a consumer's hands.
    pub(crate) fn is_settled(&self) -> bool {
        if self.spilled() > 0 {
            return false;
        }
        match &self.reliable {
            None => self.custody.is_settled(),
            Some(reliable) => {
                !reliable.is_returning() && self.custody.cells().is_over() && reliable.attempts.waiting() == 0
            }
        }
    }

    /// Whether dead letters are on their way back to it, which show in no count yet.
    pub(crate) fn is_returning(&self) -> bool {
        self.reliable.as_ref().is_some_and(Reliable::is_returning)
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

    /// Worker: as `push`, with an event that was tried in another mailbox.
    pub(crate) fn push_tried(
        &self,
        fed: &mut Fed,
        lane: usize,
        meta: &Meta<'_>,
        slot: &Slot<'_>,
        tried: Tried,
    ) -> bool {
        let (Intake::Queue(feeder), Some(reliable)) = (&mut fed.intake, &self.reliable) else {
            return self.push(fed, lane, meta, slot).is_some();
        };
        let (sequence, rest_bytes, key) = (meta.sequence(), meta.header().rest_bytes(), reliable.key_of(meta));
        let mut returns = Returns { feeder, keyed: fed.keyed.as_mut() };
        reliable.attempts.push_tried(&mut returns, Arrival { lane, sequence, slot, rest_bytes, key }, tried)
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

    /// Gives an event up whose deadline has passed.
    fn expire(&self, hold: Hold) {
        match hold {
            Hold::Once(taken) => {
                self.counts.expired.add(1);
                self.custody.settle(taken);
            }
            Hold::Attempt(attempt) => self.of_attempts().expire(&self.counts, attempt),
        }
    }

    /// Gives an event up whose subscription has ended before its handler was called.
    pub(super) fn discard_one(&self, hold: Hold) {
        match hold {
            Hold::Once(taken) => {
                self.counts.discarded.add(1);
                self.custody.settle(taken);
            }
            Hold::Attempt(attempt) => self.of_attempts().discard(&self.counts, attempt),
        }
    }

    /// Moves an event on by what its consumer has made of it.
    #[inline]
    pub(crate) fn settle(&self, hold: Hold, outcome: &Outcome) -> Settled {
        match hold {
            Hold::Once(taken) => {
                let is_handled = *outcome == Outcome::Ack;
                let counter = if is_handled { &self.counts.delivered } else { &self.counts.failed };
                counter.add(1);
                self.custody.settle(taken);
                Settled::Counted
            }
            Hold::Attempt(attempt) => {
                let reliable = self.of_attempts();
                let settled = match self.guard.as_ref().filter(|guard| guard.has_breaker()) {
                    None => reliable.settle(&self.counts, self.stages.ack.as_ref(), attempt, outcome),
                    Some(guard) => self.settle_guarded(reliable, guard, attempt, outcome),
                };
                self.suspend_if_due(reliable);
                settled
            }
        }
    }

    /// Worker: takes the oldest event of `lane` that has not expired, to pass it on. No consumer sees it, so that no latency is
    /// booked.
    pub(crate) fn take_to_pass(&self, lane: usize) -> Option<Hold> {
        let hold = self.take(lane)?;
        let deadline = Header::of_words(hold.event().parts().0).deadline;
        if deadline != 0 && self.directory.clock.now() > deadline {
            self.expire(hold);
            return None;
        }
        Some(hold)
    }

    /// Worker: the event goes on from another mailbox.
    pub(crate) fn pass_on(&self, hold: Hold) {
        match hold {
            Hold::Once(taken) => {
                self.counts.passed_on.add(1);
                self.custody.settle(taken);
            }
            Hold::Attempt(attempt) => self.of_attempts().pass_on(&self.counts, attempt),
        }
    }

    /// Worker: an event that waits for its time goes on from another mailbox now. Holds the first of them in or behind `cell`.
    pub(crate) fn waiting_from(&self, cell: usize) -> Option<Attempt> {
        self.reliable.as_ref().filter(|_| self.is_waiting())?.attempts.waiting_from(cell)
    }

    /// Worker: ends an event held by `waiting_from` that `give` brings to another mailbox. False when it was given up meanwhile.
    pub(crate) fn pass_on_waiting(&self, waits: Attempt, give: impl FnOnce(&Taken)) -> bool {
        waits.end_waiting(|waits| {
            give(waits.event());
            self.counts.passed_on.add(1);
        })
    }

    /// Events that wait, and those in its consumer's hands.
    pub(super) fn load(&self) -> (u64, u64) {
        let open = self.custody.open(|| self.reliable.as_ref().map_or(0, |reliable| reliable.attempts.waiting()));
        (open.queued + open.waiting, open.in_hand)
    }

    /// Worker: whether its own handler may try an event where it lies, in its lane: nothing is before it or stands in between, and
    /// there is a cell for it to come back to.
    #[inline]
    pub(crate) fn may_try_in_place(&self, fed: &Fed, meta: &Meta<'_>) -> bool {
        let is_next = self.custody.queued() == 0 && fed.keyed.as_ref().is_none_or(Keyed::is_empty);
        let is_live = fed.spill.as_ref().is_none_or(|spill| spill.is_live());
        self.guard.is_none() && is_next && is_live && !self.is_paused() && fed.intake.has_room(meta)
    }

    /// Worker: moves an event on by what its own handler has made of it where it lay, in an attempt that began at this instant.
    pub(crate) fn settle_in_place(
        &self,
        fed: &mut Fed,
        lane: usize,
        meta: &Meta<'_>,
        slot: &Slot<'_>,
        began: u64,
        outcome: &Outcome,
    ) {
        let (reliable, header) = (self.of_attempts(), meta.header());
        if header.has(FLAG_STAMPED) {
            self.stages.total[lane].record(began.saturating_sub(header.time));
            // Relaxed: a figure.
            self.last_delivered.store(began, Ordering::Relaxed);
        }
        if *outcome == Outcome::Ack {
            reliable.acknowledged(&self.counts, self.stages.ack.as_ref(), header, lane, began);
            return;
        }
        // From a cell, as if it had been taken from there. One was free before the call, and this worker alone takes them.
        if self.push(fed, lane, meta, slot).is_none() {
            reliable.turn_away(&self.counts, meta, DeadReason::MailboxFull);
            return;
        }
        // Who gives up what a bus leaves behind, past the deadline of its shutdown, may have been faster: then it is in the books.
        let Some(attempt) = reliable.take_since(lane, began) else { return };
        let Fed { intake, keyed, .. } = fed;
        self.settle_own(Hold::Attempt(attempt), outcome, intake, keyed.as_mut());
    }

    /// Worker: as `settle`, and lets the next event of its key follow at once.
    pub(crate) fn settle_own(&self, hold: Hold, outcome: &Outcome, intake: &mut Intake, keyed: Option<&mut Keyed>) {
        let cell = hold.event().cell();
        self.settle(hold, outcome);
        if let (Some(reliable), Some(feeder), Some(keyed)) = (&self.reliable, intake.queue(), keyed) {
            reliable.attempts.follow(&mut Returns { feeder, keyed: Some(keyed) }, cell);
        }
    }

    /// Stops handing events out after too many dead letters in a row.
    fn suspend_if_due(&self, reliable: &Reliable) {
        if reliable.takes_suspension() {
            self.set_paused(true);
            let (subscription, name) = (reliable.subscription, reliable.name.as_str());
            let letters = reliable.suspend_after;
            reliable.letters.notice(&Notice::Suspended { subscription, name, letters });
        }
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

    /// The worker has gone: what waits for it is given up.
    pub(crate) fn lose_worker(&self) {
        if let Some(reliable) = &self.reliable {
            reliable.discard_waiting(&self.counts);
        }
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

    /// Throws away what is queued, once the consumer is gone.
    pub(crate) fn discard(&self) {
        let Some(reliable) = &self.reliable else {
            self.custody.discard(|| self.counts.discarded.add(1));
            return;
        };
        for lane in 0..LANES {
            while self.custody.cells().queued(lane) > 0 {
                if let Some(attempt) = reliable.take(lane) {
                    reliable.discard(&self.counts, attempt);
                }
            }
        }
        reliable.discard_waiting(&self.counts);
    }

    pub(crate) fn ledger(&self) -> SubscriptionLedger {
        // Before the cells, to which they come.
        let spilled = self.spilled();
        // First: an event that ends in between shows as in flight, not as missing.
        let open = self.reliable.as_ref().map_or_else(|| self.custody.open(|| 0), |reliable| reliable.attempts.open());
        let counts = &self.counts;
        SubscriptionLedger {
            matched: self.redelivered.get(),
            queued: open.queued,
            in_flight: open.in_hand,
            waiting: open.waiting,
            spilled,
            delivered: counts.delivered.get(),
            failed: counts.failed.get(),
            dead_lettered: counts.dead_lettered.get(),
            passed_on: counts.passed_on.get(),
            dropped: Dropped { expired: counts.expired.get(), closed: counts.discarded.get(), ..Dropped::default() },
            retried: counts.retried.get() + self.reliable.as_ref().map_or(0, |reliable| reliable.attempts.overdue()),
            late: counts.late.get(),
            timed_out: counts.timed_out.get(),
            ..SubscriptionLedger::default()
        }
    }
}
