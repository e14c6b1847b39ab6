//! Only the newest: a worker puts events under keys, a consumer takes them, as a list of keys and four lines would.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arbitrary::Unstructured;
use ringmain::internals::ring::{
    Cells, Claimant, Frame, HEAD_BYTES, LANES, Lanes, LanesLayout, LatestFeeder, Pages, Pool, Put, PutError, Reader,
    Rest, STAMP_BYTES, Taken,
};

use crate::ring::{Blocks, CLASSES, Content, Held, draw_first, pool};

/// The worker whose mailbox it is, and another one.
const WORKERS: usize = 2;
const OWN: usize = 0;
const SLOT_BYTES: usize = 128;
/// What fits a slot behind a head.
const REST_BYTES: usize = SLOT_BYTES - STAMP_BYTES - HEAD_BYTES;
/// Keys that events are of: more than have room.
const KEYS: u64 = 6;

/// Runs the operations that `data` says, and compares after each.
///
/// # Panics
///
/// If the mailbox and the model disagree.
pub fn check(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Too few bytes for a case are no case.
    let Ok(mut case) = Case::draw(&mut bytes) else { return };
    // The bytes end somewhere within an operation.
    let _ = case.run(&mut bytes);
    case.finish();
}

/// An event in a cell.
#[derive(Debug)]
struct Cell {
    lane: usize,
    sequence: u64,
    skipped: u64,
    content: Content,
    _block: Option<Rc<Held>>,
}

/// One number for a key.
#[derive(Debug, Default)]
struct Number {
    key: Option<u64>,
    waits: Option<Cell>,
    stands_in: [bool; LANES],
}

#[derive(Debug)]
struct Model {
    numbers: Vec<Number>,
    hand: usize,
    lines: [VecDeque<usize>; LANES],
    cells: usize,
    held: usize,
    // What became of all events that were put.
    put: u64,
    taken: u64,
    superseded: u64,
    dropped: u64,
}

impl Model {
    fn waiting(&self) -> impl Iterator<Item = &Cell> {
        self.numbers.iter().filter_map(|number| number.waits.as_ref())
    }

    fn free(&self) -> usize {
        self.cells - self.waiting().count() - self.held
    }

    fn number_of(&self, key: u64) -> Option<usize> {
        self.numbers.iter().position(|number| number.key == Some(key))
    }

    fn has_room(&self, key: u64) -> bool {
        self.free() > 0 && (self.number_of(key).is_some() || self.waiting().count() < self.numbers.len())
    }

    /// The key's number, or the next one of which nothing waits.
    fn number(&mut self, key: u64) -> Option<usize> {
        if let Some(number) = self.number_of(key) {
            return Some(number);
        }
        if self.waiting().count() == self.numbers.len() {
            return None;
        }
        loop {
            let number = self.hand;
            self.hand = (number + 1) % self.numbers.len();
            if self.numbers[number].waits.is_none() {
                self.numbers[number].key = Some(key);
                return Some(number);
            }
        }
    }

    fn put(&mut self, key: u64, mut cell: Cell) -> Result<Put, PutError> {
        let number = self.number(key).ok_or(PutError::KeysFull)?;
        if self.free() == 0 && self.numbers[number].waits.is_none() {
            return Err(PutError::CellsFull);
        }
        let lane = cell.lane;
        if !self.numbers[number].stands_in[..=lane].contains(&true) {
            self.numbers[number].stands_in[lane] = true;
            self.lines[lane].push_back(number);
        }
        let number = &mut self.numbers[number];
        self.put += 1;
        let replaced = number.waits.take();
        cell.skipped = replaced.as_ref().map_or(0, |replaced| replaced.skipped + 1);
        number.waits = Some(cell);
        self.superseded += u64::from(replaced.is_some());
        Ok(if replaced.is_some() { Put::Supersedes } else { Put::Waits })
    }

