//! In which order lanes are served: the most urgent first, and none starved.
//!
//! Lane 0 is served whenever it has something, up to `burst_max` times in a row; then one event of another lane runs.
//! The others share by weight: in each round a lane gets as many turns as its weight, heavier lanes first.

use super::broadcast::LANES;
use crate::sync::mutant::mutant;

/// Turns of lanes 1 to 3 in a round.
const WEIGHTS: [u32; LANES - 1] = [8, 4, 1];

/// Events of one lane that are served in a row without a look at less urgent lanes.
const RUN_MAX: u32 = 32;

/// Picks the lane to serve next.
#[derive(Debug, Clone)]
pub struct DrainOrder {
    burst_max: u32,
    /// Events of lane 0 served while another lane may have been waiting.
    burst: u32,
    credits: [u32; LANES - 1],
}

/// Whose turn it is, for how many events, and which lanes end it when they get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serve {
    pub lane: usize,
    /// At least 1.
    pub max: u32,
    /// More urgent lanes that had nothing, a bit each.
    pub urgent: u8,
}

impl DrainOrder {
    pub const fn new(burst_max: u32) -> Self {
        Self { burst_max, burst: 0, credits: WEIGHTS }
    }

    /// The lane to serve, out of those whose bit is set in `ready`. `None` when no bit is set. Say afterwards with
    /// [`served`](Self::served) how many events it had.
    #[inline(always)]
    pub fn next(&mut self, ready: u8) -> Option<Serve> {
        if ready.is_power_of_two() {
            // Alone: whoever comes during this run starts to wait then.
            self.burst = 0;
            let lane = ready.trailing_zeros() as usize;
            let max = if lane == 0 { self.burst_max.min(RUN_MAX) } else { RUN_MAX };
            return Some(Serve { lane, max, urgent: ready - 1 });
        }
        if ready & 1 != 0 && self.burst < self.burst_max {
            return Some(Serve { lane: 0, max: self.burst_max - self.burst, urgent: 0 });
        }
        let others = ready & 0b1110;
        if others == 0 {
            return None;
        }
        loop {
            for lane in 1..LANES {
                let credits = self.credits[lane - 1];
                if others & (1 << lane) != 0 && credits > 0 {
                    // After a burst of lane 0 one other event runs.
                    let max = if ready & 1 != 0 { 1 } else { credits };
                    return Some(Serve { lane, max, urgent: !ready & ((1 << lane) - 1) });
                }
            }
            self.credits = WEIGHTS;
        }
    }

    /// `lane`, which `next` named, has had `events`.
    #[inline(always)]
    pub fn served(&mut self, lane: usize, events: u32) {
        if lane == 0 {
            self.burst = mutant!("order.burst", (self.burst + events).min(self.burst_max) => 0);
        } else {
            self.burst = 0;
            let credits = &mut self.credits[lane - 1];
            *credits = credits.saturating_sub(events);
        }
    }

    /// The most events of other lanes that are served while one waits at the head of `lane`.
    pub const fn wait_max(&self, lane: usize) -> u64 {
        if lane == 0 {
            return 1;
        }
        // The lane may have just spent its credits: the rest of this round and the heavier lanes of the next go first,
        // each of them and the event itself after a full burst.
        let mut others = 0;
        let mut other = 1;
        while other < LANES {
            if other != lane {
                others += if other < lane { 2 * WEIGHTS[other - 1] as u64 } else { WEIGHTS[other - 1] as u64 };
            }
            other += 1;
        }
        // And it may have come just after a more urgent lane that was alone began a run.
        others + (others + 1) * self.burst_max as u64 + (RUN_MAX - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Miri looks at each step, and takes its time.
    const ARRIVALS_MAX: usize = if cfg!(miri) { 300 } else { 4_000 };

    #[test]
    fn nothing_ready_picks_nothing() {
        assert_eq!(DrainOrder::new(64).next(0), None);
    }

    proptest! {
        /// Whatever arrives when, no head waits longer than the published bound.
        #[test]
        fn no_lane_waits_longer_than_its_bound(
            burst_max in 1_u32..70,
            arrivals in proptest::collection::vec(0_u8..16, 1..ARRIVALS_MAX),
        ) {
            let mut order = DrainOrder::new(burst_max);
            let mut waited = [0_u64; LANES];
            let mut ready = 0_u8;
            let mut run: Option<(Serve, u32)> = None;
            for arrival in arrivals {
                ready |= arrival;
                // A run ends as the worker ends it: when it is over, its lane is empty, or a more urgent one is not.
                if let Some((serve, events)) = run
                    && (events == serve.max || ready & (1 << serve.lane) == 0 || ready & serve.urgent != 0)
                {
                    order.served(serve.lane, events);
                    run = None;
                }
                let (serve, events) = match run {
                    Some(run) => run,
                    None => match order.next(ready) {
                        Some(serve) => (serve, 0),
                        None => continue,
                    },
                };
                run = Some((serve, events + 1));
                let lane = serve.lane;
                prop_assert!(ready & (1 << lane) != 0 && ready & serve.urgent == 0);
                for (other, waited) in waited.iter_mut().enumerate() {
                    if other == lane {
                        *waited = 0;
                    } else if ready & (1 << other) != 0 {
                        *waited += 1;
                        prop_assert!(*waited <= order.wait_max(other), "lane {other} waited {waited}");
                    }
                }
                if arrival & (1 << lane) == 0 {
                    ready &= !(1 << lane);
                }
            }
        }

        /// Under constant load of all lanes the bound is not a gross over-estimate: Low is reached within it, and
        /// comes in each round.
        #[test]
        fn every_lane_is_served_under_constant_load(burst_max in 1_u32..70) {
            let mut order = DrainOrder::new(burst_max);
            let mut served = [0_u64; LANES];
            while served.iter().sum::<u64>() < 20 * (13 * (u64::from(burst_max) + 1)) {
                let serve = order.next(0b1111).expect("all are ready");
                order.served(serve.lane, serve.max);
                served[serve.lane] += u64::from(serve.max);
            }
            prop_assert!(served[3] >= 19);
            prop_assert_eq!(served[1] / served[3], 8);
            prop_assert_eq!(served[2] / served[3], 4);
        }
    }
}
