//! A subscription that cannot keep up lets its events stay in a store, reads them back, and rejoins the live stream.
//!
//! ```text
//!            mailbox full              as few left in the store as the buffer holds
//!   live ──────────────────► lapsed ──────────────────────────────► joining
//!    ▲                         ▲  events stay in the store            │  new events wait in a buffer
//!    │ the buffer is empty     │ the buffer is full:                  │  what the store still has comes first
//!    │                         │ what is in it is in the store, too   ▼
//!    └──────── draining ───────┴──────────────────────────────────────┘
//! ```
//!
//! Each lane has a course of its own, which its worker alone moves. The store has every event, whether the subscription takes it live
//! or not: so what waits in the buffer can be let go of at any time, and is read instead. An event that comes back is taken if it is
//! the next one, and one that the worker has passed: nothing comes twice, and nothing overtakes.

use std::fmt;
use std::sync::Arc;

use rkyv::util::AlignedVec;

use crate::event::{CellFrame, Meta};
use crate::ring::{Block, Cells, Feeder, LANES, Slot, Taken};
use crate::sync::backlog::Backlog;
use crate::sync::barrier::Barrier;
use crate::sync::bell::Bell;
use crate::sync::primitive::{ArrayQueue, AtomicBool, Ordering};

mod source;

pub use source::{SpillError, SpillPage, SpillReader, SpillSource, SpilledEvent};

/// Events that were read back and wait for the worker.
const PARCELS_MAX: usize = 1_024;

/// What goes from the reader to the worker.
pub(crate) enum Parcel {
    /// An event, and where its bytes are when they do not fit a cell.
    Event { lane: usize, epoch: u32, sequence: u64, event: CellFrame, block: Option<Block> },
    /// Everything before this sequence has come.
    Complete { lane: usize, epoch: u32, before: u64 },
    /// Nothing comes any more.
    Over,
}

/// What worker, reader and control plane share.
pub(crate) struct SpillShared {
    source: Arc<dyn SpillSource>,
    backlog: Backlog<LANES>,
    parcels: ArrayQueue<Parcel>,
    /// Memory that the worker is done with: it frees none.
    spent: ArrayQueue<AlignedVec<16>>,
    reader: Bell,
    closed: AtomicBool,
}

impl SpillShared {
    pub(crate) fn new(source: Arc<dyn SpillSource>, barrier: Barrier) -> Self {
        Self {
            source,
            backlog: Backlog::new(),
            parcels: ArrayQueue::new(PARCELS_MAX),
            spent: ArrayQueue::new(PARCELS_MAX),
            reader: Bell::new(barrier),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn source(&self) -> &dyn SpillSource {
        &*self.source
    }

    pub(crate) fn backlog(&self) -> &Backlog<LANES> {
        &self.backlog
    }

    /// Rung when there is another order, or room for parcels.
    pub(crate) fn reader(&self) -> &Bell {
        &self.reader
    }

    /// Reader: hands a parcel to the worker. Gives it back while there is no room.
    pub(crate) fn hand(&self, parcel: Parcel) -> Result<(), Parcel> {
        while let Some(memory) = self.spent.pop() {
            drop(memory);
        }
        self.parcels.push(parcel)
    }

    /// The subscription has ended: nothing is read any more.
    pub(crate) fn close(&self) {
        // Relaxed: the bell orders it for a reader that waits, and another one asks soon.
        self.closed.store(true, Ordering::Relaxed);
        self.reader.ring();
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: see `close`.
        self.closed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for SpillShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillShared").field("backlog", &self.backlog).finish_non_exhaustive()
    }
}

/// Where the events of a lane go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Live,
    Lapsed,
    Joining,
    Draining,
}

#[derive(Debug)]
struct Lane {
    course: Course,
    /// Of the order under which it is read back.
    epoch: u32,
    /// Everything before this sequence is in the mailbox, or over.
    next: u64,
    /// Behind the last event that is in the store only.
    end: u64,
    /// Events that are in the store only.
    stored: u64,
}

impl Lane {
    fn is_before(sequence: u64, other: u64) -> bool {
        (sequence.wrapping_sub(other) as i64) < 0
    }
}

/// The worker's side.
pub(crate) struct Spill {
    shared: Arc<SpillShared>,
    lanes: [Lane; LANES],
    /// What was read back and cannot be taken yet.
    ahead: Option<Parcel>,
    /// Live events that wait until those before them have come back.
    buffer: Feeder,
    buffered: Arc<Cells>,
    /// Of the mailbox.
    capacity: u64,
    is_over: bool,
    /// Instant of the first lapse since all lanes were live; events that went elsewhere since.
    lapsed_at: u64,
    spilled: u64,
}

/// What became of the parcels.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// Events that went into the mailbox.
    pub(crate) events: usize,
    /// Events that will never come.
    pub(crate) lost: u64,
    /// Something waits: for room, or for the worker to come that far.
    pub(crate) waits: bool,
    /// All lanes are live again.
    pub(crate) rejoined: Option<Rejoined>,
}

