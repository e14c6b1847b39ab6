//! Turns of the workers as the model sees them: what comes due goes into a lane, and lanes run empty.

use crate::services::Surety;
use crate::world::{LANES, World, lane_of};

impl World {
    /// Before workers turn: offers what is due, which the keeper of the timers may put into the lanes.
    /// All of them, or this one. The first keeps the timers.
    pub(crate) fn before_turn(&mut self, worker: Option<usize>) {
        self.is_turning = true;
        (self.overruns.has_moved, self.overruns.begun) = (false, self.now);
        self.take_overdue(worker);
        self.let_drift();
        if self.is_closed || worker.is_some_and(|worker| worker > 0) {
            return;
        }
        let mut met = Vec::new();
        for index in self.pending.clone() {
            if self.events[index].due.is_some_and(|due| due <= self.now) {
                self.send_to_services(index, Surety::Maybe);
                self.entered.push(index);
            }
        }
        for &index in &self.pending {
            let event = &mut self.events[index];
            if event.due.is_none_or(|due| due > self.now) {
                continue;
            }
            event.attempts += 1;
            if event.attempts == 1 {
                self.load[lane_of(event.spec.priority)] += 1;
            }
            for (nth, sub) in self.subs.iter_mut().enumerate() {
                if !sub.wants(event) || event.offered.iter().any(|&(offered, _)| offered == nth) {
                    continue;
                }
                let passes = sub.passes(event);
                event.offered.push((nth, passes));
                sub.is_vague |= event.attempts > 1;
                if passes {
                    sub.loose.push(index);
                    met.push((nth, index));
                }
            }
        }
        met.into_iter().for_each(|(nth, index)| self.meet(nth, index));
    }

    /// Scheduled events that may have gone into a lane without the model knowing which of them did.
    pub(crate) fn unsure(&self) -> u64 {
        self.pending.iter().filter(|&&index| self.events[index].attempts > 0).count() as u64
    }

    /// After workers turned, with so many events still scheduled.
    pub(crate) fn after_turn(&mut self, scheduled: u64) {
        self.is_turning = false;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|&index| self.events[index].due.is_some_and(|due| due <= self.now));
        if due.is_empty() || scheduled != later.len() as u64 {
            if due.iter().any(|&index| self.events[index].attempts > 0) && !self.is_closed {
                self.census.count("scheduled waited for a full lane");
            }
            if scheduled < (due.len() + later.len()) as u64 {
                // Some went and some did not: which of them is not known.
                for &index in &due {
                    for &(nth, _) in &self.events[index].offered {
                        self.subs[nth].is_vague = true;
                    }
                }
            }
            self.pending = due;
            self.pending.extend(later);
            return;
        }
        self.pending = later;
        for index in due {
            let is_sent = self.events[index].attempts == 1 && self.is_sent(index);
            let event = &mut self.events[index];
            self.census.count("scheduled came due");
            // Entered in one of several turns: somebody may have come or gone in between.
            let sure = event.attempts == 1;
            if !sure {
                self.vague += 1;
            } else if event.offered.is_empty() && !is_sent {
                self.unmatched += 1;
                self.census.count("unmatched");
            }
            for (nth, passes) in std::mem::take(&mut event.offered) {
                let sub = &mut self.subs[nth];
                sub.is_vague |= !sure;
                if passes {
                    sub.fresh.0 += 1;
                } else {
                    sub.fresh.1 += 1;
                }
            }
        }
    }

    /// Nothing is in a lane.
    pub(crate) fn lanes_are_empty(&mut self) {
        self.load = [0; LANES];
        self.routed = self.events.len();
        self.entered.clear();
        // What is due may come at any moment.
        for &index in self.pending.iter().filter(|&&index| self.events[index].attempts > 0) {
            self.load[lane_of(self.events[index].spec.priority)] += 1;
        }
    }
}
