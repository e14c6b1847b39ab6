//! Small lanes and events whose every byte tells which event they are of.

use std::sync::Arc;

use ringmain::internals::ring::{
    Cells, Claimant, Feeder, Frame, HEAD_BYTES, Head, Lanes, LanesLayout, Pages, Pool, PoolClass, Reader, Rest,
    STAMP_BYTES,
};

/// The lane that models use. They take the second one, so that a mixed-up lane number shows.
pub const LANE: usize = 1;
/// Where sequences start in a model to which it is the same: before they wrap.
pub const FIRST: u64 = u64::MAX;
/// Bytes behind the head of an [`inline`] event.
pub const REST_BYTES: usize = 8;

const SLOT_BYTES: usize = 128;
/// Bytes behind the head of a slot.
pub const TAIL_BYTES: usize = SLOT_BYTES - STAMP_BYTES - HEAD_BYTES;

/// Lanes of `slots` that refuse at `limit`, for `workers`, with their first event at `first`.
pub fn lanes(slots: usize, limit: u64, workers: usize, first: u64, pool: &Arc<Pool>) -> Arc<Lanes> {
    let layout = LanesLayout { slots, slot_bytes: SLOT_BYTES, limit, workers, first, pages: Pages::Any };
    Arc::new(Lanes::new(layout, Arc::clone(pool)).expect("a few slots fit"))
}

/// A pool of `blocks` blocks.
pub fn pool(blocks: usize) -> Arc<Pool> {
    let classes = [PoolClass { block_bytes: 64, blocks }];
    Arc::new(Pool::new(if blocks == 0 { &[] } else { &classes }, Pages::Any).expect("a few blocks fit"))
}

/// The reader of `worker`, active.
pub fn reader(lanes: &Arc<Lanes>, worker: usize) -> Reader {
    let mut reader = Reader::new(Arc::clone(lanes), worker);
    reader.activate();
    reader
}

/// A mailbox of so many cells, and a worker with the events 1 and 2 for it.
pub fn mailbox(cells: usize) -> (Feeder, Arc<Cells>, Reader) {
    let pool = pool(0);
    let lanes = lanes(2, 2, 1, FIRST, &pool);
    let reader = reader(&lanes, 0);
    let mut claimant = Claimant::new(Arc::clone(&lanes), false);
    for number in [1, 2] {
        claimant.push(LANE, Event::new(number).inline()).expect("the lane is empty");
    }
    let (feeder, cells) = Cells::new(cells, lanes.body_bytes(), FIRST, pool, Pages::Any).expect("a few cells fit");
    (feeder, cells, reader)
}

/// Moves the next event, which was published before, into the mailbox. False when that is full, and the event stays where it
/// is.
pub fn feed(feeder: &mut Feeder, reader: &mut Reader) -> bool {
    let slot = reader.peek(LANE).expect("the events were published before");
    let fed = feeder.push(LANE, reader.sequence(LANE), &slot, REST_BYTES);
    if fed {
        reader.advance(LANE);
    }
    fed
}

/// The bytes of one event.
#[derive(Debug)]
pub struct Event {
    head: Head,
    rest: [u8; REST_BYTES],
}

impl Event {
    /// Every byte of it is `number`.
    pub fn new(number: u8) -> Self {
        Self { head: [u64::from_ne_bytes([number; 8]); HEAD_BYTES / 8], rest: [number; REST_BYTES] }
    }

    /// As it is put into a slot.
    pub fn inline(&self) -> Frame<'_> {
        Frame { head: &self.head, rest: Rest::Inline(&self.rest) }
    }

    /// Its head.
    pub fn head(&self) -> &Head {
        &self.head
    }
}

/// Which event these bytes are of.
///
/// # Panics
/// When they are of more than one, or there are too few.
pub fn number(head: &Head, rest: &[u8]) -> u8 {
    let mut bytes = [0; HEAD_BYTES];
    for (place, word) in bytes.chunks_exact_mut(8).zip(head) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    let (head, number) = (bytes, bytes[0]);
    // The last four bytes of the head are the ring's.
    assert!(head[..HEAD_BYTES - 4].iter().all(|&byte| byte == number), "a torn head: {head:?}");
    assert!(rest[..REST_BYTES].iter().all(|&byte| byte == number), "a torn event: {number} and {rest:?}");
    number
}

/// Reads the next event, steps over it and gives its slot back.
pub fn read(reader: &mut Reader) -> Option<u8> {
    let slot = reader.peek(LANE)?;
    let number = number(slot.head, slot.rest().expect("the event is this worker's business"));
    reader.advance(LANE);
    reader.release();
    Some(number)
}

/// Looks `attempts` times and returns what it read.
pub fn read_up_to(reader: &mut Reader, attempts: usize) -> Vec<u8> {
    (0..attempts).filter_map(|_| read(reader)).collect()
}

/// Reads all that is left. For when the publishers are done.
pub fn drain(reader: &mut Reader) -> Vec<u8> {
    std::iter::from_fn(|| read(reader)).collect()
}
