//! Only the newest: a worker replaces what still waits of a key, and the consumer finds one event a key and how many it missed.
//!
//! ```text
//!   event of key k ──fill──► free cell ──exchange──► word of k ──take──► consumer: the cell, or nothing any more
//!                            (replaced: free again)      ▲
//!                                     └──push k──► line, one a lane ──pop k──┘
//! ```
//!
//! The word of a key says which cell waits, if any, and in which lines the key stands. It holds that
//!
//! * a key is in a line, or in the hand of who puts or takes it there, exactly while its word says so: never twice in one;
//! * a key with a waiting event stands in a line at least as urgent as that event.
//!
//! So a newer event waits no longer than the one it replaces would have, nor than its own urgency asks for: it keeps the
//! older one's place, and where it is more urgent its key gets a second one. Who comes to a key's place when its event was
//! taken at another finds nothing there, or a later event, early.

mod keys;

use std::sync::Arc;

use super::broadcast::LANES;
use super::cells::{Cells, Feeder, Filling, IndexRing};
use super::memory::{OutOfMemory, Pages, boxed};
use super::pool::Pool;
use super::reader::Slot;
use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU32, AtomicU64, BeforeWrite, Ordering};
use crate::sync::transit::Transit;
use keys::Keys;

/// In the word of a key: its cell, counted from 1; 0 = none waits. Above it a bit for each line it stands in.
const CELL: u32 = (1 << CELL_BITS) - 1;
const CELL_BITS: u32 = u32::BITS - LANES as u32;

fn cell_of(word: u32) -> Option<u32> {
    (word & CELL).checked_sub(1)
}

fn line(lane: usize) -> u32 {
    1 << (CELL_BITS as usize + lane)
}

/// The lines more urgent than that of `lane`.
fn lines_before(lane: usize) -> u32 {
    line(lane) - line(0)
}

/// What worker and takers share of the keys.
#[derive(Debug)]
pub(super) struct Newest {
    words: Box<[AtomicU32]>,
    /// Events that the one in each cell has superseded. Written by the worker before it shows the cell.
    skipped: Box<[AtomicU64]>,
    /// Keys with an event: counted before it can be taken.
    waiting: Transit,
    table_bytes: usize,
}

