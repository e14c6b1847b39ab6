//! The end of a scenario: everything comes to rest, the bus may shut down, and what is left is held against the model.

use std::time::Duration;

use ringmain::BusState;

use crate::books::assert_books;
use crate::oracle;
use crate::scenario::Scenario;
use crate::sub::Way;
use crate::world::World;

impl Scenario {
    pub(crate) fn shut_down(&mut self) {
        if self.is_closed() || self.steps < 30 {
            return;
        }
        self.end_bus();
    }

    fn end_bus(&mut self) {
        self.world.with(|world| world.is_closed = true);
        let report = self.drive(|simulation| simulation.bus().shutdown());
        self.world.with(|world| world.is_stopped = true);
        let ledger = self.bus().ledger();
        let Ok(report) = report else {
            self.check(Err(format!("{report:?}")));
            return;
        };
        self.note(format_args!("{report:?}"));
        let all = &ledger.subscriptions;
        let right = report.delivered == all.delivered
            && report.left_in_lanes == ledger.in_lanes
            && report.left_in_mailboxes == all.queued + all.in_flight
            && all.waiting == 0
            && report.left_scheduled == ledger.scheduled
            && report.workers_left
            && report.ledger_balanced
            && self.bus().state() == BusState::Stopped
            && self.bus().shutdown() == Ok(report);
        self.count(if report.is_clean() { "shutdown, clean" } else { "shutdown, something left" });
        if !right {
            self.check(Err(format!("{report:?} of {ledger:?}")));
        }
    }

    /// Lets everything come to its end: consumers take all there is, and all that is scheduled comes due.
    pub(crate) fn finish(&mut self) {
        self.note(format_args!("the end begins"));
        let mut looks = 0;
        for _ in 0..3_000 {
            self.resume_all();
            self.settle_all();
            self.pull_all();
            self.settle_all();
            self.ask_all();
            self.run_all();
            let ledger = self.bus().ledger();
            let all = &ledger.subscriptions;
            let moving = if self.is_closed() { 0 } else { ledger.in_lanes + ledger.scheduled };
            // A letter on its way back has no place in the books before it has a cell; and one that is late there goes without
            // a word.
            let (due, expired) = if self.is_closed() { (0, 0) } else { self.world.with(|world| world.returning()) };
            let due = due + if self.is_closed() { 0 } else { self.world.with(|world| world.count_at_large()) };
            // While others come back they are no looks after these: one that is behind them may come at the very last.
            if due > 0 {
                looks = 0;
            }
            // Each look makes room for one at least.
            let returning = due > 0 || looks < 2 * expired;
            // A future that is late with its event has not heard of it yet, and still holds it.
            let calls = self.world.with(|world| world.subs.iter().any(|sub| sub.is_calling));
            if moving + all.open() == 0 && !returning && !calls && self.asks.is_empty() {
                break;
            }
            looks += usize::from(moving + all.open() == 0);
            // Behind a guard, or in an instance that has ended: its worker looks at that again after a while.
            let is_held = |world: &mut World| world.subs.iter().any(|sub| sub.is_guarded() || sub.service().is_some());
            let is_throttled = ledger.in_lanes > 0 && self.world.with(|world| world.throttle.is_some());
            let is_held = is_throttled || all.queued > 0 && self.world.with(is_held);
            if (ledger.scheduled > 0 || all.waiting > 0 || is_held || returning || !self.asks.is_empty())
                && !self.is_closed()
            {
                self.advance(Duration::from_secs(60));
            }
        }
        let ledger = self.bus().ledger();
        self.check(self.world.with(|world| oracle::check_books(world, &ledger)));
        self.check(self.world.with(|world| oracle::check_order(world)));
        assert_books(self.bus());
        self.check_ends(&ledger);
        self.check_letters();
        // Merging all histograms takes a fifth of a scenario, and a debug build longer than that.
        let is_replay = self.world.with(|world| world.trace.is_some());
        if self.draw.one_in(8) || is_replay {
            self.check_metrics();
        }
        if !self.is_closed() && self.draw.one_in(2) {
            self.end_bus();
        }
    }

    /// Nothing is left anywhere, and everything that was dropped has its reason.
    fn check_ends(&self, ledger: &ringmain::Ledger) {
        let all = &ledger.subscriptions;
        if all.open() > 0 || (!self.is_closed() && ledger.in_lanes + ledger.scheduled > 0) {
            let holders = self.bus().subscriptions().into_iter().filter(|record| record.ledger.open() > 0);
            let holders: Vec<_> = holders.map(|record| (record.name, record.ledger)).collect();
            self.check(Err(format!("something is left: {ledger:?}, with {holders:?}")));
        }
        let ledgers = self.live_ledgers();
        self.world.with(|world| {
            if let Err(what) = oracle::check_fates(world, &ledgers, ledger) {
                world.broken(what);
            }
            for (nth, ledger) in &ledgers {
                let sub = &world.subs[*nth];
                let unread = ledger.failed > sub.failed;
                let kinds = match sub.way {
                    Way::Inline => [
                        (ledger.dropped.expired > 0, "dropped: expired in a lane"),
                        (ledger.dropped.paused > 0, "dropped: paused"),
                        (unread, "failed: not readable"),
                    ],
                    Way::Mailbox(_, overflow) => [
                        (ledger.dropped.expired > 0, "dropped: expired in a mailbox"),
                        (
                            ledger.dropped.overflow > 0 && overflow == ringmain::Overflow::DropNewest,
                            "dropped: overflow, newest",
                        ),
                        (
                            ledger.dropped.overflow > 0 && overflow == ringmain::Overflow::DropOldest,
                            "dropped: overflow, oldest",
                        ),
                    ],
                };
                let filtered = (ledger.filtered > 0, "filtered");
                let twice = (ledger.dropped.duplicate > 0, "dropped: duplicate");
                for (_, kind) in kinds.into_iter().chain([filtered, twice]).filter(|(happened, _)| *happened) {
                    world.census.count(kind);
                }
            }
            let wrapped = world.events.iter().filter_map(|event| event.sequence);
            let first = world.first_sequence;
            if wrapped.max().is_some_and(|place| first.checked_add(place).is_none()) {
                world.census.count("sequences wrapped");
            }
        });
    }

    /// Refusals are counted by reason, and all blocks are back in the pool once nobody can hold one.
    fn check_metrics(&mut self) {
        // A publisher keeps the block of a loan or batch that was forgotten.
        self.speakers.clear();
        // Nor has a letter that is too late gone before its worker looks at it again, and it goes without a word.
        if !self.is_closed() && self.world.with(|world| world.letters.redriven > 0) {
            self.advance(Duration::from_secs(60));
            self.run_all();
        }
        let metrics = self.bus().metrics();
        self.check(self.world.with(|world| oracle::check_refusals(&metrics.refused, world)));
        let told = (metrics.memory_pressure, metrics.memory_pressures);
        let ours = self.world.with(|world| world.pressure.as_ref().map_or((false, 0), |it| (it.is_on, it.begun)));
        if told != ours {
            self.check(Err(format!("memory pressure is {told:?}, and {ours:?} was told")));
        }
        let (free, ledger) = (metrics.free_blocks, metrics.ledger);
        let held = ledger.scheduled as usize;
        if ledger.in_lanes + ledger.subscriptions.queued == 0 && free + held != self.blocks {
            let blocks = self.blocks;
            self.check(Err(format!("{free} of {blocks} blocks are free, and {held} are held: {ledger:?}")));
        }
    }
}