/// A lapse that is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rejoined {
    pub(crate) since: u64,
    pub(crate) events: u64,
}

/// The mailbox, as events come back to it.
pub(crate) trait Inbox {
    /// Events in it, in hands and waiting.
    fn used(&self) -> u64;
    /// Whether there is a cell for another one.
    fn has_room(&self) -> bool;
    fn take_back(&mut self, lane: usize, sequence: u64, event: &CellFrame, block: Option<Block>) -> bool;
    fn take_buffered(&mut self, lane: usize, event: &Taken) -> bool;
}

impl Spill {
    /// With a buffer of as many events as the mailbox has.
    pub(crate) fn new(shared: Arc<SpillShared>, buffer: Feeder, buffered: Arc<Cells>) -> Self {
        let lane = || Lane { course: Course::Live, epoch: 0, next: 0, end: 0, stored: 0 };
        let capacity = buffered.capacity() as u64;
        Self {
            shared,
            lanes: std::array::from_fn(|_| lane()),
            ahead: None,
            buffer,
            buffered,
            capacity,
            is_over: false,
            lapsed_at: 0,
            spilled: 0,
        }
    }

    /// Whether nothing of it is elsewhere.
    pub(crate) fn is_live(&self) -> bool {
        self.lanes.iter().all(|lane| lane.course == Course::Live)
    }

    /// Whether the next event of `lane` goes elsewhere.
    #[inline]
    pub(crate) fn has_lapsed(&self, lane: usize) -> bool {
        self.lanes[lane].course != Course::Live
    }

    /// An event of a lane that has lapsed: it stays in the store, or waits in the buffer. `used` says how full the mailbox is.
    pub(crate) fn divert(&mut self, lane: usize, meta: &Meta<'_>, slot: &Slot<'_>, used: impl FnOnce() -> u64) {
        self.spilled += 1;
        let Lane { course, stored, .. } = self.lanes[lane];
        let joins = match course {
            Course::Live | Course::Lapsed => stored <= self.capacity / 2 && used() <= self.capacity / 2,
            Course::Joining | Course::Draining => true,
        };
        let sequence = meta.sequence();
        if joins && self.buffer.push(lane, sequence, slot, meta.header().rest_bytes()) {
            if course == Course::Lapsed {
                self.lanes[lane].course = Course::Joining;
            }
            self.shared.backlog.add(lane, sequence);
            return;
        }
        if course != Course::Lapsed {
            self.let_go(lane);
        }
        self.store(lane, sequence);
    }

    /// The mailbox is full. False when nobody keeps the event.
    pub(crate) fn lapse(&mut self, lane: usize, sequence: u64, now: impl FnOnce() -> u64) -> bool {
        if self.is_over {
            return false;
        }
        if self.is_live() {
            (self.lapsed_at, self.spilled) = (now(), 0);
        }
        self.spilled += 1;
        self.lanes[lane].next = sequence;
        self.lanes[lane].stored = 0;
        self.read_on(lane);
        self.store(lane, sequence);
        true
    }

    /// The event is in the store only.
    fn store(&mut self, lane: usize, sequence: u64) {
        let this = &mut self.lanes[lane];
        this.stored += 1;
        this.end = sequence.wrapping_add(1);
        self.shared.backlog.add(lane, sequence);
    }

    /// Has the lane read back from the next event on.
    fn read_on(&mut self, lane: usize) {
        let this = &mut self.lanes[lane];
        this.course = Course::Lapsed;
        this.epoch = self.shared.backlog.set_order(lane, Some(this.next));
        self.shared.reader.ring();
    }

    /// The buffer is full: what waits in it is read back instead.
    fn let_go(&mut self, lane: usize) {
        while self.buffer.drop_oldest(lane) {
            self.lanes[lane].stored += 1;
        }
        self.read_on(lane);
    }

