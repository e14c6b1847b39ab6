//! Attempts: a worker queues events, consumers take, hold, fail, release, extend and end them, late or in time, as one list
//! of cells says; where keys keep their order, as a line a key says.

mod model;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

use arbitrary::Unstructured;
use ringmain::internals::ring::{
    Arrival, Attempt, AttemptWords, Attempts, Cells, Claimant, Custody, Feeder, Frame, Gate, HEAD_BYTES, Keyed, LANES,
    Lanes, LanesLayout, Overdue, Pages, Pool, Reader, Rest, Returned, Returns, STAMP_BYTES,
};
use ringmain::internals::sync::alarm::Alarm;
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::parker::Parker;

use crate::ring::{Blocks, CLASSES, Content, Held, draw_first, pool};
use model::{Event, Model, State, TICK, TOGETHER};

const SLOT_BYTES: usize = 128;
/// What fits a slot behind a head.
const REST_BYTES: usize = SLOT_BYTES - STAMP_BYTES - HEAD_BYTES;
/// Keys that events are of.
const KEYS: u64 = 4;
/// Due times go round after so many ticks.
const WHEEL: u64 = 1 << 35;

/// Runs the operations that `data` says, and compares after each.
///
/// # Panics
///
/// If attempts and model disagree.
pub fn check(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Too few bytes for a case are no case.
    let Ok(mut case) = Case::draw(&mut bytes) else { return };
    case.fill();
    // The bytes end somewhere within an operation.
    let _ = case.run(&mut bytes);
    case.finish();
}

/// Counts how often room was made.
#[derive(Debug, Default)]
struct Rings(AtomicU64);

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        // Relaxed: all happens on one thread.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An attempt in somebody's hands, and what the model calls it.
struct Hand {
    attempt: Attempt,
    cell: usize,
    take: u16,
    event: Rc<Event>,
}

struct Case {
    publisher: Claimant,
    reader: Reader,
    pool: Arc<Pool>,
    feeder: Feeder,
    keyed: Option<Keyed>,
    attempts: Arc<Attempts>,
    alarm: Arc<Alarm>,
    gate: Arc<Gate>,
    rings: Arc<Rings>,
    hands: Vec<Hand>,
    blocks: Blocks,
    made: u64,
    now: u64,
    attempts_max: u8,
    is_closed: bool,
    model: Model,
}

impl Case {
    fn draw(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let first = draw_first(bytes)?;
        let capacity = *bytes.choose(&[1, 2, 4, 8, 2 * TOGETHER])?;
        let is_keyed: bool = bytes.arbitrary()?;
        let attempts_max = bytes.int_in_range(1..=3)?;
        // At the beginning, and where due times are about to begin anew.
        let now = *bytes.choose(&[1, (WHEEL - 2) * TICK + 5, (WHEEL / 2 - 1) * TICK])?;
        let pool = pool();
        let layout = LanesLayout { slots: 2, slot_bytes: SLOT_BYTES, limit: 1, workers: 1, first, pages: Pages::Any };
        let lanes = Arc::new(Lanes::new(layout, Arc::clone(&pool)).expect("so little memory is there"));
        let cells = Cells::new(capacity, lanes.body_bytes(), first, Arc::clone(&pool), Pages::Any);
        let (feeder, cells) = cells.expect("so little memory is there");
        let barrier = Barrier::fences();
        let (parker, alarm) = (Arc::new(Parker::new(1, barrier)), Arc::new(Alarm::new(0, barrier)));
        let gate = Arc::new(Gate::new(1, barrier));
        let custody = Arc::new(Custody::new(cells, 0, Arc::clone(&parker), Arc::clone(&gate)));
        let words = AttemptWords::new(capacity).expect("so little memory is there");
        let attempts = Attempts::new(words, custody, Arc::clone(&alarm), parker, barrier, is_keyed);
        let mut reader = Reader::new(Arc::clone(&lanes), 0);
        reader.activate();
        Ok(Self {
            publisher: Claimant::new(lanes, false),
            reader,
            pool,
            feeder,
            keyed: is_keyed.then(|| Keyed::new(capacity).expect("so little memory is there")),
            attempts: Arc::new(attempts),
            alarm,
            gate,
            rings: Arc::new(Rings::default()),
            hands: Vec::new(),
            blocks: Blocks::new(),
            made: 0,
            now,
            attempts_max,
            is_closed: false,
            model: Model::new(capacity, is_keyed),
        })
    }

