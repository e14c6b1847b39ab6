//! What the throttle of the bus lets a worker pass, and what it holds back.

use crate::event::{FLAG_TARGETED, Header};
use crate::ring::Serve;
use crate::sync::limiter::Limiter;

use super::{NoRoom, Worker};

/// What the throttle lets pass.
struct Lease {
    events: u32,
    /// Taken from the throttle, and so to be given back.
    counted: bool,
    taken: u64,
}

impl Worker {
    /// As `serve`, as far as the throttle lets it, which holds up neither Critical events nor a shutdown. `Err` is from when on
    /// it lets an event pass.
    #[inline(never)]
    pub(super) fn serve_throttled(&mut self, serve: Serve) -> Result<Result<u32, NoRoom>, u64> {
        let lease = match &self.engine.throttle {
            Some(throttle) if serve.lane != 0 && !self.closing => self.ask(throttle, serve.lane, serve.max)?,
            _ => return Ok(self.serve(serve)),
        };
        let served = self.serve(Serve { max: lease.events, ..serve });
        self.settle(&lease, *served.as_ref().unwrap_or(&0));
        Ok(served)
    }

    /// Asks the throttle for events of `lane`, whose next one is seen: how many of `max` may pass, or from when on one may.
    #[cold]
    #[inline(never)]
    fn ask(&self, throttle: &Limiter, lane: usize, max: u32) -> Result<Lease, u64> {
        let taken = self.engine.directory.clock.now();
        let table = self.table.get();
        let header = self.reader.peek(lane).map(|slot| Header::of_words(slot.head));
        let type_id = header.map_or(0, |header| header.type_id);
        // It may name a service of this worker, whose type nobody needs to have subscribed to.
        let is_named = !table.services.is_empty() && header.is_some_and(|header| header.has(FLAG_TARGETED));
        let is_wanted = is_named || table.route(type_id).is_some();
        if !is_wanted && (table.knows(type_id) || !self.exchange.is_stale(&self.table)) {
            // Nobody's business here: it is stepped over.
            return Ok(Lease { events: 1, counted: false, taken });
        }
        let events = throttle.pass_some(taken, max)?;
        Ok(Lease { events, counted: true, taken })
    }

    /// Gives back what the throttle let pass and was not passed.
    #[cold]
    #[inline(never)]
    fn settle(&self, lease: &Lease, served: u32) {
        let unused = lease.events - served;
        if let Some(throttle) = &self.engine.throttle
            && lease.counted
            && unused > 0
        {
            throttle.give_back(unused, lease.taken, self.engine.directory.clock.now());
        }
    }

    /// The throttle lets nothing pass before this instant: all but Critical waits.
    #[cold]
    pub(super) fn hold_back(&mut self, until: u64) {
        if until != self.throttled_until {
            self.recorder.throttled.add(1);
        }
        (self.throttled, self.throttled_until) = (!1, until);
    }

    /// Whether the throttle is all that the worker waits for.
    pub(in crate::worker) fn is_held_back(&self) -> bool {
        self.throttled != 0
    }
}
