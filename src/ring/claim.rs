//! The publisher's end: look at the gate, claim, copy, commit. No user code, allocation or panic in between.
//!
//! A claim by fetch-add cannot be taken back, so it must be certain before it is made. Each publisher checks the gate
//! first; between its check and its fetch-add at most `publishers_max - 1` others can do the same, once each, because
//! a publisher is an exclusive handle. The lane keeps that many slots of headroom above its limit, so a claimed slot
//! is always free.

use std::sync::Arc;

use super::broadcast::{LANES, Lanes};
use super::pool::Block;
use super::slot::{HEAD_BYTES, Head};
use crate::sync::primitive::{BeforeWrite, Ordering};

/// Why a lane took nothing. All numbers are slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneFull {
    /// In use, as seen by the refused publisher.
    pub depth: u64,
    pub limit: u64,
    /// The slowest worker, or `None` while no worker is active.
    pub gated_by: Option<usize>,
}

/// The bytes of one event.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The last four bytes are the ring's and are overwritten.
    pub head: &'a Head,
    pub rest: Rest<'a>,
}

/// What follows the head.
#[derive(Debug, Clone, Copy)]
pub enum Rest<'a> {
    /// In the slot itself.
    Inline(&'a [u8]),
    /// In a block, for these workers (one bit each, at least one, all of them active).
    Block(&'a Block, u64),
}

/// One publisher's claim on the lanes. Exclusive: its methods take `&mut self`.
#[derive(Debug)]
pub struct Claimant {
    lanes: Arc<Lanes>,
    /// The gate as last seen, a lane. Behind the real one, never ahead.
    gate: [u64; LANES],
    /// No other publisher exists: claims are plain stores.
    exclusive: bool,
}

impl Claimant {
    pub fn new(lanes: Arc<Lanes>, exclusive: bool) -> Self {
        // A gate one limit behind the claim makes the first publish look at the real one.
        let gate = std::array::from_fn(|lane| lanes.claimed(lane).wrapping_sub(lanes.limit()));
        Self { lanes, gate, exclusive }
    }

    /// Slots of `lane` in use, as far as this publisher knows: never less than the truth.
    #[inline(always)]
    fn apparent_depth(&self, lane: usize) -> u64 {
        // Relaxed: the claim word orders nothing; the stamp and the cursors do.
        self.lanes.claim_word(lane).load(Ordering::Relaxed).wrapping_sub(self.gate[lane])
    }

    /// Looks at the gate when `lane` seems to hold more than `enough`, and returns the depth then known.
    #[inline(always)]
    pub fn depth_if_above(&mut self, lane: usize, enough: u64) -> u64 {
        let depth = self.apparent_depth(lane);
        if depth <= enough { depth } else { self.refresh(lane).map_or(depth, |(depth, _)| depth) }
    }

    /// Reads the workers' cursors. Returns the depth and the slowest worker, or `None` while no worker is active.
    #[cold]
    fn refresh(&mut self, lane: usize) -> Option<(u64, usize)> {
        // Relaxed: `Lanes::gate` starts with a fence and reads the cursors with Acquire.
        let claimed = self.lanes.claim_word(lane).load(Ordering::Relaxed);
        let (slowest, gate) = self.lanes.gate(lane, claimed)?;
        self.gate[lane] = gate;
        Some((claimed.wrapping_sub(gate), slowest))
    }

    /// Makes sure that `count` slots of `lane` can be claimed within the limit.
    #[inline(always)]
    fn check(&mut self, lane: usize, count: u64) -> Result<(), LaneFull> {
        if self.apparent_depth(lane) + count <= self.lanes.limit() { Ok(()) } else { self.check_again(lane, count) }
    }

    #[cold]
    fn check_again(&mut self, lane: usize, count: u64) -> Result<(), LaneFull> {
        let limit = self.lanes.limit();
        match self.refresh(lane) {
            None => Err(LaneFull { depth: 0, limit, gated_by: None }),
            Some((depth, _)) if depth + count <= limit => Ok(()),
            Some((depth, slowest)) => Err(LaneFull { depth, limit, gated_by: Some(slowest) }),
        }
    }

    /// Puts one event into `lane` and returns its sequence.
    ///
    /// # Cost
    /// Lock-free, no allocation. One fetch-add (a plain store for an exclusive claimant), one copy, one store.
    #[inline]
    pub fn push(&mut self, lane: usize, frame: Frame<'_>) -> Result<u64, LaneFull> {
        self.fits(&frame);
        self.check(lane, 1)?;
        let word = self.lanes.claim_word(lane);
        let sequence = if self.exclusive {
            // Relaxed: nobody else writes the claim word; the stamp carries the body.
            let sequence = word.load(Ordering::Relaxed);
            word.store(sequence.wrapping_add(1), Ordering::Relaxed);
            sequence
        } else {
            // SYNC(lanes.claim): AcqRel. Pairs with the other publishers' claims: if they claimed between our check
            // and this, it was their look at the cursors that freed the slot, and we inherit it.
            word.fetch_add(1, Ordering::AcqRel)
        };
        // SAFETY: the claim made `sequence` ours, and the check with its headroom says that every active worker has
        // passed the slot's previous lap. Among the last `publishers_max + 1` claims one publisher has two; at the
        // second it had read cursors (Acquire) beyond that lap, and the claims since hand this on (SYNC(lanes.claim)).
        unsafe { self.commit(lane, sequence, frame) };
        Ok(sequence)
    }

    /// Puts `count` events into `lane` in one piece, or none; returns the first sequence. They become visible
    /// together: the last is committed first, and workers read in order. `frame(n)` gives the nth, the same each time,
    /// and must not panic.
    pub fn push_batch<'a>(
        &mut self,
        lane: usize,
        count: usize,
        frame: impl Fn(usize) -> Frame<'a>,
    ) -> Result<u64, LaneFull> {
        for nth in 0..count {
            self.fits(&frame(nth));
        }
        let first = loop {
            self.check(lane, count as u64)?;
            let word = self.lanes.claim_word(lane);
            // Relaxed: the exchange decides.
            let first = word.before_write();
            if first.wrapping_sub(self.gate[lane]) + count as u64 > self.lanes.limit() {
                continue;
            }
            let next = first.wrapping_add(count as u64);
            // SYNC(lanes.claim): AcqRel. Pairs with the other publishers' claims, as in `push`.
            if word.compare_exchange_weak(first, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break first;
            }
        };
        for nth in (0..count).rev() {
            // SAFETY: as in `push`; the exchange made all `count` sequences ours, and they lie within the limit.
            unsafe { self.commit(lane, first.wrapping_add(nth as u64), frame(nth)) };
        }
        Ok(first)
    }

    #[inline(always)]
    fn fits(&self, frame: &Frame<'_>) {
        let rest = match frame.rest {
            Rest::Inline(rest) => rest.len(),
            Rest::Block(..) => size_of::<u64>(),
        };
        assert!(HEAD_BYTES + rest <= self.lanes.body_bytes(), "longer events travel in a block");
    }

    /// # Safety
    /// The caller has claimed `sequence` of `lane`, its slot is free, and the frame fits.
    #[inline(always)]
    unsafe fn commit(&self, lane: usize, sequence: u64, frame: Frame<'_>) {
        let place = self.lanes.place(lane, sequence);
        let memory = self.lanes.memory();
        match frame.rest {
            // SAFETY: the claimed slot is ours until the stamp below, and the length was checked.
            Rest::Inline(rest) => unsafe { memory.write(place, frame.head, 0, rest) },
            Rest::Block(block, workers) => {
                let handle = block.share(workers.count_ones());
                // SAFETY: as above.
                unsafe { memory.write(place, frame.head, handle.word(), &workers.to_ne_bytes()) }
            }
        }
        // SYNC(slot.commit): Release. Pairs with `Reader::is_ready`; the body written above is visible with the stamp.
        memory.stamp(place).store(sequence.wrapping_add(1), Ordering::Release);
    }
}
