//! Whether the reserved memory fills up: then Low events are refused, before others have to be.

use crossbeam::utils::CachePadded;

use crate::metrics::SharedCounter;
use crate::sync::primitive::{AtomicBool, Ordering};

/// Pressure ends below so much of the share at which it began: so it does not come and go with single events.
const END: f64 = 7.0 / 8.0;

/// Whether memory is short. It begins and ends when somebody looks: publishers where lanes and pool fill up, workers when
/// they watch, and whoever is refused for it.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// In a line of its own: every Low publish reads it.
    is_on: CachePadded<AtomicBool>,
    /// The share from which on there is pressure; `None`: there never is.
    share: Option<f64>,
    begun: SharedCounter,
}

impl Pressure {
    pub(crate) fn new(share: Option<f64>) -> Self {
        Self { is_on: CachePadded::new(AtomicBool::new(false)), share, begun: SharedCounter::default() }
    }

    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        // Relaxed: a hint that may come a few events late; nothing is read by it.
        self.is_on.load(Ordering::Relaxed)
    }

    /// The share from which on there is pressure.
    #[inline]
    pub(crate) fn share(&self) -> Option<f64> {
        self.share
    }

    /// The events in a lane, which takes `limit`, from which on there is pressure.
    pub(crate) fn mark(&self, limit: u64) -> u64 {
        self.share.map_or(u64::MAX, |share| (share * limit as f64).ceil() as u64)
    }

    /// How often it began.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// Memory is filled so far. `Some` when pressure begins or ends with this look, and whose look it was tells.
    pub(crate) fn look(&self, fill: f64) -> Option<bool> {
        let share = self.share?;
        let was_on = self.is_on();
        let is_on = fill >= if was_on { share * END } else { share };
        // Relaxed (both): see `is_on`; of two looks at once one tells.
        let changed = self.is_on.compare_exchange(was_on, is_on, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if was_on == is_on || !changed {
            return None;
        }
        self.begun.add(u64::from(is_on));
        Some(is_on)
    }
}

#[cfg(all(test, not(any(ringmain_loom, ringmain_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_at_its_share_and_ends_an_eighth_below() {
        let pressure = Pressure::new(Some(0.8));
        let looks = [(0.79, None), (0.8, Some(true)), (1.0, None), (0.71, None), (0.69, Some(false)), (0.79, None)];
        for (fill, told) in looks {
            assert_eq!(pressure.look(fill), told, "{fill}");
        }
        assert_eq!((pressure.look(0.9), pressure.begun()), (Some(true), 2));
    }

    #[test]
    fn there_is_no_pressure_without_a_share() {
        let pressure = Pressure::new(None);
        assert_eq!((pressure.look(1.0), pressure.is_on()), (None, false));
    }
}
