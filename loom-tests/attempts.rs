//! A worker that attends to mailboxes whose events come back, or go on from one to another.

use std::sync::Arc;

use ringmain::internals::ring::{
    Arrival, Attempt, AttemptWords, Attempts, Cells, Claimant, Custody, Feeder, Gate, Keyed, Lanes, Overdue, Pages,
    Reader, Returned, Returns,
};
use ringmain::internals::sync::alarm::Alarm;
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::parker::Parker;

use crate::asleep;
use crate::lanes::{Event, LANE, REST_BYTES, lanes, number, pool, reader};

/// What due times are counted in.
pub const TICK: u64 = 1 << 18;
/// Models begin where the wheel of due times is about to begin anew.
pub const NOW: u64 = ((1 << 35) - 1) * TICK;
/// Later than any instant that a model comes to.
pub const LATE: u64 = NOW + 1_000 * TICK;

/// A key.
pub const KEY: Option<u64> = Some(0);
/// Another key, whose events stand in another line.
pub const OTHER: Option<u64> = Some(1);

/// A worker that has events in a lane and a mailbox to feed.
#[derive(Debug)]
pub struct Worker {
    reader: Reader,
    feeder: Feeder,
    keyed: Option<Keyed>,
    /// At the events of its mailbox.
    pub attempts: Arc<Attempts>,
    /// Its own.
    pub alarm: Arc<Alarm>,
    /// Where it sleeps.
    pub parker: Arc<Parker>,
}

/// A worker with `events` events before it and a mailbox of `cells`, which keeps the order of keys where `is_keyed`. Sequences
/// and positions are about to begin anew.
pub fn mailbox(events: u8, cells: usize, is_keyed: bool) -> (Worker, Arc<Attempts>, Arc<Lanes>) {
    mailbox_at(u64::MAX, events, cells, is_keyed)
}

/// As `mailbox`; sequences and positions start at `first`.
pub fn mailbox_at(first: u64, events: u8, cells: usize, is_keyed: bool) -> (Worker, Arc<Attempts>, Arc<Lanes>) {
    let pool = pool(0);
    let lanes = lanes(8, 8, 1, first, &pool);
    let reader = reader(&lanes, 0);
    let mut claimant = Claimant::new(Arc::clone(&lanes), false);
    for number in 1..=events {
        claimant.push(LANE, Event::new(number).inline()).expect("the lane is empty");
    }
    let barrier = Barrier::fences();
    let words = AttemptWords::new(cells).expect("a few words fit");
    let keyed = is_keyed.then(|| Keyed::new(cells).expect("a few words fit"));
    let (feeder, cells) = Cells::new(cells, lanes.body_bytes(), first, pool, Pages::Any).expect("a few cells fit");
    let parker = Arc::new(Parker::new(1, barrier));
    let gate = Arc::new(Gate::new(1, barrier));
    let alarm = Arc::new(Alarm::new(0, barrier));
    let custody = Arc::new(Custody::new(cells, 0, Arc::clone(&parker), gate));
    let attempts = Arc::new(Attempts::new(words, custody, Arc::clone(&alarm), Arc::clone(&parker), barrier, is_keyed));
    (Worker { reader, feeder, keyed, attempts: Arc::clone(&attempts), alarm, parker }, attempts, lanes)
}

impl Worker {
    /// Moves the next event, which was published before, into the mailbox. False when that is full, and the event stays where
    /// it is.
    ///
    /// # Panics
    /// When there is none.
    pub fn feed(&mut self, key: Option<u64>) -> bool {
        let slot = self.reader.peek(LANE).expect("the events were published before");
        let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
        let sequence = self.reader.sequence(LANE);
        let event = Arrival { lane: LANE, sequence, slot: &slot, rest_bytes: REST_BYTES, key };
        let fed = self.attempts.push(&mut returns, event);
        if fed {
            self.reader.advance(LANE);
        }
        fed
    }

    /// Looks after what is due `now`; what was in hand for too long is `overdue`. Returns when to look again.
    pub fn attend_by(&mut self, now: u64, overdue: Overdue, book: impl FnMut(&Attempt)) -> u64 {
        let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
        self.attempts.attend(&mut returns, now, |_, _| overdue, |_, _| (), book)
    }

    /// As `attend_by`, where what was in hand for too long comes again at once.
    pub fn attend(&mut self, now: u64) -> u64 {
        self.attend_by(now, Overdue::Again(now), |_| panic!("nothing is over"))
    }

