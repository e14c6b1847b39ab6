//! The lanes: one bounded broadcast ring a priority, read whole by every active worker.
//!
//! ```text
//!                 gate = slowest active cursor              claim = next free sequence
//!                   │                                          │
//!   ────────────────▼──────────────────────────────────────────▼──────────────►  sequences (u64, wrapping)
//!     may be reused │ committed, read by some, not by all      │ free up to gate + limit
//! ```
//!
//! Invariants:
//! * `claim - gate <= limit + publishers_max <= slots` (the headroom of `claim.rs`), so a claimed slot is free.
//! * A slot's stamp is its sequence + 1 once its body may be read, and something else before.
//! * Only a worker moves its own cursors. A worker that was never activated has no say in the gate.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::memory::{HugePages, OutOfMemory, Pages, Piece};
use super::pool::Pool;
use super::slot::{Place, Round, SlotMemory};
use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU64, BeforeWrite, Ordering, fence};

/// Lanes of a bus, by rank: 0 is read first.
pub const LANES: usize = 4;

/// Sizes of the lanes, checked by the builder.
#[derive(Debug, Clone, Copy)]
pub struct LanesLayout {
    /// Slots of a lane: a power of two, at least `limit + publishers`.
    pub slots: usize,
    /// Bytes of a slot, stamp included.
    pub slot_bytes: usize,
    /// Slots in use at which a lane refuses.
    pub limit: u64,
    pub workers: usize,
    /// The first sequence of every lane: 0, or close to a wrap in tests.
    pub first: u64,
    /// What the slots are made of.
    pub pages: Pages,
}

/// The state that publishers and workers share.
#[derive(Debug)]
pub struct Lanes {
    memory: SlotMemory,
    pool: Arc<Pool>,
    slots: usize,
    limit: u64,
    /// Next sequence to claim, a lane. Written by publishers.
    claims: [CachePadded<AtomicU64>; LANES],
    /// Next sequence to read, a worker and lane. Written by that worker, after it has read.
    cursors: Box<[CachePadded<[AtomicU64; LANES]>]>,
    /// One bit a worker whose cursors gate the lanes. Bits are only ever set.
    active: CachePadded<AtomicU64>,
}

impl Lanes {
    /// Reserves all slots.
    ///
    /// # Errors
    /// When the system has not so much memory.
    pub fn new(layout: LanesLayout, pool: Arc<Pool>) -> Result<Self, OutOfMemory> {
        assert!(layout.slots.is_power_of_two() && layout.limit <= layout.slots as u64, "the builder rounds up");
        let memory = SlotMemory::new(LANES.saturating_mul(layout.slots), layout.slot_bytes, layout.pages)?;
        if mutant!("lanes.old_stamps", layout.first != 0 => false) {
            for lane in 0..LANES {
                for nth in 0..layout.slots as u64 {
                    let sequence = layout.first.wrapping_add(nth);
                    let slot = memory.place(lane * layout.slots + (sequence as usize & (layout.slots - 1)));
                    // Relaxed: the lanes are not shared yet. The stamp of the lap before is never taken for this one.
                    memory.stamp(slot).store(sequence.wrapping_sub(layout.slots as u64), Ordering::Relaxed);
                }
            }
        }
        let at_first = || AtomicU64::new(layout.first);
        Ok(Self {
            memory,
            pool,
            slots: layout.slots,
            limit: layout.limit,
            claims: std::array::from_fn(|_| CachePadded::new(at_first())),
            cursors: (0..layout.workers).map(|_| CachePadded::new(std::array::from_fn(|_| at_first()))).collect(),
            active: CachePadded::new(AtomicU64::new(0)),
        })
    }

    /// Slots in use at which a lane refuses.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes of a slot's body.
    pub fn body_bytes(&self) -> usize {
        self.memory.body_bytes()
    }

    pub fn reserved_bytes(&self) -> usize {
        self.memory.reserved_bytes()
    }

    pub fn huge_pages(&self) -> HugePages {
        self.memory.huge_pages()
    }