    /// Of so many cells that the worker looks at them in two parts, all but two of the first are in use.
    fn fill(&mut self) {
        let is_parted = self.model.cells.len() > TOGETHER;
        for _ in 0..if is_parted { TOGETHER - 2 } else { 0 } {
            self.publish(LANES - 1, None, 0);
        }
    }

    fn run(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        while !bytes.is_empty() {
            self.gate.wait(0, &Waker::from(Arc::clone(&self.rings)));
            // Relaxed: as in `wake`.
            let (rings, freed) = (self.rings.0.load(Ordering::Relaxed), self.model.freed);
            self.step(bytes)?;
            self.compare();
            let rang = self.rings.0.load(Ordering::Relaxed) > rings;
            assert_eq!(rang, self.model.freed > freed, "who waits for room hears of it, and of nothing else");
        }
        Ok(())
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        match bytes.int_in_range(0..=12)? {
            0 | 1 => self.push(bytes),
            2 => self.push_block(bytes),
            3 => self.push_frame(bytes),
            4 | 5 => self.take(bytes),
            6 => self.end(bytes),
            7 => self.again(bytes),
            8 => self.extend(bytes),
            9 => self.let_go(bytes),
            10 => {
                self.attend();
                Ok(())
            }
            11 => {
                let by = *bytes.choose(&[1, TICK / 2, TICK, 3 * TICK, 1_000 * TICK])?;
                self.now += by;
                Ok(())
            }
            _ => {
                self.close(bytes)?;
                Ok(())
            }
        }
    }

    fn content(&mut self, bytes: usize) -> Content {
        self.made += 1;
        Content::new(self.made, bytes)
    }