impl Newest {
    fn new(keys: usize, cells: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            words: boxed(keys, |_| AtomicU32::new(0))?,
            skipped: boxed(cells, |_| AtomicU64::new(0))?,
            waiting: Transit::default(),
            table_bytes: Keys::bytes_for(keys) as usize,
        })
    }

    /// The table that the worker has to itself included.
    pub(super) fn reserved_bytes(&self) -> usize {
        size_of_val(&*self.words) + size_of_val(&*self.skipped) + self.table_bytes + size_of::<Self>()
    }

    fn word(&self, key: u32) -> &AtomicU32 {
        &self.words[key as usize]
    }

    pub(super) fn keys_max(&self) -> u64 {
        self.words.len() as u64
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.count()
    }

    /// What the event in `cell`, which is the caller's, has superseded.
    pub(super) fn skipped(&self, cell: u32) -> u64 {
        // Relaxed: made visible with the cell.
        self.skipped[cell as usize].load(Ordering::Relaxed)
    }

    /// Takes the next cell out of a line. Keys there of which nothing waits any more leave it.
    pub(super) fn next(&self, queue: &IndexRing, lane: usize) -> Option<u32> {
        std::iter::from_fn(|| queue.take()).find_map(|key| self.remove(key, !(CELL | line(lane))))
    }

    /// As `next`, for an event to be dropped: keys that stand in a more urgent line too stay there, and only leave this one.
    /// Worker only.
    fn next_to_drop(&self, queue: &IndexRing, lane: usize) -> Option<u32> {
        std::iter::from_fn(|| queue.take()).find_map(|key| {
            // Relaxed: only the worker adds lines. If a taker takes one away now, it takes the event too.
            let urgent = self.word(key).load(Ordering::Relaxed) & lines_before(lane) != 0;
            if mutant!("latest.spare", urgent => false) {
                // Relaxed: the worker itself took the key out of the line, and nobody else puts it there again.
                self.word(key).fetch_and(!line(lane), Ordering::Relaxed);
                return None;
            }
            self.remove(key, !(CELL | line(lane)))
        })
    }

    /// Takes the cell of `key`, which is then the caller's, and leaves of its word what `keep` says.
    fn remove(&self, key: u32, keep: u32) -> Option<u32> {
        // SYNC(latest.key): AcqRel. Pairs with `show`. Acquire: the event's bytes come with its cell; Release: our read of
        // the line comes before the worker fills that place again.
        let acquired = mutant!("latest.remove", Ordering::AcqRel);
        let word = self.word(key).fetch_and(mutant!("latest.leave", keep => !CELL), acquired);
        let cell = cell_of(word)?;
        // It was counted as taken before.
        self.waiting.end();
        Some(cell)
    }

    /// Lets takers find `cell` under `key`, in a line as urgent as `lane`. `superseded` are those it has replaced so far.
    /// Returns the cell that it replaces now, which is the worker's again, and whether the key has to be put into that line.
    fn show(&self, key: u32, lane: usize, cell: u32, superseded: u64) -> (Option<u32>, bool) {
        let mut counted = false;
        // Relaxed: the exchange decides.
        let mut word = self.word(key).before_write();
        loop {
            let replaced = cell_of(word);
            let skipped = replaced
                .map_or(superseded, |replaced| mutant!("latest.skipped", self.skipped(replaced) + 1 => superseded));
            // Relaxed: shown by the exchange below.
            self.skipped[cell as usize].store(skipped, Ordering::Relaxed);
            if replaced.is_none() && !counted {
                // Shown by the exchange below, to who will count it off. Nobody but the worker fills the word, so it stays
                // without a cell.
                self.waiting.begin();
                counted = true;
            }
            let lines = word & !CELL;
            let as_urgent = lines_before(lane) | line(lane);
            let joins = mutant!("latest.line", lines & as_urgent == 0 => replaced.is_none());
            let lines = if joins { lines | line(lane) } else { lines };
            // SYNC(latest.key): AcqRel. Pairs with `remove`. Release: the event's bytes; Acquire: who took the key out of a
            // line has read it there.
            let shown = mutant!("latest.show", Ordering::AcqRel);
            let then = lines | (cell + 1);
            // Relaxed: an exchange that failed has done nothing.
            let exchanged = self.word(key).compare_exchange_weak(word, then, shown, Ordering::Relaxed);
            // Relaxed: the bug.
            match mutant!("latest.exchange", exchanged => Ok(self.word(key).swap(then, Ordering::Relaxed))) {
                Ok(_) => return (replaced, joins),
                Err(now) => word = now,
            }
        }
    }

    /// Whether nothing waits of `key`. For the worker true stays true, until it shows a cell.
    fn is_idle(&self, key: u32) -> bool {
        // Relaxed: who has taken its cell owns that, and nothing else of the key is used.
        cell_of(self.word(key).load(Ordering::Relaxed)).is_none()
    }
}

/// The worker's end of a mailbox in which only the newest event of each key waits. There is one: its methods take `&mut self`.
#[derive(Debug)]
pub struct LatestFeeder {
    feeder: Feeder,
    newest: Arc<Newest>,
    keys: Keys,
}

/// Where an event went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// None of its key waited.
    Waits,
    /// In the place of an older one, which nobody has seen nor will.
    Supersedes,
}

/// Why an event went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutError {
    /// Of as many other keys as there may be an event waits.
    KeysFull,
    /// Consumers hold more than they may without a wait, and of the event's key none waits that could make way.
    CellsFull,
    /// It is not this worker's business, or shorter than its header says.
    Foreign,
}

impl LatestFeeder {
    /// Cells for the newest events of `keys_max` keys, at least one; for one that is being replaced; and for `held_max` in
    /// the hands of consumers. The rest is as for [`Cells::new`].
    ///
    /// # Errors
    /// When the system has not so much memory.
    pub fn new(
        keys_max: usize,
        held_max: usize,
        body_bytes: usize,
        first: u64,
        pool: Arc<Pool>,
        pages: Pages,
    ) -> Result<(Self, Arc<Cells>), OutOfMemory> {
        let cells = keys_max + held_max + 1;
        assert!(keys_max > 0 && cells < CELL as usize, "the builder bounds both");
        let keys = Keys::new(keys_max)?;
        let newest = Arc::new(Newest::new(keys_max, cells)?);
        let entries = keys_max.next_power_of_two();
        let shared = Some((entries, Arc::clone(&newest)));
        let (feeder, cells) = Cells::with_queues(cells, body_bytes, first, pool, pages, shared)?;
        Ok((Self { feeder, newest, keys }, cells))
    }

