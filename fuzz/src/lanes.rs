//! Lanes: publishers claim, workers read, in any order; each worker sees what a queue of its own would show it.
//!
//! All happens on one thread, so the oracle is exact: it says which claim is refused and with what numbers. Claims that
//! were checked and not yet made are held across other operations, as threads hold them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arbitrary::Unstructured;
use ringmain::internals::ring::{
    Block, Claimant, Frame, HEAD_BYTES, LANES, LaneFull, Lanes, LanesLayout, Pages, Pool, Reader, Rest, STAMP_BYTES,
};

use crate::ring::{Blocks, CLASSES, Content, Held, draw_first, pool};

/// Runs the operations that `data` says, and compares after each.
///
/// # Panics
///
/// If lanes and queues disagree.
pub fn check(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Too few bytes for a case are no case.
    let Ok(mut case) = Case::draw(&mut bytes) else { return };
    // The bytes end somewhere within an operation.
    let _ = case.run(&mut bytes);
    case.finish();
}

/// An event in the queue of a worker.
#[derive(Debug, Clone)]
struct Entry {
    content: Rc<Content>,
    holds: Holds,
}

#[derive(Debug, Clone)]
enum Holds {
    Inline,
    /// The worker has a count of its block.
    Block {
        _held: Rc<Held>,
    },
    /// Its block is not for this worker.
    Foreign,
}

/// The model of a worker.
#[derive(Debug, Default)]
struct Worker {
    active: bool,
    unread: [VecDeque<Entry>; LANES],
    /// Events read and not yet released.
    unreleased: [u64; LANES],
}

/// An event in a block: what it says, the block, who holds it, and for which workers.
type Blocked = (Content, Block, Rc<Held>, u64);

impl Worker {
    fn behind(&self, lane: usize) -> u64 {
        self.unread[lane].len() as u64 + self.unreleased[lane]
    }
}

struct Case {
    lanes: Arc<Lanes>,
    pool: Arc<Pool>,
    /// `None` while an operation has it in hand.
    publishers: Vec<Option<Claimant>>,
    readers: Vec<Reader>,
    first: u64,
    // The model.
    workers: Vec<Worker>,
    claimed: [u64; LANES],
    /// Where somebody began to wait: the ends of the lanes, and how many events there were.
    ends: ([u64; LANES], [u64; LANES]),
    blocks: Blocks,
    /// Events made.
    made: u64,
}

/// Whether to go on, or an operation that was held is to come to its end.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    End,
}

impl Case {
    fn draw(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let first = draw_first(bytes)?;
        let publishers = bytes.int_in_range(1..=3)?;
        let exclusive = publishers == 1 && bytes.arbitrary()?;
        let limit: u64 = bytes.int_in_range(1..=6)?;
        let workers = bytes.int_in_range(1..=3)?;
        let slot_bytes = *bytes.choose(&[128, 192, 256])?;
        let pool = pool();
        let layout = LanesLayout {
            slots: (limit as usize + publishers).next_power_of_two(),
            slot_bytes,
            limit,
            workers,
            first,
            pages: Pages::Any,
        };
        let lanes = Arc::new(Lanes::new(layout, Arc::clone(&pool)).expect("so little memory is there"));
        assert_eq!(lanes.body_bytes(), slot_bytes - STAMP_BYTES);
        Ok(Self {
            publishers: (0..publishers).map(|_| Some(Claimant::new(Arc::clone(&lanes), exclusive))).collect(),
            readers: (0..workers).map(|worker| Reader::new(Arc::clone(&lanes), worker)).collect(),
            ends: (lanes.ends(), [0; LANES]),
            lanes,
            pool,
            first,
            workers: (0..workers).map(|_| Worker::default()).collect(),
            claimed: [0; LANES],
            blocks: Blocks::new(),
            made: 0,
        })
    }

