//! The publisher's end: look at the gate, claim, copy, commit. No user code, allocation or panic in between.
//!
//! A claim by fetch-add cannot be taken back, so it must be certain before it is made. Each publisher checks the gate
//! first; between its check and its fetch-add at most `publishers_max - 1` others can do the same, once each, because
//! a publisher is an exclusive handle. The lane keeps that many slots of headroom above its limit, so a claimed slot
//! is always free. How long a publisher takes from its check to its claim does not matter: a [`Room`] that is held
//! while user code encodes is one such claim to come, and dropped it was none.

use std::sync::Arc;

use super::broadcast::{LANES, Lanes};
use super::pool::Block;
use super::slot::{HEAD_BYTES, Head, LINE_BYTES, Place};
use crate::sync::mutant::mutant;
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
    /// Sequences, a lane, from which on the cursors are looked at again before a claim: at the latest the gate plus the
    /// limit, earlier while the lane is more than half full, so that sleeping laggards are found in time.
    look_at: [u64; LANES],
    /// The gate as last seen, a lane. Behind the real one, never ahead.
    gate: [u64; LANES],
    /// A depth at which the cursors are looked at in any case.
    mark: u64,
    /// No other publisher exists: claims are plain stores, and the next free slot is this one's before it is claimed.
    exclusive: bool,
}

impl Claimant {
    pub fn new(lanes: Arc<Lanes>, exclusive: bool) -> Self {
        // A gate one limit behind the claim makes the first publish look at the real one.
        let look_at: [u64; LANES] = std::array::from_fn(|lane| lanes.claimed(lane));
        let gate = look_at.map(|claimed| claimed.wrapping_sub(lanes.limit()));
        Self { lanes, look_at, gate, mark: u64::MAX, exclusive }
    }

    /// Looks at the cursors in any case when a lane has so many events, and lets [`make_sure`](Self::make_sure) tell from there
    /// on.
    #[must_use]
    pub fn with_mark(self, depth: u64) -> Self {
        Self { mark: depth, ..self }
    }

    /// The next sequence of `lane`: this claimant's for sure if it is the only one.
    #[inline(always)]
    fn next(&self, lane: usize) -> u64 {
        // Relaxed: the claim word orders nothing; the stamp and the cursors do.
        self.lanes.claim_word(lane).load(Ordering::Relaxed)
    }

    /// Looks at the gate when `lane` seems to hold more than `enough`, and returns the depth then known.
    #[inline]
    pub fn depth_if_above(&mut self, lane: usize, enough: u64) -> u64 {
        let depth = self.next(lane).wrapping_sub(self.gate[lane]);
        if depth <= enough { depth } else { self.refresh(lane).map_or(depth, |(depth, _)| depth) }
    }

    /// Reads the workers' cursors. Returns the depth and the slowest worker, or `None` while no worker is active.
    #[cold]
    fn refresh(&mut self, lane: usize) -> Option<(u64, usize)> {
        let claimed = self.next(lane);
        let (slowest, gate) = self.lanes.gate(lane, claimed)?;
        self.gate[lane] = gate;
        Some((claimed.wrapping_sub(gate), slowest))
    }

    /// The slowest worker of `lane`; `None` while no worker is active.
    pub fn slowest(&mut self, lane: usize) -> Option<usize> {
        self.refresh(lane).map(|(_, slowest)| slowest)
    }

    /// The gate of `lane` as this claimant saw it last: the slowest worker's cursor.
    pub fn last_gate(&self, lane: usize) -> u64 {
        self.gate[lane]
    }

    /// Makes sure that `count` slots of `lane` can be claimed within the limit. Returns whether this was the moment to
    /// wake workers that sleep although the lane is more than half full: once in an eighth of the limit.
    #[inline(always)]
    pub fn make_sure(&mut self, lane: usize, count: u64) -> Result<bool, LaneFull> {
        if self.is_sure(lane, self.next(lane), count) { Ok(false) } else { self.look(lane, count) }
    }

    #[inline(always)]
    fn is_sure(&self, lane: usize, next: u64, count: u64) -> bool {
        // This way round one event needs no more than the sign of the difference.
        next.wrapping_sub(self.look_at[lane]) as i64 <= -(count as i64)
    }