    /// What such a mailbox reserves, but for rounding.
    pub const fn bytes_for(keys_max: usize, held_max: usize, body_bytes: usize) -> u64 {
        let cells = keys_max.saturating_add(held_max).saturating_add(1);
        let skipped = (cells as u64).saturating_mul(size_of::<u64>() as u64);
        let words = (keys_max as u64).saturating_mul(size_of::<u32>() as u64);
        Cells::bytes_for(cells, body_bytes).saturating_add(skipped + words + Keys::bytes_for(keys_max))
    }

    /// Whether `put` would take an event of whatever key and have a cell to spare. True stays true until this feeder puts.
    pub fn has_room_for_any(&self) -> bool {
        self.feeder.has_room() && self.newest.waiting() < self.newest.keys_max()
    }

    /// Whether `put` would take an event of `key` and have a cell to spare. True stays true until this feeder puts.
    pub fn has_room(&self, key: u64) -> bool {
        self.has_room_for_any() || self.feeder.has_room() && self.keys.number(key).is_some()
    }

    /// Copies the event of `slot` into a cell and lets it wait as the newest of `key`; an older one that waits is
    /// superseded. `rest_bytes` of what follows the head are copied, or its block gets one more holder.
    ///
    /// # Errors
    /// When the event went nowhere, and what waits is as it was. Never for want of a cell while one of its key waits.
    ///
    /// # Cost
    /// No allocation, no lock. A key that has no number takes that of one of which nothing waits: about one look where
    /// keys come and go in turn, `keys_max` at most.
    pub fn put(
        &mut self,
        key: u64,
        lane: usize,
        sequence: u64,
        slot: &Slot<'_>,
        rest_bytes: usize,
    ) -> Result<Put, PutError> {
        let filling = Filling::new(slot, rest_bytes).ok_or(PutError::Foreign)?;
        let key = self.number(key).ok_or(PutError::KeysFull)?;
        let (cell, superseded) = match self.feeder.claim() {
            Some(cell) => (cell, 0),
            None => self.take_back(key).ok_or(PutError::CellsFull)?,
        };
        // SAFETY: the cell was free or taken back, and is ours; what block it had was released.
        unsafe { self.feeder.copy(cell, lane, sequence, filling) };
        let (replaced, joins) = self.newest.show(key, lane, cell, superseded);
        if joins {
            self.feeder.cells.queue(lane).push(key);
        }
        if let Some(replaced) = replaced {
            // SAFETY: the exchange made it ours, nobody else has met it, and it was written when it was shown.
            mutant!("latest.replaced", unsafe { self.feeder.cells.give_back(replaced) } => ());
        }
        Ok(if replaced.is_some() || superseded > 0 { Put::Supersedes } else { Put::Waits })
    }

    /// Frees the cell that stands longest in the line of `lane` without anyone having seen it, and its key. False when
    /// there is none that does not stand in a more urgent one too.
    pub fn drop_oldest(&mut self, lane: usize) -> bool {
        let cells = &self.feeder.cells;
        let dropped = self.newest.next_to_drop(cells.queue(lane), lane);
        dropped.map(|cell| cells.taken(cell, lane)).is_some()
    }

    /// The number of `key`: the one it has, or that of a key of which nothing waits.
    fn number(&mut self, key: u64) -> Option<u32> {
        if let Some(number) = self.keys.number(key) {
            return Some(number);
        }
        if self.newest.waiting() == self.newest.keys_max() {
            return None;
        }
        let newest = &self.newest;
        self.keys.enter(key, |number| newest.is_idle(number))
    }

    /// All cells are in use: the one that waits of `key` is to be filled again. Until then nothing waits of it, and who looks
    /// finds what was superseded gone and the newest not there yet. With how many the newest will have superseded.
    fn take_back(&mut self, key: u32) -> Option<(u32, u64)> {
        let waiting = mutant!("latest.take_back", self.newest.remove(key, !CELL) => {
            // Relaxed: the bug.
            cell_of(self.newest.word(key).load(Ordering::Relaxed))
        });
        let cell = waiting?;
        // SAFETY: nobody else has met the cell, and it was written when it was shown.
        unsafe { self.feeder.cells.release_block(cell) };
        Some((cell, self.newest.skipped(cell) + 1))
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests;