    /// Takes what was read back, at most so many parcels, and what waits in the buffer.
    pub(crate) fn bring_back(&mut self, max: usize, inbox: &mut impl Inbox) -> Brought {
        let mut brought = Brought::default();
        let was_live = self.is_live();
        let mut parcels = 0;
        while parcels < max
            && let Some(parcel) = self.ahead.take().or_else(|| self.shared.parcels.pop())
        {
            parcels += 1;
            self.ahead = self.take(parcel, inbox, &mut brought);
            if self.ahead.is_some() {
                brought.waits = true;
                break;
            }
        }
        if parcels > 0 {
            self.shared.reader.ring();
        }
        brought.waits |= parcels == max;
        for lane in 0..LANES {
            if self.lanes[lane].course == Course::Draining {
                self.drain(lane, inbox, &mut brought);
            }
        }
        if !was_live && self.is_live() {
            brought.rejoined = Some(Rejoined { since: self.lapsed_at, events: self.spilled });
        }
        brought
    }

    /// Takes a parcel; gives it back when it is too early for it.
    fn take(&mut self, parcel: Parcel, inbox: &mut impl Inbox, brought: &mut Brought) -> Option<Parcel> {
        match parcel {
            Parcel::Event { lane, epoch, sequence, event, block } => {
                let this = &mut self.lanes[lane];
                let is_read = matches!(this.course, Course::Lapsed | Course::Joining) && this.epoch == epoch;
                let is_passed = Lane::is_before(sequence, this.end);
                let is_for_buffer = this.course == Course::Joining && !is_passed;
                if !is_read || is_for_buffer || Lane::is_before(sequence, this.next) {
                    self.spend(event);
                    return None;
                }
                // Some cells are left to lanes that are live, or Critical would wait behind what is read back.
                if !is_passed || inbox.used() >= self.capacity - self.capacity / 8 || !inbox.has_room() {
                    return Some(Parcel::Event { lane, epoch, sequence, event, block });
                }
                this.next = sequence.wrapping_add(1);
                this.stored -= 1;
                let (next, is_last) = (this.next, this.stored == 0);
                let is_taken = inbox.take_back(lane, sequence, &event, block);
                self.shared.backlog.remove(lane, 1, next);
                brought.events += usize::from(is_taken);
                brought.lost += u64::from(!is_taken);
                self.spend(event);
                if is_last {
                    self.finish(lane);
                }
            }
            Parcel::Complete { lane, epoch, before } => {
                let this = &self.lanes[lane];
                let is_read = matches!(this.course, Course::Lapsed | Course::Joining) && this.epoch == epoch;
                if is_read && !Lane::is_before(before, this.end) {
                    brought.lost += self.lose(lane);
                }
            }
            Parcel::Over => {
                self.is_over = true;
                for lane in 0..LANES {
                    if matches!(self.lanes[lane].course, Course::Lapsed | Course::Joining) {
                        brought.lost += self.lose(lane);
                    }
                }
            }
        }
        None
    }

    /// What the store should still have does not come.
    fn lose(&mut self, lane: usize) -> u64 {
        let this = &mut self.lanes[lane];
        let lost = std::mem::take(&mut this.stored);
        this.next = this.end;
        self.shared.backlog.remove(lane, lost, this.end);
        self.finish(lane);
        lost
    }

    /// Everything that was in the store only has come.
    fn finish(&mut self, lane: usize) {
        let this = &mut self.lanes[lane];
        this.course = if self.buffered.queued(lane) > 0 { Course::Draining } else { Course::Live };
        this.epoch = self.shared.backlog.set_order(lane, None);
    }

    /// Moves what waits in the buffer to the mailbox.
    fn drain(&mut self, lane: usize, inbox: &mut impl Inbox, brought: &mut Brought) {
        while inbox.has_room()
            && let Some(event) = self.buffered.take(lane)
        {
            let next = event.sequence().wrapping_add(1);
            let is_taken = inbox.take_buffered(lane, &event);
            self.lanes[lane].next = next;
            self.shared.backlog.remove(lane, 1, next);
            brought.events += usize::from(is_taken);
            brought.lost += u64::from(!is_taken);
        }
        if self.buffered.queued(lane) == 0 {
            self.lanes[lane].course = Course::Live;
        } else {
            brought.waits = true;
        }
    }

    fn spend(&self, event: CellFrame) {
        // There is room, unless the reader has not looked for long.
        drop(self.shared.spent.push(event.rest));
    }

    /// The subscription has ended. Returns how many events were elsewhere.
    pub(crate) fn close(&mut self) -> u64 {
        let mut left = 0;
        for lane in 0..LANES {
            while self.buffer.drop_oldest(lane) {}
            let (open, this) = (self.shared.backlog.open(lane), &mut self.lanes[lane]);
            (this.course, this.stored) = (Course::Live, 0);
            self.shared.backlog.remove(lane, open, this.end);
            this.epoch = self.shared.backlog.set_order(lane, None);
            left += open;
        }
        left
    }
}
