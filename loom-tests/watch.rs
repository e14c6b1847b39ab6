//! Values that tell when they were dropped, and that loom watches for use beside their drop; wakers that count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

#[cfg(ringmain_loom)]
use ringmain::internals::sync::primitive::UnsafeCell;

/// A value whose uses must all come before its drop.
#[derive(Debug)]
pub struct Watched {
    number: usize,
    drops: Drops,
    #[cfg(ringmain_loom)]
    uses: UnsafeCell<()>,
}

/// How many [`Watched`] values were dropped, a number each. std's atomics: watching must not order anything.
#[derive(Debug, Clone)]
pub struct Drops(Arc<[AtomicUsize]>);

impl Drops {
    /// For values numbered below `values`.
    pub fn of(values: usize) -> Self {
        Self((0..values).map(|_| AtomicUsize::new(0)).collect())
    }

    /// The value `number`, of which there is one.
    pub fn value(&self, number: usize) -> Watched {
        #[cfg(ringmain_loom)]
        let uses = UnsafeCell::new(());
        // Its making is a use too. loom alone would take it for as old as what its thread did last.
        #[cfg(ringmain_loom)]
        uses.with_mut(|_| ());
        Watched {
            number,
            drops: self.clone(),
            #[cfg(ringmain_loom)]
            uses,
        }
    }

    /// How often the value `number` was dropped.
    pub fn of_value(&self, number: usize) -> usize {
        // Relaxed: a count; who asserts on it knows by other means that the drop is over.
        self.0[number].load(Ordering::Relaxed)
    }

    /// Whether each value was dropped exactly once.
    pub fn all_once(&self) -> bool {
        (0..self.0.len()).all(|number| self.of_value(number) == 1)
    }
}

impl Watched {
    /// Uses the value as nobody else may at the same time.
    pub fn alone(&self) -> usize {
        #[cfg(ringmain_loom)]
        self.uses.with_mut(|_| ());
        self.number()
    }

    /// Uses the value.
    pub fn number(&self) -> usize {
        #[cfg(ringmain_loom)]
        self.uses.with(|_| ());
        assert_eq!(self.drops.of_value(self.number), 0, "value {} is used after its drop", self.number);
        self.number
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        #[cfg(ringmain_loom)]
        self.uses.with_mut(|_| ());
        // Relaxed: a count.
        self.drops.0[self.number].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts how often its waker was woken, and orders nothing.
#[derive(Debug, Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    /// A count and the waker that raises it.
    pub fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        let waker = Waker::from(Arc::clone(&wakes));
        (wakes, waker)
    }

    /// How often.
    pub fn count(&self) -> usize {
        // Relaxed: read when the threads have ended.
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        // Relaxed: a count.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