    /// The blocks for what does not fit a slot.
    #[inline(always)]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// All slots and blocks in pieces to touch, before the lanes or the pool are shared. Not the slots of lanes that do
    /// not begin at 0: each was stamped at birth, and so is touched.
    pub fn pieces(&mut self) -> impl Iterator<Item = Piece<'_>> {
        // Relaxed: the lanes are not shared yet.
        let is_untouched = self.claims[0].before_write() == 0;
        let blocks = Arc::get_mut(&mut self.pool).into_iter().flat_map(Pool::pieces);
        self.memory.pieces().filter(move |_| is_untouched).chain(blocks)
    }

    #[inline(always)]
    pub(super) fn memory(&self) -> &SlotMemory {
        &self.memory
    }

    /// The shared cursors of `worker`: only its reader writes them.
    pub(super) fn cursors(&self, worker: usize) -> &[AtomicU64; LANES] {
        &self.cursors[worker]
    }

    /// Lets the cursors of `worker` gate.
    pub(super) fn activate(&self, worker: usize) {
        // SYNC(lanes.active): Release. Pairs with `Lanes::active`; who sees the bit sees cursors near the claim.
        self.active.fetch_or(1 << worker, Ordering::Release);
        // SYNC(lanes.activate): SeqCst fence. Pairs with the one in `Lanes::gate`: a publisher that missed the bit has
        // a gate no further than the claims that the reader reads now.
        mutant!("lanes.activate_fence", fence(Ordering::SeqCst) => ());
    }

    #[inline(always)]
    pub(super) fn place(&self, lane: usize, sequence: u64) -> Place {
        self.memory.place(lane * self.slots + (sequence as usize & (self.slots - 1)))
    }

    /// The slots of `lane`.
    #[inline(always)]
    pub(super) fn round(&self, lane: usize) -> Round {
        self.memory.round(lane * self.slots..(lane + 1) * self.slots)
    }

    #[inline(always)]
    pub(super) fn claim_word(&self, lane: usize) -> &AtomicU64 {
        &self.claims[lane]
    }

    /// The sequence that the next event of `lane` will get. A moving figure unless publishers are quiet.
    #[inline]
    pub fn claimed(&self, lane: usize) -> u64 {
        // Relaxed: a number, behind which nothing is read. Who must see a publisher's last claim has seen it leave its
        // publish before (SYNC(admission.inside)).
        self.claims[lane].load(Ordering::Relaxed)
    }

    /// Where `worker` stands in `lane`: all sequences before it have been read by it.
    #[inline]
    pub fn cursor(&self, worker: usize, lane: usize) -> u64 {
        // SYNC(lanes.cursor): Acquire. Pairs with `Reader::release`; the worker's reads are over.
        self.cursors[worker][lane].load(mutant!("lanes.cursor_load", Ordering::Acquire))
    }

    /// Workers whose cursors gate, one bit each.
    pub fn active(&self) -> u64 {
        // SYNC(lanes.active): Acquire. Pairs with `Lanes::activate`; the worker's first cursors come with its bit.
        self.active.load(Ordering::Acquire)
    }

    /// The slowest active worker of `lane` and its cursor, not beyond `claimed`, which the caller has read before.
    /// `None` while no worker is active: then nothing may be claimed, for nobody would ever read it.
    pub(super) fn gate(&self, lane: usize, claimed: u64) -> Option<(usize, u64)> {
        // SYNC(lanes.activate): SeqCst fence. Pairs with the one in `Lanes::activate`: a publisher that does not see
        // the worker's bit has read `claimed` before the worker read it, so its gate is not beyond that worker.
        mutant!("lanes.gate_fence", fence(Ordering::SeqCst) => ());
        let mut active = self.active();
        let mut slowest: Option<(usize, u64)> = None;
        while active != 0 {
            let worker = active.trailing_zeros() as usize;
            active &= active - 1;
            let cursor = self.cursor(worker, lane);
            let ahead = mutant!("lanes.wrap", (claimed.wrapping_sub(cursor) as i64) < 0 => claimed < cursor);
            let cursor = if ahead { claimed } else { cursor };
            let behind = |other| claimed.wrapping_sub(cursor) > claimed.wrapping_sub(other);
            if slowest.is_none_or(|(_, least)| mutant!("lanes.slowest", behind(least) => !behind(least))) {
                slowest = Some((worker, cursor));
            }
        }
        slowest
    }

    /// The end of every lane at this moment.
    pub fn ends(&self) -> [u64; LANES] {
        std::array::from_fn(|lane| self.claimed(lane))
    }

    /// Whether `worker` has read everything before `ends`, or has no part in it. What it did with the events is seen by
    /// the caller then.
    pub fn has_passed(&self, worker: usize, ends: &[u64; LANES]) -> bool {
        let is_past =
            |cursor: u64, end: u64| mutant!("lanes.passed", (cursor.wrapping_sub(end) as i64) >= 0 => cursor >= end);
        self.active() & (1 << worker) == 0 || (0..LANES).all(|lane| is_past(self.cursor(worker, lane), ends[lane]))
    }

    /// Events claimed in `lane` and not yet passed by every active worker.
    pub fn depth(&self, lane: usize) -> u64 {
        let claimed = self.claimed(lane);
        self.gate(lane, claimed).map_or(0, |(_, gate)| claimed.wrapping_sub(gate))
    }
}