    #[cold]
    #[inline(never)]
    fn look(&mut self, lane: usize, count: u64) -> Result<bool, LaneFull> {
        let limit = self.lanes.limit();
        let Some((depth, slowest)) = self.refresh(lane) else {
            return Err(LaneFull { depth: 0, limit, gated_by: None });
        };
        if depth + count > limit {
            return Err(LaneFull { depth, limit, gated_by: Some(slowest) });
        }
        let is_half_full = depth > limit / 2 || depth >= self.mark;
        let good_for = if depth > limit / 2 { (depth + limit / 8 + 1).min(limit) } else { limit / 2 + 1 };
        let good_for = if depth < self.mark { good_for.min(self.mark) } else { good_for };
        self.look_at[lane] = self.gate[lane].wrapping_add(mutant!("claim.good_for", good_for => good_for + 1));
        Ok(is_half_full)
    }

    /// Room for one event in `lane`, or `None` when the gate has to be looked at first, see
    /// [`make_sure`](Self::make_sure).
    #[inline(always)]
    pub fn room(&mut self, lane: usize) -> Option<Room<'_>> {
        let sequence = self.next(lane);
        let Self { lanes, exclusive, .. } = &*self;
        self.is_sure(lane, sequence, 1).then_some(Room { lanes, exclusive: *exclusive, lane, sequence })
    }

    /// Puts one event into `lane` and returns its sequence.
    ///
    /// # Cost
    /// Lock-free, no allocation. One fetch-add (a plain store for an exclusive claimant), one copy, one store.
    #[inline]
    pub fn push(&mut self, lane: usize, frame: Frame<'_>) -> Result<u64, LaneFull> {
        self.fits(&frame);
        self.make_sure(lane, 1)?;
        let sequence = claim(&self.lanes, self.exclusive, lane, self.next(lane));
        // SAFETY: the slot is ours and free, see `claim`, and the frame fits.
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
            self.make_sure(lane, count as u64)?;
            let word = self.lanes.claim_word(lane);
            // Relaxed: the exchange decides.
            let first = word.before_write();
            let depth = first.wrapping_sub(self.gate[lane]);
            if mutant!("batch.limit", depth + count as u64 > self.lanes.limit() => false) {
                continue;
            }
            let next = first.wrapping_add(count as u64);
            // SYNC(lanes.claim): Release. Pairs with the other publishers' claims, as in `claim`. We inherit nothing: the
            // exchange says that the limit of the check above still holds, and the gate in it is our own look.
            if word.compare_exchange_weak(first, next, Ordering::Release, Ordering::Relaxed).is_ok() {
                break first;
            }
        };
        #[cfg(feature = "stall")]
        super::stall::visit(first);
        for left in (0..count).rev() {
            let nth = mutant!("batch.order", left => count - 1 - left);
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
        show(&self.lanes, place, sequence);
    }
}

/// Room for one event: the check of the gate has been passed, and nothing is claimed yet. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Room<'a> {
    lanes: &'a Lanes,
    exclusive: bool,
    lane: usize,
    /// The claim word as it was: the sequence that an exclusive claimant gets.
    sequence: u64,
}

impl<'a> Room<'a> {
    /// Whether a draft is written into the slot itself.
    #[inline(always)]
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Bytes that fit behind the head.
    #[inline(always)]
    pub fn rest_bytes(&self) -> usize {
        self.lanes.body_bytes() - HEAD_BYTES
    }

    /// Claims the slot and makes an event visible: `head`, whose last four bytes are the ring's, and `rest`. Returns its
    /// sequence.
    ///
    /// # Cost
    /// As [`Claimant::push`].
    ///
    /// # Panics
    /// When `rest` is longer than what follows the head of a slot.
    #[inline(always)]
    pub fn put(self, head: Head, rest: &[u8]) -> u64 {
        let Self { lanes, exclusive, lane, sequence } = self;
        assert!(HEAD_BYTES + rest.len() <= lanes.body_bytes(), "longer events travel in a block");
        let sequence = claim(lanes, exclusive, lane, sequence);
        let place = lanes.place(lane, sequence);
        // SAFETY: the slot is ours and free, see `claim`, and the length was checked.
        unsafe { lanes.memory().write(place, &head, 0, rest) };
        show(lanes, place, sequence);
        sequence
    }