    /// The first event in a line; `sparing` those that stand in a more urgent one too.
    fn next(&mut self, lane: usize, sparing: bool) -> Option<Cell> {
        while let Some(number) = self.lines[lane].pop_front() {
            let number = &mut self.numbers[number];
            number.stands_in[lane] = false;
            if sparing && number.stands_in[..lane].contains(&true) {
                continue;
            }
            if let Some(cell) = number.waits.take() {
                return Some(cell);
            }
        }
        None
    }

    fn check(&self) {
        let waiting = self.waiting().count() as u64;
        assert_eq!(self.put, self.taken + self.superseded + self.dropped + waiting);
        for number in &self.numbers {
            let stands = number.waits.as_ref().is_none_or(|cell| number.stands_in[..=cell.lane].contains(&true));
            assert!(stands, "nobody will find {number:?} in time");
        }
    }
}

struct Case {
    publisher: Claimant,
    lanes: Arc<Lanes>,
    readers: [Reader; WORKERS],
    pool: Arc<Pool>,
    feeder: LatestFeeder,
    cells: Arc<Cells>,
    taken: Vec<(Taken, Cell)>,
    /// Where a flush began.
    ends: [u64; LANES],
    model: Model,
    blocks: Blocks,
    made: u64,
}

impl Case {
    fn draw(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let first = draw_first(bytes)?;
        let keys = bytes.int_in_range(1..=5)?;
        let held = bytes.int_in_range(0..=2)?;
        let pool = pool();
        let layout =
            LanesLayout { slots: 2, slot_bytes: SLOT_BYTES, limit: 1, workers: WORKERS, first, pages: Pages::Any };
        let lanes = Arc::new(Lanes::new(layout, Arc::clone(&pool)).expect("so little memory is there"));
        let made = LatestFeeder::new(keys, held, lanes.body_bytes(), first, Arc::clone(&pool), Pages::Any);
        let (feeder, cells) = made.expect("so little memory is there");
        assert_eq!(cells.capacity(), keys + held + 1);
        let mut readers = std::array::from_fn(|worker| Reader::new(Arc::clone(&lanes), worker));
        readers.iter_mut().for_each(Reader::activate);
        let model = Model {
            numbers: (0..keys).map(|_| Number::default()).collect(),
            hand: 0,
            lines: Default::default(),
            cells: cells.capacity(),
            held: 0,
            put: 0,
            taken: 0,
            superseded: 0,
            dropped: 0,
        };
        let (publisher, ends) = (Claimant::new(Arc::clone(&lanes), false), lanes.ends());
        let blocks = Blocks::new();
        Ok(Self { publisher, lanes, readers, pool, feeder, cells, taken: Vec::new(), ends, model, blocks, made: 0 })
    }

    fn run(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        while !bytes.is_empty() {
            match bytes.int_in_range(0..=7)? {
                0 | 1 => self.put(bytes)?,
                2 => self.put_block(bytes)?,
                3 | 4 => self.take(bytes.choose_index(LANES)?),
                5 if !self.taken.is_empty() => {
                    let nth = bytes.choose_index(self.taken.len())?;
                    drop(self.taken.swap_remove(nth));
                    self.model.held -= 1;
                }
                6 => self.ends = self.lanes.ends(),
                _ => {
                    let lane = bytes.choose_index(LANES)?;
                    let dropped = self.model.next(lane, true).is_some();
                    assert_eq!(self.feeder.drop_oldest(lane), dropped);
                    self.model.dropped += u64::from(dropped);
                }
            }
            self.compare();
        }
        Ok(())
    }

    fn content(&mut self, bytes: usize) -> Content {
        self.made += 1;
        Content::new(self.made, bytes)
    }

