//! Cells: a worker fills them, a consumer takes them in turn and frees them in any order, as a queue a lane would.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arbitrary::Unstructured;
use ringmain::internals::ring::{
    Cells, Claimant, Feeder, Frame, HEAD_BYTES, LANES, Lanes, LanesLayout, Pages, Pool, Reader, Rest, STAMP_BYTES,
    Taken,
};

use crate::ring::{Blocks, CLASSES, Content, Held, draw_first, pool};

/// The worker whose mailbox it is, and another one.
const WORKERS: usize = 2;
const OWN: usize = 0;
const SLOT_BYTES: usize = 128;
/// What fits a slot behind a head.
const REST_BYTES: usize = SLOT_BYTES - STAMP_BYTES - HEAD_BYTES;

/// Runs the operations that `data` says, and compares after each.
///
/// # Panics
///
/// If cells and queues disagree.
pub fn check(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Too few bytes for a case are no case.
    let Ok(mut case) = Case::draw(&mut bytes) else { return };
    // The bytes end somewhere within an operation.
    let _ = case.run(&mut bytes);
    case.finish();
}

/// What a cell holds.
#[derive(Debug)]
struct Cell {
    sequence: u64,
    content: Content,
    _block: Option<Rc<Held>>,
}

struct Case {
    publisher: Claimant,
    readers: [Reader; WORKERS],
    pool: Arc<Pool>,
    feeder: Feeder,
    cells: Arc<Cells>,
    taken: Vec<(Taken, Cell)>,
    // The model; cells that are taken are in use too.
    capacity: usize,
    queues: [VecDeque<Cell>; LANES],
    blocks: Blocks,
    made: u64,
}

impl Case {
    fn draw(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let first = draw_first(bytes)?;
        let capacity = 1 << bytes.int_in_range(0..=3)?;
        let pool = pool();
        let layout =
            LanesLayout { slots: 2, slot_bytes: SLOT_BYTES, limit: 1, workers: WORKERS, first, pages: Pages::Any };
        let lanes = Arc::new(Lanes::new(layout, Arc::clone(&pool)).expect("so little memory is there"));
        let cells = Cells::new(capacity, lanes.body_bytes(), first, Arc::clone(&pool), Pages::Any);
        let (feeder, cells) = cells.expect("so little memory is there");
        let mut readers = std::array::from_fn(|worker| Reader::new(Arc::clone(&lanes), worker));
        readers.iter_mut().for_each(Reader::activate);
        Ok(Self {
            publisher: Claimant::new(lanes, false),
            readers,
            pool,
            feeder,
            cells,
            taken: Vec::new(),
            capacity,
            queues: Default::default(),
            blocks: Blocks::new(),
            made: 0,
        })
    }

    fn run(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        while !bytes.is_empty() {
            match bytes.int_in_range(0..=5)? {
                0 => self.push(bytes)?,
                1 => self.push_block(bytes)?,
                2 | 3 => self.take(bytes.choose_index(LANES)?),
                4 if !self.taken.is_empty() => {
                    let nth = bytes.choose_index(self.taken.len())?;
                    drop(self.taken.swap_remove(nth));
                }
                _ => {
                    let lane = bytes.choose_index(LANES)?;
                    assert_eq!(self.feeder.drop_oldest(lane), self.queues[lane].pop_front().is_some());
                }
            }
            self.compare();
        }
        Ok(())
    }

    fn in_use(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum::<usize>() + self.taken.len()
    }

    fn content(&mut self, bytes: usize) -> Content {
        self.made += 1;
        Content::new(self.made, bytes)
    }

    /// An event that lies in its slot, some of which is copied, or more than there is.
    fn push(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let length = bytes.int_in_range(0..=REST_BYTES)?;
        let copied = if bytes.ratio(1, 8)? { REST_BYTES + 1 } else { length };
        let content = self.content(length);
        let lane = bytes.choose_index(LANES)?;
        let frame = Frame { head: &content.head, rest: Rest::Inline(&content.rest) };
        let sequence = self.publisher.push(lane, frame).expect("both workers have read all");
        let fits = copied <= REST_BYTES && self.in_use() < self.capacity;
        self.feed(lane, sequence, content, None, copied, fits);
        Ok(())
    }

    /// An event that lies in a block, for the mailbox's worker, the other one, or both.
    fn push_block(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let length = bytes.int_in_range(0..=CLASSES[1].block_bytes)?;
        let workers = bytes.int_in_range(1..=3)?;
        let content = self.content(length);
        let Some((block, held)) = self.blocks.take(&self.pool, &content) else { return Ok(()) };
        let lane = bytes.choose_index(LANES)?;
        let frame = Frame { head: &content.head, rest: Rest::Block(&block, workers) };
        let sequence = self.publisher.push(lane, frame).expect("both workers have read all");
        drop(block);
        let fits = workers & (1 << OWN) != 0 && self.in_use() < self.capacity;
        self.feed(lane, sequence, content, Some(held), length, fits);
        Ok(())
    }

    /// Moves the event that was just published into a cell, if it fits, and lets both workers pass it.
    fn feed(
        &mut self,
        lane: usize,
        sequence: u64,
        content: Content,
        block: Option<Rc<Held>>,
        bytes: usize,
        fits: bool,
    ) {
        let slot = self.readers[OWN].peek(lane).expect("an event was published");
        assert_eq!(self.feeder.push(lane, sequence, &slot, bytes), fits, "{bytes} bytes of {content:?}");
        if fits {
            self.queues[lane].push_back(Cell { sequence, content, _block: block });
        }
        for reader in &mut self.readers {
            reader.advance(lane);
            reader.release();
        }
    }

    fn take(&mut self, lane: usize) {
        let (taken, cell) = (self.cells.take(lane), self.queues[lane].pop_front());
        assert_eq!(taken.is_some(), cell.is_some());
        self.taken.extend(taken.zip(cell));
    }

    fn compare(&self) {
        assert_eq!(self.feeder.has_room(), self.in_use() < self.capacity);
        assert_eq!(self.cells.is_full(self.taken.len() as u64), self.in_use() == self.capacity);
        assert_eq!(self.pool.free_blocks(), self.blocks.free());
        for (lane, queue) in self.queues.iter().enumerate() {
            assert_eq!(self.cells.queued(lane), queue.len() as u64);
        }
        for (taken, cell) in &self.taken {
            let (head, rest) = taken.parts();
            assert!(cell.content.is(head, rest), "{:?} in a taken cell has become {head:?} {rest:?}", cell.content);
            assert_eq!(taken.sequence(), cell.sequence);
        }
    }

    /// What is queued or taken goes with the mailbox, in any order, and every block is free.
    fn finish(self) {
        let Self { pool, feeder, cells, taken, .. } = self;
        drop((feeder, cells));
        drop(taken);
        assert_eq!(pool.free_blocks(), CLASSES.iter().map(|class| class.blocks).sum::<usize>());
    }
}