    /// For an event that is still to be written: in place, where that can be taken back, else to `buffer`.
    ///
    /// # Panics
    /// When `buffer` is not as long as what follows the head of a slot.
    #[inline(always)]
    pub fn draft(self, buffer: impl FnOnce() -> &'a mut [u8]) -> Draft<'a> {
        let to = if self.exclusive {
            Destination::Slot(self.lanes.place(self.lane, self.sequence))
        } else {
            let buffer = buffer();
            assert_eq!(HEAD_BYTES + buffer.len(), self.lanes.body_bytes(), "the buffer is as long as a slot's rest");
            Destination::Buffer(buffer)
        };
        Draft { room: self, to }
    }
}

/// An event being written, with room for it. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Draft<'a> {
    room: Room<'a>,
    to: Destination<'a>,
}

/// Where what follows a head is written.
#[derive(Debug)]
enum Destination<'a> {
    /// The slot that an exclusive claimant gets. No reference: it is the readers' before `commit` has returned.
    Slot(Place),
    /// A buffer, to be copied from.
    Buffer(&'a mut [u8]),
}

impl Draft<'_> {
    /// Where to write what follows the head; its old content shows through. Starts on a 16-byte boundary when the
    /// buffer given does.
    #[inline(always)]
    pub fn buffer(&mut self) -> &mut [u8] {
        match &mut self.to {
            // SAFETY: nobody else claims, and the check says that every active worker has passed the previous lap of the
            // slot (read with Acquire). Readers look at its stamp alone until `commit`, which takes the draft. Workers
            // that become active later start at the claim, which is not beyond it.
            Destination::Slot(place) => unsafe { self.room.lanes.memory().rest_mut(*place) },
            Destination::Buffer(buffer) => buffer,
        }
    }

    /// Claims the slot and makes the event visible: `head`, whose last four bytes are the ring's, and the first `bytes`
    /// of the buffer. Returns its sequence.
    ///
    /// # Cost
    /// As [`Claimant::push`]; an exclusive claimant copies nothing.
    #[inline(always)]
    pub fn commit(self, head: Head, bytes: usize) -> u64 {
        let Self { room: Room { lanes, lane, sequence, .. }, to } = self;
        let memory = lanes.memory();
        let buffer = match to {
            Destination::Slot(place) => {
                let sequence = claim(lanes, true, lane, sequence);
                // SAFETY: the slot is ours and free, see `claim` and `buffer`.
                unsafe { memory.write_head(place, head, 0) };
                show(lanes, place, sequence);
                return sequence;
            }
            Destination::Buffer(buffer) => buffer,
        };
        // Whole lines: what lies behind the event in its last line is noise in a slot as it is in the buffer.
        let lines = &buffer.as_chunks().0[..bytes.div_ceil(LINE_BYTES)];
        let sequence = claim(lanes, false, lane, sequence);
        let place = lanes.place(lane, sequence);
        // SAFETY: the slot is ours and free, see `claim`; `draft` checked the length of the buffer.
        unsafe { memory.write_lines(place, lines) };
        // SAFETY: as above.
        unsafe { memory.write_head(place, head, 0) };
        show(lanes, place, sequence);
        sequence
    }
}

/// Claims a slot of `lane`, after the check of the gate; `next` is the claim word as an exclusive claimant has read it.
///
/// The slot is free: the check with its headroom says that every active worker has passed its previous lap. Among the
/// last `publishers_max + 1` claims one publisher has two; at the second it had read cursors (Acquire) beyond that lap,
/// and the claims since hand this on (SYNC(lanes.claim)).
#[inline(always)]
fn claim(lanes: &Lanes, exclusive: bool, lane: usize, next: u64) -> u64 {
    let word = lanes.claim_word(lane);
    let claimed = if exclusive {
        // Relaxed: nobody else writes the claim word; the stamp carries the body.
        word.store(next.wrapping_add(1), Ordering::Relaxed);
        next
    } else {
        // SYNC(lanes.claim): AcqRel. Pairs with the other publishers' claims: if they claimed between our check
        // and this, it was their look at the cursors that freed the slot, and we inherit it.
        word.fetch_add(1, mutant!("lanes.claim", Ordering::AcqRel))
    };
    #[cfg(feature = "stall")]
    super::stall::visit(claimed);
    claimed
}

/// Makes the event in `place` visible.
#[inline(always)]
fn show(lanes: &Lanes, place: Place, sequence: u64) {
    #[cfg(feature = "stall")]
    super::stall::visit(sequence);
    // SYNC(slot.commit): Release. Pairs with `Cursor::is_ready`; the body written before is visible with the stamp.
    lanes.memory().stamp(place).store(sequence.wrapping_add(1), mutant!("slot.commit", Ordering::Release));
}