    /// An event that lies in its slot, some of which is copied, or more than there is.
    fn put(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let length = bytes.int_in_range(0..=REST_BYTES)?;
        let copied = if bytes.ratio(1, 8)? { REST_BYTES + 1 } else { length };
        let content = self.content(length);
        let (key, lane) = (bytes.int_in_range(0..=KEYS - 1)?, bytes.choose_index(LANES)?);
        let frame = Frame { head: &content.head, rest: Rest::Inline(&content.rest) };
        let sequence = self.publisher.push(lane, frame).expect("both workers have read all");
        let cell = Cell { lane, sequence, skipped: 0, content, _block: None };
        self.feed(key, cell, copied, copied <= REST_BYTES);
        Ok(())
    }

    /// An event that lies in a block, for the mailbox's worker, the other one, or both.
    fn put_block(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let length = bytes.int_in_range(0..=CLASSES[1].block_bytes)?;
        let workers = bytes.int_in_range(1..=3)?;
        let content = self.content(length);
        let (key, lane) = (bytes.int_in_range(0..=KEYS - 1)?, bytes.choose_index(LANES)?);
        let Some((block, held)) = self.blocks.take(&self.pool, &content) else { return Ok(()) };
        let frame = Frame { head: &content.head, rest: Rest::Block(&block, workers) };
        let sequence = self.publisher.push(lane, frame).expect("both workers have read all");
        drop(block);
        let cell = Cell { lane, sequence, skipped: 0, content, _block: Some(held) };
        self.feed(key, cell, length, workers & (1 << OWN) != 0);
        Ok(())
    }

    /// Puts the event that was just published under `key`, if it is whole, and lets both workers pass it.
    fn feed(&mut self, key: u64, cell: Cell, bytes: usize, whole: bool) {
        let (lane, sequence) = (cell.lane, cell.sequence);
        let slot = self.readers[OWN].peek(lane).expect("an event was published");
        assert_eq!(self.feeder.has_room(key), self.model.has_room(key));
        let promised = whole && self.feeder.has_room(key);
        let put = self.feeder.put(key, lane, sequence, &slot, bytes);
        assert!(put.is_ok() || !promised, "there was room: {put:?}");
        assert_eq!(put, if whole { self.model.put(key, cell) } else { Err(PutError::Foreign) });
        for reader in &mut self.readers {
            reader.advance(lane);
            reader.release();
        }
    }

    fn take(&mut self, lane: usize) {
        let (taken, cell) = (self.cells.take(lane), self.model.next(lane, false));
        assert_eq!(taken.is_some(), cell.is_some());
        self.model.held += usize::from(cell.is_some());
        self.model.taken += u64::from(cell.is_some());
        self.taken.extend(taken.zip(cell));
    }

    fn compare(&self) {
        self.model.check();
        assert_eq!(self.pool.free_blocks(), self.blocks.free());
        assert_eq!(self.cells.is_full(self.taken.len() as u64), !self.model.has_room(KEYS));
        assert_eq!(self.cells.waiting(), self.model.waiting().count() as u64);
        for (lane, line) in self.model.lines.iter().enumerate() {
            assert_eq!(self.cells.queued(lane), line.len() as u64);
        }
        for (taken, cell) in &self.taken {
            let (head, rest) = taken.parts();
            assert!(cell.content.is(head, rest), "{:?} in a taken cell has become {head:?} {rest:?}", cell.content);
            let told = (taken.lane(), taken.sequence(), taken.skipped());
            assert_eq!(told, (cell.lane, cell.sequence, cell.skipped));
        }
        let mut in_use = self.model.waiting().chain(self.taken.iter().map(|(_, cell)| cell));
        let is_before = |cell: &Cell| (cell.sequence.wrapping_sub(self.ends[cell.lane]) as i64) < 0;
        assert_eq!(self.cells.has_before(&self.ends), in_use.any(is_before));
    }

    /// What waits or is taken goes with the mailbox, in any order, and every block is free.
    fn finish(self) {
        let Self { pool, feeder, cells, taken, .. } = self;
        drop((feeder, cells));
        drop(taken);
        assert_eq!(pool.free_blocks(), CLASSES.iter().map(|class| class.blocks).sum::<usize>());
    }
}
