//! What is built upon a bus and does not do all it should: the health of the bus shows it.

use std::fmt;
use std::sync::Arc;

use crate::sync::primitive::{AtomicU64, Ordering};

use super::Bus;

/// Parts that are degraded.
#[derive(Debug)]
pub(crate) struct Degradations(AtomicU64);

impl Degradations {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0)))
    }

    pub(crate) fn count(&self) -> u64 {
        // Relaxed: a figure.
        self.0.load(Ordering::Relaxed)
    }
}

/// Something is degraded for as long as this is held: see [`Bus::degrade`].
#[must_use = "the bus is degraded as long as this is held"]
pub struct Degraded(Arc<Degradations>);

impl Bus {
    /// Says that something that is built upon the bus does less than it should, such as a journal whose store fails: as long as what
    /// this returns is held, [`Metrics::degraded`](crate::Metrics::degraded) counts it, and
    /// [`Metrics::health`](crate::Metrics::health) is at best `Degraded`.
    ///
    /// ```
    /// use ringmain::{Bus, Health};
    /// let bus = Bus::builder().build()?;
    /// let degraded = bus.degrade();
    /// assert_eq!(bus.metrics().health(), Health::Degraded);
    /// drop(degraded);
    /// assert_eq!(bus.metrics().health(), Health::Healthy);
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn degrade(&self) -> Degraded {
        let degradations = Arc::clone(&self.shared().degradations);
        // Relaxed: a figure.
        degradations.0.fetch_add(1, Ordering::Relaxed);
        Degraded(degradations)
    }
}

impl Drop for Degraded {
    fn drop(&mut self) {
        // Relaxed: a figure.
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Degraded").finish_non_exhaustive()
    }
}
