//! A bus as far as it can be closed: its lanes, who may still come in, and a worker that reads to the end.

use std::sync::Arc;

use ringmain::internals::ring::{Claimant, Lanes, Reader};
use ringmain::internals::sync::admission::{Admission, Entrance, Phase};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

use crate::lanes::{Event, LANE, lanes, pool, read, reader};

/// A publisher's place, with what it accepted.
pub type Place = Entrance<AtomicU64>;

/// What a publisher, or who closes, needs of a bus.
#[derive(Debug, Clone)]
pub struct Bus {
    /// Its lanes.
    pub lanes: Arc<Lanes>,
    /// Who may still come in.
    pub admission: Arc<Admission>,
    first: u64,
}

/// A bus of one worker, whose lanes begin at `first`.
pub fn bus(first: u64) -> (Bus, Reader) {
    let lanes = lanes(4, 2, 1, first, &pool(0));
    let reader = reader(&lanes, 0);
    (Bus { lanes, admission: Arc::new(Admission::new(Barrier::fences())), first }, reader)
}

impl Bus {
    /// For one who publishes.
    pub fn claimant(&self) -> Claimant {
        Claimant::new(Arc::clone(&self.lanes), false)
    }

    /// Publishes as a publisher does. False when it is refused.
    pub fn publish(&self, place: &Place, claimant: &mut Claimant, number: u8) -> bool {
        let Some(inside) = place.enter(&self.admission) else { return false };
        claimant.push(LANE, Event::new(number).inline()).expect("there is room for all");
        let accepted = inside.counts();
        // Relaxed: leaving must make it visible.
        accepted.store(accepted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        true
    }

    /// Closes, and lets the worker drain once nobody is inside. Returns the end of the lane then, or `None` when somebody
    /// was still inside after a few looks.
    pub fn close(&self, places: &[Arc<Place>]) -> Option<u64> {
        assert!(self.admission.close(), "nobody else closes");
        let is_empty = (0..2).any(|_| places.iter().all(|place| !place.is_occupied()));
        is_empty.then(|| {
            let end = self.lanes.claimed(LANE);
            // Relaxed: that nobody is inside must have made them visible.
            let accepted: u64 = places.iter().map(|place| place.counts.load(Ordering::Relaxed)).sum();
            assert_eq!(end.wrapping_sub(self.first), accepted, "the books of who left are not complete");
            self.admission.raise(Phase::Draining);
            end
        })
    }

    /// Turns of a worker. Returns what it read, and whether it left because there is no more to come.
    pub fn work(&self, reader: &mut Reader, turns: usize) -> (Vec<u8>, bool) {
        let mut met = Vec::new();
        for _ in 0..turns {
            let phase = self.admission.phase();
            match read(reader) {
                Some(number) => met.push(number),
                None if phase == Phase::Draining && reader.lag(LANE) == 0 => return (met, true),
                None => {}
            }
        }
        (met, false)
    }
}