    fn draw_key(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Option<u64>> {
        Ok(bytes.int_in_range(0..=KEYS)?.checked_sub(1))
    }

    fn push(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let length = bytes.int_in_range(0..=REST_BYTES)?;
        let (lane, key) = (bytes.choose_index(LANES)?, Self::draw_key(bytes)?);
        if !self.is_closed {
            self.publish(lane, key, length);
        }
        Ok(())
    }

    fn publish(&mut self, lane: usize, key: Option<u64>, bytes: usize) {
        let content = self.content(bytes);
        let frame = Frame { head: &content.head, rest: Rest::Inline(&content.rest) };
        let sequence = self.publisher.push(lane, frame).expect("the worker has read all");
        self.feed(lane, key, sequence, content, None, bytes);
    }

    fn push_block(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let length = bytes.int_in_range(0..=CLASSES[1].block_bytes)?;
        let (lane, key) = (bytes.choose_index(LANES)?, Self::draw_key(bytes)?);
        if self.is_closed {
            return Ok(());
        }
        let content = self.content(length);
        let Some((block, held)) = self.blocks.take(&self.pool, &content) else { return Ok(()) };
        let frame = Frame { head: &content.head, rest: Rest::Block(&block, 1) };
        let sequence = self.publisher.push(lane, frame).expect("the worker has read all");
        drop(block);
        self.feed(lane, key, sequence, content, Some(held), length);
        Ok(())
    }

    /// Moves the event that was just published into a cell, if there is one, and lets the worker pass it.
    fn feed(
        &mut self,
        lane: usize,
        key: Option<u64>,
        sequence: u64,
        content: Content,
        block: Option<Rc<Held>>,
        bytes: usize,
    ) {
        let Self { reader, feeder, keyed, attempts, model, .. } = self;
        let slot = reader.peek(lane).expect("an event was published");
        let mut returns = Returns { feeder, keyed: keyed.as_mut() };
        let pushed = attempts.push(&mut returns, Arrival { lane, sequence, slot: &slot, rest_bytes: bytes, key });
        let event = Event { lane, sequence, content, _block: block };
        assert_eq!(pushed, model.push(event, key), "of {bytes} bytes");
        reader.advance(lane);
        reader.release();
    }

    /// An event that comes from elsewhere: a dead letter that is tried once more.
    fn push_frame(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let in_block: bool = bytes.arbitrary()?;
        let length = bytes.int_in_range(0..=REST_BYTES + 8)?;
        let (lane, key, sequence) =
            (bytes.choose_index(LANES)?, Self::draw_key(bytes)?, u64::from(bytes.arbitrary::<u8>()?));
        if self.is_closed {
            return Ok(());
        }
        let content = self.content(length);
        let taken = if in_block { self.blocks.take(&self.pool, &content) } else { None };
        let (block, held) = taken.unzip();
        let rest = block.as_ref().map_or(Rest::Inline(&content.rest), |block| Rest::Block(block, 1));
        let frame = Frame { head: &content.head, rest };
        let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
        let pushed = self.attempts.push_frame(&mut returns, lane, sequence, &frame, key);
        drop(block);
        let fits = held.is_some() || length <= REST_BYTES;
        let event = Event { lane, sequence, content, _block: held };
        assert_eq!(pushed, fits && self.model.push(event, key), "of {length} bytes");
        Ok(())
    }

    fn take(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let lane = bytes.choose_index(LANES)?;
        let due = self.now.saturating_add(*bytes.choose(&[1, TICK, 2 * TICK, 2_000 * TICK, u64::MAX])?);
        let taken = self.attempts.take(lane, self.now, due);
        let cell = self.model.take(lane, self.now, due);
        assert_eq!(taken.as_ref().map(Attempt::cell), cell);
        let Some((attempt, cell)) = taken.zip(cell) else { return Ok(()) };
        let (event, take) = self.model.check_taken(cell, &attempt);
        self.hands.push(Hand { attempt, cell, take, event });
        Ok(())
    }

    fn draw_hand(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<Option<Hand>> {
        if self.hands.is_empty() {
            return Ok(None);
        }
        let nth = bytes.choose_index(self.hands.len())?;
        Ok(Some(self.hands.swap_remove(nth)))
    }

    /// Ends an event; the worker, where it is the consumer as well, lets the next of its key follow.
    fn end(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some(hand) = self.draw_hand(bytes)? else { return Ok(()) };
        let follows: bool = bytes.arbitrary()?;
        self.end_one(hand, follows);
        Ok(())
    }

    fn end_one(&mut self, hand: Hand, follows: bool) {
        let Hand { attempt, cell, take, .. } = hand;
        let mut booked = false;
        let ended = attempt.end(|_| booked = true);
        assert_eq!((ended, booked), {
            let ends = self.model.end(cell, take);
            (ends, ends)
        });
        if follows {
            let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
            self.attempts.follow(&mut returns, cell);
            self.model.follow(cell);
        }
    }

    fn again(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some(hand) = self.draw_hand(bytes)? else { return Ok(()) };
        let failed: bool = bytes.arbitrary()?;
        let due = self.now.saturating_add(*bytes.choose(&[0, 1, TICK, 5 * TICK, u64::MAX])?);
        let Hand { attempt, cell, take, .. } = hand;
        let returned = attempt.again(self.now, due, failed);
        let expected = match (self.model.again(cell, take, self.now, due, failed), self.is_closed) {
            (false, _) => Returned::Late,
            (true, false) => Returned::Waiting,
            (true, true) => Returned::Closed,
        };
        assert_eq!(returned, expected);
        if returned == Returned::Closed {
            let model = &mut self.model;
            self.attempts.discard_returned(|attempt| model.discard(attempt, false));
            assert!(model.cells.iter().all(|cell| cell.state != State::Waiting), "something waits for nobody");
        }
        Ok(())
    }

    fn extend(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some(hand) = self.draw_hand(bytes)? else { return Ok(()) };
        let due = self.now.saturating_add(*bytes.choose(&[0, TICK, 2 * TICK, 100 * TICK, u64::MAX])?);
        assert_eq!(hand.attempt.extend(self.now, due), self.model.extend(hand.cell, hand.take, self.now, due));
        self.hands.push(hand);
        Ok(())
    }

    /// Drops an attempt without a word.
    fn let_go(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let Some(Hand { attempt, cell, .. }) = self.draw_hand(bytes)? else { return Ok(()) };
        drop(attempt);
        self.model.leave(cell);
        Ok(())
    }

    /// The worker looks after its mailbox.
    fn attend(&mut self) {
        self.alarm.take();
        self.model.alarm = u64::MAX;
        let (now, max, model) = (self.now, self.attempts_max, &mut self.model);
        let mut over = Vec::new();
        let expected = model.attend(now, max, &mut over);
        let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
        let mut booked = Vec::new();
        let overdue = |_, failures| {
            if failures >= max { Overdue::Over } else { Overdue::Again(now + u64::from(failures) * TICK) }
        };
        let next = self.attempts.attend(
            &mut returns,
            now,
            overdue,
            |_, _| (),
            |attempt| {
                booked.push((
                    attempt.cell(),
                    attempt.failures(),
                    attempt.takes(),
                    attempt.began(),
                    attempt.event().sequence(),
                ));
            },
        );
        assert_eq!((next, booked), (expected, over));
        self.alarm.resume(next);
        self.model.alarm = self.model.alarm.min(next);
    }

    fn close(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        // Not every case is to end so.
        if bytes.ratio(1, 4)? {
            self.attempts.custody().close();
            self.is_closed = true;
        }
        Ok(())
    }

    fn compare(&self) {
        let (model, custody) = (&self.model, self.attempts.custody());
        assert_eq!(self.feeder.has_room(), model.has_room());
        assert_eq!(self.pool.free_blocks(), self.blocks.free());
        assert_eq!((self.attempts.waiting(), self.attempts.overdue()), (model.waiting(), model.overdue));
        let open = self.attempts.open();
        assert_eq!((open.queued, open.in_hand, open.waiting), (model.queued(), model.in_hand(), model.waiting()));
        assert_eq!(custody.cells().is_over(), model.cells.iter().all(|cell| cell.state == State::Over));
        assert_eq!(self.alarm.at(), model.alarm, "the worker looks at another time");
        for (lane, queue) in model.queues.iter().enumerate() {
            assert_eq!(custody.cells().queued(lane), queue.len() as u64);
        }
        for hand in &self.hands {
            assert_eq!(hand.attempt.is_current(), model.is_current(hand.cell, hand.take));
            let (head, rest) = hand.attempt.event().parts();
            let event = &hand.event;
            assert!(
                event.content.is(head, rest),
                "{:?} in somebody's hands has become {head:?} {rest:?}",
                event.content
            );
            assert_eq!((hand.attempt.event().lane(), hand.attempt.event().sequence()), (event.lane, event.sequence));
        }
    }

    /// Everything comes to its end, and every cell and block is free.
    fn finish(mut self) {
        for hand in std::mem::take(&mut self.hands) {
            self.end_one(hand, false);
        }
        // What nobody has ended is taken away in the end.
        self.attempts_max = 1;
        let due = self.model.cells.iter().filter(|cell| cell.state == State::InHand).map(|cell| cell.due).max();
        self.now = self.now.max(due.unwrap_or(0) * TICK);
        self.attend();
        self.compare();
        self.attempts.custody().close();
        let model = &mut self.model;
        self.attempts.discard_waiting(|attempt| model.discard(attempt, true));
        self.compare();
        // A worker that was just at it lets nothing through that was given up.
        self.attend();
        self.compare();
        for lane in 0..LANES {
            while let Some(attempt) = self.attempts.take(lane, self.now, u64::MAX) {
                let cell = attempt.cell();
                assert_eq!(self.model.take(lane, self.now, u64::MAX), Some(cell));
                let (event, take) = self.model.check_taken(cell, &attempt);
                self.end_one(Hand { attempt, cell, take, event }, true);
            }
        }
        self.compare();
        assert!(self.model.cells.iter().all(|cell| cell.state == State::Over), "something is left: {:?}", self.model);
        assert_eq!(self.pool.free_blocks(), CLASSES.iter().map(|class| class.blocks).sum::<usize>());
    }
}
