//! What the targets about the ring share: events made of a number, and a count of free blocks.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use arbitrary::Unstructured;
use ringmain::internals::ring::{Block, HEAD_WORDS, Head, Pages, Pool, PoolClass};

/// First sequences: where nothing happens, and where something wraps or looks as if it did.
pub(crate) const FIRSTS: [u64; 8] =
    [0, u64::MAX, u64::MAX - 1, u64::MAX - 6, u32::MAX as u64 - 3, i64::MAX as u64 - 3, i64::MAX as u64, 1_000];

/// Small blocks and large ones, few of each.
pub(crate) const CLASSES: [PoolClass; 2] =
    [PoolClass { block_bytes: 64, blocks: 3 }, PoolClass { block_bytes: 192, blocks: 2 }];

pub(crate) fn draw_first(bytes: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    bytes.choose(&FIRSTS).copied()
}

pub(crate) fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(&CLASSES, Pages::Any).expect("so little memory is there"))
}

/// What an event says.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) head: Head,
    pub(crate) rest: Vec<u8>,
}

impl Content {
    /// The `nth` event of a case: no two are alike.
    pub(crate) fn new(nth: u64, bytes: usize) -> Self {
        let head = std::array::from_fn(|word| ((nth << 8) | (word as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { head, rest: (0..bytes).map(|at| (nth as u8).wrapping_mul(31).wrapping_add(at as u8)).collect() }
    }

    /// Whether this was read. The last four bytes of a head are the ring's, and what follows an event is noise.
    pub(crate) fn is(&self, head: &Head, rest: &[u8]) -> bool {
        let last =
            |head: &Head| *head[HEAD_WORDS - 1].to_ne_bytes().first_chunk::<4>().expect("a word has eight bytes");
        self.head[..HEAD_WORDS - 1] == head[..HEAD_WORDS - 1]
            && last(&self.head) == last(head)
            && rest.starts_with(&self.rest)
    }
}

/// The model of a pool: how many blocks of each class are free.
#[derive(Debug)]
pub(crate) struct Blocks {
    free: Rc<[Cell<usize>; CLASSES.len()]>,
}

/// A block that is out. Its last holder gives it back.
#[derive(Debug)]
pub(crate) struct Held {
    free: Rc<[Cell<usize>; CLASSES.len()]>,
    class: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let free = &self.free[self.class];
        free.set(free.get() + 1);
    }
}

impl Blocks {
    pub(crate) fn new() -> Self {
        Self { free: Rc::new(CLASSES.map(|class| Cell::new(class.blocks))) }
    }

    pub(crate) fn free(&self) -> usize {
        self.free.iter().map(Cell::get).sum()
    }

    /// Takes a block for `content` from `pool`, which has one exactly when the model has, and fills it.
    pub(crate) fn take(&self, pool: &Arc<Pool>, content: &Content) -> Option<(Block, Rc<Held>)> {
        let bytes = content.rest.len();
        let fits = |class: &usize| CLASSES[*class].block_bytes >= bytes && self.free[*class].get() > 0;
        let class = (0..CLASSES.len()).find(fits);
        let block = pool.take(bytes);
        assert_eq!(block.is_some(), class.is_some(), "{bytes} bytes, free {:?}", self.free);
        let (mut block, class) = (block?, class?);
        let free = &self.free[class];
        free.set(free.get() - 1);
        let place = block.bytes_mut();
        assert_eq!(place.len(), CLASSES[class].block_bytes);
        assert_eq!(place.as_ptr().align_offset(16), 0);
        place[..bytes].copy_from_slice(&content.rest);
        Some((block, Rc::new(Held { free: Rc::clone(&self.free), class })))
    }
}