    fn run(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        while !bytes.is_empty() {
            let next = self.step(bytes)?;
            self.compare();
            if next == Next::End {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<Next> {
        match bytes.int_in_range(0..=9)? {
            0 => self.push(bytes)?,
            1 => self.push_block(bytes)?,
            2 => self.push_batch(bytes)?,
            3 => self.put(bytes)?,
            4 => self.write_draft(bytes)?,
            5 => return Ok(Next::End),
            6 => self.ask(bytes)?,
            7 => self.activate(bytes)?,
            8 => self.read(bytes)?,
            _ => self.release(bytes)?,
        }
        Ok(Next::Go)
    }

    fn content(&mut self, bytes: usize) -> Content {
        self.made += 1;
        Content::new(self.made, bytes)
    }

    /// An event that fits a slot.
    fn draw_content(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<Content> {
        let length = bytes.int_in_range(0..=self.lanes.body_bytes() - HEAD_BYTES)?;
        Ok(self.content(length))
    }

    /// A publisher that is not in another operation's hands, and a lane.
    fn draw_publisher(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<Option<(usize, usize)>> {
        let (publisher, lane) = (bytes.choose_index(self.publishers.len())?, bytes.choose_index(LANES)?);
        Ok(self.publishers[publisher].is_some().then_some((publisher, lane)))
    }

    /// What a claim of `count` slots must come to: the sequence, or the refusal.
    fn expected(&self, lane: usize, count: u64) -> Result<u64, LaneFull> {
        let limit = self.lanes.limit();
        let active = self.workers.iter().enumerate().filter(|(_, worker)| worker.active);
        let behind = active.map(|(nth, worker)| (worker.behind(lane), std::cmp::Reverse(nth)));
        match behind.max() {
            None => Err(LaneFull { depth: 0, limit, gated_by: None }),
            Some((depth, slowest)) if depth + count > limit => {
                Err(LaneFull { depth, limit, gated_by: Some(slowest.0) })
            }
            Some(_) => Ok(self.next_sequence(lane)),
        }
    }

    fn next_sequence(&self, lane: usize) -> u64 {
        self.first.wrapping_add(self.claimed[lane])
    }

    fn depth(&self, lane: usize) -> u64 {
        let active = self.workers.iter().filter(|worker| worker.active);
        active.map(|worker| worker.behind(lane)).max().unwrap_or(0)
    }

    /// Puts an event into the queues of all active workers; its block is for those in the mask.
    fn publish(&mut self, lane: usize, content: Content, block: Option<(Rc<Held>, u64)>) {
        let content = Rc::new(content);
        for (nth, worker) in self.workers.iter_mut().enumerate().filter(|(_, worker)| worker.active) {
            let holds = match &block {
                None => Holds::Inline,
                Some((held, workers)) if workers & (1 << nth) != 0 => Holds::Block { _held: Rc::clone(held) },
                Some(_) => Holds::Foreign,
            };
            worker.unread[lane].push_back(Entry { content: Rc::clone(&content), holds });
        }
        self.claimed[lane] += 1;
    }

    fn push(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some((publisher, lane)) = self.draw_publisher(bytes)? else { return Ok(()) };
        let content = self.draw_content(bytes)?;
        let expected = self.expected(lane, 1);
        let frame = Frame { head: &content.head, rest: Rest::Inline(&content.rest) };
        let claimant = self.publishers[publisher].as_mut().expect("it is not in hand");
        assert_eq!(claimant.push(lane, frame), expected);
        if expected.is_ok() {
            self.publish(lane, content, None);
        }
        Ok(())
    }

    /// Some active workers, or none when none is active.
    fn draw_workers(&self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<Option<u64>> {
        let active = self.lanes.active();
        let drawn = bytes.arbitrary::<u64>()? & active;
        Ok((active != 0).then_some(if drawn == 0 { active } else { drawn }))
    }

    /// An event in a block, and the workers it is for. `None` when no block is free, or no worker is active.
    fn draw_block(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<Option<Blocked>> {
        let length = bytes.int_in_range(0..=CLASSES[1].block_bytes)?;
        let Some(workers) = self.draw_workers(bytes)? else { return Ok(None) };
        let content = self.content(length);
        Ok(self.blocks.take(&self.pool, &content).map(|(block, held)| (content, block, held, workers)))
    }

    fn push_block(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some((publisher, lane)) = self.draw_publisher(bytes)? else { return Ok(()) };
        let Some((content, block, held, workers)) = self.draw_block(bytes)? else { return Ok(()) };
        let expected = self.expected(lane, 1);
        let frame = Frame { head: &content.head, rest: Rest::Block(&block, workers) };
        let claimant = self.publishers[publisher].as_mut().expect("it is not in hand");
        assert_eq!(claimant.push(lane, frame), expected);
        if expected.is_ok() {
            self.publish(lane, content, Some((held, workers)));
        }
        Ok(())
    }

    fn push_batch(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some((publisher, lane)) = self.draw_publisher(bytes)? else { return Ok(()) };
        let mut events = Vec::new();
        for _ in 0..bytes.int_in_range(1..=self.lanes.limit() + 1)? {
            let block = if bytes.ratio(1, 4)? { self.draw_block(bytes)? } else { None };
            events.push(match block {
                Some((content, block, held, workers)) => (content, Some((block, held, workers))),
                None => (self.draw_content(bytes)?, None),
            });
        }
        let expected = self.expected(lane, events.len() as u64);
        let claimant = self.publishers[publisher].as_mut().expect("it is not in hand");
        let pushed = claimant.push_batch(lane, events.len(), |nth| {
            let (content, block) = &events[nth];
            let rest = match block {
                Some((block, _, workers)) => Rest::Block(block, *workers),
                None => Rest::Inline(&content.rest),
            };
            Frame { head: &content.head, rest }
        });
        assert_eq!(pushed, expected);
        if expected.is_ok() {
            for (content, block) in events {
                self.publish(lane, content, block.map(|(_, held, workers)| (held, workers)));
            }
        }
        Ok(())
    }

    /// Checks the gate for one event. False when it is refused, as it must be.
    fn make_sure(&self, claimant: &mut Claimant, lane: usize) -> bool {
        let expected = self.expected(lane, 1);
        let sure = claimant.make_sure(lane, 1);
        assert_eq!(sure.map(|_| ()), expected.map(|_| ()));
        if sure == Ok(true) {
            assert!(self.depth(lane) > self.lanes.limit() / 2, "nobody is woken for a lane that is not half full");
        }
        expected.is_ok()
    }

    /// Puts a finished event into room that was looked for before other operations.
    fn put(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some((publisher, lane)) = self.draw_publisher(bytes)? else { return Ok(()) };
        let content = self.draw_content(bytes)?;
        let is_dropped = bytes.ratio(1, 8)?;
        let mut claimant = self.publishers[publisher].take().expect("it is not in hand");
        if self.make_sure(&mut claimant, lane) {
            let room = claimant.room(lane).expect("the gate was just looked at");
            assert_eq!(HEAD_BYTES + room.rest_bytes(), self.lanes.body_bytes());
            // The bytes may end here; then this operation ends as it would have.
            let _ = self.run(bytes);
            if !is_dropped {
                assert_eq!(room.put(content.head, &content.rest), self.next_sequence(lane));
                self.publish(lane, content, None);
            }
        }
        self.publishers[publisher] = Some(claimant);
        Ok(())
    }

    /// Writes an event where it is to lie, one half before other operations and one after.
    fn write_draft(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some((publisher, lane)) = self.draw_publisher(bytes)? else { return Ok(()) };
        let content = self.draw_content(bytes)?;
        let is_dropped = bytes.ratio(1, 8)?;
        let mut buffer = vec![0xA5; self.lanes.body_bytes() - HEAD_BYTES];
        let mut claimant = self.publishers[publisher].take().expect("it is not in hand");
        if self.make_sure(&mut claimant, lane) {
            let room = claimant.room(lane).expect("the gate was just looked at");
            let mut draft = room.draft(|| &mut buffer);
            let half = content.rest.len() / 2;
            draft.buffer()[..half].copy_from_slice(&content.rest[..half]);
            // As in `put`.
            let _ = self.run(bytes);
            draft.buffer()[half..content.rest.len()].copy_from_slice(&content.rest[half..]);
            if !is_dropped {
                assert_eq!(draft.commit(content.head, content.rest.len()), self.next_sequence(lane));
                self.publish(lane, content, None);
            }
        }
        self.publishers[publisher] = Some(claimant);
        Ok(())
    }

    /// What a publisher knows of a lane.
    fn ask(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some((publisher, lane)) = self.draw_publisher(bytes)? else { return Ok(()) };
        let enough = bytes.int_in_range(0..=8)?;
        self.ends = (self.lanes.ends(), self.claimed);
        let depth = self.depth(lane);
        let (has_room, is_gated) = (self.expected(lane, 1).is_ok(), self.lanes.active() != 0);
        let claimant = self.publishers[publisher].as_mut().expect("it is not in hand");
        assert!(claimant.room(lane).is_none() || has_room, "room in a full lane");
        let known = claimant.depth_if_above(lane, enough);
        assert!(known >= depth, "a gate ahead of the slowest worker");
        assert!(known == depth || known <= enough || !is_gated, "the depth was not looked at");
        Ok(())
    }

    fn activate(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let nth = bytes.choose_index(self.workers.len())?;
        self.readers[nth].activate();
        self.workers[nth].active = true;
        Ok(())
    }

    /// Reads some events of a lane.
    fn read(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (nth, lane) = (bytes.choose_index(self.workers.len())?, bytes.choose_index(LANES)?);
        for _ in 0..bytes.int_in_range(1..=4)? {
            if !self.read_one(nth, lane) {
                break;
            }
        }
        Ok(())
    }

    fn read_one(&mut self, nth: usize, lane: usize) -> bool {
        let (reader, worker) = (&mut self.readers[nth], &mut self.workers[nth]);
        let entry = worker.unread[lane].pop_front();
        let slot = reader.peek(lane);
        assert_eq!(slot.is_some(), entry.is_some(), "worker {nth} in lane {lane}");
        let (Some(slot), Some(entry)) = (slot, entry) else { return false };
        match (slot.rest(), &entry.holds) {
            (Some(rest), Holds::Inline | Holds::Block { .. }) => {
                assert!(entry.content.is(slot.head, rest), "{:?} was read as {slot:?}", entry.content);
            }
            (None, Holds::Foreign) => {}
            (rest, holds) => panic!("{holds:?} was read as {rest:?}"),
        }
        reader.advance(lane);
        worker.unreleased[lane] += 1;
        true
    }

    fn release(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let nth = bytes.choose_index(self.workers.len())?;
        let unreleased = std::mem::take(&mut self.workers[nth].unreleased);
        assert_eq!(self.readers[nth].release(), unreleased != [0; LANES]);
        Ok(())
    }

    /// Everything that can be asked without changing anything.
    fn compare(&self) {
        for lane in 0..LANES {
            assert_eq!(self.lanes.claimed(lane), self.next_sequence(lane));
            assert_eq!(self.lanes.depth(lane), self.depth(lane));
        }
        assert_eq!(self.pool.free_blocks(), self.blocks.free());
        for (nth, (reader, worker)) in self.readers.iter().zip(&self.workers).enumerate() {
            assert_eq!((reader.is_active(), self.lanes.active() & (1 << nth) != 0), (worker.active, worker.active));
            // Who becomes active later has no part in what was there before.
            let is_past = |lane: usize| self.claimed[lane] - worker.behind(lane) >= self.ends.1[lane];
            let has_passed = !worker.active || (0..LANES).all(is_past);
            assert_eq!(self.lanes.has_passed(nth, &self.ends.0), has_passed);
            let ready = (0..LANES).filter(|&lane| !worker.unread[lane].is_empty()).fold(0, |all, lane| all | 1 << lane);
            assert_eq!(reader.ready(), ready);
            for lane in 0..LANES {
                if worker.active {
                    assert_eq!(reader.has_any(1 << lane), ready & (1 << lane) != 0);
                    let unread = worker.unread[lane].len() as u64;
                    let next = self.next_sequence(lane).wrapping_sub(unread);
                    assert_eq!((reader.sequence(lane), reader.lag(lane)), (next, unread));
                    assert_eq!(self.lanes.cursor(nth, lane), next.wrapping_sub(worker.unreleased[lane]));
                }
            }
        }
    }

    /// Reads everything to its end: then all is empty, and every block is free.
    fn finish(mut self) {
        for nth in 0..self.workers.len() {
            for lane in 0..LANES {
                while self.read_one(nth, lane) {}
            }
            self.workers[nth].unreleased = [0; LANES];
            self.readers[nth].release();
        }
        self.compare();
        assert_eq!(self.pool.free_blocks(), CLASSES.iter().map(|class| class.blocks).sum::<usize>());
    }
}