    /// As a worker goes on until it is `done`: looks after what is due when its alarm says so, and sleeps. Returns whether
    /// it slept.
    pub fn attend_until(&mut self, now: u64, done: impl Fn(&Self) -> bool) -> bool {
        let mut slept = false;
        while !done(self) {
            if self.alarm.at() <= now {
                self.alarm.take();
                let next = self.attend(now);
                self.alarm.resume(next);
                continue;
            }
            self.parker.prepare(0);
            if self.alarm.at() <= now {
                self.parker.cancel(0);
                continue;
            }
            asleep(|| self.parker.park(0, None));
            slept = true;
        }
        slept
    }

    /// As `attend_until` something is queued.
    pub fn attend_or_sleep(&mut self, now: u64) -> bool {
        self.attend_until(now, |worker| worker.queued() > 0)
    }

    /// Fills the cell, and sleeps until it is free. Returns whether it slept.
    pub fn feed_or_sleep(&mut self) -> bool {
        let slept = self.wait_for_room();
        assert!(self.feed(None), "there is room");
        slept
    }

    /// Sleeps until a cell is free. Returns whether it slept.
    pub fn wait_for_room(&self) -> bool {
        let mut slept = false;
        while !self.feeder.has_room() {
            self.attempts.custody().starve(true);
            self.parker.prepare(0);
            if self.feeder.has_room() {
                self.parker.cancel(0);
            } else {
                asleep(|| self.parker.park(0, None));
                slept = true;
            }
            self.attempts.custody().starve(false);
        }
        slept
    }

    /// As a worker brings what is queued for a consumer that may have nothing before `due` to `to`: puts the next event off, so
    /// that it waits in its cell, and the first that waits goes on, if it is `wanted` there. `book` hears of it when it is there,
    /// and before it is over here. Returns what putting it off met, and whether an event went on.
    pub fn bring(
        &self,
        to: &mut Self,
        (now, due): (u64, u64),
        wanted: bool,
        book: impl FnOnce(),
    ) -> (Option<Returned>, bool) {
        let put_off = self.attempts.take(LANE, now, LATE).map(|attempt| attempt.put_off(now, due));
        let waits = self.attempts.waiting_from(0).filter(|_| wanted);
        (put_off, waits.is_some_and(|waits| to.bring_waiting(waits, book)))
    }

    /// Takes over an event that waits in another mailbox. `book` hears of it when it is here, and before it is over there. False
    /// when it was given up meanwhile.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn bring_waiting(&mut self, waits: Attempt, book: impl FnOnce()) -> bool {
        waits.end_waiting(|waits| {
            let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
            let (event, tried) = (waits.event(), waits.tried());
            let (sequence, slot) = (event.sequence(), event.slot());
            let event = Arrival { lane: LANE, sequence, slot: &slot, rest_bytes: REST_BYTES, key: None };
            let is_here = self.attempts.push_tried(&mut returns, event, tried);
            assert!(is_here, "it is asked for where there is room");
            book();
        })
    }

    /// Events queued.
    pub fn queued(&self) -> u64 {
        self.attempts.custody().queued()
    }

    /// Fills all `cells` again, which are free when all events are over.
    ///
    /// # Panics
    /// When they are not, or there are more.
    pub fn assert_free(&mut self, cells: usize) {
        let custody = self.attempts.custody();
        assert!(custody.cells().is_over() && custody.is_settled(), "an event is in somebody's hands");
        assert_eq!(self.attempts.waiting(), 0);
        for _ in 0..cells {
            assert!(self.feeder.has_room() && self.feed(None), "a cell was lost");
        }
        assert!(!self.feeder.has_room(), "a cell is free and in use");
    }
}

/// Takes an event, to be over within a tick.
pub fn take(attempts: &Arc<Attempts>) -> Option<Attempt> {
    attempts.take(LANE, NOW, NOW + TICK)
}

/// Which event it is.
pub fn number_of(attempt: &Attempt) -> u8 {
    let (head, rest) = attempt.event().parts();
    number(head, rest)
}

/// Takes an event, reads and acknowledges it. Whether there was one, and whether the word counted.
pub fn handle(attempts: &Arc<Attempts>) -> Option<(u8, bool)> {
    let attempt = attempts.take(LANE, NOW, LATE)?;
    let number = number_of(&attempt);
    Some((number, attempt.end(|_| ())))
}
